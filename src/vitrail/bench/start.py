"""Time to import the package, to start the command line, to translate a line and to begin word vectors: `vitrail bench start`."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from vitrail.errors import VitrailError
from vitrail.native.compiled import has_numba
from vitrail.runtime.machine import Machine, describe_machine

_TOLD = "imported torch: "
_TELL = f"""
import atexit, os, sys
def tell(): sys.stderr.write("\\n{_TOLD}" + ("yes" if "torch" in sys.modules else "no"))
def leave(code, leave=os._exit): tell(); sys.stderr.flush(); leave(code)
os._exit = leave
atexit.register(tell)
"""
"""Makes a process tell at its end whether torch is there, also where it ends at once, as the program does while a thread waits."""
_MAIN = f"{_TELL}sys.argv[0] = 'vitrail'; from vitrail.cli import main; main()"
"""What the installed `vitrail` script does."""
_MODEL = """
import sys
from pathlib import Path
from vitrail.data.vocabularies.subwords import Vocabularies, WordVocabulary
from vitrail.models.architectures import preset
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.model_folder import save_model
words = WordVocabulary.train(["one two three four five"], size=20)
both, config = Vocabularies(words, words, joint=True), preset("tiny")
facts = {"search": {"beams": 1, "max_length": 20}}
save_model(Path(sys.argv[1]), tensors=unique_tensors(build_model(config, both)), config=config, vocabularies=both, facts=facts)
"""
"""Writes a Transformer of the preset `tiny` with random weights."""
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


def usual_commands(folder: Path) -> dict[str, Command]:
    """What is timed, with bare Python for comparison; with Numba, a line translated by the native engine, and word vectors of a few words,
    compiled before and compiled anew.

    Args: folder: an empty one, where a model and a line are written.
    """
    subprocess.run([sys.executable, "-c", _MODEL, str(folder / "model")], check=True)
    (folder / "line").write_text("three one four two\n", encoding="utf-8")
    translate = [sys.executable, "-c", _MAIN, "translate", str(folder / "model"), "--source", str(folder / "line"), "--engine"]
    commands = {
        "python": Command([sys.executable, "-c", "pass"]),
        "import vitrail": Command([sys.executable, "-c", f"{_TELL}import vitrail"], 0.3),
        "vitrail --help": Command([sys.executable, "-c", _MAIN, "--help"], 0.3),
        "vitrail translate, torch": Command([*translate, "torch"]),
    }
    if has_numba():
        commands["vitrail translate, native"] = Command([*translate, "native"], 1.0)
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
    processor_seconds: float
    """The median of its processor time, which other programs change less; 0 where the system does not tell."""
    imported_torch: bool | None
    """None: it does not tell."""

    @property
    def within_limit(self) -> bool:
        """Whether the median is under the limit."""
        return self.limit_seconds is None or self.median_seconds < self.limit_seconds


class _Run(NamedTuple):
    """One process."""

    seconds: float
    processor_seconds: float
    imported_torch: bool | None


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
        lines.append(f"{'seconds':<{width}}  median   least    most  processor  torch   limit  (of {self.repeats} new processes, in turn)")
        for one in self.times:
            limit = "" if one.limit_seconds is None else f"{one.limit_seconds:6g}  {'met' if one.within_limit else 'missed'}"
            torch = {None: "", True: "yes", False: "no"}[one.imported_torch]
            seconds = f"{one.median_seconds:6.3f}  {one.least_seconds:6.3f}  {one.most_seconds:6.3f}"
            row = f"{one.name:<{width}}  {seconds}  {one.processor_seconds:9.3f}  {torch:<5}  {limit}"
            lines.append(row.rstrip())
        return "\n".join(lines) + "\n"


def measure_start_time(*, repeats: int = 5, commands: Mapping[str, Command] | None = None) -> StartReport:
    """Time each command in `repeats` new processes, in turn; one uncounted process before them fills the disk cache.

    Raises VitrailError when a command fails.
    """
    if commands is None:
        with tempfile.TemporaryDirectory() as folder:
            return measure_start_time(repeats=repeats, commands=usual_commands(Path(folder)))
    machine = describe_machine()
    found: dict[str, list[_Run]] = {name: [] for name in commands}
    for turn in range(repeats + 1):
        for name, command in commands.items():
            run = _time(name, command.arguments)
            if turn > 0:
                found[name].append(run)
    return StartReport(machine, repeats, tuple(_start_time(name, runs, commands[name]) for name, runs in found.items()))


def _start_time(name: str, runs: Sequence[_Run], command: Command) -> StartTime:
    seconds = [run.seconds for run in runs]
    return StartTime(
        name,
        statistics.median(seconds),
        min(seconds),
        max(seconds),
        command.limit_seconds,
        statistics.median(run.processor_seconds for run in runs),
        runs[-1].imported_torch,
    )


def _time(name: str, command: Sequence[str]) -> _Run:
    before = os.times()
    started = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise VitrailError(f"{name} ended with {done.returncode}: {done.stderr.strip().rpartition(chr(10))[2]}", expected="it to succeed")
    after, told = os.times(), done.stderr.rpartition(_TOLD)
    processor = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return _Run(seconds, processor, told[2].startswith("yes") if told[1] else None)
