"""Start times."""

import json
import sys

import pytest

from vitrail.bench import start
from vitrail.errors import VitrailError


def test_commands_are_timed_and_held_against_the_limit() -> None:
    commands = {"quick": [sys.executable, "-S", "-c", "pass"], "slow": [sys.executable, "-S", "-c", "import time; time.sleep(0.35)"]}
    report = start.measure_start_time(repeats=1, commands=commands)
    quick, slow = report.times
    assert 0 < quick.median_seconds < slow.median_seconds and slow.median_seconds >= 0.35
    assert not report.within_limit and "missed" in report.to_text()
    assert json.loads(report.to_json())["within_limit"] is False


def test_the_real_commands_work() -> None:
    report = start.measure_start_time(repeats=1)
    assert [one.name for one in report.times] == ["python", "import vitrail", "vitrail --help"]


def test_a_command_that_fails_is_an_error() -> None:
    with pytest.raises(VitrailError, match="broken ended with 3: oh"):
        start.measure_start_time(repeats=1, commands={"broken": [sys.executable, "-c", "import sys; sys.stderr.write('oh'); sys.exit(3)"]})
