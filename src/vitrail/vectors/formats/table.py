"""Reads word vectors whatever format they have, which their content tells, and writes each format."""

import logging
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from vitrail.data.reading.foreign import detect_non_text
from vitrail.errors import DataError, ModelError, UsageError
from vitrail.files import publish_file, require_folder, require_own
from vitrail.vectors.formats.binary import read_binary, write_binary
from vitrail.vectors.formats.byte_reader import ByteReader
from vitrail.vectors.formats.fasttext import MAGIC, read_fasttext, write_fasttext
from vitrail.vectors.formats.folder import DOCUMENT, is_vectors_folder, load_folder, save_folder
from vitrail.vectors.formats.gathering import Header, Say
from vitrail.vectors.formats.text import guess_dimension, numbers, read_header, read_text, write_text
from vitrail.vectors.ngrams import Matrix
from vitrail.vectors.word_vectors import WordVectors

FormatName = Literal["folder", "word2vec-text", "word2vec-binary", "glove", "fasttext-vec", "fasttext-bin"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)
_HEAD_BYTES = 1 << 20
_BLOCK_NUMBERS = 1 << 18
_log = logging.getLogger(__name__)


def detect_format(path: Path) -> FormatName:
    """The format of word vectors, by what is in them. fastText's .vec has the layout of word2vec-text.

    Raises: ModelError for a folder without word vectors; DataError for a file that holds none.
    """
    if path.is_dir():
        if not (path / DOCUMENT).exists():
            raise ModelError(f"{path}: holds no word vectors", expected="a folder of `vitrail vectors`, or a file of vectors")
        return "folder"
    with ByteReader(path) as reader:
        head = reader.peek(_HEAD_BYTES)
    if head.startswith(MAGIC):
        return "fasttext-bin"
    first, _, rest = head.partition(b"\n")
    header = read_header(first[: 1 << 12])
    if header is not None:
        return "word2vec-text" if _is_text(rest, header) else "word2vec-binary"
    foreign = detect_non_text(head[:4096])
    if foreign is not None or not head.strip():
        what = foreign.what if foreign else "empty"
        remedy = foreign.remedy.format(name=path) if foreign else "copy or download it again"
        raise DataError(f"{path}: is {what}", expected="word vectors", remedy=remedy)
    if not guess_dimension(head.split(b"\n")[:100]):
        remedy = "name a file in one of the formats " + ", ".join(FORMATS)
        raise DataError(f"{path}:1: no numbers after a word", expected="a word and its numbers in each line", remedy=remedy)
    return "glove"


def _is_text(rest: bytes, header: Header) -> bool:
    """Whether what follows a header is lines: the first has its numbers, or there is nothing that only binary numbers would have."""
    line = rest.partition(b"\n")[0].split()
    if len(line) > header.dimension > 0 and numbers(b" ".join(line[-header.dimension :])) is not None:
        return True
    if _fits_binary(rest, header):
        return False
    return not any(byte < 0x20 and byte not in b"\t\n\r" for byte in rest[:4096])


def _fits_binary(rest: bytes, header: Header) -> bool:
    """Whether these bytes begin with whole words and vectors in binary, up to their end if they are few."""
    at = 0
    for _ in range(min(header.words, 8)):
        space = rest.find(b" ", at)
        if space < 0:
            return False
        at = space + 1 + 4 * header.dimension
        at += rest[at : at + 1] == b"\n"
    return at == len(rest) if header.words <= 8 else at <= len(rest)


def load_vectors(path: str | Path, *, limit: int | None = None, outputs: bool = False, say: Say = _log.warning) -> WordVectors:
    """Read word vectors: our folder, or a file of word2vec (text or binary), GloVe or fastText (.vec or .bin), plain or compressed.

    Args:
        limit: only the first so many words, which are the most frequent in usual files.
        outputs: the output vectors as well, where there are some: our folder trained with `keep_outputs`, fastText's .bin. They need all
            words, and as much memory again.
        say: is told what was mended: words that were left out since they were there before, and the like.
    Memory: that of the vectors; a file is read in blocks.
    Raises: DataError with the number of the line or word that is wrong; ModelError for a damaged folder; UsageError.
    """
    place = Path(path)
    if limit is not None and limit < 1:
        raise UsageError(f"limit {limit}", expected="at least 1 word")
    match detect_format(place):
        case "folder":
            return load_folder(place, limit=limit, outputs=outputs)
        case "fasttext-bin":
            return read_fasttext(place, limit=limit, outputs=outputs, say=say)
        case "word2vec-binary":
            found = read_binary(place, limit=limit, say=say)
        case _:
            found = read_text(place, limit=limit, say=say)
    return WordVectors(found.words, found.matrix)


class _Layout(NamedTuple):
    """What a format can hold."""

    spaces: bool
    """Whether words may have spaces in them."""
    ngrams: bool


_PLAIN, _WHOLE = _Layout(spaces=False, ngrams=False), _Layout(spaces=True, ngrams=True)
_LAYOUTS: dict[FormatName, _Layout] = {name: _WHOLE if name in ("folder", "fasttext-bin") else _PLAIN for name in FORMATS}


def save_vectors(vectors: WordVectors, path: str | Path, *, to: FormatName = "folder", say: Say = _log.warning) -> None:
    """Write word vectors in a format, whole or not at all; a file whose name ends in .gz is compressed.

    Args:    say: is told what the format cannot hold: words with spaces in them, n-grams.
    Raises:  UsageError where something else than word vectors is there, or no word can be written; NotWritten.
    """
    place, layout = Path(path), _LAYOUTS[to]
    if vectors.outputs is not None and not layout.ngrams:
        say(f"{place}: {to} has no output vectors: they are left out")
    if vectors.ngrams is not None and not layout.ngrams:
        say(f"{place}: {to} has no n-grams: words that are not in the file will have no vector there")
    require_place(place, to=to)
    if to == "folder":
        save_folder(vectors, place)
        return
    kept = [row for row, word in enumerate(vectors.words) if _holds(word, spaces=layout.spaces)]
    if len(kept) < len(vectors):
        out = next(word for row, word in enumerate(vectors.words) if row >= len(kept) or kept[row] != row)
        say(f"{place}: {len(vectors) - len(kept):,} words left out, which {to} cannot hold, the first {out!r}")
        if not kept:
            raise UsageError(f"{place}: no word can be written as {to}", remedy="--to folder")
    with _opened(place) as write:
        _write(write, vectors, kept, to=to)


def require_place(path: Path, *, to: FormatName) -> None:
    """Refuse to write where something else than word vectors is, before anything else is done. Raises UsageError."""
    if to == "folder":
        require_folder(path)
        require_own({path: is_vectors_folder}, what="the vectors")
        return
    if path.suffix.lower() in (".bz2", ".xz", ".zst", ".tgz", ".tbz2", ".tbz", ".txz", ".tzst"):
        raise UsageError(f"{path}: is written plain or as .gz", expected="a name that ends in none of .bz2, .xz and .zst")
    require_own({path: _is_vectors_file}, what="the vectors")


def _is_vectors_file(path: Path) -> bool:
    try:
        return path.is_file() and bool(detect_format(path))
    except (DataError, ModelError):
        return False


def _holds(word: str, *, spaces: bool) -> bool:
    """Whether readers of a format find this word again."""
    try:
        raw = word.encode("utf-8")
    except UnicodeEncodeError:
        return False
    if spaces:
        return bool(raw) and b"\0" not in raw and b"\n" not in raw
    return raw.split() == [raw] and all(byte >= 0x20 for byte in raw) and not word.startswith("\ufeff")


def _write(write: Callable[[bytes], object], vectors: WordVectors, kept: Sequence[int], *, to: FormatName) -> None:
    if to == "fasttext-bin":
        counts = None if vectors.counts is None else vectors.counts[list(kept)]
        whole = len(kept) == len(vectors)
        words, matrix = [vectors.words[row] for row in kept], vectors.matrix[list(kept)] if not whole else vectors.matrix
        write_fasttext(write, vectors if whole else replace(vectors, words=words, matrix=matrix, counts=counts, outputs=None))
        return
    words, header = [vectors.words[row] for row in kept], Header(len(kept), vectors.dimension)
    if to == "word2vec-binary":
        write_binary(write, words, _rows(vectors.matrix, kept), header=header)
    else:
        write_text(write, words, _rows(vectors.matrix, kept), header=None if to == "glove" else header)


def _rows(matrix: Matrix, kept: Sequence[int]) -> Iterator[Matrix]:
    places, size = np.array(kept), max(1, _BLOCK_NUMBERS // matrix.shape[1])
    return (matrix[places[start : start + size]] for start in range(0, len(places), size))


@contextmanager
def _opened(path: Path) -> Generator[Callable[[bytes], object]]:
    """What writes to a file, which appears under its name when the block ends without an error."""
    with publish_file(path) as file:
        if path.suffix.lower() != ".gz":
            yield file.write
            return
        packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
        yield lambda data: file.write(packer.compress(data))
        file.write(packer.flush())
