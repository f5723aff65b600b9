"""The model files of the fastText program (.bin, versions 11 and 12, not quantised): settings, words with counts, and two matrices.

Layout, little-endian, of fastText 0.9: magic and version (int32 each); 12 settings (int32) and the sampling rate (float64); numbers of
entries, words and labels (int32), of tokens and of pruned rows (int64); each entry as text, a zero byte, its count (int64) and its kind
(int8: 0 a word, 1 a label); a flag (1 byte: quantised) and the input matrix (rows and columns as int64, float32), one row for each word
and then one for each bucket; the same for the output matrix, one row a word.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.errors import DataError
from vitrail.vectors.formats.binary import MOST_WORD_BYTES
from vitrail.vectors.formats.byte_reader import COPY_AGAIN, ByteReader
from vitrail.vectors.formats.gathering import Gathering, Header, Say, require_room
from vitrail.vectors.ngrams import Matrix, Ngrams
from vitrail.vectors.word_vectors import Outputs, WordVectors

MAGIC = struct.pack("<i", 793712314)
_VERSION, _OLDEST = 12, 11
_SETTINGS = (
    *("dim", "ws", "epoch", "minCount", "neg", "wordNgrams", "loss", "model", "bucket", "minn", "maxn", "lrUpdateRate"),
    "t",
)
_SETTINGS_LAYOUT, _SIZES_LAYOUT, _ENTRY_LAYOUT, _SHAPE_LAYOUT = "<12id", "<3i2q", "<qb", "<2q"
_DEFAULTS: dict[str, float] = {
    "ws": 5,
    "epoch": 5,
    "minCount": 5,
    "neg": 5,
    "wordNgrams": 1,
    "loss": 2,
    "model": 2,
    "lrUpdateRate": 100,
    "t": 1e-4,
}
"""Those of `fasttext skipgram`; loss 2 is negative sampling, model 2 skip-gram."""
_SUPERVISED = 3
_HIERARCHICAL, _NEGATIVE_SAMPLING, _SOFTMAX, _OVA = 1, 2, 3, 4
"""Values of loss."""
_BLOCK_NUMBERS = 1 << 18


class _Sizes(NamedTuple):
    entries: int
    words: int
    labels: int
    tokens: int
    pruned: int


def read_fasttext(path: Path, *, limit: int | None, say: Say, outputs: bool = False) -> WordVectors:
    """Words, counts and n-grams of a model of the fastText program; the labels of a classifier are left out.

    Args: limit: only so many words; the table of n-grams is read whole. outputs: the output matrix as well; never with labels or with
        fewer words than there are. Raises DataError.
    """
    with ByteReader(path) as reader:
        settings, sizes = _read_start(reader)
        dimension, buckets = int(settings["dim"]), int(settings["bucket"])
        require_room(path, Header(sizes.words, dimension), least_bytes=4 * dimension * sizes.words + 10 * sizes.entries)
        entries, counts = _read_entries(reader, sizes)
        if sizes.labels:
            say(f"{path}: {sizes.labels:,} labels of a classifier: left out")
        rows = _read_shape(reader, dimension=dimension)
        if rows not in (sizes.words, sizes.words + buckets):
            raise _impossible(path, f"{rows:,} rows in its input matrix", f"{sizes.words:,} words and {buckets:,} buckets")
        gathering = Gathering(path, dimension=dimension, unit="word", limit=limit, any_bytes=True)
        wanted = sizes.words if limit is None else min(limit, sizes.words)
        _read_rows(reader, entries[:wanted], gathering)
        found = gathering.finish(say)
        _skip(reader, sizes.words - wanted, dimension=dimension)
        ngrams = _read_ngrams(reader, settings, rows - sizes.words)
        kept = None
        if outputs and not sizes.labels and len(found.words) == sizes.words:
            kept = _read_outputs(reader, sizes.words, dimension=dimension)
    if ngrams is not None:
        ngrams.compose(found.words, found.matrix)
    facts = {"fasttext": {name: value for name, value in settings.items() if name in _DEFAULTS}}
    return WordVectors(found.words, found.matrix, counts[found.entries], ngrams, facts, kept)


class SupervisedModel(NamedTuple):
    """A classifier of the program."""

    words: list[str]
    """Those that are text; among them the end of a line, `</s>`."""
    labels: list[str]
    word_ngrams: int
    several: bool
    """Whether each label has a sigmoid of its own (loss ova), rather than one softmax over all."""
    vectors: Matrix
    """A row for each word."""
    ngrams: Matrix
    """A row for each bucket."""
    output: Matrix
    """A row for each label."""


def read_supervised(path: Path) -> SupervisedModel:
    """Read a classifier of the fastText program. Raises DataError for another file, and where its scores are more than a sum of rows."""
    with ByteReader(path) as reader:
        if reader.peek(len(MAGIC)) != MAGIC:
            raise DataError(f"{path}: no model of the fastText program", expected="the .bin file of fasttext supervised")
        settings, sizes = _read_start(reader)
        _require_plain(path, settings, sizes)
        dimension, buckets = int(settings["dim"]), int(settings["bucket"])
        entries, _ = _read_entries(reader, sizes._replace(entries=sizes.words))
        labels = [_read_label(reader, place) for place in range(sizes.labels)]
        rows = _read_shape(reader, dimension=dimension)
        if rows not in (sizes.words, sizes.words + buckets):
            raise _impossible(path, f"{rows:,} rows in its input matrix", f"{sizes.words:,} words and {buckets:,} buckets")
        vectors, ngrams = (_read_matrix(reader, count, dimension) for count in (sizes.words, rows - sizes.words))
        if (count := _read_shape(reader, dimension=dimension)) != sizes.labels:
            raise _impossible(path, f"{count:,} rows in its output matrix", f"{sizes.labels:,}, one for each label")
        output = _read_matrix(reader, sizes.labels, dimension)
    texts = [_as_text(entry) for entry in entries]
    kept = [place for place, text in enumerate(texts) if text is not None]
    words = [text for text in texts if text is not None]
    return SupervisedModel(words, labels, int(settings["wordNgrams"]), settings["loss"] == _OVA, vectors[kept], ngrams, output)


def _require_plain(path: Path, settings: Mapping[str, float], sizes: _Sizes) -> None:
    """Raise DataError for a model that is no classifier, or not one of words and their n-grams with a softmax or sigmoids."""
    if settings["model"] != _SUPERVISED:
        raise DataError(
            f"{path}: word vectors, not a classifier",
            expected="a model of fasttext supervised",
            remedy=f"--init embeddings={path} uses them",
        )
    if settings["loss"] not in (_SOFTMAX, _OVA):
        name = "hierarchical softmax" if settings["loss"] == _HIERARCHICAL else "negative sampling"
        raise DataError(
            f"{path}: trained with {name}", expected="-loss softmax, its default, or ova", remedy="train it again with one of these"
        )
    if settings["maxn"] > 0:
        raise DataError(
            f"{path}: with n-grams of {settings['minn']:g} to {settings['maxn']:g} characters",
            expected="words and their n-grams alone (-maxn 0, its default)",
            remedy="train it again without; or train here, with a vocabulary of subwords",
        )
    if sizes.labels < 2:
        raise DataError(f"{path}: {sizes.labels} label", expected="at least two")


def _read_label(reader: ByteReader, place: int) -> str:
    what = f"label {place + 1}"
    text = _as_text(reader.until(b"\0", most=MOST_WORD_BYTES, what=what))
    _, kind = struct.unpack(_ENTRY_LAYOUT, reader.exactly(struct.calcsize(_ENTRY_LAYOUT), what=what))
    if kind != 1 or text is None:
        raise _impossible(reader.path, f"{what}: kind {kind}, or bytes that are not UTF-8", "labels after words")
    return text.removeprefix("__label__") or text


def _as_text(entry: bytes) -> str | None:
    try:
        return entry.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _read_matrix(reader: ByteReader, rows: int, dimension: int, *, what: str = "its vectors") -> Matrix:
    """So many rows. Raises DataError where there are fewer, or a number is not finite.

    It grows with what is there, as the file may be compressed, and then nothing says how much that is.
    """
    size, matrix, filled = max(1, _BLOCK_NUMBERS // dimension), np.zeros((0, dimension), dtype=np.float32), 0
    while filled < rows:
        more = min(rows - filled, max(size, filled // 4))
        matrix.resize((filled + more, dimension), refcheck=False)
        reader.fill(matrix[filled:], what=what)
        if not np.isfinite(matrix[filled:]).all():
            raise _impossible(reader.path, f"among {what}, a number is not finite (NaN or infinity)", "finite numbers")
        filled += more
    return matrix


def fasttext_dimension(path: Path) -> int:
    """The dimension of a file's vectors, by its start. Raises DataError."""
    with ByteReader(path) as reader:
        return int(_read_start(reader)[0]["dim"])


def _impossible(path: Path, found: str, expected: str) -> DataError:
    return DataError(f"{path}: {found}", expected=expected, remedy=COPY_AGAIN)


def _read_start(reader: ByteReader) -> tuple[dict[str, float], _Sizes]:
    """Settings by name, and how much of everything there is."""
    path = reader.path
    magic, version = reader.exactly(4, what="its start"), struct.unpack("<i", reader.exactly(4, what="its start"))[0]
    assert magic == MAGIC, "detected by it"
    if not _OLDEST <= version <= _VERSION:
        remedy = "save it again with fastText 0.9" if version < _OLDEST else "update vitrail, or save it with fastText 0.9"
        raise DataError(f"{path}: version {version} of fastText's format", expected=f"{_OLDEST} or {_VERSION}", remedy=remedy)
    values = struct.unpack(_SETTINGS_LAYOUT, reader.exactly(struct.calcsize(_SETTINGS_LAYOUT), what="its settings"))
    settings: dict[str, float] = dict(zip(_SETTINGS, values, strict=True))
    if version == _OLDEST and settings["model"] == _SUPERVISED:
        settings["maxn"] = 0  # those had no character n-grams, whatever is written there
    sizes = _Sizes(*struct.unpack(_SIZES_LAYOUT, reader.exactly(struct.calcsize(_SIZES_LAYOUT), what="its sizes")))
    if settings["dim"] < 1 or settings["bucket"] < 0 or sizes.words < 0 or sizes.labels < 0 or sizes.entries != sizes.words + sizes.labels:
        found = f"{sizes.words:,} words and {sizes.labels:,} labels of {sizes.entries:,} entries, dimension {settings['dim']:g}"
        raise _impossible(path, found, "sizes that fit each other")
    if sizes.pruned > 0:
        raise _quantised(path)
    return settings, sizes


def _quantised(path: Path) -> DataError:
    return DataError(
        f"{path}: is a quantised model", expected="a model as it was trained (.bin)", remedy="give the .bin that the .ftz was made of"
    )


def _read_entries(reader: ByteReader, sizes: _Sizes) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    """The words and their counts; labels come after them and are skipped."""
    words, counts = list[bytes](), list[int]()
    for place in range(1, sizes.entries + 1):
        what = f"word {place} of {sizes.entries:,}"
        word = reader.until(b"\0", most=MOST_WORD_BYTES, what=what)
        count, kind = struct.unpack(_ENTRY_LAYOUT, reader.exactly(struct.calcsize(_ENTRY_LAYOUT), what=what))
        if kind != (place > sizes.words) or count < 0:
            raise _impossible(reader.path, f"{what}: kind {kind}, count {count:,}", "words before labels, and counts from 0 on")
        if place <= sizes.words:
            words.append(word)
            counts.append(count)
    return words, np.array(counts, dtype=np.int64)


def _read_shape(reader: ByteReader, *, dimension: int, what: str = "input matrix") -> int:
    """The number of rows of a matrix."""
    if reader.exactly(1, what=f"its {what}") != b"\0":
        raise _quantised(reader.path)
    rows, columns = struct.unpack(_SHAPE_LAYOUT, reader.exactly(struct.calcsize(_SHAPE_LAYOUT), what=f"its {what}"))
    if columns != dimension or rows < 0:
        raise _impossible(reader.path, f"an {what} of {rows:,} x {columns:,}", f"{dimension:,} columns, as its settings say")
    return rows


def _read_rows(reader: ByteReader, words: Sequence[bytes], gathering: Gathering) -> None:
    """The rows of words, not yet with their n-grams."""
    dimension = gathering.dimension
    size = max(1, _BLOCK_NUMBERS // dimension)
    for start in range(0, len(words), size):
        part = words[start : start + size]
        places = range(start + 1, start + len(part) + 1)
        rows = np.zeros((len(part), dimension), dtype=np.float32)
        reader.fill(rows, what="the vectors of words")
        gathering.rows(rows, of=gathering.words(part, places), places=places)


def _skip(reader: ByteReader, rows: int, *, dimension: int) -> None:
    size = max(1, _BLOCK_NUMBERS // dimension)
    for start in range(0, rows, size):
        reader.exactly(4 * dimension * min(size, rows - start), what="the vectors of words")


def _read_ngrams(reader: ByteReader, settings: Mapping[str, float], rows: int) -> Ngrams | None:
    """The table of n-grams; None where the model has none of characters. The buckets of a classifier may be of words."""
    dimension, minn, maxn = int(settings["dim"]), int(settings["minn"]), int(settings["maxn"])
    if maxn < 1 or rows == 0:
        return None
    return Ngrams(_read_matrix(reader, rows, dimension, what="the vectors of n-grams"), minn, maxn)


def _read_outputs(reader: ByteReader, words: int, *, dimension: int) -> Outputs | None:
    """The output vectors; None where all are zeros, as in a file that holds none."""
    if _read_shape(reader, dimension=dimension, what="output matrix") != words:
        return None
    table = _read_matrix(reader, words, dimension, what="the output vectors")
    return Outputs(table) if table.any() else None


def write_fasttext(write: Callable[[bytes], object], vectors: WordVectors) -> None:
    """Write a model that fastText and gensim load. Precondition: no word holds a zero byte.

    What these vectors do not have is written so that it can be loaded: without counts, counts that fall by one; the output matrix, which
    only further training reads, as zeros, as at the start of a training. Output vectors of words are written; those of the nodes of a
    tree are not, as fastText's tree is another.
    """
    settings = _settings_of(vectors)
    write(MAGIC + struct.pack("<i", _VERSION))
    whole = [int(settings[name]) for name in _SETTINGS[:-1]]
    write(struct.pack(_SETTINGS_LAYOUT, *whole, settings["t"]))
    number = len(vectors)
    counts = np.arange(number, 0, -1) if vectors.counts is None else vectors.counts
    write(struct.pack(_SIZES_LAYOUT, number, number, 0, int(counts.sum()), -1))
    for word, count in zip(vectors.words, counts.tolist(), strict=True):
        write(word.encode("utf-8") + b"\0" + struct.pack(_ENTRY_LAYOUT, count, 0))
    ngrams = vectors.ngrams
    buckets = 0 if ngrams is None else ngrams.buckets
    write(b"\0" + struct.pack(_SHAPE_LAYOUT, number + buckets, vectors.dimension))
    for start, block in _row_blocks(vectors.matrix):
        own = block if ngrams is None else ngrams.own_rows(vectors.words[start : start + len(block)], block)
        write(own.astype("<f4", copy=False).tobytes())
    if ngrams is not None:
        for _, block in _row_blocks(ngrams.vectors):
            write(block.astype("<f4", copy=False).tobytes())
    write(b"\0" + struct.pack(_SHAPE_LAYOUT, number, vectors.dimension))
    outputs = vectors.outputs if settings["loss"] == _NEGATIVE_SAMPLING else None
    for start, block in _row_blocks(vectors.matrix):
        write(bytes(4 * block.size) if outputs is None else outputs.vectors[start : start + len(block)].astype("<f4").tobytes())


def _settings_of(vectors: WordVectors) -> dict[str, Any]:
    """Settings as fastText names them: those that the vectors came with, and the program's defaults."""
    known = vectors.facts.get("fasttext") or _settings_of_training(vectors.facts.get("training", {}))
    kept = {name: value for name, value in known.items() if name in _DEFAULTS and isinstance(value, int | float)}
    ngrams = vectors.ngrams
    sizes = {"bucket": 0, "minn": 0, "maxn": 0}
    if ngrams is not None:
        sizes = {"bucket": ngrams.buckets, "minn": ngrams.minn, "maxn": ngrams.maxn}
    model = {"model": 2, "loss": 2} if kept.get("model") == _SUPERVISED else {}  # without its labels it is no classifier
    return _DEFAULTS | kept | model | sizes | {"dim": vectors.dimension}


def _settings_of_training(training: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a training of ours, as far as fastText has a name for them."""
    if training.get("method") not in ("word2vec", "fasttext"):
        return {}
    return {
        "ws": training.get("window"),
        "epoch": training.get("epochs"),
        "neg": training.get("negatives") or _DEFAULTS["neg"],
        "loss": _NEGATIVE_SAMPLING if training.get("negatives") else _HIERARCHICAL,
        "model": 1 if training.get("architecture") == "cbow" else 2,
    }


def _row_blocks(matrix: Matrix) -> Iterator[tuple[int, Matrix]]:
    size = max(1, _BLOCK_NUMBERS // matrix.shape[1])
    return ((start, matrix[start : start + size]) for start in range(0, len(matrix), size))
