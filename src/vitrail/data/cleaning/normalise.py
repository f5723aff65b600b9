"""Normalisation of sources and targets, before any other step: one way to write the same text.

Targets keep their typography: French has U+00A0 and U+202F before punctuation, and a translation must be able to write them.
Sources are only read, and people type, copy and paste them in many ways: every kind of space becomes a plain space, and invisible marks are
removed. Training and translation read sources alike; a model's facts say how, so that older models still read as before.
"""

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import regex

from vitrail.errors import ModelError

VERSION = 1
"""Version of how sources are read; a change raises it. 0: earlier models, whose sources lost only control characters."""

_AS_TEXT = -1
"""Version of `AS_TEXT`."""

_SURROGATES = regex.compile("[\ud800-\udfff]")
_LEGACY_CONTROLS = regex.compile("[\0-\x1f\x7f\x85\u2028\u2029]")
_CONTROLS = regex.compile(r"[\p{Cc}\u2028\u2029]+")
# The last three are the blank of Braille, and fillers of Hangul, which count as letters.
SPACES = regex.compile(r"[\p{Cc}\p{Z}\u2800\u3164\uffa0]+")
_SEVERAL = regex.compile(" {2,}")
# Joiners, the combining grapheme joiner, Mongolian and other variation selectors change how letters look, or which word is meant.
_OF_LETTERS = "\u034f\u180b-\u180f\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef"
# Soft hyphen, zero-width space, word joiner, byte order mark, marks of direction, annotation and invisible operators have no meaning here,
# # nor have signs for a picture that was not copied, formats of shorthand and music, and tags.
_TAGS = "\U000e0020-\U000e007f"
_SILENT = (
    "\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffc"
    f"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001{_TAGS}"
)
INVISIBLE = regex.compile(f"[{_OF_LETTERS}{_SILENT}]")
_ZERO_WIDTH_SPACE = "\u200b"
_IN_EMOJI = r"(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d(?=\p{Extended_Pictographic})"
_IN_FLAG = rf"(?<=\U0001f3f4[{_TAGS}]{{0,7}})[{_TAGS}]"
_GRAPHEME = regex.compile(r"\X")
_LETTER = regex.compile(r"\p{L}")
_ALPHANUMERIC = regex.compile(r"[\p{L}\p{N}]")
_ENDS_IN_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]")
_LONGEST_COMPOSED = 4_096
_TINY_SHARE = 0.005
_MOST = 0.5


def compose(text: str) -> str:
    """Unicode's form NFC. Words beyond 4,096 characters stay as they are: a long run of combining marks takes quadratic time."""
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return text
    if len(text) <= _LONGEST_COMPOSED:
        return unicodedata.normalize("NFC", text)
    return " ".join(unicodedata.normalize("NFC", word) if len(word) <= _LONGEST_COMPOSED else word for word in text.split(" "))


def normalise(text: str) -> str:
    """Compose the text (NFC), make each run of controls (NUL, tab, carriage return, C1, U+2028/9 ...) and spaces one space, and strip.

    U+FEFF is removed. Other spaces inside the line stay, and so do invisible marks. Idempotent; a clean text is returned as it is.
    """
    if not text.isprintable():
        text = _CONTROLS.sub(" ", text.replace("\ufeff", ""))
    if "  " in text:
        text = _SEVERAL.sub(" ", text)
    return compose(text).strip()


def has_letters(text: str) -> bool:
    """Whether there is something to translate: a letter of any script."""
    return _LETTER.search(text) is not None


def has_letters_or_digits(text: str) -> bool:
    """Whether there is a letter or a digit. Unlike str.isalnum it knows scripts that are newer than Python's tables."""
    return _ALPHANUMERIC.search(text) is not None


def ends_in_word(text: str) -> bool:
    """Whether its last sign is a letter, a mark on one, or a digit. For str.isalnum marks are neither."""
    return _ENDS_IN_WORD.match(text[-1:]) is not None


def encodable(text: str) -> str:
    """Replace lone surrogates (bytes that were not UTF-8) by U+FFFD, as any reader of UTF-8 does."""
    return text if text.isprintable() else _SURROGATES.sub("\ufffd", text)


def plain(text: str) -> str:
    """Turn control characters and line breaks of every kind into spaces: sentences have none."""
    return text if text.isprintable() else _LEGACY_CONTROLS.sub(" ", text)


class Normalisation(NamedTuple):
    """The way in which sources are read."""

    version: int = VERSION
    kept: str = ""
    """Invisible marks that are kept, since the training text uses them."""
    pass_through: bool = True
    """Whether text without a letter is its own translation."""

    def source(self, text: str) -> str:
        """A source as the model reads it: NFC; each run of spaces and controls is one plain space; no invisible marks except those kept.

        A joiner between emoji is kept, too. Idempotent.
        """
        if self.version == 0:
            return normalise_legacy(text)
        if self.version == _AS_TEXT:
            return normalise(text)
        if not text.isascii():
            text = compose(_removed(self.kept).sub("", text))
        if not text.isascii() or not text.isprintable() or "  " in text:
            text = SPACES.sub(" ", text)
        return text.strip()

    def origins(self, text: str) -> list[int]:
        """For every character of `source(text)`, the place in `text` of the character that it comes from, or of the first of its
        grapheme."""
        if self.version == 0:
            plain = _LEGACY_CONTROLS.sub(" ", text)
            return list(range(len(plain) - len(plain.lstrip()), len(plain.rstrip())))
        if self.version == _AS_TEXT:
            return _text_origins(text)
        found: list[int] = []
        spaced = True
        for cluster in _GRAPHEME.finditer(text):
            piece = SPACES.sub(" ", compose(_removed(self.kept).sub("", cluster.group())))
            if piece.startswith(" ") and spaced:
                piece = piece[1:]
            found += [cluster.start()] * len(piece)
            spaced = piece == " " or (spaced and not piece)
        return found[: len(self.source(text))]

    def passes(self, text: str) -> bool:
        """Whether a text stays as it is: "-", "12:30", "***"."""
        return self.pass_through and not has_letters(text)

    def to_fact(self) -> dict[str, Any]:
        """Plain values, as the model folder keeps them."""
        return {"version": self.version, "kept": [f"U+{ord(mark):04X}" for mark in self.kept], "pass_through": self.pass_through}

    @classmethod
    def from_fact(cls, fact: Any) -> "Normalisation":
        """The inverse of `to_fact`; None: the way of models without such a fact. Raises ModelError for anything else."""
        match fact:
            case None:
                return LEGACY_NORMALISATION
            case {"version": int(version), "kept": [*kept], "pass_through": bool(through)} if 0 <= version <= VERSION:
                marks = [chr(int(one[2:], 16)) for one in kept if isinstance(one, str) and regex.fullmatch("U\\+[0-9A-F]{4,5}", one)]
                if len(marks) == len(kept) and all(map(INVISIBLE.fullmatch, marks)):
                    return cls(version, "".join(marks), through)
            case _:
                pass
        raise ModelError(
            f"the model's fact source_normalization is {str(fact)[:80]}",
            expected=f"version {VERSION} or older",
            remedy="update vitrail, or copy the folder again",
        )


CURRENT = Normalisation()
"""How sources are read where the training text uses no invisible marks."""
LEGACY_NORMALISATION = Normalisation(version=0, pass_through=False)
"""How sources were read before they were normalised."""

AS_TEXT = Normalisation(version=_AS_TEXT, pass_through=False)
"""How a model reads that was trained on plain text, as an autoencoder is: see `normalise`."""


def _text_origins(text: str) -> list[int]:
    """See `Normalisation.origins`."""
    written, found = "", list[int]()
    kept = [place for place, sign in enumerate(text) if sign != "\ufeff"]
    for cluster in _GRAPHEME.finditer("".join(text[place] for place in kept)):
        piece = _SEVERAL.sub(" ", compose(_CONTROLS.sub(" ", cluster.group())))
        piece = piece[1:] if piece.startswith(" ") and written.endswith(" ") else piece
        written += piece
        found += [kept[cluster.start()]] * len(piece)
    stripped = len(written) - len(written.lstrip())
    return found[stripped : stripped + len(written.strip())]


def normalise_legacy(text: str) -> str:
    """Control characters are spaces, and nothing else changes: see `LEGACY_NORMALISATION`."""
    return _LEGACY_CONTROLS.sub(" ", text).strip()


@lru_cache
def _removed(kept: str) -> "regex.Pattern[str]":
    return regex.compile(f"(?!{_IN_EMOJI}|{_IN_FLAG})(?![{kept}\\0])[{_OF_LETTERS}{_SILENT}]")


def learn_normalisation(pairs: Iterable[tuple[str, str]]) -> Normalisation:
    """How to read sources, from a sample of the training text.

    Marks of letters (U+200C in Persian, U+200D in Sinhala and Hindi) stay where more than 1 line in 200, and more than one, uses them; the
    zero-width space where most lines do, for it divides words then. Text without letters is not translated, unless the training text has
    such sources and most of their targets differ from them.
    """
    lines = different = same = 0
    uses: dict[str, int] = {}
    for source, target in pairs:
        lines += 1
        for mark in set(INVISIBLE.findall(source)):
            uses[mark] = uses.get(mark, 0) + 1
        if not has_letters(source):
            equal = "".join(source.split()) == "".join(target.split())
            same, different = same + equal, different + (not equal)
    kept = [mark for mark, number in uses.items() if _belongs(mark, number=number, lines=lines)]
    taught = different > max(same, 1) and different > _TINY_SHARE * lines
    return Normalisation(kept="".join(sorted(kept)), pass_through=not taught)


def _belongs(mark: str, *, number: int, lines: int) -> bool:
    if mark == _ZERO_WIDTH_SPACE:
        return number > _MOST * lines
    return number > max(1, _TINY_SHARE * lines) and regex.match(f"[{_OF_LETTERS}]", mark) is not None
