"""The table of ways to fine-tune: what is trained for each, and a small study from end to end."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

from training_runs import run, tiny, write_text

from vitrail.commands.inspecting.experiment import Tuning
from vitrail.config import parse_override
from vitrail.errors import UsageError
from vitrail.experiments.finetuning.study import (
    AVERAGED,
    MIXED,
    PLAIN,
    SCRATCH,
    WAYS,
    TuningPlan,
    own_test_of,
    own_text_of,
    run_tuning_experiment,
    settings_of,
)
from vitrail.models.model_folder import load_folder


def plan(folder: Path, start: Path, **more: object) -> TuningPlan:
    text, old = write_text(folder / "new", pairs=30), write_text(folder / "old")
    held = {side: str(Path(path).with_stem("held")) for side, path in old.items()}
    for side, path in held.items():
        Path(path).write_text("".join(Path(old[side]).read_text().splitlines(keepends=True)[30:50]))
    return TuningPlan(start, text, held, held, old, held, **more)  # pyright: ignore[reportArgumentType]


def test_each_way_asks_for_what_it_is_called(tmp_path: Path) -> None:
    asked = plan(tmp_path, tmp_path / "old", l2=0.5, rank=3)
    told = {way: {".".join(one.path): one.value for one in settings_of(asked, way)} for way in WAYS}
    assert "from" not in told[SCRATCH] and all(told[way]["from"] == str(tmp_path / "old") for way in WAYS if way != SCRATCH)
    assert told["L2 to the old weights"]["optimizer.l2_start"] == 0.5 and told["LoRA"]["lora.rank"] == 3
    assert told[MIXED]["data"]["old"] == [dict(asked.old)] and told[MIXED]["data"]["old_part"] == asked.old_part
    assert told[PLAIN]["data"]["old"] is False and all(told[way]["train.old_share"] == 0 for way in WAYS if way != SCRATCH)
    assert "old" not in told[SCRATCH]["data"] and all(len(one["data"]["corpora"]) == 1 for one in told.values())


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="way 'magic'"):
        plan(tmp_path, tmp_path, ways=("magic",))
    with pytest.raises(UsageError, match="between 0 and 1"):
        plan(tmp_path, tmp_path, old_part=1.0)
    with pytest.raises(UsageError, match="no test set of its own"):
        own_test_of(tmp_path)
    with pytest.raises(UsageError, match="no text of its own"):
        own_text_of(tmp_path)
    with pytest.raises(UsageError, match="--way magic"):
        Tuning(ways=["plain", "magic"]).chosen()
    assert Tuning(ways=["mixed"]).chosen() == (MIXED,) and Tuning().chosen() == WAYS


@pytest.mark.slow
def test_a_small_study_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    run(tiny(tmp_path, {"train": {"duration": "6 steps"}}), tmp_path / "old-run")
    settings = ("train.duration=2 steps", "train.threads=1", "train.precision=fp32", "train.batch_tokens=160")
    ways = (PLAIN, PLAIN + AVERAGED)
    asked = plan(tmp_path, tmp_path / "old-run", ways=ways, seeds=1, settings=tuple(map(parse_override, settings)))
    report = run_tuning_experiment(asked, tmp_path / "study")
    assert [point.way for point in report.points] == list(ways) and report.pairs == 30
    averaged = load_folder(tmp_path / "study" / "averaged" / "1-1")
    assert averaged.facts["old_share"] == report.points[1].old_share
    assert "against the old model" in report.to_text() and len(json.loads(report.to_json())["points"]) == 2
    said: list[str] = []
    assert run_tuning_experiment(asked, tmp_path / "study", say=said.append) == report
