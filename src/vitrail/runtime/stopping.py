"""Stop requests by signals: the loop checks them between two steps; elsewhere they raise an error at once."""

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType, TracebackType

from vitrail.errors import Interrupted, Stopped

_SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if (number := getattr(signal, name, None)) is not None]


class StopRequest:
    """While open, these signals set `signal` instead of ending the process: SIGTERM, SIGHUP (a closed terminal, a dropped connection),
    SIGUSR1 (what batch systems send before the end) and Ctrl-C.

    A second Ctrl-C ends the process at once, without saving: earlier files are intact, as nothing is ever written in place. A signal that
    was ignored at the start stays ignored, as for `nohup`. Stop requests may be nested: a signal reaches all of them.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}
        self._outer: StopRequest | None = None
        self._found = ""

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            outer = next(
                (owner for number in heard if isinstance(owner := getattr(signal.getsignal(number), "__self__", None), StopRequest)), None
            )
            self._outer, self.signal = outer, outer.signal if outer else None
            self._before = {number: signal.signal(number, self._on_signal) for number in heard}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    @contextmanager
    def at_once(self, found: str) -> Generator[None, None, None]:
        """Within the block, the first signal raises `error(found)` at any point; the code must be safe for that."""
        if self.signal is not None:
            raise self.error(found)
        outer, self._found = self._found, found
        try:
            yield
        finally:
            self._found = outer

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal == signal.SIGINT == number:
            os._exit(Interrupted.exit_code)
        first = self.signal is None
        stop: StopRequest | None = self
        while stop is not None:
            stop.signal, stop = number, stop._outer
        if first and self._found:
            raise self.error(self._found)

    def error(self, found: str) -> Stopped | Interrupted:
        """The error to raise for the signal; `found` describes the state of the run."""
        kind = Interrupted if self.signal == signal.SIGINT else Stopped
        return kind(found, remedy="run the same command again to resume")


@contextmanager
def stopping_at_once(found: str) -> Generator[StopRequest, None, None]:
    """A stop request ends what runs inside by Stopped or Interrupted with this message; one opened inside comes first."""
    with StopRequest() as stop, stop.at_once(found):
        yield stop
