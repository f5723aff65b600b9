"""Vectors of sentences as files: .npy, .tsv or .jsonl."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitrail.decode.sentences.embedding import Vectors
from vitrail.errors import UsageError
from vitrail.files import Recognise, holds, is_log_with, require_own, start_of, write_file

_NPY = b"\x93NUMPY"


def check_place(path: Path, *, inputs: Sequence[Path]) -> None:
    """Raises UsageError where a name tells no format, or where the file is something else than vectors, or is read."""
    if path.suffix not in _FORMATS:
        raise UsageError(f"{path}: how to write it, its name does not tell", expected=f"a name that ends in one of {', '.join(_FORMATS)}")
    require_own({path: _FORMATS[path.suffix]}, what="the vectors", inputs=inputs)


def write_vectors(path: Path, texts: Sequence[str], vectors: Vectors) -> None:
    """Write one vector for each text, in the format of the file's name. Raises NotWritten."""
    write_file(path, to_bytes(texts, vectors, kind=path.suffix))


def to_bytes(texts: Sequence[str], vectors: Vectors, *, kind: str) -> bytes:
    """The content of a file of vectors: .npy has float32; .tsv numbers between tabs, a line a text; .jsonl text and vector."""
    if kind == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, vectors, allow_pickle=False)
        return buffer.getvalue()
    rows = [[float(f"{value:.7g}") for value in row] for row in vectors.tolist()]
    if kind == ".tsv":
        return "".join("\t".join(map(repr, row)) + "\n" for row in rows).encode()
    lines = (json.dumps({"text": text, "vector": row}, ensure_ascii=False) for text, row in zip(texts, rows, strict=True))
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _holds_numbers(path: Path) -> bool:
    """Whether the first line is numbers between tabs."""
    try:
        return bool([float(cell) for cell in start_of(path).partition(b"\n")[0].split(b"\t")])
    except ValueError:
        return False


_FORMATS: dict[str, Recognise] = {".npy": holds(_NPY), ".tsv": _holds_numbers, ".jsonl": is_log_with("text", "vector")}
