"""Our folder of word vectors: words, vectors and n-grams with a manifest, written whole or not at all.

vectors.json          format, numbers of words and dimensions, n-grams, facts of the training
words.txt             a word a line, the most frequent first; a line ends at 0x0A alone
vectors.safetensors   vectors [words, dimension] and, where known, counts [words] and ngrams [buckets, dimension]; where they were kept,
                      outputs [words, dimension] and, of glove, biases [words, 2]
README.md             what it is and how it is used
manifest.json         size and SHA-256 of each file
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from vitrail.errors import ModelError, UsageError
from vitrail.files import FileWriter, is_json_with, publish_folder, read_whole, verify_folder
from vitrail.vectors.ngrams import Ngrams
from vitrail.vectors.word_vectors import Outputs, WordVectors

DOCUMENT = "vectors.json"
_WORDS, _TENSORS, _README = "words.txt", "vectors.safetensors", "README.md"
_FORMAT = 1
_ANOTHER_COPY = "copy the folder again, or write it again"
_PIECE_BYTES = 1 << 24
_TYPES = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
Tensor = npt.NDArray[Any]

is_vectors_document = is_json_with("format", "words", "dimension", "ngrams", "facts")


def is_vectors_folder(folder: Path) -> bool:
    """Whether a folder was written by `save_folder`, though it may be damaged since."""
    return is_vectors_document(folder / DOCUMENT)


def save_folder(vectors: WordVectors, folder: Path) -> None:
    """Write word vectors as a folder. Memory: 16 MiB beside the vectors.

    Raises: UsageError where something else is there, or for a word with a line end; NotWritten; ModelError for numbers that are not finite.
    """
    tensors = {"vectors": vectors.matrix}
    tensors |= {} if vectors.ngrams is None else {"ngrams": vectors.ngrams.vectors}
    if vectors.outputs is not None:
        kept = zip(("outputs", "biases"), vectors.outputs, strict=True)
        tensors |= {name: tensor for name, tensor in kept if tensor is not None}
    for name, tensor in tensors.items():
        _require_finite(folder, name, tensor)
    counted: dict[str, Tensor] = {} if vectors.counts is None else {"counts": vectors.counts.astype(np.int64)}
    words = _words_file(vectors)
    with publish_folder(folder, ours=is_vectors_folder, edited=(_README,)) as out:
        with out.create(_TENSORS) as file:
            _write_tensors(file, {**counted, **tensors})
        out.write(_WORDS, words)
        out.write(DOCUMENT, (json.dumps(_document(vectors), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
        out.write(_README, _readme(vectors).encode())


def _document(vectors: WordVectors) -> dict[str, Any]:
    ngrams = vectors.ngrams
    table = None if ngrams is None else {"minn": ngrams.minn, "maxn": ngrams.maxn, "buckets": ngrams.buckets}
    return {"format": _FORMAT, "words": len(vectors), "dimension": vectors.dimension, "ngrams": table, "facts": dict(vectors.facts)}


def _words_file(vectors: WordVectors) -> bytes:
    for word in vectors.words:
        if "\n" in word or not word:
            raise UsageError(f"the word {word!r}", expected="words without line ends, and none that is empty", remedy="leave it out")
    try:
        return "".join(f"{word}\n" for word in vectors.words).encode("utf-8")
    except UnicodeEncodeError as error:
        wrong = next(word for word in error.object.split("\n") if word.encode("utf-8", "ignore").decode("utf-8") != word)
        raise UsageError(f"the word {wrong!r}", expected="words that can be written in UTF-8", remedy="leave it out") from None


def _require_finite(folder: Path, name: str, tensor: Tensor) -> None:
    rows = max(1, _PIECE_BYTES // (4 * tensor.shape[1]))
    for start in range(0, len(tensor), rows):
        if not np.isfinite(tensor[start : start + rows]).all():
            raise ModelError(
                f"{folder}: {name} hold numbers that are not finite (NaN or infinity)",
                remedy="train again, at a lower rate; nothing was written",
            )


def _write_tensors(file: FileWriter, tensors: Mapping[str, Tensor]) -> None:
    """The bytes that safetensors writes for these tensors, piece by piece: the library itself holds a second copy of them all."""
    types = {dtype: name for name, dtype in _TYPES.items()}
    ordered = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    table: dict[str, Any] = {}
    end = 0
    for name in ordered:
        begin, end = end, end + tensors[name].nbytes
        table[name] = {"dtype": types[tensors[name].dtype], "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    file.write(len(header).to_bytes(8, "little") + header)
    for name in ordered:
        rows = max(1, _PIECE_BYTES * len(tensors[name]) // max(1, tensors[name].nbytes))
        for start in range(0, len(tensors[name]), rows):
            file.write(tensors[name][start : start + rows].tobytes())


def _readme(vectors: WordVectors) -> str:
    facts = [f"- {name}: {_told(value)}" for name, value in vectors.facts.items()] + [""] * bool(vectors.facts)
    table = vectors.ngrams
    unseen = [] if table is None else [f"Words that it has not seen get vectors of their n-grams ({table.buckets:,} rows).", ""]
    lines = [f"# {len(vectors):,} word vectors of {vectors.dimension} numbers", "", *facts, *unseen]
    return "\n".join([*lines, "`vitrail vectors neighbours PATH WORD`, or `vitrail.load_vectors(PATH).neighbours(WORD)`.", ""])


def _told(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{name} ({_told(one)})" if isinstance(one, Mapping) else f"{name} {one}" for name, one in value.items())


def load_folder(folder: Path, *, limit: int | None = None, outputs: bool = False) -> WordVectors:
    """Read a folder of word vectors after comparing every file with its manifest; read again if it is replaced meanwhile.

    Args: limit: only so many words. outputs: the output vectors as well; never with fewer words than there are.
    Raises: ModelError naming the file and the reason.
    """
    return read_whole(folder, lambda: _load(folder, limit, outputs))


def folder_dimension(folder: Path) -> int:
    """The dimension of a folder's vectors, as its description says. Raises ModelError."""
    return _read_document(folder / DOCUMENT)["dimension"]


def _load(folder: Path, limit: int | None, outputs: bool) -> WordVectors:
    entries = verify_folder(folder, unused=(_README,))
    for name in (DOCUMENT, _WORDS, _TENSORS):
        if name not in entries:
            raise ModelError(f"{folder / name}: is not in the manifest", remedy=_ANOTHER_COPY)
    document = _read_document(folder / DOCUMENT)
    number, dimension, table = document["words"], document["dimension"], document["ngrams"]
    shapes = {"vectors": ("F32", [number, dimension])}
    optional = {"counts": ("I64", [number]), "outputs": ("F32", [number, dimension]), "biases": ("F32", [number, 2])}
    shapes |= {} if table is None else {"ngrams": ("F32", [table["buckets"], dimension])}
    words = _read_words(folder / _WORDS, number)
    wanted = number if limit is None else min(limit, number)
    rows = {"vectors": wanted, "counts": wanted}
    rows |= {} if outputs and wanted == number else {"outputs": 0, "biases": 0}
    tensors = _read_tensors(folder / _TENSORS, shapes, optional=optional, rows=rows)
    for name in tensors.keys() - {"counts"}:
        if not all(np.isfinite(part).all() for part in _pieces(tensors[name])):
            raise ModelError(f"{folder / _TENSORS}: {name} hold numbers that are not finite", remedy=_ANOTHER_COPY)
    ngrams = None if table is None else Ngrams(tensors["ngrams"], table["minn"], table["maxn"])
    kept = Outputs(tensors["outputs"], tensors.get("biases")) if len(tensors.get("outputs", ())) else None
    return WordVectors(words[:wanted], tensors["vectors"], tensors.get("counts"), ngrams, document["facts"], kept)


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    rows = max(1, _PIECE_BYTES // (4 * tensor.shape[1]))
    return (tensor[start : start + rows] for start in range(0, len(tensor), rows))


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {error}") from None
    match document:
        case {"format": int(number)} if number > _FORMAT:
            raise ModelError(f"{path}: format {number}", expected=f"format {_FORMAT} or older", remedy="update vitrail")
        case {"format": int(), "words": int(words), "dimension": int(dimension), "facts": dict(), "ngrams": ngrams} if (
            words > 0 < dimension
        ):
            match ngrams:
                case None | {"minn": int(), "maxn": int(), "buckets": int()}:
                    return document
                case _:
                    pass
        case _:
            pass
    raise ModelError(f"{path}: does not describe word vectors", remedy=_ANOTHER_COPY)


def _read_words(path: Path, number: int) -> list[str]:
    try:
        words = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read: {error}", remedy=_ANOTHER_COPY) from None
    last = words.pop()
    if last or len(words) != number or len(set(words)) != number:
        raise ModelError(f"{path}: {len(set(words)):,} different words", expected=f"{number:,}, a line each", remedy=_ANOTHER_COPY)
    return words


def _read_tensors(
    path: Path,
    wanted: Mapping[str, tuple[str, list[int]]],
    *,
    optional: Mapping[str, tuple[str, list[int]]],
    rows: Mapping[str, int],
) -> dict[str, Tensor]:
    """Tensors by name, after checking types and shapes. Args: rows: how many rows to read, where not all."""
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="np") as content:
            names: set[str] = set(content.keys())
            expected = {name: one for name, one in {**wanted, **optional}.items() if name in names or name in wanted}
            for name in sorted(names | expected.keys()):
                part = content.get_slice(name) if name in names else None
                found = None if part is None else (str(part.get_dtype()), list(part.get_shape()))
                if found != expected.get(name) or part is None:
                    raise ModelError(f"{path}: {name} is {found}", expected=str(expected.get(name)), remedy=_ANOTHER_COPY)
                tensors[name] = part[: rows[name]] if name in rows else content.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: {error}", remedy=_ANOTHER_COPY) from None
    return tensors
