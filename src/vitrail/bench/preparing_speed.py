"""Cost of preparing large text: wall-clock time, processor time and memory by number of pairs: `vitrail bench prepare`."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vitrail.errors import UsageError, VitrailError
from vitrail.runtime.machine import Machine, describe_machine

_CHUNK = 50_000
_WORDS = 60_000
_LOOK_SECONDS = 0.2
_MB = 1e6


@dataclass(frozen=True)
class PrepareCost:
    """The cost of one preparation, from two files to a folder for training."""

    pairs: int
    megabytes: float
    """Of text, both sides."""
    seconds: float
    processor_seconds: float
    """Of all its processes."""
    largest_megabytes: float
    """Peak resident memory of its largest process."""
    together_megabytes: float
    """Peak memory of all its processes together; shared memory is counted once per process."""

    @property
    def pairs_per_second(self) -> float:
        """By wall-clock time."""
        return self.pairs / self.seconds


@dataclass(frozen=True)
class PrepareReport:
    """Costs by size, and the machine."""

    machine: Machine
    costs: tuple[PrepareCost, ...]

    def to_json(self) -> str:
        """The fields by name, as JSON."""
        return json.dumps(asdict(self), indent=2)

    def to_text(self) -> str:
        """A table for people."""
        lines = [
            self.machine.to_text(),
            "",
            f"{'pairs':>12} {'text':>9} {'time':>8} {'processor':>10} {'pairs/s':>9} {'memory':>10} {'of all':>9}",
        ]
        lines += [
            f"{one.pairs:>12,} {one.megabytes:>6,.0f} MB {one.seconds:>6,.0f} s {one.processor_seconds:>8,.0f} s "
            f"{one.pairs_per_second:>9,.0f} {one.largest_megabytes:>7,.0f} MB {one.together_megabytes:>6,.0f} MB"
            for one in self.costs
        ]
        return "\n".join(lines) + "\n"


def read_sizes(text: str) -> list[int]:
    """Read "1000000,10000000". Raises UsageError for anything but a list of numbers from 100 on."""
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 100:
        raise UsageError(f"--pairs {text}", expected="numbers of pairs from 100 on, such as 1000000,10000000")
    return sizes


def measure_preparation(*, sizes: Sequence[int], say: Callable[[str], None] = lambda _: None) -> PrepareReport:
    """Write artificial parallel text of each size to a temporary folder, and measure `vitrail prepare` on it.

    The text has 60,000 artificial words a side, with Zipf frequencies, in sentences of 3 to 25 words, so that hardly any pair is dropped.
    Raises VitrailError where the preparation fails. Needs about 0.3 GB of disk for a million pairs.
    """
    machine = describe_machine()
    costs: list[PrepareCost] = []
    for pairs in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            say(f"writing {pairs:,} pairs")
            sides = (folder / "text.en", folder / "text.fr")
            megabytes = _write(sides, pairs) / _MB
            say(f"preparing {pairs:,} pairs ({megabytes:,.0f} MB)")
            costs.append(_measure(sides, folder / "prepared", pairs=pairs, megabytes=megabytes))
    return PrepareReport(machine, tuple(costs))


def _write(sides: tuple[Path, Path], pairs: int) -> int:
    """Parallel text in which every source word has its own translation; returns the bytes written."""
    words = [_invent(_WORDS, seed=seed) for seed in (1, 2)]
    written = 0
    with sides[0].open("w", encoding="utf-8") as source, sides[1].open("w", encoding="utf-8") as target:
        for numbers in _sentences(pairs):
            for file, names in zip((source, target), words, strict=True):
                written += file.write("".join(" ".join(names[number] for number in row) + ".\n" for row in numbers))
    return written


def _sentences(pairs: int) -> Iterator[list[list[int]]]:
    """Word numbers of sentences, in portions."""
    generator = np.random.default_rng(0)
    for first in range(0, pairs, _CHUNK):
        lengths = generator.integers(3, 26, min(_CHUNK, pairs - first))
        drawn = (_WORDS ** generator.random(int(lengths.sum()))).astype(np.int64) - 1  # Zipf: P(rank) falls as 1 / rank
        yield [part.tolist() for part in np.split(drawn, np.cumsum(lengths)[:-1])]


def _invent(count: int, *, seed: int) -> list[str]:
    """Words of two to five syllables, all different."""
    generator = np.random.default_rng(seed)
    syllables = np.array([consonant + vowel for consonant in "bcdfglmnprstv" for vowel in ("a", "e", "i", "o", "u", "é")])
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(generator.choice(syllables, generator.integers(2, 6)))] = None
    return list(found)


def _measure(sides: tuple[Path, Path], output: Path, *, pairs: int, megabytes: float) -> PrepareCost:
    start = "import sys; sys.argv[0] = 'vitrail'; from vitrail.cli import main; main()"
    command = [sys.executable, "-c", start, "prepare", "--source", str(sides[0]), "--target", str(sides[1]), "-o", str(output)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        largest = together = 0
        while process.poll() is None:
            sizes = [_resident(one) for one in _family(process.pid)]
            largest, together = max([largest, *sizes]), max(together, sum(sizes))
            time.sleep(_LOOK_SECONDS)
        seconds = time.perf_counter() - started
        if process.returncode:
            said.seek(0)
            tail = said.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise VitrailError(f"vitrail prepare ended with {process.returncode}: {tail}", expected="it to succeed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return PrepareCost(pairs, megabytes, seconds, processor, largest / _MB, together / _MB)


def _family(pid: int) -> list[int]:
    """A process and its descendants; Linux only, elsewhere empty."""
    found, waiting = list[int](), [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        try:
            waiting += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except OSError:
            continue
    return found


def _resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
