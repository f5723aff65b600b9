"""What the engine knows of a recurrent model: its sizes and kinds of parts, from the configuration in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
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
    """The sizes and parts of a recurrent translator; letters as in `vitrail.nn`."""

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

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Architecture":
        """The architecture of a configuration. Precondition: `obstacle(config)` is empty."""
        return cls(
            cell=_CELLS[config["cell"]],
            embedding_width=config["embedding_width"],
            width=config["width"],
            encoder_layers=config["encoder_layers"],
            decoder_layers=config["decoder_layers"],
            bidirectional=config["bidirectional"],
            reverse_source=config["reverse_source"],
            residual=config["residual"],
            norm=config["norm"],
            attention=_ATTENTION[config["attention"]],
            input_feeding=config["input_feeding"],
        )


def obstacle(config: Mapping[str, Any]) -> str:
    """Why the engine cannot compute with a recurrent model of this configuration; empty where it can."""
    for name, known in (("cell", _CELLS), ("attention", _ATTENTION), ("norm", _NORMS)):
        if config[name] not in known:
            return f"{name} {config[name]} is computed by torch"
    return ""
