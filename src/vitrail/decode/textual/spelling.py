"""The text of tokens as they are written, and where it contains a string at which to stop."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from unicodedata import normalize

from vitrail.data.cleaning.normalise import compose, encodable
from vitrail.data.vocabularies.subwords import EOS, Subwords
from vitrail.errors import UsageError


@dataclass(frozen=True)
class Spelling:
    """The text of tokens that come one after the other. Whatever order they are spelled in, `finished` is the text of all of them."""

    vocabulary: Subwords
    text: str = ""
    """The whole characters so far; further tokens only add to them."""
    context: tuple[int, ...] = ()
    """Tokens of the end of the text: a token may be spelled differently at the beginning of a line."""
    waiting: tuple[int, ...] = ()
    """Tokens whose text is not whole: some of the bytes of a character."""

    def then(self, token: int) -> "Spelling":
        """With one more token; the end of a line is a line break."""
        if token == EOS:
            return Spelling(self.vocabulary, f"{self.finished}\n")
        waiting = (*self.waiting, token)
        new = self._spelled(waiting)
        if not new or not self.vocabulary.is_whole(new):
            return replace(self, waiting=waiting)
        # Tokens of spaces alone do not show how those after them are spelled inside a line.
        context = waiting if new.strip() else (*self.context, *waiting)
        return replace(self, text=self.text + new, context=context, waiting=())

    def then_all(self, tokens: Iterable[int]) -> "Spelling":
        """With several more tokens."""
        found = self
        for token in tokens:
            found = found.then(token)
        return found

    @property
    def finished(self) -> str:
        """The text, with a mark for each byte of a character that has not been completed."""
        return self.text + (self._spelled(self.waiting) if self.waiting else "")

    def _spelled(self, tokens: tuple[int, ...]) -> str:
        return self.vocabulary.decode((*self.context, *tokens))[len(self.vocabulary.decode(self.context)) :]


class Found(NamedTuple):
    """Where a text has a string."""

    first: int
    end: int


@dataclass(frozen=True)
class StopStrings:
    """Strings that end a text. Raises UsageError for one that is empty or no text."""

    strings: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: str | Sequence[str]) -> "StopStrings":
        """The strings as given, composed and decomposed (NFC, NFD), since a model may write either; a single text is a list of one."""
        strings = (given,) if isinstance(given, str) else tuple(given)
        for one in strings:
            if not one:
                raise UsageError("an empty stop string", expected="at least one character")
            if encodable(one) != one:
                raise UsageError(f"stop string {one!a} is not UTF-8", remedy="set the terminal to UTF-8, or type it again")
        return cls(tuple(dict.fromkeys(form for one in strings for form in (one, compose(one), normalize("NFD", one)))))

    def find(self, text: str, *, after: int) -> Found | None:
        """The occurrence that ends first, of those that end after this place; the longest of those that end there."""
        ends: list[tuple[int, int]] = []
        for one in self.strings:
            first = text.find(one, max(0, after - len(one) + 1))
            if first >= 0:
                ends.append((first + len(one), first))
        return Found(min(ends)[1], min(ends)[0]) if ends else None

    def begun(self, text: str) -> int:
        """Where the longest end of the text begins that may become one of the strings; its length where there is none."""
        most = max((len(one) for one in self.strings), default=1) - 1
        for at in range(max(0, len(text) - most), len(text)):
            if any(len(one) > len(text) - at and one.startswith(text[at:]) for one in self.strings):
                return at
        return len(text)


class StopRule:
    """Whether a text ends with its last token: it contains a stop string then, which ends in what was written after `start`.

    It remembers the texts of the tokens that it was asked about last, so that a further token costs little.
    """

    def __init__(self, strings: StopStrings, start: Spelling) -> None:
        self._strings, self._start = strings, start
        self._known: dict[tuple[int, ...], Spelling] = {}

    def __call__(self, tokens: Sequence[int]) -> bool:
        whole = tuple(tokens)
        before = self._known.get(whole[:-1]) or self._start.then_all(whole[:-1])
        now = before.then(whole[-1])
        if any(len(one) < len(whole) - 1 for one in self._known):
            self._known = {one: text for one, text in self._known.items() if len(one) >= len(whole) - 1}
        self._known[whole] = now
        return self._strings.find(now.text, after=max(len(before.text), len(self._start.text))) is not None
