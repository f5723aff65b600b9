"""`vitrail translate` on very many lines: its rate beside that of its engine alone, and its memory. `vitrail bench lines`."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from vitrail.decode.search.query import Query
from vitrail.decode.search_config import SearchConfig
from vitrail.decode.translate import Translator
from vitrail.errors import UsageError, VitrailError
from vitrail.runtime.cores import usable_cores
from vitrail.runtime.machine import Machine, describe_machine

LEAST_SHARE, MOST_BYTES = 0.9, 500 << 20
"""Goals: lines a second as a share of the engine's own; memory of the whole process."""
_COUNTED = """
import json, resource, subprocess, sys
code = subprocess.call([sys.executable, "-m", "vitrail", *sys.argv[1:]], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""
"""Runs vitrail in a small process's child: a process counts the memory that its parent had when it was started as its own."""


class Finished(NamedTuple):
    """One run of the command."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    """Memory at most."""


@dataclass(frozen=True)
class LinesBench:
    """What was measured."""

    machine: Machine
    model: str
    engine: str
    lines: int
    beams: int
    threads: int
    whole: Finished
    """The command on all lines."""
    one: Finished
    """The command on one line: start, loading, and the memory of its programs."""
    engine_seconds: tuple[float, ...]
    """Search of the first lines alone, without text, before and after the command."""
    engine_cpu_seconds: tuple[float, ...]
    engine_lines: int

    @property
    def lines_per_second(self) -> float:
        """Of the command by the clock, without its start."""
        return (self.lines - 1) / (self.whole.seconds - self.one.seconds)

    @property
    def share(self) -> float:
        """The same as a share of the engine's own."""
        return self.lines_per_second / (self.engine_lines / statistics.median(self.engine_seconds))

    @property
    def cpu_share(self) -> float:
        """The same in processor time: the engine's part of all that is used."""
        used = (self.whole.cpu_seconds - self.one.cpu_seconds) / (self.lines - 1)
        return statistics.median(self.engine_cpu_seconds) / self.engine_lines / used

    def to_json(self) -> str:
        """The fields by name, as JSON, with rates and goals."""
        more = {"lines_per_second": self.lines_per_second, "share": self.share, "cpu_share": self.cpu_share}
        return json.dumps({**asdict(self), **more, "goals": {"share": LEAST_SHARE, "peak_bytes": MOST_BYTES}}, indent=2)

    def to_text(self) -> str:
        """For people."""
        own = self.engine_lines / statistics.median(self.engine_seconds)
        peak, start = (one.peak_bytes / 2**20 for one in (self.whole, self.one))
        return (
            f"{self.machine.to_text()}\n"
            f"{self.model}: {self.lines:,} lines, {self.beams} beams, {self.threads} threads, engine {self.engine}\n\n"
            f"vitrail translate: {self.lines_per_second:,.0f} lines/s after a start of {self.one.seconds:.1f} s\n"
            f"its engine alone:  {own:,.0f} lines/s\n"
            f"share: {self.share:.2f} by the clock, {self.cpu_share:.2f} of the processor time (wanted: {LEAST_SHARE})\n"
            f"memory at most: {peak:,.0f} MiB (wanted: {MOST_BYTES >> 20}), of which {start:,.0f} for one line\n"
        )


def measure_lines(
    model: Path, texts: Sequence[str], *, lines: int, search: dict[str, int], threads: int, say: Callable[[str], None]
) -> LinesBench:
    """Translate the texts again and again until there are so many lines; the engine alone searches a fifth of them, twice.

    Args: search: settings of the search, such as beams. Raises UsageError, VitrailError where the command fails.
    """
    if not texts or lines < 2:
        raise UsageError(f"{len(texts)} texts for {lines} lines", expected="at least one text, and two lines")
    threads = threads or usable_cores()
    translator = Translator.load(model, search=search, threads=threads)
    said: list[str] = []
    translator.engine.announce(translator.search, say=said.append)
    some = list(islice(cycle(texts), max(1, lines // 5)))
    with tempfile.TemporaryDirectory(prefix="vitrail-bench-") as folder:
        whole, one = Path(folder) / "whole", Path(folder) / "one"
        whole.write_text("".join(f"{text}\n" for text in islice(cycle(texts), lines)), encoding="utf-8")
        one.write_text(f"{texts[0]}\n", encoding="utf-8")
        command = ["translate", str(model), "--beams", str(translator.search.beams), "--threads", str(threads), "--source"]
        _run_command([*command, str(one)])
        say(f"engine alone, {len(some):,} lines")
        alone = [_search(translator, some)]
        say(f"vitrail translate, {lines:,} lines")
        start, finished = _run_command([*command, str(one)]), _run_command([*command, str(whole)])
        alone.append(_search(translator, some))
    seconds, cpu_seconds = zip(*alone, strict=True)
    engine = said[-1].removeprefix("engine: ")
    return LinesBench(
        *(describe_machine(), model.name, engine, lines, translator.search.beams, threads, finished, start),
        engine_seconds=seconds,
        engine_cpu_seconds=cpu_seconds,
        engine_lines=len(some),
    )


def _search(translator: Translator, texts: Sequence[str]) -> tuple[float, float]:
    """Seconds of the engine, by the clock and of processor time: all at once, so that no thread waits but at the end."""
    rows = [tokens for text in texts for _, tokens in translator.cut(text)]
    queries = [_query(translator.search, len(row)) for row in rows]
    began, used = time.perf_counter(), time.process_time()
    translator.engine.search(rows, queries, config=translator.search)
    return time.perf_counter() - began, time.process_time() - used


def _query(search: SearchConfig, tokens: int) -> Query:
    longest, shortest = search.lengths(tokens)
    return Query(longest=longest, shortest=shortest)


def _run_command(arguments: Sequence[str]) -> Finished:
    """Run vitrail in a process of its own, and throw its output away."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _COUNTED, *arguments], capture_output=True, text=True, errors="replace", check=True)
    seconds = time.perf_counter() - began
    code, cpu_seconds, peak = json.loads(done.stdout)
    if code:
        raise VitrailError(f"vitrail translate ended with {code}: {done.stderr.strip().rpartition(chr(10))[2]}")
    return Finished(seconds, cpu_seconds, peak * (1 if sys.platform == "darwin" else 1024))
