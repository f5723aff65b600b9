"""A recurrent model's weights, laid out for the compiled code: every width padded with zeros, matrices in tiles of 16 outputs.

A state of D numbers is padded to W: each direction of a bidirectional encoder by itself, and all states alike, so that a state of the
decoder meets the memory number by number. Nothing here needs torch or Numba: names and arrays as in the model's folder in, arrays of one
dimension out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.native.arrays import Floats, aligned, padded
from vitrail.native.matrices.packing import STEP, Linear, Matrices, Pool, Precision
from vitrail.native.recurrent.architecture import BAHDANAU, CONCAT, GATES, GENERAL, LSTM, NONE, Architecture

Tensors = Mapping[str, Floats]

EPSILON = 1e-5
_ABSENT = Linear(0, 0, 0, 0, 0, 0)


class Cells(NamedTuple):
    """A stack of recurrent layers. The cell of layer l and direction d has the number l * directions + d; G gates."""

    first: Linear
    """[G w, inputs] what layer 0 reads, of each direction."""
    above: Linear
    """[G w, W] what the layers above read; that of layer 1 and direction 0 comes first."""
    recurrent: Linear
    """[G w, w] of all cells."""
    input_norm: int
    """Where the norms of what is read begin, [G w] each; see `Weights.norms`."""
    recurrent_norm: int
    cell_norm: int
    """Those of cell states, [w] each."""
    width: int
    """w: numbers of one state of one direction, padded."""
    real_width: int
    layers: int
    directions: int


_NO_CELLS = Cells(_ABSENT, _ABSENT, _ABSENT, 0, 0, 0, width=0, real_width=0, layers=0, directions=1)
"""Of a language model's encoder, and of a classifier's decoder."""


class Linears(NamedTuple):
    """The other matrices; absent ones have no inputs."""

    bridge: Linear
    """The decoder's first states: of each layer the hidden one, then with LSTM the cell state."""
    key: Linear
    query: Linear
    readout: Linear
    vocabulary: Linear
    """Or what scores labels."""


class Shape(NamedTuple):
    """Sizes; widths are padded."""

    cell: int
    gates: int
    """G"""
    parts: int
    """Tensors of a state: 2 with LSTM."""
    embedding: int
    """E"""
    width: int
    """W"""
    read: int
    """Numbers that the decoder's first layer reads: an embedding, and what is fed to it."""
    seen: int
    """Numbers that the readout reads: the state, and what attention gives; with Bahdanau's the embedding, too."""
    attention: int
    feeds: int
    """1: the decoder reads what the readout gave at the step before."""
    residual: int
    layer_norm: int
    reverse_source: int
    vocabulary: int
    target_embedding: int
    """Where the target's embeddings begin."""


class Weights(NamedTuple):
    """All numbers of a model."""

    matrices: Matrices
    norms: Floats
    """Of each norm the factors, the terms, and a 1 for each number that is not padding."""
    embeddings: Floats
    """[V, E], multiplied by √E: of the source, then of the target unless it is the same."""
    vector: Floats
    """[W] the v of additive attention."""


class Model(NamedTuple):
    """All that the compiled code needs of a model."""

    weights: Weights
    shape: Shape
    linears: Linears
    encoder: Cells
    decoder: Cells


def pack(config: Architecture, tensors: Tensors, *, precision: Precision) -> Model:
    """Lay out a model."""
    return _Packer(config, tensors, precision).pack()


@dataclass(frozen=True)
class _Columns:
    """Where the numbers of a vector are put among padding."""

    places: npt.NDArray[np.int64]
    width: int
    """With padding."""

    @classmethod
    def of(cls, count: int) -> "_Columns":
        """So many numbers, then padding."""
        return cls(np.arange(count), padded(count, STEP))

    @classmethod
    def joined(cls, *parts: "_Columns") -> "_Columns":
        """Vectors one after the other, each with its padding."""
        begins = np.cumsum([0, *(part.width for part in parts)])
        return cls(np.concatenate([begin + part.places for begin, part in zip(begins[:-1], parts, strict=True)]), int(begins[-1]))


def state_places(config: Architecture) -> npt.NDArray[np.int64]:
    """Where the numbers of a state are among padding."""
    directions = 2 if config.bidirectional else 1
    return _Columns.joined(*[_Columns.of(config.width // directions)] * directions).places


class _Packer:
    def __init__(self, config: Architecture, tensors: Tensors, precision: Precision) -> None:
        self.config, self.tensors, self.pool = config, tensors, Pool(precision)
        self.norms: list[Floats] = []
        self.directions = 2 if config.bidirectional else 1
        self.direction = _Columns.of(config.width // self.directions)
        self.state = _Columns.joined(*[self.direction] * self.directions)
        self.embedding = _Columns.of(config.embedding_width)

    def pack(self) -> Model:
        config, tensors = self.config, self.tensors
        output = tensors.get("output_weight")
        target = tensors.get(config.target_embedding, output)
        source = tensors.get("source_embedding.weight", target) if config.encoder_layers else None
        apart = [one for one in (source, target if config.decoder_layers and target is not source else None) if one is not None]
        scale = np.float32(config.embedding_width**0.5)
        embeddings = [self._placed(one * scale, None, self.embedding) for one in apart]
        encoder, decoder = self._encoder(), self._decoder()
        linears, vocabulary = self._linears() if config.decoder_layers else self._head()
        shape = Shape(
            cell=config.cell,
            gates=GATES[config.cell],
            parts=self._parts,
            embedding=self.embedding.width,
            width=self.state.width,
            read=decoder.first.inputs,
            seen=linears.readout.inputs,
            attention=config.attention,
            feeds=int(config.input_feeding),
            residual=int(config.residual),
            layer_norm=int(config.norm == "layer"),
            reverse_source=int(config.reverse_source),
            vocabulary=vocabulary,
            target_embedding=0 if len(apart) == 1 else embeddings[0].size,
        )
        vector = np.zeros(self.state.width, np.float32)
        if config.attention in (BAHDANAU, CONCAT):
            vector[self.state.places] = tensors["attention.vector"]
        weights = Weights(
            self.pool.matrices(),
            aligned(np.concatenate([np.zeros(0, np.float32), *self.norms]).astype(np.float32)),
            aligned(np.concatenate(embeddings).astype(np.float32)),
            aligned(vector),
        )
        return Model(weights, shape, linears, encoder, decoder)

    @property
    def _parts(self) -> int:
        return 2 if self.config.cell == LSTM else 1

    def _placed(self, matrix: Floats, rows: _Columns | None, columns: _Columns) -> Floats:
        """A matrix among zeros. Args: rows: None: as they are."""
        places = np.arange(len(matrix)) if rows is None else rows.places
        wide = np.zeros((len(matrix) if rows is None else rows.width, columns.width), np.float32)
        wide[places[:, None], columns.places] = matrix
        return wide

    def _row(self, vector: Floats, rows: _Columns) -> Floats:
        wide = np.zeros(rows.width, np.float32)
        wide[rows.places] = vector
        return wide

    def _layer(self, name: str, rows: _Columns, columns: _Columns) -> tuple[Floats, Floats]:
        """A linear layer, with a bias or without."""
        bias = self.tensors.get(f"{name}.bias", np.zeros(len(rows.places), np.float32))
        return self._placed(self.tensors[f"{name}.weight"], rows, columns), self._row(bias, rows)

    def _head(self) -> tuple[Linears, int]:
        """What scores labels, where something does; and how many."""
        if not self.config.scores_labels:
            return Linears(_ABSENT, _ABSENT, _ABSENT, _ABSENT, _ABSENT), 0
        labels, name = self.tensors["head.linear.bias"].size, "head.linear"
        head = self.pool.add([self._layer(name, _Columns.of(labels), self.state)])
        return Linears(_ABSENT, _ABSENT, _ABSENT, _ABSENT, head), labels

    def _linears(self) -> tuple[Linears, int]:
        """All of a decoder, and the tokens that its output has."""
        config, state, embedding = self.config, self.state, self.embedding
        output = self.tensors["output_weight"]
        bridged = config.decoder_layers if config.encoder_layers else 0
        bridges = [f"bridge.{layer}.parts.{part}" for layer in range(bridged) for part in range(self._parts)]
        seen = [state, *([state] * (config.attention != NONE)), *([embedding] * (config.attention == BAHDANAU))]
        additive = config.attention in (BAHDANAU, CONCAT)
        rows = padded(len(output), STEP)
        bias = np.full(rows, -np.inf, np.float32)
        bias[: len(output)] = self.tensors["output_bias"]
        vocabulary = np.pad(self._placed(output, None, embedding), ((0, rows - len(output)), (0, 0)))
        linears = Linears(
            bridge=self.pool.add([self._layer(name, state, state) for name in bridges]) if bridges else _ABSENT,
            key=self.pool.add([self._layer("attention.key", state, state)]) if additive or config.attention == GENERAL else _ABSENT,
            query=self.pool.add([self._layer("attention.query", state, state)]) if additive else _ABSENT,
            readout=self.pool.add([self._layer("readout", embedding, _Columns.joined(*seen))]),
            vocabulary=self.pool.add([(vocabulary, bias)]),
        )
        return linears, len(output)

    def _encoder(self) -> Cells:
        if self.config.encoder_layers == 0:
            return _NO_CELLS
        names = ("forward_cell", "backward_cell")[: self.directions]
        layers = [[f"encoder.{layer}.{name}" for name in names] for layer in range(self.config.encoder_layers)]
        return self._cells(layers, self.direction, self.embedding)

    def _decoder(self) -> Cells:
        config = self.config
        if config.decoder_layers == 0:
            return _NO_CELLS
        fed = self.state if config.attention == BAHDANAU else self.embedding
        read = _Columns.joined(self.embedding, fed) if config.attention == BAHDANAU or config.input_feeding else self.embedding
        return self._cells([[f"{config.target_stack}.{layer}"] for layer in range(config.decoder_layers)], self.state, read)

    def _cells(self, layers: Sequence[list[str]], own: _Columns, read: _Columns) -> Cells:
        """A stack of cells whose states are placed as `own`, and whose first layer reads what is placed as `read`.

        Args: layers: the names of each layer's cells.
        """
        rows = _Columns.joined(*[own] * GATES[self.config.cell])
        above = [name for layer in layers[1:] for name in layer]
        everyone = [*layers[0], *above]
        at_first = self.pool.add([self._input(name, rows, read) for name in layers[0]])
        return Cells(
            first=at_first,
            above=self.pool.add([self._input(name, rows, self.state) for name in above]) if above else at_first,
            recurrent=self.pool.add([self._recurrent(name, rows, own) for name in everyone]),
            input_norm=self._add_norms([f"{name}.layer_norms.0" for name in everyone], rows),
            recurrent_norm=self._add_norms([f"{name}.layer_norms.1" for name in everyone], rows),
            cell_norm=self._add_norms([f"{name}.cell_norm" for name in everyone], own),
            width=own.width,
            real_width=len(own.places),
            layers=len(layers),
            directions=len(layers[0]),
        )

    def _input(self, name: str, rows: _Columns, columns: _Columns) -> tuple[Floats, Floats]:
        """W and b of a cell; batch norm, which is a factor and a term for each number once training is over, is in them."""
        weight = self.tensors[f"{name}.input_weight"]
        bias = self.tensors.get(f"{name}.input_bias", np.zeros(len(weight), np.float32))
        if self.config.norm == "batch":
            norm = f"{name}.batch_norm"
            factor = self.tensors[f"{norm}.weight"] / np.sqrt(self.tensors[f"{norm}.running_variance"] + np.float32(EPSILON))
            bias = (self.tensors[f"{norm}.bias"] - self.tensors[f"{norm}.running_mean"] * factor).astype(np.float32)
            weight = (weight * factor[:, None]).astype(np.float32)
        return self._placed(weight, rows, columns), self._row(bias, rows)

    def _recurrent(self, name: str, rows: _Columns, columns: _Columns) -> tuple[Floats, Floats]:
        weight = self.tensors[f"{name}.hidden_weight"]
        bias = self.tensors.get(f"{name}.hidden_bias", np.zeros(len(weight), np.float32))
        return self._placed(weight, rows, columns), self._row(bias, rows)

    def _add_norms(self, names: Sequence[str], rows: _Columns) -> int:
        """Add the norms that there are; returns where they begin."""
        begin = sum(one.size for one in self.norms)
        real = self._row(np.ones(len(rows.places), np.float32), rows)
        for name in names:
            if f"{name}.weight" in self.tensors:
                self.norms += [self._row(self.tensors[f"{name}.weight"], rows), self._row(self.tensors[f"{name}.bias"], rows), real]
        return begin
