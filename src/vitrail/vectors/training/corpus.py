"""The text as numbers: words counted, then each line's words written to a file of int32, -1 after each line."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

from vitrail.data.reading.lines import DEFAULT_LIMITS, is_stream, line_parts, open_text, shown_name, stamp
from vitrail.data.vocabularies.vocabulary import CharacterVocabulary, WordVocabulary
from vitrail.errors import DataError, UsageError
from vitrail.files import FolderWriter
from vitrail.vectors.training.config import TokensConfig

LINE_END = -1
TOKENS = "tokens.i32"
_LINES_AT_ONCE = 10_000
_NO_TEXT = regex.compile(r"[\p{Cs}\p{Cc}]")
"""Bytes that are not UTF-8, and control characters."""
_WORD = regex.compile(r"[\p{L}\p{N}]")
_LETTER = regex.compile(r"\p{L}")
Split = Callable[[str], list[str]]
Texts = Callable[[], Iterator[list[str]]]
"""Reads a text from its beginning, the tokens of a line at a time."""


class WordCounts(NamedTuple):
    """The vocabulary: words by falling count, equal ones in order of code points."""

    words: tuple[str, ...]
    counts: npt.NDArray[np.int64]


def stamps_of(files: Sequence[Path]) -> list[list[int] | None]:
    """What changes when a file does; see `lines.stamp`. JSON can hold it."""
    return [None if (found := stamp(path)) is None else list(found) for path in files]


def splitter(config: TokensConfig) -> Split:
    """The function from a line to its tokens, all but phrases."""

    def prepare(line: str) -> str:
        line = unicodedata.normalize("NFC", _NO_TEXT.sub(" ", line))
        return line.lower() if config.lower else line

    if config.kind == "subwords":
        from vitrail.data.vocabularies.taking import find_vocabularies

        assert config.subwords_from is not None
        vocabulary = find_vocabularies(config.subwords_from).of(config.subwords_side)
        return lambda line: vocabulary.pieces(vocabulary.encode(line))
    split: Split
    if config.kind == "spaces":
        split = lambda line: prepare(line).split()  # noqa: E731
    elif config.kind == "characters":
        split = lambda line: [sign for sign in CharacterVocabulary.split(prepare(line)) if sign != " "]  # noqa: E731
    else:
        split = lambda line: [word for token in WordVocabulary.split(prepare(line)) if (word := token.removeprefix(" "))]  # noqa: E731
    return split if config.punctuation else lambda line: [word for word in split(line) if _WORD.search(word)]


def require_readable(files: Sequence[Path]) -> None:
    """Refuse files that are no text, and what can be read only once. Raises DataError, UsageError."""
    for path in files:
        if is_stream(path):
            raise UsageError(f"{shown_name(path)}: the text is read twice or more", remedy="store it in a file first")
        open_text(path, limits=DEFAULT_LIMITS).close()


def read_texts(files: Sequence[Path], split: Split) -> Iterator[list[str]]:
    """The tokens of each line of all files. Raises DataError."""
    for line in chain.from_iterable(map(line_parts, files)):
        if tokens := split(line):
            yield tokens


def count_words(texts: Iterable[list[str]], *, most: int) -> tuple[Counter[str], int]:
    """How often each word occurs, and how rare a word may be that was forgotten.

    Where more than `most` different words are held, the rarest are forgotten, and more of them each time (as word2vec does): memory stays
    bounded.
    """
    counts: Counter[str] = Counter()
    forgotten = 0
    stream = iter(texts)
    while block := list(islice(stream, _LINES_AT_ONCE)):
        counts.update(chain.from_iterable(block))
        while len(counts) > most:
            forgotten += 1
            counts = Counter({word: count for word, count in counts.items() if count > forgotten})
    return counts, forgotten


def without_spaces(vocabulary: WordCounts) -> bool:
    """Whether more than half of the text's words with a letter are single characters: Thai, Chinese and Japanese fall apart so."""
    lettered = [(len(word), int(count)) for word, count in zip(*vocabulary, strict=True) if _LETTER.search(word)]
    return 2 * sum(count for size, count in lettered if size == 1) > sum(count for _, count in lettered)


def choose_words(counts: Counter[str], *, least: int, most: int) -> WordCounts:
    """The vocabulary. Raises DataError where no word occurs often enough."""
    chosen = sorted(((-count, word) for word, count in counts.items() if count >= least))[:most]
    if len(chosen) < 2:
        best = max(counts.values(), default=0)
        raise DataError(
            f"{len(chosen)} of {len(counts):,} different words occur {least} times or more",
            expected="at least 2 words to learn",
            remedy=f"--min-count {max(1, best - 1)}, or more text" if counts else "text with words in it",
        )
    return WordCounts(tuple(word for _, word in chosen), np.asarray([-count for count, _ in chosen], np.int64))


def write_tokens(texts: Iterable[list[str]], words: Sequence[str], folder: FolderWriter) -> int:
    """Write the text as numbers to `TOKENS`; unknown words are left out, and lines without known ones. Returns how many words it has."""
    ids = {word: place for place, word in enumerate(words)}
    total = 0
    stream = iter(texts)
    with folder.create(TOKENS) as file:
        while block := list(islice(stream, _LINES_AT_ONCE)):
            numbers: list[int] = []
            for line in block:
                known = [ids[word] for word in line if word in ids]
                if known:
                    total += len(known)
                    numbers += known
                    numbers.append(LINE_END)
            if numbers:
                file.write(np.asarray(numbers, "<i4").tobytes())
    return total


def find_phrases(
    texts: Iterable[list[str]], counts: Counter[str], *, least: int, threshold: float, most: int
) -> frozenset[tuple[str, str]]:
    """Neighbouring words to be joined (Mikolov et al. 2013b, equation 6, times the number of words of the text, as in word2phrase)."""
    pairs: Counter[tuple[str, str]] = Counter()
    forgotten = 0
    stream = iter(texts)
    while block := list(islice(stream, _LINES_AT_ONCE)):
        pairs.update(chain.from_iterable(pairwise(line) for line in block))
        while len(pairs) > most:
            forgotten += 1
            pairs = Counter({pair: count for pair, count in pairs.items() if count > forgotten})
    total = counts.total()
    return frozenset(
        pair
        for pair, count in pairs.items()
        if all(counts[word] >= least for word in pair)
        and count > least
        and (count - least) * total / (counts[pair[0]] * counts[pair[1]]) > threshold
        and all(_WORD.search(word) for word in pair)
    )


class Prepared(NamedTuple):
    """A text with its phrases joined, and what it is made of."""

    texts: Texts
    counts: Counter[str]
    forgotten: int
    """How rare a word may be that was forgotten while words were counted."""


def prepared_texts(texts: Texts, config: TokensConfig, *, say: Callable[[str], None]) -> Prepared:
    """Count the words of a text, and join its phrases, which takes two more passes for each pass of phrases."""
    held = 10 * config.most_words
    counts, forgotten = count_words(texts(), most=held)
    for number in range(config.phrases):
        phrases = find_phrases(texts(), counts, least=config.min_count, threshold=config.phrase_threshold, most=held)
        say(f"phrases, pass {number + 1}: {len(phrases):,}")
        texts = partial(with_phrases, texts, phrases)
        counts, forgotten = count_words(texts(), most=held)
    return Prepared(texts, counts, forgotten)


def with_phrases(texts: Texts, phrases: frozenset[tuple[str, str]]) -> Iterator[list[str]]:
    """The same lines with phrases joined."""
    return (join_phrases(line, phrases) for line in texts())


def join_phrases(line: list[str], phrases: frozenset[tuple[str, str]]) -> list[str]:
    """The line with each pair of a phrase as one word, from left to right."""
    joined: list[str] = []
    place = 0
    while place < len(line):
        pair = tuple(line[place : place + 2])
        if pair in phrases:
            joined.append("_".join(pair))
            place += 2
        else:
            joined.append(line[place])
            place += 1
    return joined
