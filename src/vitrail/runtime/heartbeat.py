"""Heartbeats between the processes of a training, so that an error can name a process that hangs or died."""

import os
import socket
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

import torch.distributed as dist

from vitrail.errors import TrainingError

BEAT_SECONDS = 1.0
SILENCE_SECONDS = 60.0
"""A process without a heartbeat for this long hangs: it was stopped, or its machine does not answer."""
_LOOK_SECONDS = 6.0
"""After a connection broke: how long to search for the process that caused it."""
_AGAIN = "start all processes again with the same command to resume from the last checkpoint"


class _Rank(NamedTuple):
    """The known state of a process."""

    beats: int = 0
    since: float = 0.0
    """The time of its last heartbeat."""
    where: str = ""
    exit_message: str | None = None
    """Why it left; None while it is running."""


class Heartbeat:
    """Sends heartbeats of this process and receives those of the others, in a thread of its own, through the store of the group.

    The thread raises nothing: `require_all` and `lost` report the state of the others.
    """

    def __init__(self, store: dist.Store, *, rank: int, world: int) -> None:
        self._store, self._rank, self._world = store, rank, world
        now = time.monotonic()
        self._ranks = [_Rank(since=now) for _ in range(world)]
        self._heard, self._ended = now, threading.Event()
        store.set(f"where/{rank}", f"pid {os.getpid()} on host {socket.gethostname()}")
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        with suppress(RuntimeError):  # the process with the store has ended
            while not self._ended.wait(BEAT_SECONDS):
                self._store.add(f"beats/{self._rank}", 1)
                for rank in range(self._world):
                    self._ranks[rank] = self._listen(rank)
                self._heard = time.monotonic()

    def _listen(self, rank: int) -> _Rank:
        before, beats = self._ranks[rank], self._store.add(f"beats/{rank}", 0)
        if beats == before.beats:
            return before._replace(exit_message=self._exit_message(rank)) if before.exit_message is None else before
        where = before.where or self._store.get(f"where/{rank}").decode()
        return _Rank(beats, time.monotonic(), where, before.exit_message)

    def _exit_message(self, rank: int) -> str | None:
        return self._store.get(f"words/{rank}").decode() if self._store.add(f"left/{rank}", 0) else None

    def require_all(self) -> None:
        """Raises TrainingError that names a process which has left, or has sent no heartbeat for too long."""
        now = time.monotonic()
        if self._rank and now - self._heard > SILENCE_SECONDS:  # no answer at all: the first process has the store
            raise self._hangs(0, now - self._heard)
        for rank, known in enumerate(self._ranks):
            if rank != self._rank and known.exit_message is not None:
                raise self._left(rank, known.exit_message)
            if rank != self._rank and self._heard - known.since > SILENCE_SECONDS:
                raise self._hangs(rank, now - known.since)

    def _left(self, rank: int, exit_message: str) -> TrainingError:
        return TrainingError(f"rank {rank} of {self._world} has left: {exit_message}", remedy=_AGAIN)

    def _hangs(self, rank: int, seconds: float) -> TrainingError:
        where = f" ({self._ranks[rank].where})" if self._ranks[rank].where else ""
        return TrainingError(
            f"rank {rank} of {self._world}{where} does not respond: no heartbeat for {seconds:.0f} seconds",
            remedy=f"end it where it still runs, and {_AGAIN}",
        )

    def lost(self) -> TrainingError:
        """The error for a broken connection to another process; searches for some seconds for the process that caused it."""
        started = time.monotonic()
        while time.monotonic() - started < _LOOK_SECONDS and self._thread.is_alive():
            for rank, known in enumerate(self._ranks):
                if rank != self._rank and known.exit_message is not None:
                    return self._left(rank, known.exit_message)
            time.sleep(0.1)
        dead = [rank for rank, known in enumerate(self._ranks) if rank != self._rank and known.since < started + 2 * BEAT_SECONDS]
        if not self._thread.is_alive() and self._rank:
            dead = [0]
        names = ", ".join(map(str, dead)) or "another"
        return TrainingError(
            f"rank {names} of {self._world} has ended without a message: killed, out of memory, or its machine is down",
            remedy=_AGAIN,
        )

    def leave(self, exit_message: str) -> None:
        """Stop the heartbeat, and send the others the reason."""
        self._ended.set()
        self._thread.join(2 * BEAT_SECONDS)
        if self._thread.is_alive():  # it waits for a store that does not answer
            return
        with suppress(RuntimeError):
            self._store.set(f"words/{self._rank}", exit_message)
            self._store.add(f"left/{self._rank}", 1)
            end = time.monotonic() + _LOOK_SECONDS
            while self._rank == 0 and time.monotonic() < end:  # the store ends with the first process: let the others read it
                if all(self._store.add(f"left/{rank}", 0) for rank in range(self._world)):
                    return
                time.sleep(0.05)


def open_store(seconds: float = 30) -> dist.Store:
    """A separate connection to the store from the environment, so that the thread can wait on it without blocking others."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=seconds))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # messages of an earlier attempt do not count
    return dist.PrefixStore(f"vitrail/{attempt}", store)
