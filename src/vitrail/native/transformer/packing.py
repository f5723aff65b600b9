"""A model's weights, laid out for the compiled code: every width padded with zeros, matrices in tiles of 16 outputs.

Nothing here needs torch or Numba: names and arrays as in the model's folder in, arrays of one dimension out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.native.arrays import Floats, aligned, padded
from vitrail.native.matrices.packing import STEP, TILE, Linear, Matrices, Pool, Precision
from vitrail.native.transformer.architecture import AFFINE, RMS_NORM, SWIGLU, Architecture

Tensors = Mapping[str, Floats]

EPSILON = 1e-5


class Linears(NamedTuple):
    """All matrices of a Transformer."""

    encoder_qkv: Linear
    encoder_out: Linear
    encoder_expand: Linear
    encoder_contract: Linear
    decoder_qkv: Linear
    decoder_out: Linear
    cross_query: Linear
    cross_source: Linear
    """Keys and values of the source."""
    cross_out: Linear
    decoder_expand: Linear
    decoder_contract: Linear
    vocabulary: Linear


class Norms(NamedTuple):
    """Where each norm begins; layer l has its factors at begin + 2 l D, its terms D further. Those at the end are absent with post-norm."""

    encoder_1: int
    encoder_2: int
    encoder_end: int
    decoder_1: int
    decoder_2: int
    decoder_3: int
    decoder_end: int
    source: int
    """Of embeddings plus positions, where there is one."""
    target: int


class Shape(NamedTuple):
    """Sizes; widths are padded unless it is said otherwise."""

    width: int
    real_width: int
    """D, without padding."""
    heads: int
    head: int
    """E: numbers of one head."""
    attention: int
    """Numbers of the queries of all heads of a position."""
    hidden: int
    """F"""
    widest: int
    """Numbers of the widest result of a matrix but the vocabulary's."""
    vocabulary: int
    encoder_layers: int
    decoder_layers: int
    target_embedding: int
    """Where the target's embeddings begin."""
    activation: int
    norm: int
    pre_norm: int
    embedding_norm: int
    rotary: int
    adds_positions: int
    target_positions: int
    """Where the target's positions begin."""


class Weights(NamedTuple):
    """All numbers of a model."""

    matrices: Matrices
    norms: Floats
    embeddings: Floats
    """[V, D], multiplied by √D: of the source, then of the target unless it is the same."""
    positions: Floats
    """[positions, D] to be added, or [positions, E] sines and cosines of rotary positions."""


class Model(NamedTuple):
    """All that the compiled code needs of a model."""

    weights: Weights
    shape: Shape
    linears: Linears
    norms: Norms


def sinusoids(length: int, width: int) -> Floats:
    """See `nn.positions.sinusoids`: the sines, then the cosines."""
    half = width // 2
    frequencies = np.exp(np.arange(half, dtype=np.float32) * np.float32(-np.log(np.float32(10000.0)) / np.float32(half)))
    angles = np.arange(length, dtype=np.float32)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


class _Widths:
    """How the numbers of a model are placed among padding."""

    def __init__(self, architecture: Architecture) -> None:
        self.width, self.hidden = padded(architecture.width, STEP), padded(architecture.feed_forward, STEP)
        self.heads, self.real_head = architecture.heads, architecture.head_width
        self.rotary = architecture.positions == "rotary"
        # Rotary positions turn the first half of a head against the second: each half is padded by itself.
        self.half = padded(self.real_head // 2, TILE)
        self.head = 2 * self.half if self.rotary else padded(self.real_head, TILE)
        self.attention = padded(self.heads * self.head, STEP)

    def places(self, *, turned: bool) -> npt.NDArray[np.int64]:
        """Where the numbers of all heads are put. Args: turned: those that rotary positions turn."""
        within = np.arange(self.real_head)
        if turned and self.rotary:
            within = np.where(within < self.real_head // 2, within, within - self.real_head // 2 + self.half)
        return (np.arange(self.heads)[:, None] * self.head + within).reshape(-1)


def pack(config: Architecture, tensors: Tensors, *, precision: Precision, positions: int) -> Model:
    """Lay out a model. Args: positions: how many there are, of those that are not learned."""
    return _Packer(config, tensors, precision).pack(positions)


class _Packer:
    def __init__(self, config: Architecture, tensors: Tensors, precision: Precision) -> None:
        self.config, self.tensors, self.pool = config, tensors, Pool(precision)
        self.norms: list[Floats] = []
        self.widths = _Widths(config)

    def pack(self, positions: int) -> Model:
        config, widths = self.config, self.widths
        output = self.tensors.get("output_weight", self.tensors.get("target_embedding.weight"))
        assert output is not None, "a Transformer has the weights of its output"
        target = self.tensors.get("target_embedding.weight", output)
        source = self.tensors.get("source_embedding.weight", target)
        linears, vocabulary = self._linears(output)
        same = source is target
        embeddings = [self._widened(one * np.float32(config.width**0.5)) for one in ((source,) if same else (source, target))]
        table = position_table(config, self.tensors.get("source_positions.weight"), positions)
        if config.positions == "learned":
            table = np.concatenate([table, self._widened(self.tensors["target_positions.weight"])])
        shape = Shape(
            width=widths.width,
            real_width=config.width,
            heads=widths.heads,
            head=widths.head,
            attention=widths.attention,
            hidden=widths.hidden,
            widest=max(3 * widths.attention, linears.decoder_expand.outputs),
            vocabulary=vocabulary,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            target_embedding=0 if same else embeddings[0].size,
            activation=config.activation,
            norm=config.norm,
            pre_norm=int(config.pre_norm),
            embedding_norm=int(config.embedding_norm),
            rotary=int(config.positions == "rotary"),
            adds_positions=int(config.positions in ("sinusoidal", "learned")),
            target_positions=config.max_positions * widths.width if config.positions == "learned" else 0,
        )
        norms = self._norms()
        weights = Weights(
            self.pool.matrices(),
            aligned(np.concatenate(self.norms).astype(np.float32)),
            aligned(np.concatenate(embeddings).astype(np.float32)),
            aligned(table.astype(np.float32)),
        )
        return Model(weights, shape, linears, norms)

    def _linears(self, output: Floats) -> tuple[Linears, int]:
        widths, encoder, decoder = self.widths, self.config.encoder_layers, self.config.decoder_layers
        rows = padded(len(output), STEP)
        own = self.tensors.get("output_bias", np.zeros(len(output), np.float32))
        bias = np.pad(own, (0, rows - len(output)), constant_values=-np.float32(np.inf))
        vocabulary = self._widened(np.pad(output, ((0, rows - len(output)), (0, 0))))
        qkv = ("self_attention.query", "self_attention.key", "self_attention.value")
        linears = Linears(
            encoder_qkv=self._layers("encoder", encoder, lambda at: self._heads(at, qkv)),
            encoder_out=self._layers("encoder", encoder, lambda at: self._mixing(f"{at}.self_attention"), adds=True),
            encoder_expand=self._layers("encoder", encoder, self._expand),
            encoder_contract=self._layers("encoder", encoder, self._contract, adds=True),
            decoder_qkv=self._layers("decoder", decoder, lambda at: self._heads(at, qkv)),
            decoder_out=self._layers("decoder", decoder, lambda at: self._mixing(f"{at}.self_attention"), adds=True),
            cross_query=self._layers("decoder", decoder, lambda at: self._heads(at, ("cross_attention.query",))),
            cross_source=self._layers("decoder", decoder, lambda at: self._heads(at, ("cross_attention.key", "cross_attention.value"))),
            cross_out=self._layers("decoder", decoder, lambda at: self._mixing(f"{at}.cross_attention"), adds=True),
            decoder_expand=self._layers("decoder", decoder, self._expand),
            decoder_contract=self._layers("decoder", decoder, self._contract, adds=True),
            vocabulary=self.pool.add([(vocabulary, bias)]),
        )
        assert linears.encoder_qkv.inputs == widths.width
        return linears, len(output)

    def _layers(self, side: str, count: int, make: Callable[[str], tuple[Floats, Floats]], *, adds: bool = False) -> Linear:
        return self.pool.add([make(f"{side}.{layer}") for layer in range(count)], adds=adds)

    def _widened(self, matrix: Floats, to: int | None = None) -> Floats:
        """More columns of zeros."""
        return np.pad(matrix, ((0, 0), (0, (self.widths.width if to is None else to) - matrix.shape[1])))

    def _tensor(self, name: str, size: int) -> Floats:
        """A bias; zeros where a layer has none."""
        return self.tensors.get(name, np.zeros(size, np.float32))

    def _heads(self, at: str, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Queries are divided by √E here, so that products with keys need not be."""
        widths = self.widths
        weights = np.zeros((len(names), widths.attention, widths.width), np.float32)
        biases = np.zeros(weights.shape[:2], np.float32)
        for part, name in enumerate(names):
            turned = name.startswith("self") and not name.endswith("value")
            places = widths.places(turned=turned)
            factor = np.float32(1 / math.sqrt(widths.real_head) if name.endswith("query") else 1)
            weights[part, places, : self.config.width] = self.tensors[f"{at}.{name}.weight"] * factor
            biases[part, places] = self._tensor(f"{at}.{name}.bias", len(places)) * factor
        return weights.reshape(-1, widths.width), biases.reshape(-1)

    def _mixing(self, at: str) -> tuple[Floats, Floats]:
        widths, width = self.widths, self.config.width
        weight, bias = np.zeros((widths.width, widths.attention), np.float32), np.zeros(widths.width, np.float32)
        weight[:width, widths.places(turned=False)] = self.tensors[f"{at}.output.weight"]
        bias[:width] = self._tensor(f"{at}.output.bias", width)
        return weight, bias

    def _expand(self, at: str) -> tuple[Floats, Floats]:
        """For SwiGLU, the rows of the gate come after those of the expansion."""
        widths, hidden = self.widths, self.config.feed_forward
        names = ("expand", "gate") if self.config.activation == SWIGLU else ("expand",)
        weights = np.zeros((len(names), widths.hidden, widths.width), np.float32)
        biases = np.zeros(weights.shape[:2], np.float32)
        for part, name in enumerate(names):
            weights[part, :hidden, : self.config.width] = self.tensors[f"{at}.feed_forward.{name}.weight"]
            biases[part, :hidden] = self._tensor(f"{at}.feed_forward.{name}.bias", hidden)
        return weights.reshape(-1, widths.width), biases.reshape(-1)

    def _contract(self, at: str) -> tuple[Floats, Floats]:
        widths, width = self.widths, self.config.width
        weight, bias = np.zeros((widths.width, widths.hidden), np.float32), np.zeros(widths.width, np.float32)
        weight[:width, : self.config.feed_forward] = self.tensors[f"{at}.feed_forward.contract.weight"]
        bias[:width] = self._tensor(f"{at}.feed_forward.contract.bias", width)
        return weight, bias

    def _norms(self) -> Norms:
        encoder, decoder, pre = self.config.encoder_layers, self.config.decoder_layers, self.config.pre_norm

        def of(side: str, layers: int, number: int) -> int:
            return self._add_norms([f"{side}.{layer}.residual_{number}.norm" for layer in range(layers)])

        def single(name: str, present: bool) -> int:
            return self._add_norms([name]) if present else 0

        return Norms(
            encoder_1=of("encoder", encoder, 1),
            encoder_2=of("encoder", encoder, 2),
            encoder_end=single("encoder_norm", pre),
            decoder_1=of("decoder", decoder, 1),
            decoder_2=of("decoder", decoder, 2),
            decoder_3=of("decoder", decoder, 3),
            decoder_end=single("decoder_norm", pre),
            source=single("source_norm", self.config.embedding_norm),
            target=single("target_norm", self.config.embedding_norm),
        )

    def _add_norms(self, names: Sequence[str]) -> int:
        """Add the factors and terms of each layer's norm; returns where they begin."""
        begin = sum(one.size for one in self.norms)
        self.norms += [part for name in names for part in self._norm(name)]
        return begin

    def _norm(self, name: str) -> tuple[Floats, Floats]:
        """Factors and terms."""
        width, tensors = self.config.width, self.tensors
        if self.config.norm == AFFINE:
            factor = tensors[f"{name}.weight"] / np.sqrt(tensors[f"{name}.running_variance"] + EPSILON)
            term = tensors[f"{name}.bias"] - tensors[f"{name}.running_mean"] * factor
            factor, term = factor.astype(np.float32), term.astype(np.float32)
        else:
            factor = tensors[f"{name}.norm.weight"]
            term = np.zeros(width, np.float32) if self.config.norm == RMS_NORM else tensors[f"{name}.norm.bias"]
        spare = (0, self.widths.width - width)
        return np.pad(factor, spare), np.pad(term, spare)


def position_table(config: Architecture, learned: Floats | None, positions: int) -> Floats:
    """What is known of so many positions; of learned ones, all those of the source."""
    widths = _Widths(config)
    match config.positions:
        case "sinusoidal":
            table = sinusoids(positions, config.width)
        case "learned":
            assert learned is not None
            table = learned
        case "rotary":
            sines, cosines = np.split(sinusoids(positions, config.head_width), 2, axis=1)
            spare = ((0, 0), (0, widths.half - config.head_width // 2))
            return np.concatenate([np.pad(sines, spare), np.pad(cosines, spare)], axis=1)
        case _:
            return np.zeros((0, widths.width), np.float32)
    return np.pad(table, ((0, 0), (0, widths.width - config.width)))
