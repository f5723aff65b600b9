"""What the engine knows of a model: its sizes and kinds of parts, from the configuration in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LAYER_NORM, RMS_NORM, AFFINE = 0, 1, 2
"""Kinds of norms; batch norm is a factor and a term for each number once its training is over."""
RELU, GELU, SWIGLU, SILU = 0, 1, 2, 3
_NORMS = {"layer": LAYER_NORM, "rms": RMS_NORM, "batch": AFFINE}
_ACTIVATIONS = {"relu": RELU, "gelu": GELU, "silu": SILU, "swiglu": SWIGLU}
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
    """Why the engine cannot compute with a Transformer of this configuration; empty where it can."""
    for name, known in (("activation", _ACTIVATIONS), ("norm", _NORMS), ("positions", _POSITIONS)):
        if config[name] not in known:
            return f"{name} {config[name]} is computed by torch"
    return ""


def tensor_shapes(config: Mapping[str, Any], *, source: int, target: int) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a model, tied ones once, under the names of its folder; all are float32.

    Args: source, target: sizes of the vocabularies.
    Precondition: `obstacle(config)` is empty.
    """
    found = _embedding_shapes(config, source, target)
    width = config["width"]
    for side, attentions in (("encoder", ("self",)), ("decoder", ("self", "cross"))):
        for layer in range(config[f"{side}_layers"]):
            at = f"{side}.{layer}"
            for name in attentions:
                found |= _attention_shapes(f"{at}.{name}_attention", Architecture.of(config))
            found |= _feed_forward_shapes(f"{at}.feed_forward", config)
            for number in range(1, len(attentions) + 2):
                found |= _norm_shapes(f"{at}.residual_{number}.norm", config["norm"], width)
        if config["norm_position"] == "pre":
            found |= _norm_shapes(f"{side}_norm", config["norm"], width)
    return found


def _embedding_shapes(config: Mapping[str, Any], source: int, target: int) -> dict[str, tuple[int, ...]]:
    width, tie = config["width"], config["tie"]
    found: dict[str, tuple[int, ...]] = {"output_weight": (target, width)}
    if config.get("output_bias"):
        found["output_bias"] = (target,)
    if tie != "all":
        found["source_embedding.weight"] = (source, width)
    if tie == "none":
        found["target_embedding.weight"] = (target, width)
    for side in ("source", "target"):
        if config["positions"] == "learned":
            found[f"{side}_positions.weight"] = (config["max_positions"], width)
        if config["embedding_norm"]:
            found |= _norm_shapes(f"{side}_norm", config["norm"], width)
    return found


def _attention_shapes(at: str, sizes: Architecture) -> dict[str, tuple[int, ...]]:
    width, heads = sizes.width, sizes.heads * sizes.head_width
    inner = {f"{at}.{name}": (heads, width) for name in ("query", "key", "value")}
    return _linear_shapes(inner | {f"{at}.output": (width, heads)})


def _feed_forward_shapes(at: str, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    width, hidden = config["width"], config["feed_forward"]
    names = ("expand", "gate") if config["activation"] == "swiglu" else ("expand",)
    return _linear_shapes({f"{at}.{name}": (hidden, width) for name in names} | {f"{at}.contract": (width, hidden)})


def _linear_shapes(matrices: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, ...]]:
    """Each matrix, and its bias."""
    return {f"{at}.weight": shape for at, shape in matrices.items()} | {f"{at}.bias": shape[:1] for at, shape in matrices.items()}


def _norm_shapes(at: str, norm: str, width: int) -> dict[str, tuple[int, ...]]:
    names = {"layer": ("norm.weight", "norm.bias"), "rms": ("norm.weight",)}
    batch = ("weight", "bias", "running_mean", "running_variance")
    return {f"{at}.{name}": (width,) for name in names.get(norm, batch)}
