"""Signals become a wish that the loop reads between two steps."""

import os
import signal
import threading
from types import FrameType, TracebackType

from vitrail.errors import Interrupted, Stopped

_SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGUSR1") if (number := getattr(signal, name, None)) is not None]


class StopWish:
    """While open, SIGTERM, SIGUSR1 (what batch systems send before the end) and Ctrl-C set `signal` instead of ending the process.

    A second Ctrl-C leaves at once, without saving: what was saved before is intact, as nothing is ever written in place.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopWish":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._wish) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _wish(self, number: int, frame: FrameType | None) -> None:
        if self.signal == signal.SIGINT == number:
            os._exit(Interrupted.exit_code)
        self.signal = number

    def error(self, step: int) -> Stopped | Interrupted:
        """What to raise once step `step` is saved."""
        kind = Interrupted if self.signal == signal.SIGINT else Stopped
        return kind(f"stopped at step {step}, which is saved", remedy="the same command again goes on from there")
