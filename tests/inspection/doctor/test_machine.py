"""What is said of machines that were made up, and that this one can be looked at."""

import subprocess
import sys
from pathlib import Path

import pytest

from vitrail.doctor.checks.environment import Environment, examine_machine, judge_machine, measure_environment, read_requirements
from vitrail.runtime.cores import usable_cores

WELL = Environment(
    python=(3, 12, 1),
    packages={"torch": "2.11.0+cpu", "numpy": "2.1.3", "tensorboard": "2.18.0"},
    requirements={"python": "3.11", "torch": "2.11", "numpy": "1.26"},
    extras={"track": {"tensorboard": "2.18"}, "hf": {"transformers": "5"}},
    cores=4,
    threads=4,
    omp_threads="",
    load=0.2,
    share=0.97,
    waiting="GOMP_SPINCOUNT=10000",
    memory=8e9,
    device="cpu",
    device_memory=-1,
    chosen="float32",
    seconds={"float32": 1e-3, "bfloat16": 2e-3},
    folder="/runs",
    writable=True,
    disk=5e10,
    encoding="utf-8",
    locale_encoding="UTF-8",
    programs={"onnx": True, "ctranslate2": False},
)


def severities(**changes: object) -> dict[str, str]:
    return {one.check: one.severity for one in judge_machine(WELL._replace(**changes))}  # pyright: ignore[reportArgumentType]


def test_a_machine_that_is_well() -> None:
    assert set(severities().values()) == {"ok"}


@pytest.mark.parametrize(
    ("changes", "check", "severity"),
    [
        ({"python": (3, 10, 4)}, "versions", "fault"),
        ({"packages": {"torch": "2.9.1", "numpy": "2.1.3"}}, "versions", "fault"),
        ({"packages": {"torch": "2.11.0"}}, "versions", "fault"),
        ({"threads": 8}, "threads", "warning"),
        ({"threads": 1, "omp_threads": "1"}, "threads", "note"),
        ({"share": 0.55, "load": 9.0}, "other work", "warning"),
        ({"memory": 5e8}, "memory", "fault"),
        ({"memory": 1.5e9}, "memory", "warning"),
        ({"memory": -1.0}, "memory", "unchecked"),
        ({"chosen": "bfloat16", "seconds": {"float32": 1e-3, "bfloat16": 5e-3}}, "precision", "warning"),
        ({"seconds": {"float32": 3e-3, "bfloat16": 1e-3}}, "precision", "note"),
        ({"writable": False}, "folder", "fault"),
        ({"disk": 1e8}, "folder", "fault"),
        ({"disk": 1e9}, "folder", "warning"),
        ({"encoding": "ascii"}, "encoding", "warning"),
        ({"packages": {**WELL.packages, "tensorboard": "2.0"}}, "extra track", "warning"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], check: str, severity: str) -> None:
    found = severities(**changes)
    assert found.pop(check) == severity
    assert set(found.values()) == {"ok"}


def test_extras_say_what_they_bring() -> None:
    found = {one.check: one.found for one in judge_machine(WELL)}
    assert found["extra track"].startswith("installed") and "pip install 'vitrail[hf]'" in found["extra hf"]


def test_exits_say_which_programs_are_there() -> None:
    found = {one.check: one.found for one in judge_machine(WELL)}
    assert found["exits"] == "checked here: onnx; not installed: ctranslate2: pip install ctranslate2"


def test_requirements_are_read_from_the_packages_own_metadata() -> None:
    lines = ["torch>=2.11", 'tensorboard>=2.18; extra == "track"', "x>=1; extra == 'dev'", "pyright[nodejs]>=1.1; extra == 'lint'"]
    needed, extras = read_requirements([line.replace('"', "'") for line in lines])
    assert needed == {"torch": "2.11"} and extras == {"track": {"tensorboard": "2.18"}, "lint": {"pyright": "1.1"}}


def test_this_machine_can_be_looked_at(tmp_path: Path) -> None:
    found = measure_environment(tmp_path)
    assert found.cores >= 1 and found.threads >= 1 and found.disk > 0 and found.writable
    assert found.packages["torch"] and "torch" in found.requirements
    assert list(tmp_path.iterdir()) == []
    diagnosis = examine_machine(tmp_path)
    assert {"versions", "threads", "memory", "device", "precision", "folder", "encoding"} <= {one.check for one in diagnosis.findings}
    assert not [one for one in diagnosis.faults if one.check == "versions"]


def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    assert [one.check for one in examine_machine(tmp_path / "nothing").faults] == ["folder"]


def test_other_work_is_told_with_threads_that_fit_beside_it() -> None:
    def told(**changes: object) -> str:
        findings = judge_machine(WELL._replace(**changes))  # pyright: ignore[reportArgumentType]
        return next(f"{one.found}; try {one.remedy}" for one in findings if one.check == "other work")

    assert "51% of its 4 cores" in told(share=0.51) and "train.threads=2" in told(share=0.51) and "GOMP_SPINCOUNT" not in told(share=0.51)
    assert "train.threads=1" in told(share=0.01) and "GOMP_SPINCOUNT=10000" in told(share=0.5, waiting="")
    assert "load" not in told(load=-1.0)


def test_the_share_is_measured() -> None:
    """Three times as many busy threads of another process as there are cores leave at most a half of them, whatever else is at work."""
    command = [sys.executable, "-m", "vitrail.bench.busy_loop", str(3 * usable_cores())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdin is not None
        other.stdout.readline()
        beside = min(measure_environment(Path()).share for _ in range(2))
        other.stdin.close()
    assert 0 < beside < 0.75
