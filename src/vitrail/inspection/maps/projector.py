"""Embeddings and encoder states as files for TensorBoard's projector: vectors, their labels, and a configuration that names both."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.sentences.masked import MASK
from vitrail.errors import UsageError
from vitrail.files import holds, require_own, write_file
from vitrail.inspection.decoding import piece_of
from vitrail.inspection.generator import InspectableGenerator
from vitrail.inspection.maps.embeddings import pieces_of, side_of_text, table_of, vocabulary_of
from vitrail.inspection.maps.states import read_states
from vitrail.inspection.reading.reader import Reader
from vitrail.inspection.translator import LONGEST, InspectableTranslator

POSITIONS = 10_000
"""Maximal number of encoder positions: the projector is still fast with it."""
CONFIG = "projector_config.pbtxt"


class VectorTable(NamedTuple):
    """Vectors and their labels."""

    name: str
    vectors: npt.NDArray[np.floating]
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class Exported(NamedTuple):
    """What was written."""

    folder: Path
    tables: dict[str, int]
    """Vectors in each table."""

    def to_text(self) -> str:
        """The written files, and the command to view them."""
        counts = ", ".join(f"{count} of {name}" for name, count in self.tables.items())
        return f"{counts} in {self.folder}; view them with: tensorboard --logdir {self.folder}"


def export_embeddings(translator: InspectableTranslator, folder: Path, *, sentences: Sequence[str] = ()) -> Exported:
    """Write the embeddings of every token, and the encoder's states at the positions of some sentences, for TensorBoard's projector.

    Files of an earlier export are replaced, other files stay. Raises NotWritten; UsageError where no sentence has 1 to 256 tokens.
    """
    shared = translator.vocabularies.joint and _is_shared(translator)
    tables = [_embeddings(translator, "both" if shared else "source")]
    tables += [] if shared else [_embeddings(translator, "target")]
    tables += [_states(translator, sentences)] if sentences else []
    return write_projector(folder, tables)


def export_text_embeddings(inspector: InspectableGenerator | Reader, folder: Path) -> Exported:
    """The same for the one table of a model of plain text."""
    return write_projector(folder, [_embeddings(inspector, "text")])


def write_projector(folder: Path, tables: Sequence[VectorTable]) -> Exported:
    """Write NAME.vectors.tsv and NAME.metadata.tsv for each table, and last the configuration for TensorBoard.

    Format: tab-separated; vectors have no header, metadata has one unless it has a single column (TensorBoard's rule). The projector
    skips blank lines and trims the others, so white space other than a plain space inside is written as \\t, \\n, \\xa0, ...
    Raises: UsageError where other files have these names; NotWritten.
    """
    sides = {f"{table.name}.{kind}.tsv" for table in tables for kind in ("vectors", "metadata")}
    ours = holds(b"embeddings {", b"tensor_name:")

    def is_named(path: Path) -> bool:
        return ours(path.with_name(CONFIG))  # written last, it names the others

    places = dict.fromkeys((folder / name for name in sides), is_named)
    require_own(places | {folder / CONFIG: ours}, what="the projector's files")
    described: list[str] = []
    for table in tables:
        assert len(table.vectors) == len(table.rows)
        vectors = "".join("\t".join(f"{value:.6g}" for value in row) + "\n" for row in np.asarray(table.vectors).tolist())
        lines = [table.header, *table.rows] if len(table.header) > 1 else table.rows
        metadata = "".join("\t".join(map(_cell, row)) + "\n" for row in lines)
        write_file(folder / f"{table.name}.vectors.tsv", vectors.encode())
        write_file(folder / f"{table.name}.metadata.tsv", metadata.encode("utf-8", "backslashreplace"))
        rows, columns = table.vectors.shape
        described.append(
            f'embeddings {{\n  tensor_name: "{table.name}"\n  tensor_shape: {rows}\n  tensor_shape: {columns}\n'
            f'  tensor_path: "{table.name}.vectors.tsv"\n  metadata_path: "{table.name}.metadata.tsv"\n}}\n'
        )
    write_file(folder / CONFIG, "".join(described).encode())
    return Exported(folder, {table.name: len(table.rows) for table in tables})


def _cell(text: str) -> str:
    """A text escaped for one cell, never empty."""
    shown = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    return shown.strip() or '""'


def _is_shared(translator: InspectableTranslator) -> bool:
    return translator.model.embedding_of("source") is translator.model.embedding_of("target")


def _embeddings(inspector: InspectableTranslator | InspectableGenerator | Reader, which: str) -> VectorTable:
    side = side_of_text(inspector) if which == "text" else "target" if which == "target" else "source"
    table, pieces = table_of(inspector.model, side), pieces_of(vocabulary_of(inspector, side))
    pieces += [MASK] * (len(table) - len(pieces))
    name = "embeddings" if which in ("both", "text") else f"{which}-embeddings"
    rows = [(piece, str(token)) for token, piece in enumerate(pieces)]
    return VectorTable(name, table, ("piece", "id"), rows)


def _states(translator: InspectableTranslator, sentences: Sequence[str]) -> VectorTable:
    """The memory at every position of the first sentences that fit."""
    texts = [translator.read(text) for text in sentences]
    vocabulary = translator.vocabularies.source
    encoded = [(text, ids) for text, ids in zip(texts, vocabulary.encode_batch(texts), strict=True) if 0 < len(ids) <= LONGEST]
    ends = np.cumsum([len(ids) + 1 for _, ids in encoded])
    encoded = encoded[: int((ends <= POSITIONS).sum())]
    if not encoded:
        raise UsageError("no sentence with states to write", expected=f"one of 1 to {LONGEST} tokens")
    found = {one.number: one.source["memory"] for one in read_states(translator.model, [(ids, ()) for _, ids in encoded])}
    rows = [
        (piece_of(token, vocabulary), str(number), str(position), text)
        for number, (text, ids) in enumerate(encoded)
        for position, token in enumerate([*ids, EOS])
    ]
    vectors = np.concatenate([found[number] for number in range(len(encoded))])
    return VectorTable("memory", vectors, ("piece", "sentence", "position", "text"), rows)
