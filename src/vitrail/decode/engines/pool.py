"""Threads that compute while Python does other work: compiled code runs without Python's lock."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cached_property
from typing import TypeVar

from vitrail.runtime.cores import usual_threads

T = TypeVar("T")
R = TypeVar("R")


class Pool:
    """Threads that are started at the first work for several of them, and end with this object. They sleep while there is no work.

    Args: threads: None or 0: see `usual_threads`. A process that is forked from this one has one thread.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._asked, self._process = threads or usual_threads(), os.getpid()

    @property
    def threads(self) -> int:
        """How many work at the same time."""
        return self._asked if self._is_here else 1

    @property
    def _is_here(self) -> bool:
        """Whether this is no forked process, which has none of the threads."""
        return os.getpid() == self._process

    @cached_property
    def _executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._asked, thread_name_prefix="vitrail")

    def map(self, run: Callable[[T], R], groups: Sequence[T], *, failed: Callable[[], None] = lambda: None) -> list[R]:
        """What `run` makes of each group. Args: failed: called where one raises, before the others are waited for."""
        if self.threads == 1 or len(groups) == 1:
            return [run(group) for group in groups]
        return self.begin(run, groups, failed=failed)()

    def begin(self, run: Callable[[T], R], groups: Sequence[T], *, failed: Callable[[], None] = lambda: None) -> Callable[[], list[R]]:
        """The same without waiting: what is returned waits. Several may be begun; groups are computed in the order in which they came.

        A forked process computes when it is waited for.
        """
        if not self._is_here:
            return lambda: self.map(run, groups)
        begun = [self._executor.submit(run, group) for group in groups]

        def finish() -> list[R]:
            try:
                return [one.result() for one in begun]
            except BaseException:
                failed()
                wait(begun)
                raise

        return finish
