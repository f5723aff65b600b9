"""Reads the lines for `translate` in portions: the lines available so far, at most as many as a few seconds can translate."""

import re
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from threading import Condition, Thread

MOST_HELD = 4_000_000
"""Maximal number of characters read ahead, except for a longer single line."""
_FIRST_LINES, _MOST_LINES = 128, 1024
_MOST_CHARACTERS = 1_000_000
_STRAY = re.compile("[\udc80-\udcff]")
_LOOKED_AT = 200
"""Number of non-UTF-8 lines from which the encoding is guessed."""
_SECONDS = 10.0
"""The output is written after each portion, so stopping a long translation loses only a few seconds of work. Portions of
few lines make small batches: of Multi30k, 64 lines at a time are translated at 47 lines/s, 128 at 59, 256 at 80, 1,024 at 87."""


class LineReader:
    """Reads a file or stdin in a separate thread, so that each line can be answered before the next one arrives.

    Args: source: a file, or - for stdin.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        self._waiting: deque[str] = deque()
        self._held = self._taken = 0
        self._change = Condition()
        self._ended = False
        self._error: BaseException | None = None
        self.cut: list[int] = []
        """Numbers of lines longer than the limit, of which only the beginnings are in the portions. Complete at the end."""
        self.not_utf8: list[int] = []
        """Numbers of lines with bytes that are not UTF-8. Complete at the end."""
        self._strange: list[bytes] = []
        self._answered, self._seconds, self._begun, self._waited = 0, 0.0, 0.0, 0.0

    def portions(self) -> Iterator[list[str]]:
        """The lines in order. If reading fails, raises DataError after the lines before the error."""
        Thread(target=self._read, daemon=True).start()
        size = _FIRST_LINES
        self._begun = time.monotonic()
        while portion := self._take(size):
            yield portion
            if len(portion) == size and self._answered:
                # Portions are read ahead of the answers, so that the pace is that of the answers.
                wanted = self._answered * _SECONDS / max(self._seconds, 1e-3)
                size = min(_MOST_LINES, 2 * size, max(1, int(wanted)))
        if self._error is not None:
            raise self._error

    def answered(self, done: int) -> None:
        """Take note that so many lines are translated: later portions are as many as a few seconds can translate."""
        self._answered, self._seconds = done, time.monotonic() - self._begun - self._waited

    def unanswered(self, done: int) -> bool:
        """Whether more lines have been read than the `done` translated ones."""
        return self._taken > done or bool(self._waiting)

    def cure(self, *, language: str) -> str:
        """The command that converts the file to UTF-8, with the encoding where it can be guessed; `language`: of the source."""
        from vitrail.data.reading.encodings import guess_encoding

        found = guess_encoding(self._strange, language=language)
        file = "FILE" if str(self._source) == "-" else str(self._source)
        return f"iconv -f {found or 'THEIR-ENCODING'} -t UTF-8 {file} > new-file"

    def _read(self) -> None:
        from vitrail.data.reading.parallel_text import CUT_MARK, lines

        try:
            for number, line in enumerate(lines(self._source, allow_empty=True), start=1):
                if line.endswith(CUT_MARK):
                    self.cut.append(number)
                    line = line.removesuffix(CUT_MARK)
                if not line.isascii() and _STRAY.search(line):
                    self.not_utf8.append(number)
                    self._strange += [line.encode("utf-8", "surrogateescape")] * (len(self._strange) < _LOOKED_AT)
                with self._change:
                    self._change.wait_for(lambda: not self._waiting or self._held < MOST_HELD)
                    self._waiting.append(line)
                    self._held += len(line)
                    self._change.notify_all()
        except BaseException as error:
            self._error = error
        with self._change:
            self._ended = True
            self._change.notify_all()

    def _take(self, most: int) -> list[str]:
        """The lines available so far, at least one and at most `most`; none at the end."""
        portion: list[str] = []
        characters = 0
        with self._change:
            began = time.monotonic()
            self._change.wait_for(lambda: self._waiting or self._ended)
            self._waited += time.monotonic() - began
            while self._waiting and len(portion) < most and characters < _MOST_CHARACTERS:
                portion.append(self._waiting.popleft())
                characters += len(portion[-1])
            self._held -= characters
            self._taken += len(portion)
            self._change.notify_all()
        return portion
