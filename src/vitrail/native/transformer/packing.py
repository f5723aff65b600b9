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
from vitrail.native.search.state import SOS
from vitrail.native.transformer.architecture import AFFINE, RMS_NORM, SWIGLU, Architecture

Tensors = Mapping[str, Floats]

EPSILON = 1e-5
_NO_MATRIX = Linear(0, 0, 0, 0, 0, 0, 0)
"""In place of those that a model does not have."""


class Linears(NamedTuple):
    """All matrices of a Transformer."""

    encoder_qkv: Linear
    encoder_out: Linear
    encoder_expand: Linear
    encoder_contract: Linear
    decoder_qkv: Linear
    decoder_out: Linear
    decoder_cell: Linear
    """W, then W_f of an SSRU, in place of the two before."""
    cross_query: Linear
    cross_source: Linear
    """Keys and values of the source."""
    cross_out: Linear
    decoder_expand: Linear
    decoder_contract: Linear
    vocabulary: Linear
    """Or what scores labels."""
    readout: Linear
    """Of a masked language model, before the vocabulary."""


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
    readout: int


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
    """V, or how many labels are scored; not padded."""
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
    recurs: int
    """1: the decoder has SSRUs in place of self-attention."""
    context: int
    """Tokens that the decoder looks back over at most; 0: all."""


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


def sinusoids(length: int, width: int, *, steps: int | None = None) -> Floats:
    """See `nn.positions.sinusoids`: the sines, then the cosines."""
    half = width // 2
    frequencies = np.exp(np.arange(half, dtype=np.float32) * np.float32(-np.log(np.float32(10000.0)) / np.float32(steps or half)))
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
        linears, vocabulary = self._linears()
        embeddings = [self._widened(one * np.float32(config.width**0.5)) for one in self._embeddings()]
        if config.starts_from_zeros:
            embeddings[-1][SOS] = 0
        sides = [side for side, layers in (("source", config.encoder_layers), ("target", config.decoder_layers)) if layers]
        learned = [self.tensors[f"{side}_positions.weight"] for side in sides] if config.positions == "learned" else [None]
        table = np.concatenate([position_table(config, one, positions) for one in learned])
        shape = Shape(
            width=widths.width,
            real_width=config.width,
            heads=widths.heads,
            head=widths.head,
            attention=widths.attention,
            hidden=widths.hidden,
            widest=max(3 * widths.attention, linears.encoder_expand.outputs, linears.decoder_expand.outputs, linears.decoder_cell.outputs),
            vocabulary=vocabulary,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            target_embedding=embeddings[0].size if len(embeddings) > 1 else 0,
            activation=config.activation,
            norm=config.norm,
            pre_norm=int(config.pre_norm),
            embedding_norm=int(config.embedding_norm),
            rotary=int(config.positions == "rotary"),
            adds_positions=int(config.positions in ("sinusoidal", "tensor2tensor", "learned")),
            target_positions=config.max_positions * widths.width if len(learned) > 1 else 0,
            recurs=int(config.recurs),
            context=config.context,
        )
        norms = self._norms()
        weights = Weights(
            self.pool.matrices(),
            aligned(np.concatenate(self.norms).astype(np.float32)),
            aligned(np.concatenate(embeddings).astype(np.float32)),
            aligned(table.astype(np.float32)),
        )
        return Model(weights, shape, linears, norms)

    def _embeddings(self) -> list[Floats]:
        """Of the source and of the target, where there are both and they differ."""
        tensors, encodes = self.tensors, self.config.encoder_layers > 0
        found = [tensors[name] for name in ("source_embedding.weight", "target_embedding.weight", "output_weight") if name in tensors]
        one, other = (found + found)[:2]
        return [one, other] if encodes and self.config.decoder_layers and one is not other else [one]

    def _linears(self) -> tuple[Linears, int]:
        encoder, decoder = self.config.encoder_layers, self.config.decoder_layers
        crossed = decoder if encoder else 0
        attentive, recurrent = (0, decoder) if self.config.recurs else (decoder, 0)
        vocabulary, outputs = self._vocabulary()
        qkv = ("self_attention.query", "self_attention.key", "self_attention.value")
        linears = Linears(
            encoder_qkv=self._layers("encoder", encoder, lambda at: self._heads(at, qkv)),
            encoder_out=self._layers("encoder", encoder, lambda at: self._mixing(f"{at}.self_attention"), adds=True),
            encoder_expand=self._layers("encoder", encoder, self._expand),
            encoder_contract=self._layers("encoder", encoder, self._contract, adds=True),
            decoder_qkv=self._layers("decoder", attentive, lambda at: self._heads(at, qkv)),
            decoder_out=self._layers("decoder", attentive, lambda at: self._mixing(f"{at}.self_attention"), adds=True),
            decoder_cell=self._layers("decoder", recurrent, lambda at: self._cell(f"{at}.recurrence")),
            cross_query=self._layers("decoder", crossed, lambda at: self._heads(at, ("cross_attention.query",))),
            cross_source=self._layers("decoder", crossed, lambda at: self._heads(at, ("cross_attention.key", "cross_attention.value"))),
            cross_out=self._layers("decoder", crossed, lambda at: self._mixing(f"{at}.cross_attention"), adds=True),
            decoder_expand=self._layers("decoder", decoder, self._expand),
            decoder_contract=self._layers("decoder", decoder, self._contract, adds=True),
            vocabulary=vocabulary,
            readout=self.pool.add([self._square("readout")]) if self.config.output == "guesses" else _NO_MATRIX,
        )
        return linears, outputs

    def _vocabulary(self) -> tuple[Linear, int]:
        """What makes the scores, and how many: rows that pad them have a bias of -inf."""
        labels = self.config.output == "labels"
        if self.config.output == "none":
            return _NO_MATRIX, 0
        weight = self.tensors["head.linear.weight" if labels else "output_weight"]
        outputs = len(weight)
        spare = (0, padded(outputs, STEP) - outputs)
        bias = self._tensor("head.linear.bias" if labels else "output_bias", outputs)
        bias = np.pad(bias, spare, constant_values=-np.float32(np.inf))
        return self.pool.add([(self._widened(np.pad(weight, (spare, (0, 0)))), bias)]), outputs

    def _square(self, at: str) -> tuple[Floats, Floats]:
        spare = (0, self.widths.width - self.config.width)
        return np.pad(self.tensors[f"{at}.weight"], (spare, spare)), np.pad(self.tensors[f"{at}.bias"], spare)

    def _layers(self, side: str, count: int, make: Callable[[str], tuple[Floats, Floats]], *, adds: bool = False) -> Linear:
        return self.pool.add([make(f"{side}.{layer}") for layer in range(count)], adds=adds) if count else _NO_MATRIX

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

    def _cell(self, at: str) -> tuple[Floats, Floats]:
        width, wide = self.config.width, self.widths.width
        weights, biases = np.zeros((2, wide, wide), np.float32), np.zeros((2, wide), np.float32)
        for part, name in enumerate(("candidate", "forget")):
            weights[part, :width, :width] = self.tensors[f"{at}.{name}.weight"]
            biases[part, :width] = self._tensor(f"{at}.{name}.bias", width)
        return weights.reshape(-1, wide), biases.reshape(-1)

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
            encoder_end=single("encoder_norm", pre and encoder > 0),
            decoder_1=of("decoder", decoder, 1),
            decoder_2=of("decoder", decoder if encoder else 0, 2),
            decoder_3=of("decoder", decoder, 3 if encoder else 2),
            decoder_end=single("decoder_norm", pre and decoder > 0),
            source=single("source_norm", self.config.embedding_norm and encoder > 0),
            target=single("target_norm", self.config.embedding_norm and decoder > 0),
            readout=single("readout_norm", self.config.output == "guesses"),
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
        case "tensor2tensor":
            table = sinusoids(positions, config.width, steps=config.width // 2 - 1)
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
