"""Time to import the package, to start the command line and to begin word vectors: `vitrail bench start`."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from vitrail.errors import VitrailError
from vitrail.native.compiled import has_numba
from vitrail.runtime.machine import Machine, describe_machine

_MAIN = "import sys; sys.argv[0] = 'vitrail'; from vitrail.cli import main; main()"
"""What the installed `vitrail` script does."""
_VECTORS = """
import os, sys, tempfile
from pathlib import Path
with tempfile.TemporaryDirectory() as name:
    if {fresh}:
        os.environ["VITRAIL_CACHE"] = name
    text = Path(name, "text")
    text.write_text("one two three four five\\n" * 20)
    sys.argv = ["vitrail", "vectors", "train", str(text), "-o", str(Path(name, "vectors")), "--threads", "1"]
    from vitrail.cli import main
    main()
"""


class Command(NamedTuple):
    """A command, and how long it may take."""

    arguments: list[str]
    limit_seconds: float | None = None


def usual_commands() -> dict[str, Command]:
    """What is timed, with bare Python for comparison; with Numba, word vectors of a few words, compiled before and compiled anew."""
    commands = {
        "python": Command([sys.executable, "-c", "pass"]),
        "import vitrail": Command([sys.executable, "-c", "import vitrail"], 0.3),
        "vitrail --help": Command([sys.executable, "-c", _MAIN, "--help"], 0.3),
    }
    if has_numba():
        commands["word vectors"] = Command([sys.executable, "-c", _VECTORS.format(fresh=False)], 1.5)
        commands["word vectors, compiled first"] = Command([sys.executable, "-c", _VECTORS.format(fresh=True)], 20)
    return commands


@dataclass(frozen=True)
class StartTime:
    """The run times of a command."""

    name: str
    median_seconds: float
    least_seconds: float
    most_seconds: float
    limit_seconds: float | None

    @property
    def within_limit(self) -> bool:
        """Whether the median is under the limit."""
        return self.limit_seconds is None or self.median_seconds < self.limit_seconds


@dataclass(frozen=True)
class StartReport:
    """Start times, and the machine."""

    machine: Machine
    repeats: int
    times: tuple[StartTime, ...]

    @property
    def within_limit(self) -> bool:
        """Whether the median of every command is under the limit."""
        return all(one.within_limit for one in self.times)

    def to_json(self) -> str:
        """The fields by name, as JSON."""
        return json.dumps({**asdict(self), "within_limit": self.within_limit}, indent=2)

    def to_text(self) -> str:
        """A table for people."""
        width = max(len(one.name) for one in self.times)
        lines = [self.machine.to_text(), ""]
        lines.append(f"{'seconds':<{width}}  median   least    most   limit  (of {self.repeats} new processes, in turn)")
        for one in self.times:
            limit = "" if one.limit_seconds is None else f"{one.limit_seconds:6g}  {'met' if one.within_limit else 'missed'}"
            row = f"{one.name:<{width}}  {one.median_seconds:6.3f}  {one.least_seconds:6.3f}  {one.most_seconds:6.3f}  {limit}"
            lines.append(row.rstrip())
        return "\n".join(lines) + "\n"


def measure_start_time(*, repeats: int = 5, commands: Mapping[str, Command] | None = None) -> StartReport:
    """Time each command in `repeats` new processes, in turn; one uncounted process before them fills the disk cache.

    Raises VitrailError when a command fails.
    """
    machine, timed = describe_machine(), usual_commands() if commands is None else commands
    found: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(repeats + 1):
        for name, command in timed.items():
            seconds = _time(name, command.arguments)
            if turn > 0:
                found[name].append(seconds)
    times = tuple(StartTime(name, statistics.median(all), min(all), max(all), timed[name].limit_seconds) for name, all in found.items())
    return StartReport(machine, repeats, times)


def _time(name: str, command: Sequence[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise VitrailError(f"{name} ended with {done.returncode}: {done.stderr.strip().rpartition(chr(10))[2]}", expected="it to succeed")
    return seconds
