"""The lag task: its problems, its readers, and a small sweep from end to end."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vitrail.errors import UsageError, VitrailError
from vitrail.experiments import lag
from vitrail.experiments.lag import LagReport
from vitrail.experiments.lag_job import Architecture, Job, LagConditions, Trial
from vitrail.experiments.lag_worker import (
    SYMBOLS,
    Adding,
    AttentionReader,
    Examples,
    Recall,
    RecurrentReader,
    gradient_ratio,
    make_reader,
    run_trials,
)
from vitrail.runtime.machine import Machine

ALL: tuple[Architecture, ...] = ("rnn", "lstm", "gru", "attention")
QUICK = LagConditions(steps=300, width=16, learning_rates=(0.01,))
MACHINE = Machine("a processor", 2, "Linux x86_64", "3.11", {}, 0.1)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(lag=st.integers(2, 40), seed=st.integers(0, 1000))
def test_the_answer_of_recall_is_the_first_of_lag_plus_one_symbols(lag: int, seed: int) -> None:
    values, answers = Recall().draw(lag, rows=6, generator=generator(seed))
    assert values.shape == (6, lag + 1, SYMBOLS)
    assert (values.sum(dim=2) == 1).all() and ((values == 0) | (values == 1)).all()
    assert answers.tolist() == [row[0].nonzero().item() for row in values]


@given(lag=st.integers(2, 40), seed=st.integers(0, 1000))
def test_the_answer_of_adding_is_the_sum_of_one_marked_number_of_each_half(lag: int, seed: int) -> None:
    values, answers = Adding().draw(lag, rows=6, generator=generator(seed))
    assert values.shape == (6, lag, 2)
    for row, answer in zip(values.tolist(), answers.tolist(), strict=True):
        marked = [place for place, (_, mark) in enumerate(row) if mark == 1]
        assert all(mark in (0, 1) and 0 <= number < 1 for number, mark in row)
        assert len(marked) == 2 and marked[0] < lag // 2 <= marked[1]
        assert answer == pytest.approx(sum(row[place][0] for place in marked))


def test_the_noise_holds_every_symbol_and_says_nothing_of_the_answer() -> None:
    values, answers = Recall().draw(6, rows=20_000, generator=generator())
    symbols = values.argmax(dim=2)
    for place in range(1, 7):
        agree = (symbols[:, place] == answers).double().mean().item()
        assert agree == pytest.approx(1 / SYMBOLS, abs=0.015)
    assert symbols.flatten().bincount(minlength=SYMBOLS).min() > 0.9 * symbols.numel() / SYMBOLS


def test_guessing_is_no_success() -> None:
    recall, adding = Recall(), Adding()
    answers = recall.draw(20, rows=5000, generator=generator()).answers
    guess = recall.score(torch.randn(5000, SYMBOLS, generator=generator(2)), answers)
    assert guess == pytest.approx(1 / SYMBOLS, abs=0.02) and not recall.solved(guess)
    sums = adding.draw(20, rows=5000, generator=generator()).answers
    constant = adding.score(torch.ones(5000, 1), sums)
    assert constant == pytest.approx(1 / 6, abs=0.01) and not adding.solved(constant)
    assert recall.solved(0.95) and not recall.solved(0.95, surely=True) and adding.solved(0.012) and not adding.solved(0.012, surely=True)


@pytest.mark.parametrize("architecture", ALL)
def test_reading_step_by_step_is_reading(architecture: Architecture) -> None:
    torch.manual_seed(1)
    problem = Recall()
    reader = make_reader(architecture, problem, width=16).double()
    values = problem.draw(9, rows=4, generator=generator()).values.double()
    reading = reader.read(values)
    torch.testing.assert_close(reading.scores, reader(values))
    assert len(reading.states) == 10


def test_the_gradient_ratio_is_that_of_torch_s_own_network() -> None:
    torch.manual_seed(1)
    problem, examples = Recall(), Recall().draw(12, rows=3, generator=generator())
    reader = RecurrentReader("rnn", inputs=SYMBOLS, width=8, outputs=SYMBOLS)
    cell = nn.RNNCell(SYMBOLS, 8).double()
    copied = {name: tensor.double() for name, tensor in reader.cell.state_dict().items()}
    cell.load_state_dict(
        {
            "weight_ih": copied["input_weight"],
            "weight_hh": copied["hidden_weight"],
            "bias_ih": copied["input_bias"],
            "bias_hh": copied["hidden_bias"],
        }
    )
    states, hidden = list[torch.Tensor](), torch.zeros(3, 8).double()
    for step in examples.values.double().unbind(1):
        hidden = cell(step, hidden)
        states.append(hidden)
        hidden.retain_grad()
    scores = hidden @ reader.answer.weight.double().t() + reader.answer.bias.double()
    nn.functional.cross_entropy(scores, examples.answers, reduction="sum").backward()
    norms = [state.grad.norm(dim=1).mean().item() for state in (states[0], states[-1]) if state.grad is not None]
    assert gradient_ratio(reader, problem, examples) == pytest.approx(norms[0] / norms[1], rel=1e-9)
    assert all(weight.dtype == torch.float32 for weight in reader.parameters())


def test_the_gradient_of_an_lstm_is_that_of_all_that_it_carries() -> None:
    """With the output gates of early steps shut, h_1 leads nowhere; c_1 still does."""
    torch.manual_seed(1)
    reader = RecurrentReader("lstm", inputs=SYMBOLS, width=8, outputs=SYMBOLS)
    with torch.no_grad():
        reader.cell.hidden_weight.zero_()
    examples = Recall().draw(12, rows=3, generator=generator())
    assert gradient_ratio(reader, Recall(), examples) > 1e-3


def test_an_explosion_and_a_vanishing_are_told_apart() -> None:
    torch.manual_seed(1)
    reader = RecurrentReader("rnn", inputs=SYMBOLS, width=8, outputs=SYMBOLS)
    examples = Recall().draw(320, rows=2, generator=generator())
    quiet = Examples(examples.values * 0, examples.answers)
    ratios: list[float] = []
    for size in (0.4, 1.5):
        with torch.no_grad():
            reader.cell.hidden_weight.copy_(size * torch.eye(8))
            for bias in (reader.cell.input_bias, reader.cell.hidden_bias):
                assert bias is not None
                bias.zero_()
        ratios.append(gradient_ratio(reader, Recall(), quiet))
    assert [math.log10(ratio) for ratio in ratios] == pytest.approx([320 * math.log10(0.4), 320 * math.log10(1.5)], rel=0.02)


@pytest.mark.parametrize("architecture", ALL)
def test_every_reader_solves_a_short_lag(architecture: Architecture) -> None:
    (trial,) = run_trials(Job(architecture, 1, (5,), replace(QUICK, steps=600)))
    assert trial.solved and trial.score is not None and trial.score > 0.95 and trial.steps < 600
    assert trial.learning_rate == 0.01 and trial.gradient_before > 0 and trial.gradient_after is not None


def test_attention_answers_from_the_place_not_from_the_symbol() -> None:
    reader = AttentionReader(inputs=SYMBOLS, width=16, outputs=SYMBOLS)
    values = Recall().draw(6, rows=5, generator=generator()).values
    swapped = values[:, [1, 0, 2, 3, 4, 5, 6]]
    assert not torch.allclose(reader(values), reader(swapped))


def test_adding_is_learned() -> None:
    (trial,) = run_trials(Job("gru", 1, (5,), replace(QUICK, task="adding", steps=800)))
    assert trial.solved and trial.score is not None and trial.score < 1 / 60


def test_after_a_failure_longer_lags_are_not_trained_for() -> None:
    conditions = replace(QUICK, steps=2, learning_rates=(0.001, 0.002))
    first, second = run_trials(Job("rnn", 1, (4, 6), conditions))
    assert not first.solved and first.steps == 2 and first.score is not None and first.learning_rate in (0.001, 0.002)
    assert second.score is None and not second.solved and second.learning_rate is None and second.gradient_before > 0


def test_the_same_job_has_the_same_answer() -> None:
    job = Job("lstm", 3, (4,), replace(QUICK, steps=20))
    one, other = (replace(trial, processor_seconds=0.0) for _ in range(2) for trial in run_trials(job))
    assert one == other


@pytest.mark.slow
def test_a_small_sweep_from_end_to_end(tmp_path: Path) -> None:
    said: list[str] = []
    report = lag.run_lag_experiment(lengths=(6, 3), seeds=(1,), conditions=replace(QUICK, steps=100), say=said.append)
    assert len(said) == 4 and len(report.trials) == 8 and report.lengths == (3, 6)
    record = json.loads(report.to_json())
    assert set(record["reach"]) == set(ALL) and record["reach"]["attention"] == 6
    assert [(trial["architecture"], trial["lag"]) for trial in record["trials"]] == [(one, length) for one in ALL for length in (3, 6)]
    assert record["conditions"]["task"] == "recall" and record["sentence"] in report.to_text()
    html, numbers = lag.write_lag_report(report, tmp_path / "new")
    assert json.loads(numbers.read_text(encoding="utf-8")) == record
    text = html.read_text(encoding="utf-8")
    assert text.count("<svg") == 2 and "attention" in text and report.sentence() in text and "<script" not in text


def known(reach: dict[Architecture, tuple[int, ...]]) -> LagReport:
    """A report of lags 5 and 10 with two seeds, by what each seed of each architecture solved."""
    trials = [
        Trial(architecture, seed, length, 0.5, 0.5, 1.0 if length <= solved else 0.2, length <= solved, 0.003, 100)
        for architecture, per_seed in reach.items()
        for seed, solved in enumerate(per_seed, 1)
        for length in (5, 10)
    ]
    return LagReport(MACHINE, LagConditions(), (5, 10), (1, 2), tuple(trials), 1.0)


def test_the_sentence_says_up_to_which_lag_every_seed_succeeds() -> None:
    report = known({"attention": (10, 10), "gru": (10, 5), "lstm": (5, 5), "rnn": (5, 0)})
    assert {one: report.reach(one) for one in ALL} == {"rnn": 0, "lstm": 5, "gru": 5, "attention": 10}
    assert report.sentence() == (
        "Every one of 2 seeds succeeds up to lag: RNN none (not even 5), LSTM 5, GRU 5, attention 10 (the longest tried)."
    )
    lines = report.to_text().splitlines()
    assert "GRU        1.00 1.00  1.00 0.20" in lines
    assert "attention  1.00 1.00  1.00 1.00" in lines and "LSTM       100    -" in lines


@pytest.mark.parametrize(("lengths", "found"), [((0,), "lags 0"), ((5, -1), "lags 5, -1"), ((), "lags none"), ((1,), "lags 1")], ids=str)
def test_lags_that_cannot_be_are_refused(lengths: tuple[int, ...], found: str) -> None:
    with pytest.raises(UsageError) as refused:
        lag.run_lag_experiment(lengths=lengths)
    assert refused.value.found == found and "at least 2" in refused.value.expected and "--lengths 5,10" in refused.value.remedy


def test_a_text_of_lags_is_read_or_refused() -> None:
    assert lag.parse_lags("5, 10,20") == (5, 10, 20)
    with pytest.raises(UsageError, match="lags '5,many'"):
        lag.parse_lags("5,many")


@pytest.mark.parametrize(
    "conditions",
    [replace(QUICK, steps=0), replace(QUICK, learning_rates=()), replace(QUICK, learning_rates=(0.0,)), replace(QUICK, width=6)],
)
def test_conditions_that_cannot_be_are_refused(conditions: LagConditions) -> None:
    with pytest.raises(UsageError):
        lag.run_lag_experiment(lengths=(5,), conditions=conditions)


@pytest.mark.parametrize("seeds", [(), (1, 1), (-1,)])
def test_seeds_that_cannot_be_are_refused(seeds: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="seeds"):
        lag.run_lag_experiment(lengths=(5,), seeds=seeds)


def test_a_process_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: str, task: object, *, name: str, remedy: str) -> dict[str, object]:
        raise VitrailError(f"measuring {name} ended with 1: oh")

    monkeypatch.setattr(lag, "measure_in_subprocess", fail)
    with pytest.raises(VitrailError, match="with seed 1 ended with 1: oh"):
        lag.run_lag_experiment(lengths=(5,), seeds=(1,), conditions=QUICK)
