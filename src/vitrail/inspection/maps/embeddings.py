"""Embeddings of tokens: the table of each side, a map of the most frequent tokens, and nearest neighbours."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrail.config import Config
from vitrail.data.vocabularies.subwords import EOS, Subwords
from vitrail.errors import UsageError
from vitrail.inspection.decoding import piece_of
from vitrail.inspection.generator import InspectableGenerator
from vitrail.inspection.maps.similarity import Coordinates, ProjectionMethod, columns, nearest, project
from vitrail.inspection.maps.states import TokenPair
from vitrail.inspection.reading.reader import Reader
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.base import AutoregressiveModel, Model

Side = Literal["source", "target"]
Near = tuple[tuple[str, float], ...]
"""Pieces and their cosines, nearest first."""

TOKENS = 300
"""Points on a map."""
_ON_MAP = 8


class EmbeddingMap(Config):
    """The embeddings of the tokens that are most frequent in some sentences."""

    side: Literal["both", "source", "target", "text"]
    pieces: tuple[str, ...]
    counts: tuple[int, ...]
    """How often each occurs among the sentences."""
    coordinates: Coordinates
    explained: tuple[float, ...] | None
    neighbours: tuple[Near, ...]
    """For each piece, its nearest neighbours by cosine in the whole vocabulary."""


class Neighbours(Config):
    """The tokens nearest to each token of a text."""

    side: Side
    pieces: tuple[str, ...]
    neighbours: tuple[Near, ...]

    def to_text(self) -> str:
        """A line for each token."""
        width = max(map(len, self.pieces), default=0)
        return "\n".join(
            f"{piece:<{width}}  " + "  ".join(f"{other} {cosine:.2f}" for other, cosine in near)
            for piece, near in zip(self.pieces, self.neighbours, strict=True)
        )


def find_neighbours(translator: InspectableTranslator, text: str, *, side: Side = "source", count: int = 10) -> Neighbours:
    """The nearest neighbours by cosine of the tokens of a word or a sentence.

    Special tokens and single bytes, which training hardly changes, are excluded. Raises UsageError for a text without tokens.
    """
    vocabulary = vocabulary_of(translator, side)
    encode = translator.encode_source if side == "source" else translator.encode_target
    tokens = list(dict.fromkeys(encode(text)))
    if not tokens:
        raise UsageError(f"{text!r}: has no tokens", expected="a word, or a sentence")
    pieces = tuple(piece_of(token, vocabulary) for token in tokens)
    return Neighbours(side=side, pieces=pieces, neighbours=_near(table_of(translator.model, side), tokens, vocabulary, count=count))


def map_embeddings(translator: InspectableTranslator, pairs: Sequence[TokenPair], *, method: ProjectionMethod) -> list[EmbeddingMap]:
    """Maps of the most frequent tokens of the pairs: one map if both sides share their embeddings, else one per side."""
    model, used = translator.model, {"source": _count(source for source, _ in pairs), "target": _count(target for _, target in pairs)}
    if model.embedding_of("source") is model.embedding_of("target"):
        return [_map(translator, "both", used["source"] + used["target"], method)]
    return [_map(translator, side, used[side], method) for side in ("source", "target")]


def map_text_embeddings(
    inspector: InspectableGenerator | Reader, rows: Iterable[Sequence[int]], *, method: ProjectionMethod
) -> EmbeddingMap:
    """The map of the most frequent tokens of a text."""
    return _map(inspector, "text", _count(rows), method)


def _map(
    inspector: InspectableTranslator | InspectableGenerator | Reader,
    side: Literal["both", "source", "target", "text"],
    used: Counter[int],
    method: ProjectionMethod,
) -> EmbeddingMap:
    one = side_of_text(inspector) if side == "text" else "target" if side == "target" else "source"
    vocabulary, table = vocabulary_of(inspector, one), table_of(inspector.model, one)
    tokens = sorted(used, key=lambda token: (-used[token], token))[:TOKENS]
    found = project(table[tokens], method=method)
    return EmbeddingMap(
        side=side,
        pieces=tuple(piece_of(token, vocabulary) for token in tokens),
        counts=tuple(used[token] for token in tokens),
        coordinates=columns(found),
        explained=found.explained,
        neighbours=_near(table, tokens, vocabulary, count=_ON_MAP),
    )


def _count(rows: Iterable[Sequence[int]]) -> Counter[int]:
    return Counter(token for row in rows for token in row if token > EOS)


def _near(table: npt.NDArray[np.float32], tokens: Sequence[int], vocabulary: Subwords, *, count: int) -> tuple[Near, ...]:
    pieces = pieces_of(vocabulary)
    among = np.array([token > EOS and not _is_byte(piece) for token, piece in enumerate(pieces)] + [False] * (len(table) - len(pieces)))
    found = nearest(table, np.array(tokens), count=count, among=among)
    return tuple(
        tuple((pieces[other], round(cosine, 4)) for other, cosine in zip(rows, cosines, strict=True) if cosine > -np.inf)
        for rows, cosines in zip(found.rows.tolist(), found.cosines.tolist(), strict=True)
    )


def _is_byte(piece: str) -> bool:
    """Whether it is SentencePiece's notation of a byte: <0x41>."""
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def side_of_text(inspector: InspectableGenerator | InspectableTranslator | Reader) -> Side:
    """The side that a model without translations has its text on: a source where it only reads, or gives back what it read."""
    return "target" if isinstance(inspector, InspectableGenerator) else "source"


def table_of(model: Model, side: Side) -> npt.NDArray[np.float32]:
    """(V D): a row for each token of a side; a masked language model's last row is that of its mask."""
    table = model.embedding_of(side) if isinstance(model, AutoregressiveModel) else model.get_parameter("source_embedding.weight")
    return table.detach().float().cpu().numpy()


def pieces_of(vocabulary: Subwords) -> list[str]:
    """Every token as people read it."""
    return [piece_of(token, vocabulary) for token in range(vocabulary.size)]


def vocabulary_of(inspector: InspectableTranslator | InspectableGenerator | Reader, side: Side) -> Subwords:
    """The vocabulary of a side."""
    return inspector.vocabularies.source if side == "source" else inspector.vocabularies.target
