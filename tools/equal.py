"""Is today equal to a commit, to the last digit, and as fast? `python tools/equal.py COMMIT` says so, and exits with 1 where it is not.

Both versions of the sources compute the same things (`equal_probe.py`): loss curves, weights, translations with their scores, records of
inspections, what the doctor finds in planted faults, the golden folder's translations. Then speed, a turn of one beside a turn of the
other, in seconds of processor time: what else the machine does moves both. Ten minutes on two cores.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PROBE = ROOT / "tools" / "equal_probe.py"
GOLDEN = ("tests", "golden", "format_1", "model")
MOST = 1.02
"""How many times as long today may take."""
TURNS, ROUNDS = 25, 3
"""Turns of each a round; another round is only taken where the ones before do not suffice."""
SHOWN = 3
FOR_PEOPLE = re.compile(r"/(found|expected|remedy|notes/\d+|lines/\d+)$")
"""Where results hold sentences."""


class Version(NamedTuple):
    """Sources, and the folder that their results are in."""

    tree: Path
    folder: Path

    def environment(self) -> dict[str, str]:
        """One thread, and these sources before any installed ones."""
        return {**os.environ, "PYTHONPATH": str(self.tree / "src"), "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str, **more: Any) -> "subprocess.Popen[str]":
        """A process of Python in the folder."""
        return subprocess.Popen([sys.executable, *arguments], cwd=self.folder, env=self.environment(), text=True, **more)


class Row(NamedTuple):
    """A line of the table."""

    what: str
    found: str
    good: bool
    details: tuple[str, ...] = ()


@contextlib.contextmanager
def checked_out(commit: str, folder: Path) -> Generator[Path]:
    """The tree of a commit, in a git worktree that is gone afterwards."""
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


# ---- equal? ----------------------------------------------------------------------------------------------------------------------


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value with the way to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{place}/{key}")
    elif isinstance(value, list):
        yield f"{place}/length", len(value)
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{place}/{number}")
    else:
        yield place, value


def compare(what: str, before: Any, now: Any, *, reworded: bool = False) -> Row:
    """Each value of before must be there now, and equal (NaN equals NaN). What is new is told, and is no difference.

    Args: reworded: texts for people may differ; the numbers that they tell are also compared by themselves.
    """
    old, new = dict(leaves(before)), dict(leaves(now))
    differing = [place for place in old if place not in new or not same(old[place], new[place])]
    if reworded:
        differing = [place for place in differing if not (FOR_PEOPLE.search(place) and isinstance(new.get(place), str))]
    wrong = [f"{place}: {old[place]!r} -> {new.get(place, 'gone')!r}" for place in differing]
    found = "equal" if not wrong else f"{len(wrong):,} differ"
    more = len(new.keys() - old.keys())
    return Row(what, f"{found} ({len(old):,} values{f', {more:,} new' if more else ''})", not wrong and bool(old), tuple(wrong))


def same(one: Any, other: Any) -> bool:
    """Equal in kind and value; a float to the last bit."""
    return type(one) is type(other) and (one == other or (one != one and other != other))


def distances(before: Path, now: Path) -> tuple[str, ...]:
    """By how much the arrays of two records differ, where they do."""
    with np.load(before, allow_pickle=False) as one, np.load(now, allow_pickle=False) as other:
        both = [name for name in one.files if name in other.files and not name.startswith("facts") and one[name].shape == other[name].shape]
        apart = {name: float(np.abs(one[name].astype(float) - other[name].astype(float)).max(initial=0)) for name in both}
    return tuple(f"{before.stem} {name}: by {far:.2g} at most" for name, far in apart.items() if far)


def equality(before: Version, now: Version, *, part: str = "results", reworded: bool = False) -> list[Row]:
    """Both compute everything, at the same time. Args: part: of the probe, `results` or `demo`."""
    for version in (before, now):
        version.folder.mkdir(exist_ok=True)
    golden = str(before.tree.joinpath(*GOLDEN))
    running = [version.start(str(PROBE), part, golden) for version in (before, now)]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("a version could not compute what it was asked for: see above")
    old, new = (json.loads((version.folder / "results.json").read_text()) for version in (before, now))
    rows = [compare(what, old[what], new.get(what, {}), reworded=reworded) for what in old]
    records = [distances(path, now.folder / path.name) for path in sorted(before.folder.glob("*.npz")) if (now.folder / path.name).exists()]
    return [row._replace(details=row.details + sum(records, ())) if row.what.startswith("record") and not row.good else row for row in rows]


# ---- as fast? --------------------------------------------------------------------------------------------------------------------


class Turn(NamedTuple):
    """Seconds that a turn took."""

    processor: float
    wall: float


@contextlib.contextmanager
def worker(version: Version, *arguments: str) -> Generator[Callable[[], Turn]]:
    """A process of the probe that does a turn when it is called."""
    process = version.start(str(PROBE), *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None and process.stdout is not None
    source, sink = process.stdout, process.stdin

    def turn() -> Turn:
        sink.write("go\n")
        sink.flush()
        return Turn(*map(float, source.readline().split()))

    try:
        yield turn
    finally:
        sink.close()
        process.wait()


@contextlib.contextmanager
def starts(version: Version) -> Generator[Callable[[], Turn]]:
    """`vitrail --help`, a process a turn."""

    def turn() -> Turn:
        begin = time.perf_counter()
        process = version.start("-m", "vitrail", "--help", stdout=subprocess.DEVNULL)
        _, code, used = os.wait4(process.pid, 0)  # in microseconds, where os.times() counts in hundredths
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode:
            raise SystemExit("vitrail --help failed")
        return Turn(used.ru_utime + used.ru_stime, time.perf_counter() - begin)

    yield turn


def speed(what: str, old: Callable[[], Turn], new: Callable[[], Turn]) -> Row:
    """The ratio of the medians, of as many turns as are needed to be below the bar."""
    before: list[Turn] = []
    now: list[Turn] = []
    for turn in (old, new):
        turn()  # the first one warms up
        turn()
    for _ in range(ROUNDS):
        for number in range(TURNS):
            for turn, kept in [(old, before), (new, now)][:: 1 if number % 2 else -1]:
                kept.append(turn())
        if (ratio := _ratio(before, now, "processor")) <= MOST:
            break
    middle = statistics.median(turn.processor for turn in now)
    told = f"{ratio:.3f} times as long ({middle * 1000:.1f} ms a turn, {len(now)} turns; by the wall {_ratio(before, now, 'wall'):.3f})"
    return Row(what, told, ratio <= MOST)


def _ratio(before: list[Turn], now: list[Turn], clock: str) -> float:
    middle = [statistics.median(getattr(turn, clock) for turn in turns) for turns in (now, before)]
    return middle[0] / middle[1]


def speeds(before: Version, now: Version) -> list[Row]:
    """Training, decoding and the start of the program."""
    asked = {"five training steps": ("train",), "40 translations": ("translate", "healthy")}
    rows: list[Row] = []
    for what, arguments in asked.items():
        with worker(before, *arguments) as old, worker(now, *arguments) as new:
            rows.append(speed(what, old, new))
    with starts(before) as old, starts(now) as new:
        return [*rows, speed("vitrail --help", old, new)]


# ---- the table -------------------------------------------------------------------------------------------------------------------


def show(rows: list[Row], *, details: bool) -> None:
    """The table, and under it what differs."""
    wide = max(len(row.what) for row in rows)
    lines = [f"{'ok' if row.good else 'MISS':<5} {row.what:<{wide}}  {row.found}" for row in rows]
    for row in rows:
        kept = row.details if details else row.details[:SHOWN]
        lines += [f"\n{row.what}:"] * bool(kept) + [f"  {line}" for line in kept]
        lines += [f"  and {len(row.details) - len(kept)} more (--details)"] if len(kept) < len(row.details) else []
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> int:
    """The exit code: 1 where something differs or is slower."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--details", action="store_true", help="show every difference")
    parser.add_argument("--no-speed", action="store_true", help="compare results alone")
    parser.add_argument("--demo", action="store_true", help="run the whole demo with both as well, with one thread: some minutes more")
    parser.add_argument("--reworded", action="store_true", help="let sentences for people differ; compare the numbers alone")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the worktree is taken away
    with tempfile.TemporaryDirectory(prefix="equal-") as scratch, checked_out(chosen.commit, Path(scratch, "tree")) as tree:
        today = Path(scratch, "today")  # a copy: who edits meanwhile does not disturb
        shutil.copytree(ROOT / "src", today / "src", ignore=shutil.ignore_patterns("__pycache__"))
        before, now = Version(tree, Path(scratch, "before")), Version(today, Path(scratch, "now"))
        rows = equality(before, now, reworded=chosen.reworded)
        if chosen.demo:
            rows += equality(before, now, part="demo", reworded=chosen.reworded)
        if not chosen.no_speed:
            rows += speeds(before, now)
        show(rows, details=chosen.details)
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
