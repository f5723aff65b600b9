"""Which lines of a text are read: all that hold something, and empty ones where they part paragraphs."""

from vitrail.data.cleaning.normalise import normalise
from vitrail.data.reading.lines import is_cut

EMPTY, INVALID_UTF8, CUT = "Empty", "InvalidUtf8", "LineTooLong"
"""Why a line is left out: it is empty; it has bytes that are not UTF-8; it is longer than the limit of a line, 1 MB."""


class BlankLines:
    """Lets one of several empty lines pass, where empty lines are kept, after a line that holds something."""

    def __init__(self, *, keep: bool) -> None:
        self._keep, self._open = keep, False

    def fault(self, line: str) -> str:
        """Why the next line cannot be used; empty where it can."""
        found = _fault(line)
        if found == EMPTY and self._open:
            self._open = False
            return ""
        self._open = self._keep and not found
        return found


def _fault(line: str) -> str:
    if is_cut(line):
        return CUT
    try:
        line.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 were read as lone surrogates
        return INVALID_UTF8
    return "" if normalise(line) else EMPTY
