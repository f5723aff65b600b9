"""Threads that compute while Python does other work: compiled code runs without Python's lock."""

import atexit
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from threading import Condition, Thread, current_thread, get_ident
from typing import Any, NamedTuple, TypeVar
from weakref import finalize

from vitrail.runtime.cores import usual_threads

T = TypeVar("T")
R = TypeVar("R")


class Pool:
    """Threads that are started at the first work for several of them, and end with this object. They sleep while there is no work.

    The threads that ask for work take turns, so that few groups need not wait for the many of another one. The end of the program stops
    all work.

    Args: threads: None or 0: see `usual_threads`. A process that is forked from this one has one thread.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._asked, self._process = threads or usual_threads(), os.getpid()
        self._turns = _Turns(self._asked)
        finalize(self, self._turns.end).atexit = False

    @property
    def threads(self) -> int:
        """How many work at the same time."""
        return self._asked if self._is_here else 1

    @property
    def _is_here(self) -> bool:
        """Whether this is no forked process, which has none of the threads."""
        return os.getpid() == self._process

    def map(self, run: Callable[[T], R], groups: Sequence[T], *, failed: Callable[[], None] = lambda: None) -> list[R]:
        """What `run` makes of each group. Args: failed: called where one raises, before the others are waited for; they should end then."""
        if self.threads == 1 or len(groups) == 1:
            return [run(group) for group in groups]
        return self.begin(run, groups, failed=failed)()

    def begin(self, run: Callable[[T], R], groups: Sequence[T], *, failed: Callable[[], None] = lambda: None) -> Callable[[], list[R]]:
        """The same without waiting: what is returned waits. Several may be begun; groups of one thread are computed in the order in which
        they came.

        A forked process, and one that ends, computes when it is waited for.
        """
        begun: list[Future[R]] = [Future() for _ in groups]
        work = [_Work(one, partial(run, group), failed) for one, group in zip(begun, groups, strict=True)]
        if not self._is_here or not self._turns.put(work):
            return lambda: [run(group) for group in groups]
        return partial(self._finish, begun, failed)

    def _finish(self, begun: Sequence["Future[R]"], failed: Callable[[], None]) -> list[R]:
        try:
            return [one.result() for one in begun]
        except BaseException:
            failed()
            wait([one for one in begun if not one.cancel()])
            raise


class _Work(NamedTuple):
    """One group."""

    found: Future[Any]
    run: Callable[[], Any]
    stop: Callable[[], None]
    """Lets it end before its time."""


class _Turns:
    """What waits to be computed, by the thread that asked for it; and the threads that compute, which hold this but not the pool."""

    def __init__(self, threads: int) -> None:
        self._most, self._process = threads, os.getpid()
        self._change = Condition()
        self._waiting: dict[int, deque[_Work]] = {}
        """Whose turn it is comes first."""
        self._running: dict[Thread, _Work] = {}
        self._threads: list[Thread] = []
        self._ended = False

    def put(self, work: Sequence[_Work]) -> bool:
        """Add work of this thread; whether somebody will do it."""
        with self._change:
            if not self._ended and not self._threads and work:
                self._start()
            if self._ended:
                return False
            if work:
                self._waiting.setdefault(get_ident(), deque()).extend(work)
                self._change.notify(len(work))
            return True

    def _start(self) -> None:
        atexit.register(self._leave)
        with suppress(RuntimeError):  # a program that ends starts no more threads
            for number in range(self._most):
                thread = Thread(target=self._serve, name=f"vitrail_{number}", daemon=True)
                thread.start()
                self._threads.append(thread)
        self._ended = not self._threads

    def _serve(self) -> None:
        """Compute until the end."""
        while work := self._take():
            if work.found.set_running_or_notify_cancel():
                self._do(work)
            with self._change:
                del self._running[current_thread()]
            del work  # its result belongs to those who wait for it

    def _do(self, work: _Work) -> None:
        try:
            found = work.run()
        except BaseException as error:
            if not self._ended:  # else a thread that waits while the program ends would tell of its being stopped
                work.found.set_exception(error)
        else:
            work.found.set_result(found)

    def _take(self) -> _Work | None:
        with self._change:
            while not self._waiting and not self._ended:
                self._change.wait()
            if self._ended:
                return None
            caller = next(iter(self._waiting))
            all_of_it = self._waiting.pop(caller)
            work = self._running[current_thread()] = all_of_it.popleft()
            if all_of_it:
                self._waiting[caller] = all_of_it
            return work

    def end(self) -> None:
        """Take no more work, and stop what runs."""
        if os.getpid() != self._process:  # a forked process has none of the threads, and what they had locked stays so
            return
        atexit.unregister(self._leave)
        with self._change:
            self._ended = True
            for work in (*self._running.values(), *(one for many in self._waiting.values() for one in many)):
                work.stop()
            self._waiting.clear()
            self._change.notify_all()

    def _leave(self) -> None:
        """The end of the program: a thread that is then in the middle of a library in C++ would abort it."""
        self.end()
        if os.getpid() == self._process:
            for thread in self._threads:
                thread.join()
