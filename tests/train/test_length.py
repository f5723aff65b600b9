"""What the length of a training makes of warm-up and validations, and what is said of it when it starts."""

import logging
from pathlib import Path
from typing import Any

import pytest
from tests.train.training_runs import logged, run, tiny

from vitrail.config import Override, build
from vitrail.models.architectures import PRESETS, TASK_DATA, task_of
from vitrail.train.choosing.schedule_length import describe_length, highest_share, warn_of_warmup
from vitrail.train.optim import Warmup
from vitrail.train.request import Request, plan_run, read_recipe, recipes, to_run_config
from vitrail.train.run_config import RunConfig


def configured(warmup: int | str, duration: str, *, every: str = "1 epochs", kind: str = "linear") -> RunConfig:
    table = {
        "data": {"corpora": [{"source": "a.en", "target": "a.fr"}]},
        "schedule": {"kind": kind, "warmup": warmup},
        "train": {"duration": duration, "validate_every": every},
    }
    return build(RunConfig, table, origin="test")


def test_the_length_is_told_in_true_numbers() -> None:
    short = configured("600 steps, at most 10%", "3 epochs", every="1 epochs, at most 25%")
    assert describe_length(short, steps_per_epoch=45) == "135 steps, the first 14 of them warm-up; a validation every 34 steps"
    long = configured("600 steps, at most 10%", "40 epochs", every="1 epochs, at most 25%")
    assert describe_length(long, steps_per_epoch=230) == "9,200 steps, the first 600 of them warm-up; a validation every 230 steps"
    assert describe_length(configured(4, "30 steps"), steps_per_epoch=45).endswith("a validation at the end")
    minutes = describe_length(configured("600 steps, at most 10%", "1 minutes", every="1 epochs, at most 25%"), steps_per_epoch=45)
    assert minutes == "a warm-up of 600 steps, at most 10% of the time; a validation every 1 epochs, at most 25%"


@pytest.mark.parametrize("kind", ["linear", "cosine", "inverse_sqrt", "constant", "plateau"])
def test_a_schedule_that_ends_before_its_peak_is_told_with_the_remedy(kind: str) -> None:
    config = configured(200, "135 steps", kind=kind)
    told = warn_of_warmup(config, steps=135)
    assert told is not None and "200 steps" in told and "135 steps" in told and "--set schedule.warmup=10%" in told
    remedied = configured("10%", "135 steps", kind=kind)
    assert warn_of_warmup(remedied, steps=135) is None and highest_share(remedied, steps=135) > 0.85
    for warmup, steps in ((13, 135), (200, 2_100), ("600 steps, at most 10%", 30), (1, 1)):
        assert warn_of_warmup(configured(warmup, "9 steps", kind=kind), steps=steps) is None
    assert warn_of_warmup(config, steps=None) is None


def test_a_linear_decay_that_begins_under_the_warm_up_is_told_too() -> None:
    """It is over after 90 of 100 steps, but the rate has fallen meanwhile: the top of x / 0.9 · (1 - x) is 0.278, at half of the way."""
    config = configured(90, "100 steps")
    assert highest_share(config, steps=100) == pytest.approx(0.28, abs=0.01)
    assert "28%" in (warn_of_warmup(config, steps=100) or "")
    assert warn_of_warmup(configured(90, "100 steps", kind="constant"), steps=100) is None


@pytest.mark.parametrize("recipe", ["", *recipes()])
@pytest.mark.parametrize("duration", ["30 steps", "3 epochs", "0.1 epochs"])
def test_whatever_the_length_asked_for_the_rate_gets_up(recipe: str, duration: str, tmp_path: Path) -> None:
    """With and without a recipe: 3,000 lines make far fewer steps than what the recipes were made for."""
    for side in ("en", "fr"):
        (tmp_path / f"a.{side}").write_text("".join(f"a line of text {n}\n" for n in range(3_000)), encoding="utf-8")
    (tmp_path / "a.labels").write_text("yes\nno\n" * 1_500, encoding="utf-8")
    files = {side: str(tmp_path / f"a.{side}") for side in ("en", "fr", "labels")}
    texts = {
        "pairs": Override(("data", "corpora"), [{"source": files["en"], "target": files["fr"]}]),
        "text": Override(("data", "text"), [{"source": files["en"]}]),
        "labels": Override(("data", "examples"), [{"source": files["en"], "target": files["labels"]}]),
    }
    preset = read_recipe(recipe).get("preset", "tiny") if recipe else "tiny"
    corpus = texts[TASK_DATA[task_of(PRESETS[preset])]]
    request = Request(recipe=recipe, overrides=(corpus, Override(("train", "duration"), duration)))
    config = to_run_config(plan_run(request, tmp_path / "run", gpu=False).table)
    for steps in (2, 30, 135):
        assert warn_of_warmup(config, steps=steps) is None
        assert Warmup.parse(config.schedule.warmup).within(steps) <= 0.15 * steps
    assert config.train.validate_every.share == 0.25
    own = Request(recipe=recipe, overrides=(*request.overrides, Override(("schedule", "warmup"), 77)))
    assert to_run_config(plan_run(own, tmp_path / "run", gpu=False).table).schedule.warmup == 77, "who sets steps gets steps"


def test_a_short_training_is_validated_four_times_and_a_long_warm_up_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    changes: dict[str, Any] = {"schedule": {"warmup": 200}, "train": {"duration": "30 steps", "validate_every": "500 steps, at most 25%"}}
    said: list[str] = []
    with caplog.at_level(logging.WARNING, logger="vitrail"):
        run(tiny(tmp_path, changes), tmp_path / "run", say=said.append)
    assert any("30 steps, the first 30 of them warm-up; a validation every 8 steps" in line for line in said)
    assert [record.getMessage() for record in caplog.records if "schedule.warmup=10%" in record.getMessage()]
    assert [line["step"] for line in logged(tmp_path / "run") if line["kind"] == "validation"] == [8, 15, 23, 30]


def test_in_minutes_it_is_told_as_soon_as_the_speed_is_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = {"duration": "0.02 minutes", "validate_every": "1 epochs", "log_every": 1}
    with caplog.at_level(logging.WARNING, logger="vitrail"):
        run(tiny(tmp_path, {"schedule": {"warmup": 100_000}, "train": train}), tmp_path / "run")
    told = [record.getMessage() for record in caplog.records]
    assert sum("too long for a training of" in line for line in told) == 1
