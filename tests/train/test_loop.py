"""The step and the loop: what a step may not touch, when things are due, what all ranks agree on."""

import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitrail.config import Duration, Interval, build
from vitrail.data.batches import Batch, collate
from vitrail.data.vocabularies.subwords import CharacterVocabulary, Vocabularies
from vitrail.errors import Stopped, TrainingError, out_of_memory
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.nn.losses import LossSum
from vitrail.runtime.ranks import Ranks
from vitrail.runtime.stopping import StopRequest
from vitrail.train.log.metrics import Event, Window
from vitrail.train.loop import Callbacks, Learner, Progress, done_share, due, is_over, loop, steadier_settings, try_longest, update
from vitrail.train.optim import Optimizer
from vitrail.train.run_config import RunConfig

LETTERS = CharacterVocabulary(list("abcdefgh"))


def configured(*, optimizer: dict[str, Any] | None = None, **train: Any) -> RunConfig:
    model = {"encoder_layers": 1, "decoder_layers": 1, "width": 8, "heads": 2, "feed_forward": 8, "dropout": 0.1, "norm": "batch"}
    corpora = [{"source": "a.en", "target": "a.fr"}]
    settings = {"duration": "4 steps", "validate_every": "2 steps", "save_every": "3 steps", "average_decay": 0.5, "log_every": 2}
    table = {
        "data": {"corpora": corpora},
        "model": model,
        "schedule": {"warmup": 1},
        "train": settings | train,
        "optimizer": optimizer or {},
    }
    return build(RunConfig, table, origin="test")


def batch(number: int) -> Batch:
    draw = torch.Generator().manual_seed(number)
    rows = [torch.randint(4, LETTERS.size, (length,), generator=draw).tolist() for length in (3, 5, 2 + number % 3)]
    return collate(rows, rows[::-1])


def learner(config: RunConfig, *, poisoned: tuple[int, ...] = ()) -> Learner:
    torch.manual_seed(0)
    model = build_model(config.model, Vocabularies(LETTERS, LETTERS, joint=True))

    def batches(first: int) -> Iterator[tuple[int, Batch]]:
        number = first
        while True:
            found = batch(number)
            yield number, found._replace(source=torch.full_like(found.source, 7)) if number in poisoned else found
            number += 1

    average = [tensor.clone() for tensor in unique_tensors(model).values()] if config.train.average_decay else []
    return Learner(model, Optimizer(model, config.optimizer), average, batches, Ranks(0, 1), torch.device("cpu"), torch.float32, config)


def all_state(learner: Learner) -> list[Tensor]:
    """Weights, buffers, average and the optimizer's own."""
    own = [tensor.clone() for tensor in (*unique_tensors(learner.model).values(), *learner.average)]
    kept = [state for optimizer in learner.optimizer.optimizers for state in optimizer.state.values()]
    return own + [value.clone() for state in kept for value in state.values() if isinstance(value, Tensor)]


def poison(learner: Learner, monkeypatch: pytest.MonkeyPatch, *, calls: range | list[int]) -> None:
    """The loss of these calls is not a number, after the forward pass has left its marks."""
    real, count = learner.model.loss, 0

    def loss(batch: Batch, *, label_smoothing: float = 0.0) -> LossSum:
        nonlocal count
        count += 1
        found = real(batch, label_smoothing=label_smoothing)
        return found._replace(nats=found.nats * math.nan) if count - 1 in calls else found

    monkeypatch.setattr(learner.model, "loss", loss)


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Recorder:
    """Hooks that remember what they were called for."""

    def __init__(self, *, scores: list[bool] | None = None) -> None:
        self.calls: list[tuple[str, int]] = []
        self.events: list[Event] = []
        self.validates = iter(scores or [])

    def validate(self, progress: Progress) -> bool:
        self.calls.append(("validate", progress.step))
        progress.waited += 1
        return next(self.validates, True)

    def save(self, progress: Progress) -> bool:
        self.calls.append(("save", progress.step))
        return True

    def hooks(self) -> Callbacks:
        return Callbacks(self.validate, self.save, lambda step: self.calls.append(("bad", step)), self.events.append)


def go(learner: Learner, recorder: Recorder, progress: Progress | None = None, *, stop: StopRequest | None = None) -> Progress:
    progress = progress or Progress()
    loop(learner, progress, recorder.hooks(), steps_per_epoch=5, stop=stop or StopRequest())
    return progress


# ---- one step --------------------------------------------------------------------------------------------------------------------


def test_a_step_moves_weights_buffers_and_average() -> None:
    one = learner(configured())
    before = all_state(one)
    result = update(one, [(0, batch(0))], share=1.0, step=0)
    assert result.finite and result.tokens == int(batch(0).target_out.ne(0).sum())
    moved = [not torch.equal(a, b) for a, b in zip(before, all_state(one), strict=False)]
    assert all(moved)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(accumulated: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one = learner(configured())
    update(one, [(0, batch(0))], share=1.0, step=0)
    before = all_state(one)
    poison(one, monkeypatch, calls=[accumulated - 1])
    result = update(one, [(1 + place, batch(1 + place)) for place in range(accumulated)], share=1.0, step=1)
    assert not result.finite
    assert same(all_state(one), before)
    assert update(one, [(3, batch(3))], share=1.0, step=2).finite
    assert not same(all_state(one), before)


def test_dropout_depends_on_seed_and_number_of_the_batch_alone() -> None:
    first, second, third = (learner(configured()) for _ in range(3))
    torch.rand(7)
    one = update(first, [(5, batch(5))], share=1.0, step=0)
    torch.rand(3)
    assert update(second, [(5, batch(5))], share=1.0, step=0) == one
    assert update(third, [(6, batch(5))], share=1.0, step=0) != one


def test_trying_the_longest_batch_leaves_no_trace() -> None:
    one = learner(configured())
    before = all_state(one)
    try_longest(one, batch(1))
    assert same(all_state(one), before)
    assert all(parameter.grad is None for parameter in one.model.parameters())


def test_the_longest_batch_may_be_longer_than_the_table_of_positions() -> None:
    one = learner(configured())
    try_longest(one, collate([[4] * 300], [[5] * 300]))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried to allocate"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=["python", "gpu", "cpu", "windows", "c++"],
)
def test_memory_that_does_not_suffice_names_the_setting(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the largest batch, which is tried before the first step, and in any later step: an optimizer takes its memory in the first."""
    one = learner(configured(batch_tokens=4096, accumulate=2))

    def loss(batch: Batch, *, label_smoothing: float = 0.0) -> LossSum:
        raise error

    monkeypatch.setattr(one.model, "loss", loss)
    for run in (lambda: try_longest(one, batch(0)), lambda: go(one, Recorder())):
        with pytest.raises(TrainingError, match="out of memory") as caught:
            run()
        assert "train.batch_tokens (now 4096)" in caught.value.remedy
        assert "train.batch_tokens=2048 --set train.accumulate=4" in caught.value.remedy
    with pytest.raises(TrainingError, match="1 sentences") as caught:  # halving does not help what is a batch by itself
        try_longest(one, collate([[4] * 9], [[5] * 9]))
    assert "data.max_length=128" in caught.value.remedy


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of address space is Linux's")
def test_a_real_limit_of_memory_is_recognised() -> None:
    """Whoever meets it: torch, NumPy, Python, and a training at its largest batch and in a step."""
    script = """
import resource, sys
import numpy, torch
from test_loop import Recorder, configured, go, learner
from vitrail.data.batches import collate
from vitrail.errors import TrainingError, out_of_memory
from vitrail.train.loop import try_longest

one = learner(configured(batch_tokens=4096))
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (200 << 20),) * 2)
for take in (lambda: torch.empty(1 << 40), lambda: numpy.empty(1 << 40), lambda: bytearray(1 << 40), lambda: [0] * (1 << 40)):
    try:
        take()
    except Exception as error:
        assert out_of_memory(error), repr(error)
    else:
        raise AssertionError("so much memory?")
huge = collate([[4] * 200] * 1500, [[5] * 200] * 1500)
for train in (lambda: try_longest(one, huge), lambda: go(one._replace(batches=lambda first: [(0, huge)]), Recorder())):
    try:
        train()
    except TrainingError as error:
        assert "--set train.batch_tokens=2048" in str(error), error
        print(error.found)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "out of memory at the largest batch (1500 sentences of up to 201 tokens)",
        "out of memory in step 1; what was saved before is intact",
    ]


def test_other_errors_are_not_taken_for_memory() -> None:
    for error in (RuntimeError("shapes do not match"), ValueError("out of memory"), OSError("no such file")):
        assert not out_of_memory(error)


def test_another_error_at_the_longest_batch_is_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    one = learner(configured())

    def loss(batch: Batch, *, label_smoothing: float = 0.0) -> LossSum:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(one.model, "loss", loss)
    with pytest.raises(RuntimeError, match="shapes"):
        try_longest(one, batch(0))


# ---- durations -------------------------------------------------------------------------------------------------------------------


def lasting(text: str) -> Duration:
    return Duration.parse(text)


@pytest.mark.parametrize(
    ("duration", "progress", "share"),
    [
        ("8 steps", Progress(step=2), 0.25),
        ("8 steps", Progress(step=9), 1.0),
        ("2 epochs", Progress(step=5), 0.5),
        ("0.5 epochs", Progress(step=1), 0.5),
        ("2 minutes", Progress(seconds=30.0), 0.25),
        ("0 steps", Progress(), 1.0),
        ("0 epochs", Progress(), 1.0),
        ("0 minutes", Progress(), 1.0),
    ],
)
def test_how_much_of_a_duration_is_over(duration: str, progress: Progress, share: float) -> None:
    assert done_share(lasting(duration), progress, steps_per_epoch=5) == share


@settings(deadline=None)
@given(every=st.integers(1, 9), steps=st.integers(1, 60))
def test_steps_are_due_at_their_multiples(every: int, steps: int) -> None:
    found = [
        step
        for step in range(1, steps + 1)
        if due(lasting(f"{every} steps"), Progress(step=step - 1), Progress(step=step), steps_per_epoch=5, whole=lasting("60 steps"))
    ]
    assert found == list(range(every, steps + 1, every))


@settings(deadline=None)
@given(times=st.lists(st.floats(0.1, 200.0), max_size=30))
def test_minutes_are_due_once_for_however_many_passed(times: list[float]) -> None:
    before, count, lines = Progress(), 0, set[int]()
    for seconds in times:
        now = Progress(seconds=before.seconds + seconds)
        if due(lasting("1 minutes"), before, now, steps_per_epoch=5, whole=lasting("9 minutes")):
            count += 1
        if now.seconds // 60 > before.seconds // 60:
            lines.add(int(now.seconds // 60))
        before = now
    assert count == len(lines)


def test_a_duration_of_nothing_is_never_due() -> None:
    for text in ("0 steps", "0 epochs", "0 minutes"):
        assert not due(lasting(text), Progress(), Progress(step=9, seconds=99.0), steps_per_epoch=5, whole=lasting("9 steps"))


def times_due(every: str, whole: str, progress: list[Progress]) -> list[int]:
    interval = Interval.model_validate(every)
    pairs = enumerate(itertools.pairwise(progress), 1)
    return [place for place, (before, now) in pairs if due(interval, before, now, steps_per_epoch=12, whole=lasting(whole))]


@pytest.mark.parametrize(
    ("every", "whole", "steps"),
    [
        ("1 epochs, at most 25%", "30 steps", [8, 15, 23, 30]),
        ("1 epochs, at most 25%", "2 epochs", [6, 12, 18, 24]),
        ("1 epochs, at most 25%", "72 steps", [12, 24, 36, 48, 60, 72]),
        ("500 steps, at most 50%", "3 epochs", [18, 36]),
        ("5 minutes, at most 25%", "16 steps", [4, 8, 12, 16]),
        ("1 epochs", "30 steps", [12, 24]),
        ("500 steps", "30 steps", []),
        ("0 steps, at most 25%", "30 steps", []),
    ],
)
def test_a_share_of_the_training_brings_validations_to_a_short_one(every: str, whole: str, steps: list[int]) -> None:
    last = round(lasting(whole).amount * (12 if "epochs" in whole else 1))
    assert times_due(every, whole, [Progress(step=step) for step in range(last + 1)]) == steps


@pytest.mark.parametrize(
    ("every", "whole", "seconds"),
    [
        ("5 minutes, at most 25%", "1 minutes", [15, 30, 45, 60]),
        ("1 minutes, at most 25%", "20 minutes", list(range(60, 1201, 60))),
        ("1 epochs, at most 25%", "1 minutes", [15, 24, 30, 45, 48, 60]),
        ("500 steps, at most 50%", "1 minutes", [30, 60]),
    ],
)
def test_a_share_of_minutes_is_minutes(every: str, whole: str, seconds: list[int]) -> None:
    """One step in two seconds, twelve in an epoch."""
    end = round(lasting(whole).amount * 60)
    progress = [Progress(step=second // 2, seconds=second) for second in range(end + 1)]
    assert times_due(every, whole, progress) == seconds


def test_patience_ends_a_training_even_right_after_it_went_on() -> None:
    config = configured(patience=3).train
    assert not is_over(config, Progress(step=1, waited=2), steps_per_epoch=5)
    assert is_over(config, Progress(step=1, waited=3), steps_per_epoch=5)
    recorder = Recorder()
    assert go(learner(configured(patience=3)), recorder, Progress(step=1, waited=3)).step == 1
    assert not recorder.calls


# ---- the loop --------------------------------------------------------------------------------------------------------------------


def test_validation_and_saving_come_when_they_are_due() -> None:
    recorder = Recorder()
    progress = go(learner(configured(duration="6 steps")), recorder)
    assert progress.step == 6
    assert recorder.calls == [("validate", 2), ("save", 2), ("save", 3), ("validate", 4), ("save", 4), ("validate", 6), ("save", 6)]


def test_lines_of_metrics_tell_norms_rate_and_speed() -> None:
    recorder = Recorder()
    config = configured(duration="5 steps")
    progress = go(learner(config), recorder)
    assert [event.step for event in recorder.events] == [2, 4, 5], "the last line tells of what remained"
    for event in recorder.events:
        values = event.values
        assert values["gradient_norm"] > values["gradient_norm_clipped"] > 0
        assert values["gradient_norm_clipped"] <= config.optimizer.clip_norm
        assert values["tokens_per_second"] > 0
    shares = [event.values["learning_rate"] / config.optimizer.learning_rate for event in recorder.events]
    assert shares == pytest.approx([1 - 1 / 5, 1 - 3 / 5, 1 - 4 / 5])
    assert recorder.events[-1].values["done_share"] == 1.0 and recorder.events[-1].values["epoch"] == 1.0
    assert progress.tokens == sum(int(batch(number).target_out.ne(0).sum()) for number in range(5))


@pytest.mark.parametrize(
    ("table", "least", "most"), [({}, 1, 1), ({"clip_norm": 0.0}, 0, 0), ({"clip_norm": 0.0, "clip_value": 0.01}, 1, 1)]
)
def test_clipping_leaves_a_trace(table: dict[str, float], least: float, most: float) -> None:
    recorder = Recorder()
    go(learner(configured(optimizer=table, log_every=1)), recorder)
    assert all(least <= event.values["clipped_share"] <= most for event in recorder.events)
    assert all(event.values["gradient_norm_highest"] == event.values["gradient_norm"] for event in recorder.events), "of a single step"


def test_some_steps_are_clipped_and_the_highest_norm_is_told() -> None:
    single, together = Recorder(), Recorder()
    still = {"learning_rate": 1e-30}  # so that both see the same gradients
    go(learner(configured(duration="6 steps", log_every=1, optimizer=still)), single)
    norms = [event.values["gradient_norm"] for event in single.events]
    threshold = float(np.median(norms))
    go(learner(configured(duration="6 steps", log_every=6, optimizer={**still, "clip_norm": threshold})), together)
    (line,) = together.events
    assert line.values["gradient_norm_highest"] == pytest.approx(max(norms))
    assert (
        line.values["clipped_share"] == pytest.approx(sum(norm > threshold for norm in norms) / 6) and 0 < line.values["clipped_share"] < 1
    )


@pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
def test_penalties_and_weights_leave_a_trace(kind: str) -> None:
    """Against numpy, over every matrix: embeddings are, biases and norms are not."""
    one, recorder = learner(configured(optimizer={"kind": kind, "l1": 0.01, "weight_decay": 0.1})), Recorder()
    go(one, recorder)
    weights = np.concatenate([p.detach().double().numpy().ravel() for p in one.model.parameters() if p.ndim >= 2])
    values = recorder.events[-1].values
    assert values["weight_norm"] == pytest.approx(np.sqrt((weights**2).sum()), rel=1e-5)
    assert values["l1_penalty"] == pytest.approx(0.01 * np.abs(weights).sum(), rel=1e-5)
    assert values["l2_penalty"] == pytest.approx(0.05 * (weights**2).sum(), rel=1e-5)
    go(learner(configured(optimizer={"kind": kind})), off := Recorder())
    assert off.events[-1].values["l1_penalty"] == off.events[-1].values["l2_penalty"] == 0.0


def test_advice_on_divergence_names_clipping() -> None:
    assert "lower optimizer.clip_norm (now 1)" in steadier_settings(configured())
    assert "--set optimizer.clip_norm=1" in steadier_settings(configured(optimizer={"clip_norm": 0.0}))


def test_a_checkpoint_of_before_has_no_trace_of_clipping() -> None:
    """A window that was saved without the later figures is read all the same."""
    facts = Progress(step=3).facts()
    for name in ("clipped_steps", "norm_highest"):
        del facts["window"][name]
    assert Progress.from_facts(facts) == Progress(step=3)


def test_a_line_of_metrics_may_span_a_stop() -> None:
    unbroken, first, second = Recorder(), Recorder(), Recorder()
    config = configured(duration="4 steps", log_every=4, optimizer={"clip_norm": 0.5, "l1": 0.01, "weight_decay": 0.1})
    go(learner(config), unbroken)
    one = learner(config)
    stop = StopRequest()
    with pytest.raises(Stopped):
        stop_at(first, 3, stop)
        go(one, first, stopped := Progress(), stop=stop)
    assert stopped.step == 3 and not first.events
    go(one, second, Progress.from_facts(stopped.facts()))
    timeless = [
        {name: value for name, value in event.values.items() if "second" not in name} for event in (*unbroken.events, *second.events)
    ]
    assert len(timeless) == 2 and timeless[0] == timeless[1]


def stop_at(recorder: Recorder, step: int, stop: StopRequest) -> None:
    """Wish to stop while this step is saved."""
    real = recorder.save

    def save(progress: Progress) -> bool:
        if progress.step == step:
            stop.signal = 15
        return real(progress)

    recorder.save = save  # type: ignore[method-assign]


def test_a_wish_to_stop_saves_the_current_step() -> None:
    recorder, stop = Recorder(), StopRequest()
    stop.signal = 15
    with pytest.raises(Stopped, match="stopped at step 0, which is saved"):
        go(learner(configured()), recorder, stop=stop)
    assert recorder.calls == [("save", 0)]


def test_a_validation_cut_short_is_done_first_when_the_training_goes_on() -> None:
    recorder, stop = Recorder(scores=[False]), StopRequest()
    validate = recorder.validate

    def cut(progress: Progress) -> bool:
        stop.signal = 15
        return validate(progress)

    recorder.validate = cut  # type: ignore[method-assign]
    progress = Progress()
    with pytest.raises(Stopped):
        go(one := learner(configured()), recorder, progress, stop=stop)
    assert recorder.calls == [("validate", 2), ("save", 2)] and progress.validation_due
    again = Recorder()
    go(one, again, Progress.from_facts(progress.facts()))
    assert again.calls == [("validate", 2), ("save", 2), ("save", 3), ("validate", 4), ("save", 4)]


def test_skipped_steps_are_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    one, recorder = learner(configured()), Recorder()
    poison(one, monkeypatch, calls=[1])
    progress = go(one, recorder)
    assert progress.step == 4 and progress.skipped == 1 and progress.recent_skips == [2]
    assert ("bad", 2) in recorder.calls
    assert [(event.kind, event.step) for event in recorder.events] == [("skipped", 2), ("train", 2), ("train", 4)]


def test_ten_skipped_steps_of_a_hundred_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    one = learner(configured(duration="900 steps", validate_every="0 steps", save_every="0 steps"))
    poison(one, monkeypatch, calls=[*range(0, 90, 10), 100, *range(200, 290, 10), 299])
    progress = Progress()
    with pytest.raises(TrainingError, match="diverged at step 300: loss or gradient not finite in 10 of the last 100 steps"):
        go(one, Recorder(), progress)
    assert progress.skipped == 20, "ten of a hundred and one are borne"


def test_progress_survives_json() -> None:
    progress = Progress(step=3, best=0.1, scores=[(2, 0.1)], recent_skips=[1], window=Window(nats=0.3, steps=2))
    assert Progress.from_facts(json.loads(json.dumps(progress.facts()))) == progress


@settings(deadline=None)
@given(scores=st.lists(st.integers(0, 5), max_size=8), count=st.integers(0, 9))
def test_the_best_and_the_last_steps(scores: list[int], count: int) -> None:
    progress = Progress(scores=[(place, float(score)) for place, score in enumerate(scores)])
    best = progress.best_steps(count)
    assert len(best) == min(count, len(scores)) == len(progress.last_steps(count))
    assert all(scores[chosen] >= scores[other] for chosen in best for other in range(len(scores)) if other not in best)
    assert progress.last_steps(count) == list(range(len(scores)))[max(0, len(scores) - count) :]
