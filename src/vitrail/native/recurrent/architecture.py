"""What the engine knows of a recurrent model: its sizes and kinds of parts, from the configuration in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

RNN, GRU, LSTM = 0, 1, 2
NONE, BAHDANAU, DOT, GENERAL, CONCAT = 0, 1, 2, 3, 4
"""How the decoder attends: Bahdanau's query is the state before a step, those of the others the state after it."""
GATES = (1, 3, 4)
"""Of each kind of cell."""
_CELLS = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
_ATTENTION = {"none": NONE, "bahdanau": BAHDANAU, "luong-dot": DOT, "luong-general": GENERAL, "luong-concat": CONCAT}
_NORMS = ("none", "layer", "batch")


@dataclass(frozen=True)
class Architecture:
    """The sizes and parts of a model; letters as in `vitrail.nn`. A language model lacks an encoder, a classifier a decoder."""

    cell: int
    embedding_width: int
    """E"""
    width: int
    """D"""
    encoder_layers: int
    decoder_layers: int
    bidirectional: bool
    reverse_source: bool
    residual: bool
    norm: str
    attention: int
    input_feeding: bool
    scores_labels: bool

    @property
    def target_stack(self) -> str:
        """The name of the layers that read a target."""
        return "decoder" if self.encoder_layers else "cells"

    @property
    def target_embedding(self) -> str:
        """The name of the target's embeddings, where the output has others."""
        return "target_embedding.weight" if self.encoder_layers else "embedding.weight"

    @property
    def fed_width(self) -> int:
        """Numbers that a step reads beside the embedding: Bahdanau's context, or what the readout gave at the step before."""
        return self.width if self.attention == BAHDANAU else self.embedding_width if self.input_feeding else 0

    def only_encoder(self) -> "Architecture":
        """What makes vectors of sentences."""
        return replace(self, decoder_layers=0, attention=NONE, input_feeding=False, scores_labels=False)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Architecture":
        """The architecture of a configuration. Precondition: `obstacle(config)` is empty."""
        return cls(
            cell=_CELLS[config["cell"]],
            embedding_width=config["embedding_width"],
            width=config["width"],
            encoder_layers=config.get("encoder_layers", 0),
            decoder_layers=config.get("decoder_layers", config.get("layers", 0)),
            bidirectional=config.get("bidirectional", False),
            reverse_source=config.get("reverse_source", False),
            residual=config["residual"],
            norm=config["norm"],
            attention=_ATTENTION[config.get("attention", "none")],
            input_feeding=config.get("input_feeding", False),
            scores_labels=config["kind"] == "recurrent-classifier",
        )


def obstacle(config: Mapping[str, Any]) -> str:
    """Why the engine cannot compute with a recurrent model of this configuration; empty where it can."""
    for name, known in (("cell", _CELLS), ("attention", _ATTENTION), ("norm", _NORMS)):
        if name in config and config[name] not in known:
            return f"{name} {config[name]} is computed by torch"
    return ""


def tensor_shapes(config: Mapping[str, Any], *, source: int, target: int) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a model, tied ones once, under the names of its folder; all are float32.

    Args: source, target: sizes of the vocabularies; target: of a classifier, how many scores it has.
    Precondition: `obstacle(config)` is empty.
    """
    sizes = Architecture.of(config)
    encoder = _encoder_shapes(sizes)
    if sizes.scores_labels:
        return {"source_embedding.weight": (source, sizes.embedding_width)} | encoder | _linear_shapes("head.linear", target, sizes.width)
    return encoder | _decoder_shapes(config, sizes, source, target)


def _encoder_shapes(sizes: Architecture) -> dict[str, tuple[int, ...]]:
    width, found = sizes.width, dict[str, tuple[int, ...]]()
    names = ("forward_cell", "backward_cell") if sizes.bidirectional else ("forward_cell",)
    for layer in range(sizes.encoder_layers):
        for name in names:
            read = width if layer else sizes.embedding_width
            found |= _cell_shapes(f"encoder.{layer}.{name}", sizes, read, width // len(names))
    return found


def _decoder_shapes(config: Mapping[str, Any], sizes: Architecture, source: int, target: int) -> dict[str, tuple[int, ...]]:
    """Of the decoder, what it gets of the encoder, and embeddings."""
    width, embedding = sizes.width, sizes.embedding_width
    found: dict[str, tuple[int, ...]] = {"output_weight": (target, embedding), "output_bias": (target,)}
    if sizes.encoder_layers and config["tie"] != "all":
        found["source_embedding.weight"] = (source, embedding)
    if config["tie"] in ("none", False):
        found[sizes.target_embedding] = (target, embedding)
    for layer in range(sizes.decoder_layers):
        found |= _cell_shapes(f"{sizes.target_stack}.{layer}", sizes, width if layer else embedding + sizes.fed_width, width)
        for part in range((2 if sizes.cell == LSTM else 1) if sizes.encoder_layers else 0):
            found |= _linear_shapes(f"bridge.{layer}.parts.{part}", width, width)
    seen = width + (width if sizes.attention != NONE else 0) + (embedding if sizes.attention == BAHDANAU else 0)
    return found | _attention_shapes(sizes) | _linear_shapes("readout", embedding, seen)


def _linear_shapes(at: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{at}.weight": (outputs, inputs), f"{at}.bias": (outputs,)}


def _attention_shapes(sizes: Architecture) -> dict[str, tuple[int, ...]]:
    width, found = sizes.width, dict[str, tuple[int, ...]]()
    if sizes.attention in (BAHDANAU, GENERAL, CONCAT):
        found["attention.key.weight"] = (width, width)
    if sizes.attention in (BAHDANAU, CONCAT):
        found |= _linear_shapes("attention.query", width, width) | {"attention.vector": (width,)}
    return found


def _cell_shapes(at: str, sizes: Architecture, inputs: int, width: int) -> dict[str, tuple[int, ...]]:
    rows = GATES[sizes.cell] * width
    found: dict[str, tuple[int, ...]] = {f"{at}.input_weight": (rows, inputs), f"{at}.hidden_weight": (rows, width)}
    if sizes.norm == "none":
        found[f"{at}.input_bias"] = (rows,)
    if sizes.norm != "layer":
        found[f"{at}.hidden_bias"] = (rows,)
    if sizes.norm == "batch":
        found |= {f"{at}.batch_norm.{name}": (rows,) for name in ("weight", "bias", "running_mean", "running_variance")}
    if sizes.norm == "layer":
        found |= {f"{at}.layer_norms.{number}.{name}": (rows,) for number in (0, 1) for name in ("weight", "bias")}
        if sizes.cell == LSTM:
            found |= {f"{at}.cell_norm.{name}": (width,) for name in ("weight", "bias")}
    return found
