"""What can be told of word vectors without reading them all: whether they are some, their dimension, their digest."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from vitrail.data.reading.lines import stamp
from vitrail.errors import DataError
from vitrail.files import read_manifest
from vitrail.vectors.formats.byte_reader import COPY_AGAIN, ByteReader
from vitrail.vectors.formats.fasttext import fasttext_dimension
from vitrail.vectors.formats.folder import folder_dimension, is_vectors_folder
from vitrail.vectors.formats.table import detect_format, load_vectors
from vitrail.vectors.formats.text import guess_dimension, read_header
from vitrail.vectors.word_vectors import WordVectors

_HEAD_BYTES = 1 << 20
_README = "README.md"
_TRIES = 3


def may_be_vectors(path: Path) -> bool:
    """Whether a path is our folder of word vectors, or a file, which can be nothing else where a model or vectors are expected."""
    return path.is_file() or is_vectors_folder(path)


def read_dimension(path: Path) -> int:
    """The dimension of word vectors of any format, from their start alone. Raises DataError, ModelError."""
    match detect_format(path):
        case "folder":
            return folder_dimension(path)
        case "fasttext-bin":
            return fasttext_dimension(path)
        case _:
            with ByteReader(path) as reader:
                lines = reader.peek(_HEAD_BYTES).split(b"\n")
    header = read_header(lines[0][: 1 << 12])
    dimension = guess_dimension((lines[:-1] or lines)[:100]) if header is None else header.dimension
    if dimension < 1:
        raise DataError(f"{path}: vectors of no numbers", expected="a word and its numbers in each line", remedy=COPY_AGAIN)
    return dimension


def digest_of_vectors(path: Path) -> str:
    """SHA-256 in hexadecimal: of a file's bytes, or of what the manifest of our folder says of its files. Raises ModelError, DataError."""
    if path.is_dir():
        files = sorted((name, entry.sha256) for name, entry in read_manifest(path).items() if name != _README)
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()
    return _digest_of_file(path, stamp(path))


def load_vectors_with_digest(path: Path) -> tuple[WordVectors, str]:
    """Word vectors with the digest of the very bytes that were read. Raises what `load_vectors` does."""
    for _ in range(_TRIES):
        before = digest_of_vectors(path)
        found = load_vectors(path)
        if digest_of_vectors(path) == before:
            return found, before
    raise DataError(f"{path}: is replaced again and again while it is read", remedy="run again when no other program writes to it")


@lru_cache(maxsize=8)
def _digest_of_file(path: Path, stamped: object) -> str:
    del stamped  # the digest of a file that was replaced is computed again
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
