"""Shorter waits between OpenMP's threads while other programs use the same cores.

Threads that wait for each other spin for a while before they sleep. On a quiet machine that is fastest. Beside another busy program it is
slowest: the spinning thread occupies the core that the other thread needs. The spin time is fixed when torch loads OpenMP, with one
exception: GNU's spins only 100 times while it has more threads than cores. A team of idle threads causes that; ending the team reverses it.

Where others use half of the cores or more, threads that wait for each other should share cores rather than each share one with another
program: the scheduler runs one for milliseconds while the other waits. So they are repeatedly pinned to the same cores for a moment; in
between, the scheduler is free to separate them, which it does at once where a core is idle.

No result changes by a bit, since the work is divided as before. Figures: docs/benchmarks.md, "Beside other work".
"""

import os
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from vitrail.runtime.cores import WAITING, read_words

_INTERVAL = 0.25
"""Seconds between two measurements of waiting time."""
_CONTENDED, _CALM = 0.10, 0.03
"""Limits for the share of the needed processor time that other programs had. A quiet machine: 0.005. One busy thread beside two on two
cores: 0.4."""
_CALM_LOOKS = 8
"""Another program that pauses for less than two seconds still counts."""
_HALF = 0.55
"""Share of the threads' time: with less, the threads are faster on half of the cores."""
_TOGETHER = 0.02
"""Seconds for which threads are pinned. A shorter time has no lasting effect on the scheduler."""
_MOST_TEAMS = 8
_TWO_PORTIONS = 1 << 17
"""Numbers: above torch's least for an operation of several threads (32,768 for each)."""


def waited_seconds(process: Path = Path("/proc/self")) -> float | None:
    """Seconds for which this process's threads were ready to run while others had the cores; None where the system does not report it.

    Ended threads are not counted, so the sum may decrease.
    """
    try:
        threads = list((process / "task").iterdir())
    except OSError:
        return None
    spent = [words for thread in threads if len(words := read_words(thread / "schedstat")) == 3]
    return sum(int(words[1]) for words in spent) / 1e9 if spent else None


class Contention:
    """Whether other programs use the cores, from waiting time and used time of our threads."""

    def __init__(self) -> None:
        self.contended = False
        self._calm = 0

    def observe(self, waited: float, used: float) -> bool:
        """Add the seconds of the last interval; true while the cores are contended."""
        share = waited / max(waited + used, _INTERVAL / 2)  # an idle process needs almost no time: its few seconds are not significant
        self._calm = self._calm + 1 if share < _CALM else 0
        self.contended = share > _CONTENDED or (self.contended and self._calm < _CALM_LOOKS)
        return self.contended


class IdleTeams:
    """Enough idle OpenMP threads to have more threads than cores, until `end`."""

    def __init__(self, teams: int) -> None:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._hold, name="vitrail-idle-team", daemon=True) for _ in range(teams)]
        for thread in self._threads:
            thread.start()

    def _hold(self) -> None:
        torch.zeros(_TWO_PORTIONS).add_(1)  # OpenMP creates the team of this thread
        self._over.wait()

    def end(self) -> None:
        """End the teams."""
        self._over.set()
        for thread in self._threads:
            thread.join()


def teams_needed(threads: int, cores: int) -> int:
    """The number of teams of this size, besides the working one, that gives more threads than cores; 0 where that is impossible.

    Args: cores: of the process's affinity, which OpenMP uses.
    """
    teams = -(-max(1, cores - threads + 1) // (threads - 1)) if threads > 1 else 0
    return teams if teams <= _MOST_TEAMS else 0


def bring_together(cores: int) -> None:
    """Pin OpenMP's threads to this many of the cores that this process runs on, the main thread's first, for a moment.

    Python's own threads are not pinned: threads that they start would inherit the limit.
    """
    python = {thread.native_id for thread in threading.enumerate()}
    others = [int(task.name) for task in Path("/proc/self/task").iterdir() if int(task.name) not in python]
    places = dict.fromkeys(filter(None, map(_core_of, (os.getpid(), *others))))
    few = {int(core) for core in list(places)[:cores]}
    allowed: dict[int, set[int]] = {}
    with suppress(OSError):  # a thread has ended
        for thread in others:
            allowed[thread] = os.sched_getaffinity(thread)
            os.sched_setaffinity(thread, few)
    time.sleep(_TOGETHER)
    for thread, cores_of_it in allowed.items():
        with suppress(OSError):
            os.sched_setaffinity(thread, cores_of_it)


def _core_of(thread: int) -> str:
    """The core on which a thread ran last; empty where it has ended."""
    words = " ".join(read_words(Path(f"/proc/self/task/{thread}/stat"))).rpartition(")")[2].split()  # after the name, which may hold spaces
    return words[36] if len(words) > 36 else ""


def watch() -> None:
    """Measure and react, in a thread of its own, until the process ends."""
    contention, teams = Contention(), None
    waited, used = waited_seconds() or 0.0, time.process_time()
    while True:
        time.sleep(_INTERVAL)
        now_waited, now_used = waited_seconds() or 0.0, time.process_time()
        spent, waited, used = (now_waited - waited, now_used - used), now_waited, now_used
        threads = torch.get_num_threads()
        shared = contention.observe(*spent) and not torch.cuda.is_initialized()
        needed = teams_needed(threads, len(os.sched_getaffinity(0))) if shared else 0
        if teams and not needed:
            teams.end()
            teams = None
        elif needed and not teams:
            teams = IdleTeams(needed)
        if needed and spent[1] < _HALF * threads * _INTERVAL:
            bring_together(threads // 2)


@cache
def start_watching() -> bool:
    """Start the watch in the background, once per process; true if it was started.

    Only where Vitrail chose how threads wait (`cores.wait_briefly`), on Linux, where the kernel reports waiting times.
    """
    ours = all(os.environ.get(name) == value for name, value in WAITING.items())
    if not (ours and sys.platform.startswith("linux") and torch.get_num_threads() > 1 and waited_seconds() is not None):
        return False
    threading.Thread(target=watch, name="vitrail-contention", daemon=True).start()
    os.register_at_fork(after_in_child=start_watching.cache_clear)
    return True
