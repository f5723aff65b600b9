"""Time to import the package and to start the command line: `vitrail bench start`."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from vitrail.errors import VitrailError
from vitrail.runtime.machine import Machine, describe_machine

COMMANDS: dict[str, list[str]] = {
    "python": [sys.executable, "-c", "pass"],
    "import vitrail": [sys.executable, "-c", "import vitrail"],
    "vitrail --help": [sys.executable, "-c", "import sys; sys.argv[0] = 'vitrail'; from vitrail.cli import main; main()", "--help"],
}
"""What is timed, with bare Python for comparison; the last one is what the installed `vitrail` script does."""
LIMIT_SECONDS = 0.3
"""The limit for an import and a help text."""


@dataclass(frozen=True)
class StartTime:
    """The run times of a command."""

    name: str
    median_seconds: float
    least_seconds: float
    most_seconds: float


@dataclass(frozen=True)
class StartReport:
    """Start times, and the machine."""

    machine: Machine
    repeats: int
    times: tuple[StartTime, ...]

    @property
    def within_limit(self) -> bool:
        """Whether the median of every command is under the limit."""
        return all(one.median_seconds < LIMIT_SECONDS for one in self.times)

    def to_json(self) -> str:
        """The fields by name, as JSON."""
        return json.dumps({**asdict(self), "limit_seconds": LIMIT_SECONDS, "within_limit": self.within_limit}, indent=2)

    def to_text(self) -> str:
        """A table for people."""
        verdict = "met" if self.within_limit else "missed"
        lines = [self.machine.to_text(), "", f"{'seconds':<16}  median   least    most   (of {self.repeats} new processes, in turn)"]
        lines += [f"{one.name:<16}  {one.median_seconds:6.3f}  {one.least_seconds:6.3f}  {one.most_seconds:6.3f}" for one in self.times]
        return "\n".join([*lines, "", f"limit {LIMIT_SECONDS} s: {verdict}"]) + "\n"


def measure_start_time(*, repeats: int = 5, commands: Mapping[str, Sequence[str]] = COMMANDS) -> StartReport:
    """Time each command in `repeats` new processes, in turn; one uncounted process before them fills the disk cache.

    Raises VitrailError when a command fails.
    """
    machine = describe_machine()
    found: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(repeats + 1):
        for name, command in commands.items():
            seconds = _time(name, command)
            if turn > 0:
                found[name].append(seconds)
    times = tuple(StartTime(name, statistics.median(all), min(all), max(all)) for name, all in found.items())
    return StartReport(machine, repeats, times)


def _time(name: str, command: Sequence[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise VitrailError(f"{name} ended with {done.returncode}: {done.stderr.strip().rpartition(chr(10))[2]}", expected="it to succeed")
    return seconds
