"""Start times."""

import json
import sys
from pathlib import Path

import pytest

from vitrail.bench.start import Command, measure_start_time, usual_commands
from vitrail.errors import VitrailError
from vitrail.native.compiled import has_numba


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def test_commands_are_timed_and_each_is_held_against_its_limit() -> None:
    commands = {
        "quick": Command(python("pass")),
        "slow": Command(python("import time; time.sleep(0.35)"), 0.3),
        "in time": Command(python("pass"), 60),
    }
    report = measure_start_time(repeats=1, commands=commands)
    quick, slow, in_time = report.times
    assert 0 <= quick.processor_seconds < 1 and quick.imported_torch is None
    assert 0 < quick.median_seconds < slow.median_seconds and slow.median_seconds >= 0.35
    assert [one.within_limit for one in report.times] == [True, False, True] and not report.within_limit
    assert [line.split()[-1] for line in report.to_text().splitlines()[-2:]] == ["missed", "met"] and in_time.limit_seconds == 60
    assert json.loads(report.to_json())["within_limit"] is False


@pytest.mark.slow
def test_the_real_commands_work(tmp_path: Path) -> None:
    commands = usual_commands(tmp_path)
    assert list(commands)[:3] == ["python", "import vitrail", "vitrail --help"] and ("word vectors" in commands) == has_numba()
    report = measure_start_time(repeats=1, commands={name: commands[name] for name in commands if "compiled" not in name})
    told = {one.name: one.imported_torch for one in report.times}
    assert (told["python"], told["import vitrail"], told["vitrail --help"], told["vitrail translate, torch"]) == (None, False, False, True)
    assert told.get("vitrail translate, native", False) is False
    (line,) = [line for line in report.to_text().splitlines() if line.startswith("vitrail --help")]
    assert " no " in line


def test_a_command_that_fails_is_an_error() -> None:
    with pytest.raises(VitrailError, match="broken ended with 3: oh"):
        measure_start_time(repeats=1, commands={"broken": Command(python("import sys; sys.stderr.write('oh'); sys.exit(3)"))})
