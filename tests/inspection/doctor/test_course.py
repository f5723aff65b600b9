"""Verdicts on the course of a training, from crafted logs."""

import math

import pytest
from planted_runs import dev_line, train_line

from vitrail.config import build
from vitrail.doctor.checks.learning_curves import (
    TrainingHistory,
    judge_completion,
    judge_learning,
    judge_overfitting,
    judge_steadiness,
    judge_warm_up,
    planned_steps,
    read_history,
)
from vitrail.train.run_config import RunConfig


def course(dev: list[float], *, train: float = 1.0, finished: bool = True, done: float = 1.0) -> TrainingHistory:
    """Validations, each after a line on training; the loss falls to `train`."""
    lines = [
        line
        for place, nats in enumerate(dev, start=1)
        for line in (
            train_line(100 * place, nats=train + 1 - place / len(dev), done=done * place / len(dev)),
            dev_line(100 * place, nats, best=nats == min(dev[:place])),
        )
    ]
    return read_history([*lines, *([{"step": 100 * len(dev), "kind": "finished"}] if finished else [])])


@pytest.mark.parametrize(
    ("dev", "train", "severity"),
    [
        ([3.0, 2.0, 1.5], 1.4, "ok"),
        ([3.0, 2.0, 2.04], 1.4, "ok"),  # wavers
        ([0.10, 0.08, 0.12], 0.01, "ok"),  # half as much again, but of nothing
        ([3.0, 2.0, 2.2], 1.4, "warning"),
        ([3.0, 2.0, 2.6], 1.4, "warning"),  # the training loss is not far below
        ([3.0, 2.0, 2.6], 0.4, "fault"),
        ([3.0, 2.0, 2.6], 5.0, "ok"),  # a rise of both is no overfitting
        ([3.0], 1.0, "unchecked"),
    ],
)
def test_overfitting(dev: list[float], train: float, severity: str) -> None:
    assert judge_overfitting(course(dev, train=train)).severity == severity


@pytest.mark.parametrize(
    ("best", "done", "severity"),
    [(1.0, 1.0, "ok"), (2.9, 0.1, "ok"), (3.5, 1.0, "warning"), (4.8, 1.0, "fault"), (4.8, 0.1, "note"), (math.nan, 1.0, "fault")],
)
def test_learning_is_held_against_the_entropy_of_single_words(best: float, done: float, severity: str) -> None:
    assert judge_learning(course([best], done=done, finished=done == 1.0), 5.0).severity == severity


def test_few_steps_are_named_where_little_was_learned() -> None:
    assert "300 steps are few: Vitrail plans 2,000" in judge_learning(course([4.8, 4.7, 4.6]), 5.0).remedy
    assert "few" not in judge_learning(course([4.8] * 20), 5.0).remedy


def test_losses_that_the_log_could_not_hold_count_as_infinite() -> None:
    """NaN and infinities are null in metrics.jsonl."""
    found = read_history([train_line(1, nats=1.0) | {"perplexity": None}, dev_line(1, 1.0) | {"dev_loss_nats_per_token": None}])
    assert found.train_nats == [math.inf] and found.dev_nats == [math.inf]
    assert judge_learning(found, 5.0).severity == "fault"


def falling(steps: int = 20, **more: float) -> list[dict[str, object]]:
    return [train_line(50 * place, nats=6 - 0.2 * place, **more) for place in range(1, steps + 1)]


def test_a_steady_training_is_well() -> None:
    assert judge_steadiness(read_history(falling(norm=1.2)), warmup=100).severity == "ok"


def test_a_jump_that_is_made_good_is_a_warning_and_one_that_lasts_a_fault() -> None:
    lines = falling()
    made_good = [*lines[:10], train_line(510, nats=5.5), *lines[10:]]
    assert judge_steadiness(read_history(made_good), warmup=100).severity == "warning"
    assert judge_steadiness(read_history([*lines, train_line(1100, nats=5.5)]), warmup=100).severity == "fault"


def test_gradients_that_are_always_cut_are_a_warning_but_not_during_the_warm_up() -> None:
    early = [train_line(50 * place, nats=6 - 0.2 * place, norm=40.0) for place in range(1, 5)]
    late = [train_line(50 * place, nats=6 - 0.2 * place, norm=0.8) for place in range(5, 15)]
    assert judge_steadiness(read_history([*early, *late]), warmup=200).severity == "ok"
    assert judge_steadiness(read_history(falling(norm=40.0)), warmup=200).severity == "warning"


@pytest.mark.parametrize(("skips", "severity"), [(1, "warning"), (12, "fault")])
def test_skipped_steps(skips: int, severity: str) -> None:
    lines = [*falling(), *({"step": 1000, "kind": "skipped", "skipped_steps": 1} for _ in range(skips))]
    found = judge_steadiness(read_history(lines), warmup=0)
    assert found.severity == severity and found.numbers["skipped"] == skips


def test_completion() -> None:
    assert judge_completion(course([2.0, 1.99])).severity == "ok"
    assert "still improving" in judge_completion(course([2.0, 1.5])).found
    stopped = judge_completion(course([2.0, 1.99], finished=False, done=0.4))
    assert stopped.severity == "note" and "40%" in stopped.found


def test_an_empty_log_is_not_judged() -> None:
    nothing = read_history([])
    verdicts = [judge_overfitting(nothing), judge_learning(nothing, 5.0), judge_steadiness(nothing, warmup=0)]
    assert [one.severity for one in verdicts] == ["unchecked"] * 3


@pytest.mark.parametrize(
    ("warmup", "duration", "steps", "severity"),
    [
        (200, "3 epochs", 135.0, "fault"),
        (200, "1 minutes", 135.0, "fault"),
        (200, "230 steps", 230.0, "fault"),  # over before the end, but the decay has taken most of it
        (13, "3 epochs", 135.0, "ok"),
        ("10%", "1 minutes", 135.0, "ok"),
        ("600 steps, at most 10%", "3 epochs", 135.0, "ok"),
        (13, "3 epochs", 0.0, "unchecked"),
    ],
)
def test_a_warm_up_is_held_against_the_steps_of_the_training(warmup: int | str, duration: str, steps: float, severity: str) -> None:
    """A wrong remedy was "a longer schedule.warmup"."""
    table = {"data": {"corpora": [{"source": "a.en", "target": "a.fr"}]}, "schedule": {"warmup": warmup}, "train": {"duration": duration}}
    found = judge_warm_up(build(RunConfig, table, origin="test"), steps)
    assert found.severity == severity
    assert severity != "fault" or "schedule.warmup=10%" in found.remedy


def test_the_steps_of_a_training_are_known_from_how_far_it_is() -> None:
    lines = [train_line(place, nats=5.0, done=place / 400) for place in (50, 100)]
    assert planned_steps(read_history(lines)) == 400 and planned_steps(read_history([])) == 0
