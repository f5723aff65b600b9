"""The interface of all vocabularies, the four special ids, and the two plain kinds: whole words and single characters."""

import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import regex

from vitrail.errors import DataError, ModelError, UsageError
from vitrail.files import write_file

NewTokens = int | Literal["characters"]
"""How many tokens are added to a vocabulary, at most; or every character that it does not know."""
PAD, UNK, SOS, EOS = 0, 1, 2, 3
SPACED = "vitrail vocabulary spaced"
"""Format of the file of a vocabulary of words that only spaces divide."""
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
"""How the special ids are shown. The same text in a sentence is plain text and never becomes a special id."""


class Subwords(ABC):
    """A vocabulary: text to ids and back.

    Text loses only spaces (U+0020): those at its ends, and all but one of several in a row. Every other character, including U+00A0, U+202F
    and tabs, is restored exactly, unless it is unknown to a word or character vocabulary.
    """

    suffix: ClassVar[str]
    """Suffix of its files."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of ids, special ones included."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file's bytes, in hexadecimal: two vocabularies are the same when this is equal."""
        return sha256(self.to_bytes()).hexdigest()

    @abstractmethod
    def to_bytes(self) -> bytes:
        """The bytes of the file."""

    @classmethod
    @abstractmethod
    def from_bytes(cls, data: bytes, *, origin: str) -> "Subwords":
        """The inverse of `to_bytes`. Raises ModelError naming `origin` when the bytes are anything else."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text; never PAD, SOS or EOS. Raises DataError on lone surrogates, which are not text."""

    def encode(self, text: str) -> list[int]:
        """The ids of one text; see `encode_batch`."""
        return self.encode_batch([text])[0]

    def encode_arrays(self, texts: Sequence[str], *, threads: int) -> list[npt.NDArray[np.int32]]:
        """As `encode_batch`, in arrays, for whole corpora. Some kinds ignore `threads`."""
        del threads
        return [np.array(ids, dtype=np.int32) for ids in self.encode_batch(texts)]

    def sample(self, texts: Sequence[str], *, seed: int, dropout: float) -> list[list[int]]:
        """A random segmentation of each text for each seed; `dropout` 0 is `encode_batch`. A pure function of its arguments.

        Raises UsageError where there is only one segmentation.
        """
        del seed
        if dropout > 0:
            raise UsageError(
                "segmentations cannot be sampled from a vocabulary of whole words or characters",
                remedy="--set train.subword_dropout=0, or prepare the data with data.subwords.kind=bpe",
            )
        return self.encode_batch(texts)

    def extended(self, texts: Iterable[str], *, most: NewTokens, least_count: int = 1) -> "Subwords":
        """The same vocabulary with the most frequent unknown tokens of some texts behind it, so that every id stays what it is.

        Raises UsageError for a kind that cannot be extended so.
        """
        del texts, least_count
        raise UsageError(f"data.subwords.new_tokens = {most} with a list of labels", remedy="leave new_tokens out")

    def spelled(self, ids: Sequence[int]) -> int:
        """How many of some ids stand for no piece of text: unknown tokens, and single bytes of characters without an id."""
        return list(ids).count(UNK)

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids; special ids are skipped."""

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of the ids of each row; see `decode`."""
        return [self.decode(row) for row in rows]

    def is_whole(self, text: str) -> bool:
        """Whether the end of a decoded text stays as it is when more tokens follow."""
        del text
        return True

    def written(self, ids: Iterable[int]) -> str:
        """The same with U+FFFD for each unknown token, for ids without their text. Encoding it gives the same ids."""
        return self.decode(ids)

    @abstractmethod
    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The form of each id for people; a space is shown as ▁."""

    def locate(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """The place of each token in the decoded text: its first character and the one after its last; leading spaces belong to the token.

        Of the tokens that spell one character byte by byte, the first has it and the others are empty. Cost: a decoding for every token.
        """
        ends = [len(self.decode(ids[: count + 1])) for count in range(len(ids))]
        # Incomplete characters are decoded as several marks: where the text gets shorter again, the characters before were not complete.
        settled = list(accumulate(reversed(ends), min))[::-1]
        return list(zip([0, *settled], settled, strict=False))

    def locate_in(self, text: str) -> list[tuple[int, int]]:
        """The place of each token of `encode(text)` in the text itself. Precondition: `collapse` does not change the text.

        If a vocabulary rewrites text (a SentencePiece model with its own normaliser), both texts are aligned character by character.
        """
        ids = self.encode(text)
        at = places_in(text, self.decode(ids))
        return [(at[first], at[last]) for first, last in self.locate(ids)]

    def save(self, path: Path) -> None:
        """Write the vocabulary to a file, atomically. Raises UsageError where another kind of file is there; NotWritten."""
        write_file(path, self.to_bytes(), ours=self._is_one)

    def _is_one(self, path: Path) -> bool:
        try:
            self.load(path)
        except ModelError:
            return False
        return True

    @classmethod
    def load(cls, path: Path) -> "Subwords":
        """Read the file that `save` wrote. Raises ModelError when it is missing, damaged or something else."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}", expected="a vocabulary") from None
        return cls.from_bytes(data, origin=str(path))


def collapse(text: str) -> str:
    """Remove spaces at the ends, and all but one of several in a row; other white space is unchanged."""
    return " ".join(filter(None, text.split(" ")))


def places_in(text: str, rewritten: str) -> list[int]:
    """The place of each character of a rewritten text, and of its end, in the original text.

    Both are compared in parallel, with composed characters decomposed and every space alike; after a difference, the comparison continues
    at the nearest place where they agree again. Cost: linear, with up to 2,000 comparisons for each difference.
    """
    (signs, origins), (wanted, owners) = _signs(text), _signs(rewritten)
    places: list[int] = []
    at = 0
    while (here := len(places)) < len(wanted):
        if signs[at : at + 1] == wanted[here]:
            places.append(at)
            at += 1
            continue
        gone, instead = _next_match(signs[at : at + _REACH + 3], wanted[here : here + _REACH + 3])
        places += [min(at + min(step, gone), len(signs)) for step in range(instead)]
        at += gone
    origins.append(len(text))
    first = [number for number, owner in enumerate(owners) if number == 0 or owners[number - 1] != owner]
    return [*(origins[places[number]] for number in first), len(text)]


def _signs(text: str) -> tuple[str, list[int]]:
    """The text decomposed (NFD), with plain spaces, and the original character of each sign."""
    pieces = [" " if character.isspace() else unicodedata.normalize("NFD", character) for character in text]
    return "".join(pieces), [place for place, piece in enumerate(pieces) for _ in piece]


_REACH = 60
"""Characters that may be missing or different at one place."""


def _next_match(text: str, rewritten: str) -> tuple[int, int]:
    """How many characters of each to skip until three of them, or all to the end, are the same."""
    for total in range(1, _REACH):
        for gone in range(total + 1):
            if text[gone : gone + 3] == rewritten[total - gone : total - gone + 3]:
                return gone, total - gone
    return 1, 1


def require_text(texts: Sequence[str]) -> None:
    """Raise DataError when a text holds a lone surrogate (bytes that were not UTF-8)."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        bad = next(text for text in texts if any("\ud800" <= character <= "\udfff" for character in text))
        raise DataError(f"text with bytes that are not UTF-8: {bad[:80]!a}", remedy="vitrail prepare drops such pairs") from None


class _TokenVocabulary(Subwords):
    """A list of tokens, the most frequent first; token n has the id n + 4. Saved as JSON."""

    kind: ClassVar[str]
    formats: ClassVar[tuple[str, ...]] = ("vitrail vocabulary 1",)
    """First lines of readable files; the last one is written."""
    _unknown: ClassVar[str] = "\ufffd"
    suffix = ".vocab.json"

    def __init__(self, tokens: Sequence[str], *, format: str = "") -> None:
        self._tokens, self._format = tuple(tokens), format or self.formats[-1]
        self._ids = {token: id for id, token in enumerate(self._tokens, start=len(SPECIAL))}

    @classmethod
    def train(cls, texts: Iterable[str], *, size: int, least_count: int = 1) -> "_TokenVocabulary":
        """Keep the most frequent tokens: at most `size` with the special ids, each seen `least_count` times; ties in order of code points.

        Raises DataError when there is no text.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            require_text([text])
            counts.update(cls.split(text))
        if not counts:
            raise DataError("no text to learn a vocabulary from")
        return cls(_most_frequent(counts, least_count)[: size - len(SPECIAL)])

    def extended(self, texts: Iterable[str], *, most: NewTokens, least_count: int = 1) -> "_TokenVocabulary":
        """See `Subwords.extended`."""
        if most == "characters" and self.kind != "character":
            raise UsageError(
                "data.subwords.new_tokens = characters with a vocabulary of whole words",
                expected="a number of words",
                remedy="--set data.subwords.new_tokens=1000",
            )
        counts: Counter[str] = Counter()
        for text in texts:
            require_text([text])
            counts.update(token for token in self.split(text, format=self._format) if token not in self._ids)
        return type(self)(
            [*self._tokens, *_most_frequent(counts, least_count)[: None if most == "characters" else most]], format=self._format
        )

    @classmethod
    @abstractmethod
    def split(cls, text: str, *, format: str = "") -> list[str]:
        """The tokens of a text, by the rules of a file format; empty: the newest."""

    @staticmethod
    @abstractmethod
    def _join(tokens: Iterable[str]) -> str: ...

    @property
    def size(self) -> int:
        return len(SPECIAL) + len(self._tokens)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        require_text(texts)
        return [[self._ids.get(token, UNK) for token in self.split(text, format=self._format)] for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        return self._join(self._tokens[id - len(SPECIAL)] for id in ids if id > EOS)

    def written(self, ids: Iterable[int]) -> str:
        return self._join(self._unknown if id == UNK else self._tokens[id - len(SPECIAL)] for id in ids if id > EOS or id == UNK)

    def locate_in(self, text: str) -> list[tuple[int, int]]:
        # One by one, as a token may be unknown. A space is put before the text.
        padded, at, spans = " " + text, 0, list[tuple[int, int]]()
        for token in self.split(text, format=self._format):
            first = padded.index(token, at)
            at = first + len(token)
            spans.append((max(0, first - 1), at - 1))
        return spans

    def pieces(self, ids: Iterable[int]) -> list[str]:
        return [SPECIAL[id] if id <= EOS else self._tokens[id - len(SPECIAL)].replace(" ", "▁") for id in ids]

    def to_bytes(self) -> bytes:
        content = {"format": self._format, "kind": self.kind, "tokens": self._tokens}
        return (json.dumps(content, ensure_ascii=False, indent=0) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, *, origin: str) -> "_TokenVocabulary":
        refusal = ModelError(f"{origin}: not a {cls.kind} vocabulary, or damaged", remedy="prepare the data again, or copy the model again")
        try:
            content: Any = json.loads(data)
        except (ValueError, RecursionError):
            raise refusal from None
        match content:
            case {"format": str(format), "kind": cls.kind, "tokens": [*tokens]} if len(content) == 3 and format in cls.formats:
                if not all(isinstance(token, str) and token for token in tokens) or len(set(tokens)) < len(tokens):
                    raise refusal
                return cls(tokens, format=format)
            case _:
                raise refusal


def _most_frequent(counts: Counter[str], least_count: int) -> list[str]:
    """Tokens by their counts, equal ones in order of code points."""
    return [token for _, token in sorted((-count, token) for token, count in counts.items() if count >= least_count)]


class WordVocabulary(_TokenVocabulary):
    """Whole words and marks of punctuation.

    A token is a word by Unicode's rules (UAX 29) with its combining marks and joiners, words with hyphens between them being one
    (`l'eau-de-vie`), or any one other sign with its marks. In scripts without spaces between words, a Han character, a run of katakana or a
    letter of Thai is a word.
    The space before a token belongs to it, and a space is put before the text. Thus joining tokens gives back the text.

    Files of format 1 had words of letters and digits alone, cut at combining marks; they are read as they were learned. In files of the
    format SPACED, words are what spaces divide, as in models of programs that divide text so.
    """

    kind = "word"
    formats = ("vitrail vocabulary 1", SPACED, "vitrail vocabulary 2")
    _patterns: ClassVar[dict[str, "re.Pattern[str] | regex.Pattern[str]"]] = {
        formats[0]: re.compile(r" ?(?:\w+(?:['’-]\w+)*|[^\w ])"),
        # (?w): \B matches where no word ends or begins, so that the rest of a letter's word is taken whatever it is.
        formats[1]: re.compile(r" [^ ]+"),
        formats[2]: regex.compile(r"(?ws) ?(?:\w(?:\B.)*+(?:[-\u2010\u2011]\w(?:\B.)*+)*+|\X)"),
    }
    _unknown = " \ufffd"

    @classmethod
    def split(cls, text: str, *, format: str = "") -> list[str]:
        text = collapse(text)
        return cls._patterns[format or cls.formats[-1]].findall(f" {text}") if text else []

    @staticmethod
    def _join(tokens: Iterable[str]) -> str:
        return "".join(tokens).removeprefix(" ")


class CharacterVocabulary(_TokenVocabulary):
    """Single characters (code points), the space among them.

    Not grapheme clusters: a letter with its marks is one code point where Unicode has one (text is composed, NFC). Hindi and Tamil have too
    many syllables for a vocabulary, but few signs.
    """

    kind = "character"

    @classmethod
    def split(cls, text: str, *, format: str = "") -> list[str]:
        return list(collapse(text))

    @staticmethod
    def _join(tokens: Iterable[str]) -> str:
        return "".join(tokens)
