"""Reads what word vectors are asked: pairs of words with the similarity that people gave them, and analogies."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vitrail.data.reading.lines import lines
from vitrail.errors import DataError

_SEPARATORS = ("\t", ",", ";")


class SimilarityPair(NamedTuple):
    """Two words, and how similar people found them."""

    first: str
    second: str
    score: float


class SimilaritySet(NamedTuple):
    """Pairs of one file."""

    name: str
    pairs: tuple[SimilarityPair, ...]


class Analogy(NamedTuple):
    """a is to b as c is to d."""

    a: str
    b: str
    c: str
    d: str


class AnalogySection(NamedTuple):
    """Analogies of one kind."""

    name: str
    questions: tuple[Analogy, ...]


class AnalogySet(NamedTuple):
    """The sections of one file."""

    name: str
    sections: tuple[AnalogySection, ...]


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that hold something, with their numbers. Raises DataError for one that is not UTF-8."""
    for number, line in enumerate(lines(path), start=1):
        try:
            line.encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(
                f"{path}:{number}: is not UTF-8", expected="words in UTF-8", remedy=f"iconv -f THEIR-ENCODING -t UTF-8 {path} > new-file"
            ) from None
        if line.strip():
            yield number, line


def split_fields(line: str) -> list[str]:
    """The fields of a line: between tabs, commas or semicolons, whichever of these are in it; otherwise between spaces."""
    separator = next((one for one in _SEPARATORS if one in line), None)
    return [field.strip() for field in line.split(separator)]


def read_similarity(path: Path, *, header: bool = False) -> SimilaritySet:
    """Read `word word score`, one pair a line. Args: header: leave out the first line. Raises DataError that names the line."""
    pairs: list[SimilarityPair] = []
    for number, line in numbered_lines(path):
        if header and number == 1:
            continue
        fields = split_fields(line)
        if len(fields) != 3 or not all(fields):
            raise DataError(
                f"{path}:{number}: {len(fields)} fields",
                expected="two words and a number, with tabs, commas or spaces between them",
                remedy="--header where the first line names the columns" if number == 1 else "cut -f 1,2,4 or the like for other columns",
            )
        try:
            score = float(fields[2])
        except ValueError:
            score = float("nan")
        if not abs(score) < float("inf"):
            remedy = "--header where the first line names the columns" if number == 1 else "correct the line, or leave it out"
            raise DataError(f"{path}:{number}: {fields[2]!r} is not a finite number", expected="a number after two words", remedy=remedy)
        pairs.append(SimilarityPair(fields[0], fields[1], score))
    if not pairs:
        raise DataError(f"{path}: holds no pairs", expected="two words and a number in each line")
    return SimilaritySet(path.stem, tuple(pairs))


def read_analogies(path: Path) -> AnalogySet:
    """Read `: section` lines and, after each, `a b c d` a line, as in Google's questions-words. Raises DataError that names the line."""
    sections: list[tuple[str, list[Analogy]]] = []
    for number, line in numbered_lines(path):
        fields = line.split()
        if fields[0].startswith(":"):
            sections.append((line.strip()[1:].strip() or f"section {len(sections) + 1}", []))
        elif len(fields) == 4:
            if not sections:
                sections.append((path.stem, []))
            sections[-1][1].append(Analogy(*fields))
        else:
            raise DataError(
                f"{path}:{number}: {len(fields)} words",
                expected="four words: a is to b as c is to d; or a colon and the name of a section",
                remedy="words of phrases are joined with _",
            )
    found = tuple(AnalogySection(name, tuple(questions)) for name, questions in sections if questions)
    if not found:
        raise DataError(f"{path}: holds no analogies", expected="four words in each line")
    return AnalogySet(path.stem, found)
