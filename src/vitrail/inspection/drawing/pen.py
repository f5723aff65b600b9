"""Drawing in a terminal: texts in cells of known width, for any script, with colour or in ASCII."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from vitrail.inspection.decoding import DecodingStep

CANDIDATES = 4
"""Of each step, at most."""
_JOINERS = "\u200c\u200d"
_UNSAFE = frozenset(("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"))


@dataclass(frozen=True)
class Pen:
    """Drawing options: width, colour, ASCII."""

    width: int
    colour: bool
    ascii: bool

    def safe(self, text: str) -> str:
        """A text without terminal control characters, of any width."""
        text = "".join("\ufffd" if unicodedata.category(one) in _UNSAFE and one not in _JOINERS else one for one in text)
        return text.replace("▁", "_").replace("…", "...").encode("ascii", "backslashreplace").decode() if self.ascii else text

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text

    def mark(self, unicode: str, ascii: str) -> str:
        return ascii if self.ascii else unicode

    def cut(self, text: str, columns: int) -> str:
        """A text in at most so many columns."""
        text = self.safe(text)
        if columns_of(text) <= columns:
            return text
        end = self.mark("…", "~")
        while text and columns_of(text) > columns - 1:
            text = text[:-1]
        return text + end

    def cell(self, text: str, columns: int, *, right: bool = False) -> str:
        """A text in exactly so many columns."""
        text = self.cut(text, columns)
        room = " " * (columns - columns_of(text))
        return room + text if right else text + room


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian wide characters two, combining marks none."""
    return sum(map(_columns, text))


@lru_cache(maxsize=4096)
def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def wrapped(text: str, pen: Pen, *, indent: str = "") -> list[str]:
    """Lines that fit, cut between words where they can be."""
    lines, line = list[str](), indent
    for word in re.split("(?<= )", text):
        if columns_of(line + word.rstrip()) > pen.width and line.strip():
            lines.append(line)
            line = indent
        while columns_of(line + word.rstrip()) > pen.width:
            end = len(word)
            while columns_of(line + word[:end]) > pen.width:
                end -= 1
            lines.append(line + word[:end])
            line, word = indent, word[end:]
        line += word
    return [*lines, line] if line.strip() or not lines else lines


def bar(share: float, pen: Pen) -> str:
    """A share of 1 as eight cells."""
    full = round(share * 8)
    return pen.mark("█", "#") * full + pen.mark("·", ".") * (8 - full)


def step_line(step: DecodingStep, pen: Pen, *, label: str, room: int) -> str:
    """One position: its token in `room` columns, its probability and entropy, the likeliest tokens."""
    others = "  ".join(f"{pen.safe(one.piece)} {one.probability:.3f}" for one in step.candidates[:CANDIDATES])
    rank = "" if step.rank == 1 else f"(rank {step.rank}) "
    start = f"{pen.cell(label, room)}  {bar(step.chosen.probability, pen)} {step.chosen.probability:.2f}  {step.entropy:.2f}  {rank}"
    return pen.cut(start + others, pen.width)
