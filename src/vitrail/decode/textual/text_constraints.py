"""Constraints on translations as text, and their conversion to token ids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from vitrail.data.cleaning.normalise import encodable, plain
from vitrail.data.vocabularies.subwords import UNK, Subwords
from vitrail.decode.search.constraints import Constraints, contains
from vitrail.errors import UsageError


@dataclass(frozen=True)
class TextConstraints:
    """Constraints on every translation of a call.

    Args:
        prefix: the translation begins with this text. Of a text translated in parts, the first part does.
        forbidden: words or phrases that may not occur. Works on subwords, so that longer words with the same beginning may be excluded,
        too.
        forced: words or phrases that must occur, each as a separate word, not inside a longer one. In a text in parts, each goes to a part
        that has it anyway, or else to the one where it costs least.

    A single text is a list of one. Raises UsageError for anything else that is no text.
    """

    prefix: str = ""
    forbidden: Sequence[str] = ()
    forced: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"prefix is {self.prefix!r}", expected="one text")
        for name in ("forbidden", "forced"):
            given: Any = getattr(self, name)
            words: tuple[Any, ...] = (given,) if isinstance(given, str) else tuple(given)
            if not all(isinstance(word, str) for word in words):
                raise UsageError(f"{name} is {given!r}", expected="words or phrases")
            object.__setattr__(self, name, words)
        for text in (self.prefix, *self.forbidden, *self.forced):
            if encodable(text) != text:
                raise UsageError(f"constraint {text!a} is not UTF-8", remedy="set the terminal to UTF-8, or type the words again")


def to_constraints(constraints: TextConstraints, target: Subwords, *, joins: Callable[[int, int], bool]) -> Constraints:
    """These constraints in token ids of the target's vocabulary.

    Args:    joins: the result of `joining` for the vocabulary.
    Raises:  UsageError for constraints that cannot be satisfied.
    """
    forced = tuple(spellings(word, target) for word in constraints.forced)
    for word, found in zip(constraints.forced, forced, strict=True):
        if not found:
            raise UsageError(f"the forced word {word!r} cannot be written in this model's vocabulary", remedy="choose another word")
    forbidden = tuple(dict.fromkeys(spelling for word in constraints.forbidden for spelling in spellings(word, target)))
    for word, found in zip(constraints.forced, forced, strict=True):
        if all(any(contains(spelling, banned) for banned in forbidden) for spelling in found):
            raise UsageError(f"{word!r} is forced and forbidden at once", remedy="leave it out of one of the two lists")
    prefix = tuple(target.encode(plain(encodable(constraints.prefix))))
    return Constraints(prefix=prefix, forbidden=forbidden, forced=forced, joins=joins)


def spellings(word: str, vocabulary: Subwords) -> tuple[tuple[int, ...], ...]:
    """The token sequences of a word: after a space, and directly after another character, as in "(word"."""
    word = plain(encodable(word)).strip()
    found = [tuple(vocabulary.encode(word))]
    for lead in ("(", "-", '"'):
        alone, together = vocabulary.encode(lead), vocabulary.encode(lead + word)
        if together[: len(alone)] == alone:
            found.append(tuple(together[len(alone) :]))
            break
    return tuple(dict.fromkeys(spelling for spelling in found if spelling and UNK not in spelling))


_WORD_SIGN = regex.compile(r"[\p{L}\p{M}\p{N}\u200c\u200d]")


def joining(vocabulary: Subwords) -> Callable[[int, int], bool]:
    """A function: whether two neighbouring tokens join letters, their marks or digits without a space."""

    def joins(previous: int, following: int) -> bool:
        left, both = vocabulary.decode([previous]), vocabulary.decode([previous, following])
        right = both.removeprefix(left)
        return both.startswith(left) and _WORD_SIGN.match(left[-1:]) is not None and _WORD_SIGN.match(right[:1]) is not None

    return joins
