"""Recurrent encoder-decoders as two graphs: the encoder with the decoder's first state, and one step of the decoder."""

from collections.abc import Sequence

from vitrail.export.onnx.graph import Graph, Tensors
from vitrail.export.onnx.parts import Carried, Graphs
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.nn.options import CELL_SIZES


def recurrent_graphs(config: RecurrentConfig, tensors: Tensors) -> Graphs:
    """Both graphs, and what passes between them."""
    parts = range(CELL_SIZES[config.cell].parts)
    carried = [
        Carried(f"carry.{layer}.{part}", f"next.{layer}.{part}", start=f"start.{layer}.{part}")
        for layer in range(config.decoder_layers)
        for part in parts
    ]
    if config.input_feeding:
        carried.append(Carried("fed", "next_fed", zeros=(config.embedding_width,)))
    given = () if config.attention == "none" else ("memory", "keys", "source_bias")
    return Graphs(_encoder(config, tensors), _decoder(config, tensors), given, tuple(carried))


def _encoder(config: RecurrentConfig, tensors: Tensors) -> bytes:
    graph = Graph(tensors)
    layers = _Layers(graph, config)
    keep = graph.op("Not", graph.op("Equal", "source", graph.constant(0, integer=True)))
    values = graph.embed("source", "source_embedding.weight")
    order = layers.reversed_order(keep) if config.reverse_source else None
    values = layers.reordered(values, order)
    last = list[str]()
    for layer in range(config.encoder_layers):
        outputs, carry = layers.both_directions(values, f"encoder.{layer}", keep)
        values = graph.op("Add", outputs, values) if config.residual and layer else outputs
        last += carry
    memory = graph.name(layers.reordered(values, order), "memory")
    outputs = [graph.value(memory, ("sentences", "source", config.width))]
    if config.attention != "none":
        keys = graph.linear(memory, "attention.key.weight") if graph.has("attention.key.weight") else memory
        outputs.append(graph.value(graph.name(keys, "keys"), ("sentences", "source", "key")))
        outputs.append(graph.value(graph.name(graph.padding_bias("source", 1), "source_bias"), ("sentences", 1, "source")))
    outputs += [graph.value(name, ("sentences", config.width)) for name in layers.first_carries(last)]
    return graph.model("encoder", [graph.value("source", ("sentences", "source"), kind="int64")], outputs)


def _decoder(config: RecurrentConfig, tensors: Tensors) -> bytes:
    graph = Graph(tensors)
    layers = _Layers(graph, config)
    parts = range(CELL_SIZES[config.cell].parts)
    embedded = graph.embed("last", "target_embedding.weight")
    context = layers.attend(f"carry.{config.decoder_layers - 1}.0") if config.attention == "bahdanau" else None
    read = [embedded, *([] if context is None else [context]), *(["fed"] if config.input_feeding else [])]
    values = graph.op("Concat", *read, axis=1)
    inputs = [graph.value("last", ("rows",), kind="int64")]
    states = list[str]()
    for layer in range(config.decoder_layers):
        carry = [f"carry.{layer}.{part}" for part in parts]
        at = f"decoder.{layer}"
        after = layers.step(graph, at, layers.project(graph, at, values), carry)
        states += [graph.name(value, f"next.{layer}.{part}") for part, value in enumerate(after)]
        values = graph.op("Add", after[0], values) if config.residual and layer else after[0]
        inputs += [graph.value(name, ("rows", config.width)) for name in carry]
    seen = [values]
    if context is not None:
        seen += [context, embedded]
    elif config.attention != "none":
        seen.append(layers.attend(values))
    hidden = graph.op("Tanh", graph.layer(graph.op("Concat", *seen, axis=1), "readout"))
    outputs = [graph.value(graph.logits(hidden, tied=config.tie != "none"), ("rows", "vocabulary"))]
    outputs += [graph.value(name, ("rows", config.width)) for name in states]
    if config.input_feeding:
        inputs.append(graph.value("fed", ("rows", config.embedding_width)))
        outputs.append(graph.value(graph.name(hidden, "next_fed"), ("rows", config.embedding_width)))
    if config.attention != "none":
        inputs.append(graph.value("memory", ("sentences", "source", config.width)))
        inputs.append(graph.value("keys", ("sentences", "source", "key")))
        inputs.append(graph.value("source_bias", ("sentences", 1, "source")))
    return graph.model("decoder", inputs, outputs)


class _Layers:
    """Layers of cells, added to a graph."""

    def __init__(self, graph: Graph, config: RecurrentConfig) -> None:
        self._graph, self._config = graph, config

    def project(self, graph: Graph, at: str, values: str) -> str:
        """The input's part of every gate, W·x + b, and its norm."""
        found = graph.linear(values, f"{at}.input_weight", f"{at}.input_bias")
        match self._config.norm:
            case "none":
                return found
            case "layer":
                return graph.layer_norm(found, f"{at}.layer_norms.0")
            case "batch":
                return graph.batch_norm(found, f"{at}.batch_norm")

    def step(self, graph: Graph, at: str, projected: str, carry: Sequence[str]) -> list[str]:
        """One time step: the equations of `vitrail.nn.cells`."""
        hidden = graph.linear(carry[0], f"{at}.hidden_weight", f"{at}.hidden_bias")
        if self._config.norm == "layer":
            hidden = graph.layer_norm(hidden, f"{at}.layer_norms.1")
        match self._config.cell:
            case "rnn":
                return [graph.op("Tanh", graph.op("Add", projected, hidden))]
            case "gru":
                return [_gru(graph, _gates(graph, projected, 3), _gates(graph, hidden, 3), carry[0])]
            case "lstm":
                norm = f"{at}.cell_norm" if self._config.norm == "layer" else ""
                return _lstm(graph, _gates(graph, graph.op("Add", projected, hidden), 4), carry[1], norm)

    def both_directions(self, values: str, at: str, keep: str) -> tuple[str, list[str]]:
        """The hidden states of a layer of the encoder at every position, and its last carry."""
        outputs, last = self._run(values, f"{at}.forward_cell", keep, backwards=False)
        if not self._config.bidirectional:
            return outputs, last
        behind, first = self._run(values, f"{at}.backward_cell", keep, backwards=True)
        both = [self._graph.op("Concat", *pair, axis=1) for pair in zip(last, first, strict=True)]
        return self._graph.op("Concat", outputs, behind, axis=2), both

    def _run(self, values: str, at: str, keep: str, *, backwards: bool) -> tuple[str, list[str]]:
        """One cell over the positions, from zeros. Padding comes last and does not change the carry: backwards, that is the first one."""
        graph, inner = self._graph, self._graph.inner()
        width = graph.tensor(f"{at}.hidden_weight").shape[1]
        parts = range(CELL_SIZES[self._config.cell].parts)
        names = [f"{at}.before.{part}" for part in parts]
        after = self.step(inner, at, f"{at}.projected", names)
        real = inner.unsqueeze(f"{at}.real", 1)
        kept = [inner.op("Where", real, new, old) for new, old in zip(after, names, strict=True)]
        ends = [inner.name(value, f"{at}.after.{part}") for part, value in enumerate(kept)]
        shown = inner.name(kept[0], f"{at}.shown")
        states = [graph.value(name, ("sentences", width)) for name in names]
        read = [graph.value(f"{at}.projected", ("sentences", "gates")), graph.value(f"{at}.real", ("sentences",), kind="bool")]
        body = inner.body([*states, *read], [graph.value(name, ("sentences", width)) for name in [*ends, shown]])
        shape = graph.op("Concat", graph.size("source", 0), graph.constant([width], integer=True), axis=0)
        zeros = graph.op("ConstantOfShape", shape)
        directions = {"scan_input_directions": [1, 1], "scan_output_directions": [1]} if backwards else {}
        found = graph.op(
            "Scan",
            *([zeros] * len(names)),
            self.project(graph, at, values),
            keep,
            outputs=len(names) + 1,
            body=body,
            num_scan_inputs=2,
            scan_input_axes=[1, 1],
            scan_output_axes=[1],
            **directions,
        )
        results = [found, *(f"{found}.{number}" for number in range(1, len(names) + 1))]
        return results[-1], results[:-1]

    def reversed_order(self, keep: str) -> str:
        """For each position the one that is read there: real ones from last to first, but for the last of all, which stays."""
        graph = self._graph
        numbers = graph.op("Cast", keep, to=7)
        count = graph.op("ReduceSum", numbers, graph.constant([1], integer=True), keepdims=1)
        last = graph.op("Sub", count, graph.constant(2, integer=True))
        places = graph.places("source")
        turned = graph.op("Where", graph.op("LessOrEqual", places, last), graph.op("Sub", last, places), places)
        return graph.unsqueeze(turned, 2)

    def reordered(self, values: str, order: str | None) -> str:
        """Positions in another order; None: as they are."""
        return values if order is None else self._graph.op("GatherND", values, order, batch_dims=1)

    def first_carries(self, last: Sequence[str]) -> list[str]:
        """The decoder's first carries from the encoder's last: see `Recurrent.start`."""
        graph, parts = self._graph, CELL_SIZES[self._config.cell].parts
        surplus = self._config.encoder_layers - self._config.decoder_layers
        names = list[str]()
        for layer in range(self._config.decoder_layers):
            below = max(0, layer + surplus)
            for part in range(parts):
                value = graph.layer(last[below * parts + part], f"bridge.{layer}.parts.{part}")
                names.append(graph.name(value if part else graph.op("Tanh", value), f"start.{layer}.{part}"))
        return names

    def attend(self, query: str) -> str:
        """The attention's output (rows, D) for the decoder's state; the source of one sentence serves all its rows."""
        graph = self._graph
        if self._config.attention in ("bahdanau", "luong-concat"):
            asked = graph.unsqueeze(graph.layer(query, "attention.query"), 1)
            mixed = graph.op("Tanh", graph.op("Add", asked, "keys"))
            vector = graph.array("attention.vector.column", graph.tensor("attention.vector")[:, None])
            scores = graph.op("Transpose", graph.op("MatMul", mixed, vector), perm=[0, 2, 1])
        else:
            keys = graph.op("Transpose", "keys", perm=[0, 2, 1])
            scores = graph.op("MatMul", graph.unsqueeze(query, 1), keys)
        weights = graph.op("Softmax", graph.op("Add", scores, "source_bias"), axis=-1)
        return graph.squeeze(graph.op("MatMul", weights, "memory"), 1)


def _gates(graph: Graph, values: str, gates: int) -> list[str]:
    """Equal parts of (rows, GD)."""
    found = graph.op("Split", values, axis=1, outputs=gates)
    return [found, *(f"{found}.{number}" for number in range(1, gates))]


def _gru(graph: Graph, read: Sequence[str], kept: Sequence[str], hidden: str) -> str:
    reset, update = (graph.op("Sigmoid", graph.op("Add", read[gate], kept[gate])) for gate in (0, 1))
    candidate = graph.op("Tanh", graph.op("Add", read[2], graph.op("Mul", reset, kept[2])))
    return graph.op("Add", candidate, graph.op("Mul", update, graph.op("Sub", hidden, candidate)))


def _lstm(graph: Graph, gates: Sequence[str], cell: str, norm: str) -> list[str]:
    write, forget, show = (graph.op("Sigmoid", gates[gate]) for gate in (0, 1, 3))
    kept = graph.op("Mul", forget, cell)
    after = graph.op("Add", kept, graph.op("Mul", write, graph.op("Tanh", gates[2])))
    shown = graph.layer_norm(after, norm) if norm else after
    return [graph.op("Mul", show, graph.op("Tanh", shown)), after]
