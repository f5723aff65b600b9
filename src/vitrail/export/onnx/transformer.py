"""The Transformer encoder-decoder as two graphs: the encoder with the source's keys and values, and one step of the decoder."""

from collections.abc import Callable

import numpy as np

from vitrail.data.vocabularies.subwords import SOS
from vitrail.export.onnx.graph import Graph, Tensors
from vitrail.export.onnx.parts import Carried, Graphs
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.nn.positions import frequencies


def transformer_graphs(config: TransformerConfig, tensors: Tensors) -> Graphs:
    """Both graphs, and what passes between them."""
    keys = [f"source_{name}.{layer}" for layer in range(config.decoder_layers) for name in ("key", "value")]
    carried = [
        Carried(f"past_{name}.{layer}", f"{name}.{layer}", zeros=(config.heads, 0, config.width_of_head))
        for layer in range(config.decoder_layers)
        for name in ("key", "value")
    ]
    return Graphs(_encoder(config, tensors), _decoder(config, tensors), ("source_bias", *keys), tuple(carried))


def _encoder(config: TransformerConfig, tensors: Tensors) -> bytes:
    graph = Graph(tensors)
    blocks = _Blocks(graph, config)
    positions = graph.places("source")
    values = blocks.embed("source", "source", positions)
    bias = graph.name(graph.padding_bias("source", 1, 2), "source_bias")
    turn = blocks.turn(positions)
    for layer in range(config.encoder_layers):
        at = f"encoder.{layer}"

        def read_all(x: str, at: str = at) -> str:
            key, value = blocks.read(x, f"{at}.self_attention", turn)
            return blocks.attend(x, f"{at}.self_attention", (key, value), bias, turn)

        values = blocks.residual(values, f"{at}.residual_1", read_all)
        values = blocks.residual(values, f"{at}.residual_2", blocks.feed_forward(at))
    if config.norm_position == "pre":
        values = blocks.norm(values, "encoder_norm")
    graph.name(values, "memory")
    heads = ("sentences", config.heads, "source", config.width_of_head)
    outputs = [graph.value("memory", ("sentences", "source", config.width)), graph.value(bias, ("sentences", 1, 1, "source"))]
    for layer in range(config.decoder_layers):
        read = blocks.read(values, f"decoder.{layer}.cross_attention", None)
        for name, value in zip(("key", "value"), read, strict=True):
            outputs.append(graph.value(graph.name(value, f"source_{name}.{layer}"), heads))
    return graph.model("encoder", [graph.value("source", ("sentences", "source"), kind="int64")], outputs)


def _decoder(config: TransformerConfig, tensors: Tensors) -> bytes:
    graph = Graph(tensors)
    blocks = _Blocks(graph, config)
    position = graph.size("past_key.0", 2)
    values = blocks.embed(graph.unsqueeze("last", 1), "target", position)
    turn = blocks.turn(position)
    heads = [config.heads, config.width_of_head]
    inputs = [graph.value("last", ("rows",), kind="int64"), graph.value("source_bias", ("sentences", 1, 1, "source"))]
    caches = list[str]()
    for layer in range(config.decoder_layers):
        at = f"decoder.{layer}"

        def read_own(x: str, at: str = at, layer: int = layer) -> str:
            new = blocks.read(x, f"{at}.self_attention", turn)
            past = (f"past_key.{layer}", f"past_value.{layer}")
            key, value = (graph.op("Concat", *pair, axis=2) for pair in zip(past, new, strict=True))
            caches.extend((graph.name(key, f"key.{layer}"), graph.name(value, f"value.{layer}")))
            return blocks.attend(x, f"{at}.self_attention", (key, value), None, turn)

        def read_source(x: str, at: str = at, layer: int = layer) -> str:
            source = (f"source_key.{layer}", f"source_value.{layer}")
            return blocks.attend(x, f"{at}.cross_attention", source, "source_bias", None)

        values = blocks.residual(values, f"{at}.residual_1", read_own)
        values = blocks.residual(values, f"{at}.residual_2", read_source)
        values = blocks.residual(values, f"{at}.residual_3", blocks.feed_forward(at))
        for name in ("key", "value"):
            inputs.append(graph.value(f"source_{name}.{layer}", ("sentences", heads[0], "source", heads[1])))
            inputs.append(graph.value(f"past_{name}.{layer}", ("rows", heads[0], "past", heads[1])))
    if config.norm_position == "pre":
        values = blocks.norm(values, "decoder_norm")
    outputs = [graph.value(graph.logits(graph.squeeze(values, 1), tied=config.tie != "none"), ("rows", "vocabulary"))]
    outputs += [graph.value(name, ("rows", heads[0], "read", heads[1])) for name in caches]
    return graph.model("decoder", inputs, outputs)


class _Blocks:
    """The parts of a block, added to a graph."""

    def __init__(self, graph: Graph, config: TransformerConfig) -> None:
        self._graph, self._config = graph, config
        split = (0, 0, config.heads, config.width_of_head)
        self._heads, self._joined = graph.constant(split, integer=True), graph.constant((0, 0, -1), integer=True)

    def embed(self, tokens: str, side: str, positions: str) -> str:
        """X + P of a side's tokens, and its norm."""
        graph = self._graph
        values = graph.embed(tokens, f"{side}_embedding.weight")
        if side == "target" and self._config.decoder_start == "zeros":
            others = graph.op("Not", graph.op("Equal", tokens, graph.constant([SOS], integer=True)))
            values = graph.op("Mul", values, graph.unsqueeze(graph.op("Cast", others, to=1), 2))
        if self._config.positions in ("sinusoidal", "tensor2tensor"):
            waves = self._waves(positions, self._config.width, steps=self._config.sinusoid_steps)
            values = graph.op("Add", values, graph.op("Concat", *waves, axis=1))
        if self._config.positions == "learned":
            # Beyond the last learned position, Gather raises an error.
            values = graph.op("Add", values, graph.op("Gather", graph.weight(f"{side}_positions.weight"), positions, axis=0))
        return self.norm(values, f"{side}_norm") if self._config.embedding_norm else values

    def _waves(self, positions: str, width: int, *, steps: int | None = None) -> tuple[str, str]:
        """Sine and cosine of the angles of some positions (T, width / 2)."""
        graph = self._graph
        numbers = graph.unsqueeze(graph.op("Cast", positions, to=1), 1)
        angles = graph.op("Mul", numbers, graph.array(f"frequencies_{width}", frequencies(width, steps=steps).numpy()))
        return graph.op("Sin", angles), graph.op("Cos", angles)

    def turn(self, positions: str) -> tuple[str, str] | None:
        """What turns queries and keys at some positions; None without rotary positions."""
        return self._waves(positions, self._config.width_of_head) if self._config.positions == "rotary" else None

    def _turned(self, heads: str, turn: tuple[str, str] | None) -> str:
        if turn is None:
            return heads
        graph, half = self._graph, self._config.width_of_head // 2
        first = graph.op("Split", heads, graph.constant((half, half), integer=True), axis=3, outputs=2)
        second, (sine, cosine) = f"{first}.1", turn
        left = graph.op("Sub", graph.op("Mul", first, cosine), graph.op("Mul", second, sine))
        right = graph.op("Add", graph.op("Mul", first, sine), graph.op("Mul", second, cosine))
        return graph.op("Concat", left, right, axis=3)

    def _split(self, values: str) -> str:
        return self._graph.op("Transpose", self._graph.op("Reshape", values, self._heads), perm=[0, 2, 1, 3])

    def read(self, values: str, at: str, turn: tuple[str, str] | None) -> tuple[str, str]:
        """Keys and values, head by head."""
        graph = self._graph
        key, value = (self._split(graph.layer(values, f"{at}.{name}")) for name in ("key", "value"))
        return self._turned(key, turn), value

    def attend(self, values: str, at: str, memory: tuple[str, str], bias: str | None, turn: tuple[str, str] | None) -> str:
        """softmax(QKᵀ/√E + bias)·V; keys and values of one sentence serve all its rows."""
        graph = self._graph
        query = self._turned(self._split(graph.layer(values, f"{at}.query")), turn)
        query = graph.op("Mul", query, graph.constant(self._config.width_of_head**-0.5))
        scores = graph.op("MatMul", query, graph.op("Transpose", memory[0], perm=[0, 1, 3, 2]))
        scores = scores if bias is None else graph.op("Add", scores, bias)
        context = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), memory[1])
        joined = graph.op("Reshape", graph.op("Transpose", context, perm=[0, 2, 1, 3]), self._joined)
        return graph.layer(joined, f"{at}.output")

    def feed_forward(self, at: str) -> Callable[[str], str]:
        """f(x·W1 + b1)·W2 + b2, and its gate."""

        def compute(x: str) -> str:
            graph = self._graph
            hidden = self._activated(graph.layer(x, f"{at}.feed_forward.expand"))
            if self._config.activation == "swiglu":
                hidden = graph.op("Mul", hidden, graph.layer(x, f"{at}.feed_forward.gate"))
            return graph.layer(hidden, f"{at}.feed_forward.contract")

        return compute

    def _activated(self, values: str) -> str:
        graph = self._graph
        match self._config.activation:
            case "relu":
                return graph.op("Relu", values)
            case "silu" | "swiglu":
                return graph.op("Mul", values, graph.op("Sigmoid", values))
            case "gelu":
                share = graph.op("Erf", graph.op("Mul", values, graph.constant(float(np.sqrt(0.5)))))
                half = graph.op("Mul", values, graph.constant(0.5))
                return graph.op("Mul", half, graph.op("Add", share, graph.constant(1.0)))

    def norm(self, values: str, at: str) -> str:
        """The configured norm."""
        match self._config.norm:
            case "layer":
                return self._graph.layer_norm(values, f"{at}.norm")
            case "rms":
                return self._graph.rms_norm(values, f"{at}.norm")
            case "batch":
                return self._graph.batch_norm(values, at)

    def residual(self, values: str, at: str, sublayer: Callable[[str], str]) -> str:
        """x + f(norm(x)), or norm(x + f(x))."""
        if self._config.norm_position == "pre":
            return self._graph.op("Add", values, sublayer(self.norm(values, f"{at}.norm")))
        return self.norm(self._graph.op("Add", values, sublayer(values)), f"{at}.norm")
