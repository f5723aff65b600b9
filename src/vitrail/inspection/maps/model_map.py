"""Maps of what a model has learned: its states in few dimensions, neighbours, retrieval of translations, similarity of layers.

The record, `extras["maps"]` of an inspection and `Maps.to_record()`; C stands for [x's, y's, z's], each as long as its points:
    format      1
    method      "pca", "tsne" or "umap": the projection
    sentences   [{text, translation}], at most `SENTENCES`; the sentence that was inspected, where it is among them, by its text
    points      {sentence: [numbers], position: [numbers], piece: [texts]}: the encoder positions on the maps of states, at most
                `POSITIONS`; without translations, the positions of the text as the model reads it
    states      [{place, coordinates: C, explained}] of those points, from the embeddings to the memory, by the names of `contents`
    means       {place: "memory" or "decoder_output", coordinates: C, explained}: one point for each of `sentences`, the mean over its
                positions
    embeddings  [{side, pieces: [texts], counts: [how often among the sentences], coordinates: C, explained, neighbours}], one for each
                table of embeddings: side is "both" where source and target share one, else "source" or "target"; "text" without a source.
                neighbours: for each piece [[piece, cosine], ...], nearest first, of the whole vocabulary
                Without a source, retrieval is empty, and so is the translation of each sentence.
    retrieval   [{source, target, mapped, accuracy, chance, median_rank, candidates, sentences}]: see `retrieval.Retrieval`
    cka         {sentences, places: [names], values: rows of numbers, other, other_places, between}: similarity of each two layers of
                the model, 1 the same; other is the name of a second model, between the similarity of its layers (columns) to these (rows);
                the last three are null for only one model
explained: share of the variance that each coordinate shows, 0 to 1; null for t-SNE and UMAP, which have none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.config import Config
from vitrail.data.cleaning.normalise import encodable, normalise, plain
from vitrail.data.preparing.prepared import PreparedLabels, PreparedText, open_data, open_prepared
from vitrail.data.vocabularies.subwords import EOS, SOS, Subwords
from vitrail.decode.search.beams import SearchConfig
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.decoding import piece_of
from vitrail.inspection.generator import InspectableGenerator
from vitrail.inspection.maps.embeddings import EmbeddingMap, map_embeddings, map_text_embeddings, side_of_text, vocabulary_of
from vitrail.inspection.maps.retrieval import Retrieval, retrieve_translations
from vitrail.inspection.maps.similarity import Coordinates, Projection, ProjectionMethod, cka_matrix, columns, project
from vitrail.inspection.maps.states import Pooled, States, TokenPair, marks_before, pool, read_states
from vitrail.inspection.reading.reader import Reader
from vitrail.inspection.translator import LONGEST, InspectableTranslator
from vitrail.models.base import Model
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.models.places import brief

SENTENCES = 200
"""Maximal number of sentences whose text and mean are in a record."""
POSITIONS = 300
"""Points on a map of states."""
_FEWEST = 8
_FREQUENT, _NEAR = 12, 5
"""Number of tokens listed as text, and of neighbours of each."""

Rows = tuple[tuple[float | None, ...], ...]


class Sentence(Config):
    """A sentence and its translation, given or by the model."""

    text: str
    translation: str


class Points(Config):
    """The encoder positions on the maps of states, in columns."""

    sentence: tuple[int, ...]
    position: tuple[int, ...]
    piece: tuple[str, ...]


class Map(Config):
    """Some states in few dimensions."""

    place: str
    """Where in the model."""
    coordinates: Coordinates
    explained: tuple[float, ...] | None
    """Share of the variance along each coordinate."""


class LayerSimilarity(Config):
    """Linear CKA between layers (`similarity.linear_cka`) over the mean vectors of sentences.

    So layers of encoder and decoder, and models with different vocabularies, can be compared.
    """

    sentences: int
    places: tuple[str, ...]
    values: Rows
    other: str | None = None
    other_places: tuple[str, ...] | None = None
    between: Rows | None = None
    """Rows are `places`, columns `other_places`."""

    def to_text(self) -> str:
        """A table, or two."""
        lines = [f"linear CKA between layers, {self.sentences} sentences", *_table(self.places, self.places, self.values)]
        if self.other is not None and self.other_places is not None and self.between is not None:
            lines += ["", f"linear CKA with {self.other} (columns)", *_table(self.places, self.other_places, self.between)]
        return "\n".join(lines)


class Maps(Config):
    """All maps and measurements, as in this module's description."""

    format: int = 1
    method: ProjectionMethod
    sentences: tuple[Sentence, ...]
    points: Points
    states: tuple[Map, ...]
    means: Map
    embeddings: tuple[EmbeddingMap, ...]
    retrieval: tuple[Retrieval, ...]
    cka: LayerSimilarity

    def to_record(self) -> dict[str, Any]:
        """Plain values, for `extras["maps"]` of an inspection."""
        return self.model_dump(mode="json")

    def to_text(self) -> str:
        """The numbers as text: retrieval, similarity of layers, variance explained by two components, neighbours of frequent tokens."""
        lines = [f"retrieval of translations by the mean over their positions, {self.cka.sentences} sentences"]
        lines = [*lines, *(f"  {one.to_text()}" for one in self.retrieval), ""] if self.retrieval else []
        lines.append(self.cka.to_text())
        shown = [(f"{brief(one.place)}, positions", one.explained) for one in self.states]
        shown += [(f"{brief(self.means.place)}, sentences", self.means.explained)]
        shown += [(f"embeddings, {one.side}", one.explained) for one in self.embeddings]
        told = [f"  {name}: {sum(shares[:2]):.0%}" for name, shares in shown if shares is not None]
        lines += ["", "variance explained by two components", *told] if told else []
        for one in self.embeddings:
            lines += ["", f"nearest embeddings by cosine, {one.side}, of frequent tokens", *_nearest(one)]
        return "\n".join(lines)


def _table(rows: Sequence[str], names: Sequence[str], values: Rows) -> list[str]:
    head = " " * 10 + " ".join(f"{brief(name):>6}" for name in names)
    cells = [" ".join("     -" if value is None else f"{value:6.2f}" for value in row) for row in values]
    return [head, *(f"  {brief(name):<8}{row}" for name, row in zip(rows, cells, strict=True))]


def _nearest(table: EmbeddingMap) -> list[str]:
    """A line for each of the tokens with letters that occur most often."""
    chosen = [number for number, piece in enumerate(table.pieces) if any(map(str.isalpha, piece))][:_FREQUENT]
    width = max((len(table.pieces[number]) for number in chosen), default=0)
    near = {number: "  ".join(f"{piece} {cosine:.2f}" for piece, cosine in table.neighbours[number][:_NEAR]) for number in chosen}
    return [f"  {table.pieces[number]:<{width}}  {told}" for number, told in near.items()]


def map_model(
    translator: InspectableTranslator,
    sentences: Sequence[str],
    *,
    translations: Sequence[str] | None = None,
    method: ProjectionMethod = "pca",
    other: InspectableTranslator | None = None,
    other_name: str = "the other model",
) -> Maps:
    """Map a model's states of sentences. The first sentences are drawn; retrieval and CKA use all, a thousand for good estimates.

    Args:
        translations: line by line; None: the model's own, by greedy search. They are read as in training.
        method: how points are projected, see `similarity.project`.
        other: another model, whose layers are compared with these on the same sentences; its vocabularies may differ.
    Raises: UsageError for fewer than 8 different sentences of 1 to 256 tokens, or a missing library; ModelError for an ensemble or a
            compiled model.
    Cost:   one traced pass over all pairs, two more for retrieval; n² numbers a layer for CKA; a table of embeddings times `TOKENS`.
    """
    pairs, ids = _choose(translator, sentences, translations)
    drawn, pooled = _read(translator.model, ids, [len(source) + 1 for source, _ in ids])
    points = _points(drawn, [[*ids[one.number][0], EOS] for one in drawn], translator.vocabularies.source)
    values = {place: np.concatenate([one.source[place] for one in drawn])[:POSITIONS] for place in drawn[0].source}
    return Maps(
        method=method,
        sentences=tuple(pairs[:SENTENCES]),
        points=points,
        states=tuple(_map(place, project(rows, method=method)) for place, rows in values.items()),
        means=_map("memory", project(pooled.source["memory"][:SENTENCES], method=method)),
        embeddings=tuple(map_embeddings(translator, ids, method=method)),
        retrieval=retrieve_translations(translator.model, ids, pooled, joint=translator.vocabularies.joint),
        cka=_compare(pooled, pairs, other, other_name),
    )


TextInspector = InspectableTranslator | InspectableGenerator | Reader
"""What maps of plain text are made of; of the models that translate, autoencoders."""


def map_text(inspector: TextInspector, lines: Sequence[str], *, method: ProjectionMethod = "pca") -> Maps:
    """Map the states of lines, each read by itself, of a model that is not for translations; see `map_model`.

    The points are the positions of what is read. Raises UsageError for fewer than 8 different lines.
    """
    texts, longest = list(dict.fromkeys(text for text in map(normalise, lines) if text)), _longest(inspector)
    side, autoencoder = side_of_text(inspector), isinstance(inspector, InspectableTranslator)
    vocabulary = vocabulary_of(inspector, side)
    kept = [(text, ids) for text, ids in zip(texts, vocabulary.encode_batch(texts), strict=True) if 0 < len(ids) <= longest]
    if len(kept) < _FEWEST:
        found = f"{len(kept)} different lines of 1 to {longest} tokens"
        raise UsageError(found, expected=f"at least {_FEWEST}", remedy="give a text: --source FILE")
    pairs: list[TokenPair] = [(ids if side == "source" else (), ids if side == "target" or autoencoder else ()) for _, ids in kept]
    sentences = [Sentence(text=text, translation="") for text, _ in kept]
    read = [_as_read(inspector, ids) for _, ids in kept]
    drawn, pooled = _read(inspector.model, pairs, [len(row) for row in read])
    states, means = [one.source if side == "source" else one.target for one in drawn], pooled.source if side == "source" else pooled.target
    values = {place: np.concatenate([one[place] for one in states])[:POSITIONS] for place in states[0]}
    last = "memory" if side == "source" else "decoder_output"
    return Maps(
        method=method,
        sentences=tuple(sentences[:SENTENCES]),
        points=_points(drawn, [read[one.number] for one in drawn], vocabulary),
        states=tuple(_map(place, project(rows, method=method)) for place, rows in values.items()),
        means=_map(last, project(means[last][:SENTENCES], method=method)),
        embeddings=tuple(map_embeddings(inspector, pairs, method=method))
        if isinstance(inspector, InspectableTranslator)
        else (map_text_embeddings(inspector, [ids for _, ids in kept], method=method),),
        retrieval=(),
        cka=_compare(pooled, sentences, None, ""),
    )


def _as_read(inspector: TextInspector, ids: Sequence[int]) -> list[int]:
    """What a model reads at each position of a line."""
    if isinstance(inspector, InspectableGenerator):
        return [inspector.model.first, *ids]
    return [*[SOS] * marks_before(inspector.model), *ids, EOS]


def _longest(inspector: TextInspector) -> int:
    """Tokens of a line at most."""
    match inspector:
        case InspectableGenerator():
            return inspector.longest
        case InspectableTranslator(model=AutoencoderModel() as model):
            return min(LONGEST, model.config.context - 1)
        case InspectableTranslator():
            return LONGEST
        case _:
            return min(LONGEST, inspector.model.config.context - 1 - inspector.model.marks_start)


def dev_pairs(run: Path, *, count: int = 1000) -> tuple[list[str], list[str]]:
    """The first sentences of a run's dev set and their translations, for `map_model`. Raises ModelError where the run has no data."""
    if not (run / "data").is_dir():
        raise ModelError(f"{run}: has no dev set", expected="the folder of a run, with its data/")
    source, target = open_prepared(run / "data").dev
    return list(source[:count]), list(target[:count])


def dev_lines(run: Path, *, count: int = 1000) -> list[str]:
    """The first lines of the dev text of a run on plain text, or the texts of a classifier's. Raises ModelError where it has none."""
    data = open_data(run / "data") if (run / "data").is_dir() else None
    lines = data.dev if isinstance(data, PreparedText) else data.dev.source if isinstance(data, PreparedLabels) else []
    if not lines:
        raise ModelError(f"{run}: has no dev text", expected="the folder of a run on plain text, with its data/")
    return lines[:count]


def _choose(
    translator: InspectableTranslator, sentences: Sequence[str], translations: Sequence[str] | None
) -> tuple[list[Sentence], list[TokenPair]]:
    """Different pairs that can be inspected. Duplicate translations are left out: retrieval would count one of them as wrong."""
    if translations is None:
        translations = [found.text for found in translator.translate(list(sentences), search=SearchConfig(beams=1))]
    if len(translations) != len(sentences):
        raise UsageError(f"{len(sentences)} sentences and {len(translations)} translations", expected="one for each")
    texts, answers = [translator.read(text) for text in sentences], [plain(encodable(text)).strip() for text in translations]
    found, chosen, seen = list[Sentence](), list[TokenPair](), set[tuple[int, ...]]()
    for text, answer, pair in zip(texts, answers, _encode(translator, texts, answers), strict=True):
        keys = {(0, *pair[0]), (1, *pair[1])}
        if 0 < len(pair[0]) <= LONGEST and 0 < len(pair[1]) <= LONGEST and not keys & seen:
            found.append(Sentence(text=text, translation=answer))
            chosen.append(pair)
            seen |= keys
    if len(found) < _FEWEST:
        raise UsageError(
            f"{len(found)} different sentences of 1 to {LONGEST} tokens with different translations",
            expected=f"at least {_FEWEST}",
            remedy="give a file of sentences, such as a dev set",
        )
    return found, chosen


def _encode(translator: InspectableTranslator, texts: Sequence[str], answers: Sequence[str]) -> list[TokenPair]:
    vocabularies = translator.vocabularies
    return list(zip(vocabularies.source.encode_batch(texts), vocabularies.target.encode_batch(answers), strict=True))


def _read(model: Model, ids: Sequence[TokenPair], lengths: Sequence[int]) -> tuple[list[States], Pooled]:
    """The states of the drawn pairs, in order, and the means of all. Args: lengths: how many positions of each would be drawn."""
    ends = np.cumsum(lengths[:SENTENCES])
    drawn = range(1 + int((ends < POSITIONS).sum()))
    kept, pooled = list[States](), Pooled(len(ids))
    for one in read_states(model, ids):
        pooled.add(one)
        if one.number in drawn:
            kept.append(one)
    return sorted(kept, key=lambda one: one.number), pooled


def _points(drawn: Sequence[States], tokens: Sequence[Sequence[int]], vocabulary: Subwords) -> Points:
    """The first `POSITIONS` positions. Args: tokens: what was read at the positions of each."""
    marks = [(one.number, at, token) for one, row in zip(drawn, tokens, strict=True) for at, token in enumerate(row)][:POSITIONS]
    return Points(
        sentence=tuple(number for number, _, _ in marks),
        position=tuple(at for _, at, _ in marks),
        piece=tuple(piece_of(token, vocabulary) for _, _, token in marks),
    )


def _map(place: str, found: Projection) -> Map:
    return Map(place=place, coordinates=columns(found), explained=found.explained)


def _compare(pooled: Pooled, pairs: Sequence[Sentence], other: InspectableTranslator | None, other_name: str) -> LayerSimilarity:
    """CKA of the means within a model, and with those of another."""
    places = {**pooled.source, **pooled.target}
    mine = list(places.values())
    likeness = LayerSimilarity(sentences=len(pairs), places=tuple(places), values=_rows(cka_matrix(mine, mine)))
    if other is None:
        return likeness
    theirs = pool(other.model, _encode(other, [pair.text for pair in pairs], [pair.translation for pair in pairs]))
    columns_of = {**theirs.source, **theirs.target}
    between = _rows(cka_matrix(mine, list(columns_of.values())))
    return likeness.model_copy(update={"other": other_name, "other_places": tuple(columns_of), "between": between})


def _rows(values: npt.NDArray[np.float64]) -> Rows:
    """The values as plain numbers; None for NaN, as between states that are all equal."""
    return tuple(tuple(round(value, 4) if np.isfinite(value) else None for value in row) for row in values.tolist())
