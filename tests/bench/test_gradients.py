"""The gradient benchmark, end to end at the smallest size."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vitrail.data.preparing.holdout import HoldoutConfig
from vitrail.data.preparing.prepare import DataConfig, prepare
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.vocabularies.subwords import PAD, SubwordsConfig
from vitrail.errors import DataError, UsageError
from vitrail.experiments import gradients as bench
from vitrail.experiments.gradients import CLIPPINGS, Clipping, GradientConditions, GradientHistory, GradientReport, LongPairBatches
from vitrail.models.architectures import preset
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.model_folder import save_model

PAIRS = [(f"the {a} sees {n} {b}s", f"le {a} voit {n} {b}s") for a in ("fox", "owl", "cat") for b in ("tree", "star") for n in range(2, 60)]


@pytest.fixture(scope="module")
def corpus() -> LongPairBatches:
    return bench.make_long_pairs(PAIRS, length=20)


@pytest.fixture(scope="module")
def train(corpus: LongPairBatches) -> Callable[..., GradientHistory]:
    def run(name: str, clipping: Clipping, *, scale: float = 1.0, steps: int = 4) -> GradientHistory:
        model = bench.start_model(bench.narrow(preset(name), width=16), corpus.vocabularies, recurrent_scale=scale)
        return bench.train_and_measure(model, corpus, system=name, clipping=clipping, conditions=GradientConditions(steps=steps))

    return run


def test_sentences_are_joined_and_none_is_both_trained_and_measured_on(corpus: LongPairBatches) -> None:
    assert len(corpus.measured) == 2
    for batch in corpus.training + corpus.measured:
        assert int(batch.source.ne(PAD).sum(1).min()) >= 21
    measured = {tuple(row) for batch in corpus.measured for row in batch.source.tolist()}
    assert len(measured) == 32 and not measured & {tuple(row) for batch in corpus.training for row in batch.source.tolist()}


def test_too_little_text_is_refused() -> None:
    with pytest.raises(DataError, match="100 subwords"):
        bench.make_long_pairs(PAIRS, length=100)


@pytest.mark.parametrize("asked", [{"length": 1}, {"steps": 0}, {"width": 4}, {"recurrent_scale": 0.0}, {"recurrent_scale": math.nan}])
def test_what_cannot_be_is_refused(asked: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="recurrent scale"):
        GradientConditions(**asked)


def test_an_unknown_preset_is_refused_before_anything_is_done() -> None:
    with pytest.raises(UsageError, match="tiny"):
        bench.run_gradient_experiment(presets=("x",))


def test_clipping_bounds_what_it_says(train: Callable[..., GradientHistory], corpus: LongPairBatches) -> None:
    off, norm, value = (train("rnn", clipping, scale=3.0) for clipping in CLIPPINGS)
    assert off.before == off.after and off.before[0] == norm.before[0] == value.before[0] > 1
    assert max(norm.after) == pytest.approx(1.0) and max(value.after) < max(value.before)
    numbers = sum(weight.numel() for weight in bench.start_model(bench.narrow(preset("rnn"), width=16), corpus.vocabularies).parameters())
    assert max(value.after) <= 0.01 * numbers**0.5


def test_recurrent_weights_decide_between_vanishing_and_exploding(train: Callable[..., GradientHistory]) -> None:
    small, large = (train("rnn", CLIPPINGS[1], scale=scale, steps=1) for scale in (1.0, 4.0))
    curves = [course.encoder(course.milestones[0])[0].curve().norms for course in (small, large)]
    assert curves[0][20] < 1e-2 < 1 < curves[1][20]


def test_milestones_and_divergence(train: Callable[..., GradientHistory]) -> None:
    course = train("gru", CLIPPINGS[1], steps=10)
    assert [one.step for one in course.milestones] == [0, 1, 5, 10] and course.diverged is None
    assert len(course.before) == len(course.nats_per_token) == 10 and course.nats_per_token[-1] < course.nats_per_token[0]
    broken = train("rnn", CLIPPINGS[0], scale=float("nan"))
    assert broken.diverged == 1 and broken.before == () and broken.milestones[0].places == ()
    report = GradientReport(bench.describe_machine(), "", (broken, course))
    assert json.loads(report.to_json())["courses"][0]["diverged"] == 1
    assert "NaN" not in report.to_html() and "nan" not in report.to_text()
    assert GradientReport(report.machine, "", (broken,)).to_text() and GradientReport(report.machine, "", (broken,)).to_html()


def test_the_report_end_to_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "_pairs", lambda source, target: PAIRS)
    said: list[str] = []
    conditions = GradientConditions(length=20, steps=2, width=16, threads=torch.get_num_threads())
    report = bench.run_gradient_experiment(presets=("rnn", "tiny"), conditions=conditions, clippings=CLIPPINGS[:2], say=said.append)
    assert [(course.system, course.clipping) for course in report.courses] == [
        (system, clipping.name) for system in ("rnn", "rnn, U x 3", "tiny") for clipping in CLIPPINGS[:2]
    ]
    assert len(said) == 6
    html, numbers = bench.write_gradient_report(report, tmp_path / "out")
    record = json.loads(numbers.read_bytes())
    assert len(record["courses"][5]["milestones"][0]["places"]) == 8, "every layer of the Transformer's encoder and decoder"
    assert "<svg" in html.read_text(encoding="utf-8") and "layer by layer" in html.read_text(encoding="utf-8")
    text = report.to_text()
    assert "rnn, U x 3" in text and "encoder.3.residual_2.sum" in text and "largest after clipping" in text


def test_a_clipping_thatnever_acts_is_the_same_training(train: Callable[..., GradientHistory]) -> None:
    off, high = (train("gru", clipping) for clipping in (CLIPPINGS[0], Clipping("high", norm=1e6)))
    assert bench.never_acts(Clipping("high", norm=1e6), off) and not bench.never_acts(Clipping("low", norm=1e-6), off)
    assert not bench.never_acts(CLIPPINGS[2], off) and not bench.never_acts(CLIPPINGS[0], off)
    assert (high.milestones, high.nats_per_token, high.after) == (off.milestones, off.nats_per_token, off.after)


def test_a_runs_folder_is_measured_on_its_dev_set(tmp_path: Path) -> None:
    for side, name in enumerate(("a", "b")):
        (tmp_path / f"text.{name}").write_text("".join(f"{pair[side]}\n" for pair in PAIRS), encoding="utf-8")
    texts = ParallelText(source=tmp_path / "text.a", target=tmp_path / "text.b")
    config = DataConfig(corpora=(texts,), holdout=HoldoutConfig(dev_pairs=20, test_pairs=0), subwords=SubwordsConfig(kind="word"))
    prepared = prepare(config, tmp_path / "run" / "data", workers=1)
    shape = bench.narrow(preset("lstm"), width=16)
    tensors = unique_tensors(build_model(shape, prepared.vocabularies))
    save_model(tmp_path / "run" / "model", tensors=tensors, config=shape, vocabularies=prepared.vocabularies, facts={"step": 7})
    report = bench.measure_run(tmp_path / "run")
    (course,) = report.courses
    assert [one.step for one in course.milestones] == [7] and course.milestones[0].places[0].sentences == 10
    assert "layer by layer" not in report.to_html() and "median" not in report.to_text() and "-5" in report.to_text()
