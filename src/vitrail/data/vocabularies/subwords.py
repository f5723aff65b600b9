"""Subword vocabularies: train, save, load, encode, decode, sample; and the vocabularies of a pair of languages."""

import io
import logging
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import sentencepiece
from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.data.vocabularies.bpe_dropout import Merges, read_merges, segment
from vitrail.data.vocabularies.growing import NewPiece, learn_merges, unknown_characters, with_pieces
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.mapped import MappedPieces
from vitrail.data.vocabularies.protobuf import fields
from vitrail.data.vocabularies.vocabulary import (
    EOS,
    PAD,
    SOS,
    SPECIAL,
    UNK,
    CharacterVocabulary,
    NewTokens,
    Subwords,
    WordVocabulary,
    collapse,
    require_text,
)
from vitrail.errors import DataError, ModelError, UsageError

__all__ = [
    "EOS",
    "PAD",
    "SOS",
    "UNK",
    "CharacterVocabulary",
    "SentencePieceSubwords",
    "Subwords",
    "SubwordsConfig",
    "Vocabularies",
    "WordVocabulary",
    "train_sentencepiece",
    "train_vocabularies",
]

_log = logging.getLogger(__name__)

# SentencePiece writes a space as ▁, the same as a ▁ in the text. U+FDD0 is a code point that Unicode reserves for such uses.
_ESCAPE = "\ufdd0"
# SentencePiece skips lines with these while training: its marks for unknown text and for the ends of sentences.
_SKIPPED_BY_TRAINER = str.maketrans("\u2585\t", "  ")
_LONGEST_TRAINING_TEXT = 4000
BEFORE_CHARACTERS = len(SPECIAL) + 256
COVERED_FULLY = 400
"""Up to this many different characters, all of them get ids of their own."""
_COVERAGE = 0.9995
LEAST_COVERAGE = 0.98
"""The least that SentencePiece accepts."""
_CROWDED = 0.75
"""Where not all characters have room, they get this share of the ids; longer pieces get the rest."""
_LEARNED_FROM = 200_000
"""New pieces are learned from at most this many texts; characters are counted in all of them."""
_SEGMENTATIONS = 8
_LONGEST_PIECE = 4096
_SEGMENTATION_SMOOTHING = 0.2
_MOST_WORDS, _LONGEST_WORD = 50_000, 40
"""Words whose ids are remembered at most, and their characters: what has no spaces does not recur."""


class SubwordsConfig(Config):
    """The vocabulary: how text is split into tokens with ids."""

    kind: Literal["bpe", "unigram", "word", "character"] = "bpe"
    """SentencePiece byte-pair encoding or unigram model, or whole words, or single characters."""
    size: int = 8000
    """Most ids of a vocabulary, the four special ones and the 256 bytes of SentencePiece included; a small corpus may give fewer."""
    joint: bool = True
    """One vocabulary for both languages."""
    character_coverage: float | None = Field(default=None, ge=LEAST_COVERAGE, le=1)
    """Share of the text whose characters get ids of their own; the others are written as bytes. Empty: 1 with at most 400 different
    characters, else 0.9995, and where `size` has no room for these, less, down to 0.98."""
    training_sentences: int = 2_000_000
    """Learn from at most this many sentences, drawn evenly from both languages."""
    least_count: int = 1
    """Words or characters with fewer occurrences are unknown (kinds word and character)."""
    seed: int = 1
    """Seed of the draw when there are more sentences."""
    taken_from: Path | None = None
    """A run, a model or prepared data whose vocabulary is taken, in place of learning one; the settings above then say nothing."""
    source_from: Path | None = None
    """The same for the source alone; with separate vocabularies."""
    target_from: Path | None = None
    """The same for the target alone."""
    new_tokens: Annotated[int, Field(ge=0)] | Literal["characters"] = 0
    """Most tokens of the text that are added to a vocabulary that is taken, the most frequent first: words, characters, or characters
    that are spelled in bytes and then pieces. "characters": these alone, all where there are at most 400, else 99.95 % of the text's."""

    @model_validator(mode="before")
    @classmethod
    def _separate_where_taken(cls, values: Any) -> Any:
        """Vocabularies that are taken side by side are two, where nothing else is said."""
        if isinstance(values, dict) and ("source_from" in values or "target_from" in values):
            return {"joint": False} | values  # pyright: ignore[reportUnknownVariableType]
        return values  # pyright: ignore[reportUnknownVariableType]

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "SubwordsConfig":
        sides = [name for name in ("source_from", "target_from") if getattr(self, name) is not None]
        if sides and self.taken_from is not None:
            raise UsageError(f"data.subwords.taken_from and {sides[0]}", expected="one of them")
        if sides and self.joint:
            raise UsageError(f"data.subwords.{sides[0]} with one vocabulary for both sides", remedy="--set data.subwords.joint=false")
        if self.new_tokens and not sides and self.taken_from is None:
            raise UsageError(
                f"data.subwords.new_tokens = {self.new_tokens} without a vocabulary that they are added to",
                remedy="--set data.subwords.taken_from=FOLDER; or data.subwords.size, for one that is learned",
            )
        return self

    def folders(self) -> list[Path]:
        """Folders whose vocabularies are taken."""
        return [folder for folder in (self.taken_from, self.source_from, self.target_from) if folder is not None]


class _WordIds(dict[str, list[int]]):
    """The ids of each word, which are remembered."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, word: str) -> list[int]:
        ids = self._encode(word)
        if len(word) <= _LONGEST_WORD and len(self) < _MOST_WORDS:
            self[word] = ids
        return ids


class SentencePieceSubwords(Subwords):
    """A SentencePiece model, BPE or unigram, with byte fallback: no text is unknown to it."""

    suffix = ".spm"

    def __init__(self, processor: sentencepiece.SentencePieceProcessor, data: bytes) -> None:
        self._processor, self._data = processor, data
        self._words = _WordIds(processor.encode)
        self._segmentations: dict[str, tuple[list[list[int]], npt.NDArray[np.float64]]] = {}

    @classmethod
    def from_bytes(cls, data: bytes, *, origin: str) -> "SentencePieceSubwords":
        processor = sentencepiece.SentencePieceProcessor()
        refusal = ModelError(f"{origin}: not a SentencePiece model, or damaged", remedy="prepare the data again, or copy the model again")
        if not data:
            raise refusal
        try:
            processor.LoadFromSerializedProto(data)
            special = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id())
            # A model without byte pieces would give UNK, which cannot be decoded.
            has_bytes = processor.get_piece_size() >= len(SPECIAL) + 256 and all(
                processor.is_byte(id) for id in range(len(SPECIAL), len(SPECIAL) + 256)
            )
        except (RuntimeError, ValueError, LookupError):
            raise refusal from None
        if special != (PAD, UNK, SOS, EOS) or not has_bytes:
            raise ModelError(
                f"{origin}: a SentencePiece model with special ids {special}" + ("" if has_bytes else " and without pieces for bytes"),
                expected=f"pad, unk, sos, eos = {(PAD, UNK, SOS, EOS)}, then 256 bytes, as vitrail prepare makes them",
            )
        if _rewrites(data):
            raise ModelError(
                f"{origin}: a SentencePiece model with its own table of normalisation",
                expected="no such table: text is normalised before, and a table can make it any number of times as long",
            )
        longest = max(map(len, processor.id_to_piece(list(range(processor.get_piece_size())))))
        if longest > _LONGEST_PIECE:
            raise ModelError(f"{origin}: has a piece of {longest:,} characters", expected=f"at most {_LONGEST_PIECE:,}")
        return cls(processor, data)

    def to_bytes(self) -> bytes:
        return self._data

    @property
    def size(self) -> int:
        return self._processor.get_piece_size()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        prepared = self._prepared(texts)
        if self._divides_words:
            words = self._words
            return [[id for word in text.split(" ") for id in words[word]] for text in prepared]
        if len(prepared) == 1:  # a list is read by a new thread, which takes several times as long as one text
            return [self._processor.encode(prepared[0])]
        return self._processor.encode(prepared, num_threads=1)

    def encode_arrays(self, texts: Sequence[str], *, threads: int) -> list[npt.NDArray[np.int32]]:
        return self._processor.encode(self._prepared(texts), num_threads=threads, return_type="numpy")

    def sample(self, texts: Sequence[str], *, seed: int, dropout: float) -> list[list[int]]:
        """BPE: see `dropout.segment`. Unigram: with probability `dropout` a word is drawn from its 8 best segmentations, in
        proportion to P(segmentation)^0.2 (Kudo 2018, with words in place of sentences); else it is the best.

        Cost: 29,000 sentences of 12 words in 1.1 s with BPE, 0.9 s with unigram, against 0.2 s of `encode_batch`.
        """
        assert 0 <= dropout <= 1
        if dropout == 0:
            return self.encode_batch(texts)
        prepared = [collapse(text) for text in self._prepared(texts)]
        if self.merges is None:
            return self._sample_unigram(prepared, seed=seed, dropout=dropout)
        spelled = ["▁" + text.replace(" ", "▁") if text else "" for text in prepared]
        rows = segment(spelled, self.merges, seed=seed, dropout=dropout)
        return [self._with_bytes(row) for row in rows]

    def _sample_unigram(self, texts: Sequence[str], *, seed: int, dropout: float) -> list[list[int]]:
        words = [text.split() if not text else text.split(" ") for text in texts]
        draws = np.random.PCG64(np.random.SeedSequence(seed)).random_raw((2, sum(map(len, words)))) / 2.0**64
        resampled, places = iter((draws[0] < dropout).tolist()), iter(draws[1].tolist())
        rows: list[list[int]] = []
        for row in words:
            ids: list[int] = []
            for word in row:
                segmentations, cumulative = self._segmentations_of(word)
                drawn, place = next(resampled), next(places)
                ids += segmentations[int(np.searchsorted(cumulative, place, side="right"))] if drawn else segmentations[0]
            rows.append(ids)
        return rows

    def _segmentations_of(self, word: str) -> tuple[list[list[int]], npt.NDArray[np.float64]]:
        """The best segmentations of a word, the best first, and the upper ends of their shares of [0, 1)."""
        found = self._segmentations.get(word)
        if found is None:
            best = self._processor.encode(word)
            others = [ids for ids in self._processor.nbest_encode_as_ids(word, nbest_size=_SEGMENTATIONS) if ids != best]
            segmentations = [best, *others[: _SEGMENTATIONS - 1]]
            scores = np.array([sum(self._processor.get_score(ids)) for ids in segmentations])
            shares = np.exp(_SEGMENTATION_SMOOTHING * (scores - scores.max()))
            cumulative = np.cumsum(shares / shares.sum())
            cumulative[-1] = 1.0
            found = segmentations, cumulative
            if len(self._segmentations) < 200_000:
                self._segmentations[word] = found
        return found

    def extended(self, texts: Iterable[str], *, most: NewTokens, least_count: int = 1) -> "SentencePieceSubwords":
        """See `Subwords.extended`: characters that are spelled in bytes now, then pieces of two that are neighbours.

        A text without new characters is divided as before, and then new pieces are made of neighbours (BPE), or are taken where they are
        more likely than what they are made of (unigram).
        """
        counts: Counter[str] = Counter()

        def counted() -> Iterator[str]:
            for text in _training_texts(texts):
                require_text([text])
                counts.update(text)
                yield text

        drawn = draw_texts(counted(), count=_LEARNED_FROM, seed=0)
        missing = unknown_characters(counts, self._plain(), least_count=least_count)
        room = needed_characters(missing) if most == "characters" else most
        more = self._with_characters(_by_count(missing)[:room], missing, total=counts.total())
        left = 0 if most == "characters" else most - (more.size - self.size)
        return more._with_merges(drawn, most=left, least_count=least_count) if left > 0 else more

    def spelled(self, ids: Sequence[int]) -> int:
        return sum(id == UNK or len(SPECIAL) <= id < BEFORE_CHARACTERS for id in ids)

    def _plain(self) -> set[str]:
        """The pieces that are neither special nor bytes."""
        return set(self.pieces(range(BEFORE_CHARACTERS, self.size)))

    def _with(self, pieces: Sequence[NewPiece]) -> "SentencePieceSubwords":
        return self.from_bytes(with_pieces(self._data, pieces), origin="the extended vocabulary") if pieces else self

    def _with_characters(self, characters: Sequence[str], counts: Counter[str], *, total: int) -> "SentencePieceSubwords":
        if self.merges is not None:
            place = self.size - BEFORE_CHARACTERS
            return self._with([NewPiece(character, -float(place + number)) for number, character in enumerate(characters)])
        # Not below the least score of all: SentencePiece takes that for what a byte costs.
        least = min(self.scores()[BEFORE_CHARACTERS:], default=0.0)
        return self._with([NewPiece(one, max(least, math.log(counts[one] / total))) for one in characters])

    def _with_merges(self, texts: Sequence[str], *, most: int, least_count: int) -> "SentencePieceSubwords":
        counts = Counter(word for text in texts for word in text.split(" ") if word)
        words = list(zip(map(self.pieces, self._processor.encode(list(counts), num_threads=1)), counts.values(), strict=True))
        known, place = self._plain(), self.size - BEFORE_CHARACTERS
        if self.merges is not None:
            made = iter(range(place, place + most))

            def later(left: str, right: str, count: int) -> float:
                return -float(next(made))

            return self._with(learn_merges(words, known, most=most, least_count=least_count, score=later))
        scores = dict(zip(self.pieces(range(self.size)), self.scores(), strict=True))
        total = sum(len(pieces) * count for pieces, count in words)

        def likelier(left: str, right: str, count: int) -> float | None:
            value = max(least, math.log(count / total))
            if value <= scores[left] + scores[right]:
                return None
            scores[left + right] = value
            return value

        least = min(scores[piece] for piece in known)
        return self._with(learn_merges(words, known, most=most, least_count=least_count, score=likelier))

    def decode(self, ids: Iterable[int]) -> str:
        return _unescape(self._processor.decode([int(id) for id in ids if id > EOS]))

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        if len(rows) == 1:  # a list is read by a new thread
            return [self.decode(rows[0])]
        found: list[str] = self._processor.decode([[int(id) for id in row if id > EOS] for row in rows], num_threads=1)
        return [_unescape(text) for text in found]

    def is_whole(self, text: str) -> bool:
        return not text.endswith(("\ufffd", _ESCAPE))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        pieces = self._pieces
        return [pieces[id] for id in ids]

    @cached_property
    def _pieces(self) -> list[str]:
        """The pieces of all ids: asking SentencePiece for those of a row takes ten times as long as a list."""
        return self._processor.id_to_piece(list(range(self.size)))

    @cached_property
    def _divides_words(self) -> bool:
        """Whether a text's ids are those of its words, one after the other, so that frequent words need not be divided again and again.

        So it is in BPE where no piece reaches into the next word. The best division of a unigram model is that of a sum over the whole
        text, whose last digits may decide between two.
        """
        if not self._is_bpe or any(" " in piece or "▁" in piece[1:] for piece in self._pieces):
            return False
        encode, word = self._processor.encode, self._processor.encode("a")
        return encode(" a  a ") == 2 * word and encode("") == [] and self.pieces(word[:1])[0].startswith("▁")

    @cached_property
    def _is_bpe(self) -> bool:
        """BPE has the scores -0, -1, -2, ...; a unigram model has log-probabilities."""
        return all(score == -place for place, score in enumerate(self.scores()[BEFORE_CHARACTERS:]))

    def _prepared(self, texts: Sequence[str]) -> list[str]:
        require_text(texts)
        return [_escape(text) for text in texts]

    def _with_bytes(self, symbols: list[int]) -> list[int]:
        """Spell characters that have no id as the ids of their UTF-8 bytes."""
        size = self.size
        if not symbols or max(symbols) < size:
            return symbols
        spelled = ([symbol] if symbol < size else [len(SPECIAL) + byte for byte in chr(symbol - size).encode()] for symbol in symbols)
        return list(chain.from_iterable(spelled))

    def scores(self) -> list[float]:
        """The score of each piece: log-probabilities of a unigram model, ranks of BPE."""
        return list(self._processor.get_score(list(range(self.size))))

    @cached_property
    def merges(self) -> Merges | None:
        """The merges of BPE; None for a unigram model."""
        if not self._is_bpe:
            return None
        plain = range(BEFORE_CHARACTERS, self.size)
        pieces = self.pieces(plain)
        scores = self.scores()[BEFORE_CHARACTERS:]
        return read_merges(dict(zip(pieces, scores, strict=True)), dict(zip(pieces, plain, strict=True)), size=self.size)


def _rewrites(data: bytes) -> bool:
    """Whether a SentencePiece model holds a table of normalisation: `precompiled_charsmap` or `normalization_rule_tsv` (2 and 6) of
    `normalizer_spec` or `denormalizer_spec` (3 and 5 of a ModelProto)."""
    specs = [value for number, value in fields(data) if number in (3, 5)]
    return any(number in (2, 6) and value for spec in specs for number, value in fields(spec))


def _escape(text: str) -> str:
    if _ESCAPE in text or "▁" in text:
        return text.replace(_ESCAPE, _ESCAPE + "0").replace("▁", _ESCAPE + "1")
    return text


def _unescape(text: str) -> str:
    return text if _ESCAPE not in text else re.sub(f"{_ESCAPE}([01])", lambda found: "▁" if found[1] == "1" else _ESCAPE, text)


def draw_texts(texts: Iterable[str], *, count: int, seed: int) -> list[str]:
    """At most `count` of the texts, each with the same probability, in their order. Source: Vitter 1985, algorithm R.

    Memory is that of `count` texts; the result depends on texts, count and seed alone (Python promises the stream of `random()`).
    """
    generator = random.Random(seed)
    kept: list[tuple[int, str]] = []
    for number, text in enumerate(texts):
        if number < count:
            kept.append((number, text))
        elif (place := int(generator.random() * (number + 1))) < count:
            kept[place] = (number, text)
    return [text for _, text in sorted(kept)]


def _training_texts(texts: Iterable[str]) -> Iterator[str]:
    """Texts as SentencePiece's trainer takes them: it silently skips long ones and those with its own marks, so cut and replace."""
    for text in texts:
        clean = _escape(text).translate(_SKIPPED_BY_TRAINER).strip(" ")
        while clean:
            cut = len(clean) if len(clean) <= _LONGEST_TRAINING_TEXT else clean.rfind(" ", 1, _LONGEST_TRAINING_TEXT)
            cut = cut if cut > 0 else _LONGEST_TRAINING_TEXT  # a longer word is cut anywhere
            yield clean[:cut]
            clean = clean[cut:].strip(" ")


def train_sentencepiece(
    texts: Iterable[str], *, size: int, kind: Literal["bpe", "unigram"] = "bpe", character_coverage: float | None = None
) -> SentencePieceSubwords:
    """Learn a vocabulary. The bytes of the result are a pure function of the arguments: texts are not normalised except for spaces (see
    `Subwords`), and one thread learns, as the number of threads would change the file.

    Returns: at most `size` pieces; fewer when the text has no more (compare `.size`).
    Raises:  DataError when there is no text; UsageError when `size` is too small for the characters of the text.
    Cost:    58,000 sentences of 12 words to 10,000 pieces: BPE 0.7 s, unigram 2 s. All texts are in memory.
    """
    kept = list(_training_texts(texts))
    if not kept:
        raise DataError("no text to learn a vocabulary from")
    require_text(kept)
    if character_coverage is None:
        character_coverage = _coverage_for(count_characters(kept), size=size)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(kept),
            model_writer=model,
            model_type=kind,
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=character_coverage,
            byte_fallback=True,
            normalization_rule_name="identity",
            max_sentence_length=8 * _LONGEST_TRAINING_TEXT,
            num_threads=1,
            minloglevel=2,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=SOS,
            eos_id=EOS,
        )
    except RuntimeError as error:
        raise _explained(error, size=size) from None
    return SentencePieceSubwords.from_bytes(model.getvalue(), origin="the vocabulary just learned")


def _by_count(counts: Counter[str]) -> list[str]:
    """In the order of their counts, equal ones in order of code points."""
    return sorted(counts, key=lambda one: (-counts[one], one))


def count_characters(texts: Iterable[str]) -> Counter[str]:
    """How often each character occurs in some texts, as SentencePiece counts them: with a space before each text."""
    counts: Counter[str] = Counter()
    lines = 0
    for text in texts:
        counts.update(text)
        lines += 1
    counts[" "] += lines
    return counts


def needed_characters(counts: Counter[str], *, coverage: float | None = None) -> int:
    """The number of most frequent characters that make up a share of the text; None: the default share for such a text."""
    if coverage is None:
        coverage = 1.0 if len(counts) <= COVERED_FULLY else _COVERAGE
    wanted, found = coverage * counts.total(), 0
    for place, number in enumerate(sorted(counts.values(), reverse=True)):
        if found >= wanted:
            return place
        found += number
    return len(counts)


def _coverage_for(counts: Counter[str], *, size: int) -> float:
    """The share of the text whose characters get ids: the wanted share, or as much as fits.

    Raises UsageError where not even `LEAST_COVERAGE` fits.
    """
    room, wanted = size - BEFORE_CHARACTERS, needed_characters(counts)
    if wanted <= room:
        return 1.0 if len(counts) <= COVERED_FULLY else _COVERAGE
    least = needed_characters(counts, coverage=LEAST_COVERAGE)
    if least > room:
        raise _too_small(size, counts, least=BEFORE_CHARACTERS + least)
    held, total = max(least, int(_CROWDED * room)), counts.total()
    covered = sum(sorted(counts.values(), reverse=True)[:held]) / total
    _log.warning(
        "subwords.size: %d has room for %d of the %d characters of this text, %.1f %% of it; the others are spelled in bytes. "
        "All have room from %d on: --set data.subwords.size=%d",
        *(size, held, len(counts), 100 * covered, BEFORE_CHARACTERS + wanted, roomy_size(size, wanted)),
    )
    # A little less, so that rounding to 32 bits does not add one more character.
    return max(LEAST_COVERAGE, covered - max(0.5 / total, 1e-7))


def roomy_size(size: int, characters: int) -> int:
    """A round number of ids for `size` and this many characters; few characters need no more than `size`."""
    return size if characters <= COVERED_FULLY else 500 * math.ceil((size + characters) / 500)


def _too_small(size: int, counts: Counter[str], *, least: int) -> UsageError:
    return UsageError(
        f"subwords.size: {size} is too small for the {len(counts)} different characters of this text",
        expected=f"at least {least}: {len(SPECIAL)} special ids, 256 bytes and one for each character of {LEAST_COVERAGE:.0%} of the text",
        remedy=f"--set data.subwords.size={max(least, roomy_size(least, needed_characters(counts)))}",
    )


def _explained(error: RuntimeError, *, size: int) -> UsageError:
    found = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
    least = found[1] if found else str(2 * BEFORE_CHARACTERS)
    return UsageError(
        f"subwords.size: {size} is too small for the characters of this text",
        expected=f"at least {least}: {len(SPECIAL)} special ids, 256 bytes and one for each character",
        remedy=f"--set data.subwords.size={least}, or leave data.subwords.character_coverage out" if found else str(error),
    )


@dataclass(frozen=True)
class Vocabularies:
    """The vocabularies of a pair of languages; `joint` when both are the same one."""

    source: Subwords
    target: Subwords
    joint: bool

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the digests of both sides, in hexadecimal."""
        return sha256(f"{self.source.digest} {self.target.digest}".encode()).hexdigest()

    def of(self, role: str) -> Subwords:
        """The vocabulary of a stream: of source or target, of a language model's text, or of the labels of a classifier."""
        return self.source if role == "source" else self.target

    @property
    def shares_ids(self) -> bool:
        """Whether a token has the same id on both sides, so that both can share one table: one vocabulary, or one list of two."""
        if isinstance(self.source, MappedPieces) and isinstance(self.target, MappedPieces):
            return self.source.tokens == self.target.tokens
        return self.joint

    @property
    def has_unknown(self) -> bool:
        """Whether a text may have unknown tokens."""
        return not isinstance(self.source, SentencePieceSubwords) or not isinstance(self.target, SentencePieceSubwords)

    def unknown_share(self, sources: Sequence[str], targets: Sequence[str]) -> float:
        """The share of unknown tokens on both sides."""
        rows = [*self.source.encode_batch(sources), *self.target.encode_batch(targets)]
        return sum(row.count(UNK) for row in rows) / max(1, sum(map(len, rows)))

    def save(self, folder: Path) -> None:
        """Write `joint` or `source` and `target`, with the suffix of their kind, into a folder."""
        for name, side in self.files().items():
            side.save(folder / name)

    def files(self) -> dict[str, Subwords]:
        """The name of each file, and what it holds."""
        if self.joint:
            return {"joint" + self.source.suffix: self.source}
        return {"source" + self.source.suffix: self.source, "target" + self.target.suffix: self.target}

    @classmethod
    def from_bytes(cls, files: Mapping[str, bytes]) -> "Vocabularies":
        """The inverse of `files`: from names and bytes. Raises ModelError where they are anything else."""
        sides = {name.partition(".")[0]: _read_any(name, data) for name, data in files.items()}
        if "joint" in sides:
            return cls(sides["joint"], sides["joint"], joint=True)
        return cls(sides["source"], sides["target"], joint=False)

    @classmethod
    def load(cls, folder: Path, *, listed: Collection[str] | None = None) -> "Vocabularies":
        """Read what `save` wrote. Raises ModelError when files are missing, damaged, or there are both joint and separate ones.

        Args: listed: the files that were verified; others are ignored.
        """
        found = {side: _find(folder, side, listed) for side in ("joint", "source", "target")}
        match found["joint"], found["source"], found["target"]:
            case Path() as path, None, None:
                joint = _load_any(path)
                return cls(joint, joint, joint=True)
            case None, Path() as source, Path() as target:
                return cls(_load_any(source), _load_any(target), joint=False)
            case _:
                names = sorted(path.name for path in found.values() if path is not None)
                raise ModelError(
                    f"{folder}: holds {', '.join(names) or 'no vocabulary'}",
                    expected="joint.spm, or source.spm and target.spm (or .vocab.json)",
                )


def _find(folder: Path, side: str, listed: Collection[str] | None) -> Path | None:
    names = [side + suffix for suffix in _READERS if listed is None or side + suffix in listed]
    present = [folder / name for name in names if (folder / name).exists()]
    if len(present) > 1:
        raise ModelError(f"{folder}: holds {' and '.join(path.name for path in present)}", expected="one of them")
    return present[0] if present else None


def _load_any(path: Path) -> Subwords:
    suffix = next(suffix for suffix in _READERS if path.name.endswith(suffix))
    return _READERS[suffix](path)


def _read_any(name: str, data: bytes) -> Subwords:
    if name.endswith(SentencePieceSubwords.suffix):
        return SentencePieceSubwords.from_bytes(data, origin=name)
    if name.endswith(LabelVocabulary.suffix):
        return LabelVocabulary.from_bytes(data, origin=name)
    if name.endswith(MappedPieces.suffix):
        return MappedPieces.from_bytes(data, origin=name)
    try:
        return WordVocabulary.from_bytes(data, origin=name)
    except ModelError:
        return CharacterVocabulary.from_bytes(data, origin=name)


def _load_tokens(path: Path) -> Subwords:
    try:
        return WordVocabulary.load(path)
    except ModelError:
        return CharacterVocabulary.load(path)


_READERS: dict[str, Callable[[Path], Subwords]] = {
    SentencePieceSubwords.suffix: SentencePieceSubwords.load,
    WordVocabulary.suffix: _load_tokens,
    LabelVocabulary.suffix: LabelVocabulary.load,
    MappedPieces.suffix: MappedPieces.load,
}


VOCABULARY_FILES = tuple(side + suffix for side in ("joint", "source", "target") for suffix in _READERS)
"""The names that vocabularies have in a folder."""


def train_vocabularies(source: Iterable[str], target: Iterable[str], *, config: SubwordsConfig) -> Vocabularies:
    """Learn the vocabularies of both sides, from at most `config.training_sentences` of each side; see `train_sentencepiece`."""
    share = max(1, config.training_sentences // 2)
    sides = [draw_texts(texts, count=share, seed=config.seed) for texts in (source, target)]
    if config.joint:
        joint = _train(chain.from_iterable(sides), config)
        return Vocabularies(joint, joint, joint=True)
    return Vocabularies(_train(sides[0], config), _train(sides[1], config), joint=False)


def train_vocabulary(texts: Iterable[str], *, config: SubwordsConfig) -> Vocabularies:
    """Learn the vocabulary of a text, from at most `config.training_sentences` of its lines."""
    text = _train(draw_texts(texts, count=config.training_sentences, seed=config.seed), config)
    return Vocabularies(text, text, joint=True)


def _train(texts: Iterable[str], config: SubwordsConfig) -> Subwords:
    match config.kind:
        case "bpe" | "unigram":
            return train_sentencepiece(texts, size=config.size, kind=config.kind, character_coverage=config.character_coverage)
        case "word":
            return WordVocabulary.train(texts, size=config.size, least_count=config.least_count)
        case "character":
            return CharacterVocabulary.train(texts, size=config.size, least_count=config.least_count)
