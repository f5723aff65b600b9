"""What the engine knows of a model: its sizes and kinds of parts, from the configuration in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LAYER_NORM, RMS_NORM, AFFINE = 0, 1, 2
"""Kinds of norms; batch norm is a factor and a term for each number once its training is over."""
RELU, GELU, SWIGLU = 0, 1, 2
_NORMS = {"layer": LAYER_NORM, "rms": RMS_NORM, "batch": AFFINE}
_ACTIVATIONS = {"relu": RELU, "gelu": GELU, "swiglu": SWIGLU}
_POSITIONS = ("sinusoidal", "learned", "rotary", "none")


@dataclass(frozen=True)
class Architecture:
    """The sizes and parts of a Transformer that translates; letters as in `vitrail.nn`."""

    width: int
    """D"""
    heads: int
    """H"""
    head_width: int
    """E"""
    feed_forward: int
    """F"""
    encoder_layers: int
    decoder_layers: int
    activation: int
    norm: int
    pre_norm: bool
    """Norms before the sublayers and one at the end, or after each sum."""
    positions: str
    max_positions: int
    """Of learned positions."""
    embedding_norm: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Architecture":
        """The architecture of a configuration. Precondition: `obstacle(config)` is empty."""
        return cls(
            width=config["width"],
            heads=config["heads"],
            head_width=config["head_width"] or config["width"] // config["heads"],
            feed_forward=config["feed_forward"],
            encoder_layers=config["encoder_layers"],
            decoder_layers=config["decoder_layers"],
            activation=_ACTIVATIONS[config["activation"]],
            norm=_NORMS[config["norm"]],
            pre_norm=config["norm_position"] == "pre",
            positions=config["positions"],
            max_positions=config["max_positions"],
            embedding_norm=config["embedding_norm"],
        )


def obstacle(config: Mapping[str, Any]) -> str:
    """Why the engine cannot compute with a model of this configuration; empty where it can."""
    if config["kind"] != "transformer":
        return f"a model of kind {config['kind']} is computed by torch"
    for name, known in (("activation", _ACTIVATIONS), ("norm", _NORMS), ("positions", _POSITIONS)):
        if config[name] not in known:
            return f"{name} {config[name]} is computed by torch"
    if config.get("output_bias"):
        return "a bias on the output is computed by torch"
    return ""
