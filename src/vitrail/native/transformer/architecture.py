"""What the engine knows of a model: its sizes and kinds of parts, from the configuration in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

LAYER_NORM, RMS_NORM, AFFINE = 0, 1, 2
"""Kinds of norms; batch norm is a factor and a term for each number once its training is over."""
RELU, GELU, SWIGLU, SILU = 0, 1, 2, 3
_NORMS = {"layer": LAYER_NORM, "rms": RMS_NORM, "batch": AFFINE}
_ACTIVATIONS = {"relu": RELU, "gelu": GELU, "silu": SILU, "swiglu": SWIGLU}
_POSITIONS = ("sinusoidal", "tensor2tensor", "learned", "rotary", "none")
Output = Literal["tokens", "guesses", "labels", "none"]
"""Scores: of next tokens; of hidden tokens, by a masked language model; of labels; or none."""
_OUTPUTS: dict[str, Output] = {
    "transformer": "tokens",
    "causal-language": "tokens",
    "masked-language": "guesses",
    "transformer-classifier": "labels",
}
"""By kind of model."""


@dataclass(frozen=True)
class Architecture:
    """The sizes and parts of a Transformer; letters as in `vitrail.nn`. It may lack an encoder (and attention to it), or a decoder."""

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
    output: Output
    recurs: bool
    """Whether the decoder has SSRUs in place of self-attention."""
    starts_from_zeros: bool
    """Whether the decoder's first input is a vector of zeros, in place of the embedding of <s>."""
    context: int
    """Tokens that a language model looks back over at most; 0: all."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Architecture":
        """The architecture of a configuration. Precondition: `obstacle(config)` is empty."""
        return cls(
            width=config["width"],
            heads=config["heads"],
            head_width=config["head_width"] or config["width"] // config["heads"],
            feed_forward=config["feed_forward"],
            encoder_layers=config.get("encoder_layers", 0),
            decoder_layers=config.get("decoder_layers", config.get("layers", 0)),
            activation=_ACTIVATIONS[config["activation"]],
            norm=_NORMS[config["norm"]],
            pre_norm=config["norm_position"] == "pre",
            positions=config["positions"],
            max_positions=config["max_positions"],
            embedding_norm=config["embedding_norm"],
            output=_OUTPUTS[config["kind"]],
            recurs=config.get("decoder") == "ssru",
            starts_from_zeros=config.get("decoder_start") == "zeros",
            context=config["context"] if config["kind"] == "causal-language" else 0,
        )

    def only_encoder(self) -> "Architecture":
        """What makes vectors of sentences."""
        return replace(self, decoder_layers=0, output="none")


def obstacle(config: Mapping[str, Any]) -> str:
    """Why the engine cannot compute with a Transformer of this configuration; empty where it can."""
    for name, known in (("activation", _ACTIVATIONS), ("norm", _NORMS), ("positions", _POSITIONS)):
        if config[name] not in known:
            return f"{name} {config[name]} is computed by torch"
    return ""


def tensor_shapes(config: Mapping[str, Any], *, source: int, target: int) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a model, tied ones once, under the names of its folder; all are float32.

    Args: source, target: sizes of the vocabularies; target: of a classifier, how many scores it has.
    Precondition: `obstacle(config)` is empty.
    """
    sizes = Architecture.of(config)
    found = _output_shapes(config, source, target)
    width, own = config["width"], "recurrence" if sizes.recurs else "self_attention"
    crossed = ("cross_attention",) if sizes.encoder_layers else ()
    sides = (("encoder", sizes.encoder_layers, ("self_attention",)), ("decoder", sizes.decoder_layers, (own, *crossed)))
    for side, layers, readers in sides:
        for layer in range(layers):
            at = f"{side}.{layer}"
            for name in readers:
                found |= _ssru_shapes(f"{at}.{name}", width) if name == "recurrence" else _attention_shapes(f"{at}.{name}", sizes)
            found |= _feed_forward_shapes(f"{at}.feed_forward", config)
            for number in range(1, len(readers) + 2):
                found |= _norm_shapes(f"{at}.residual_{number}.norm", config["norm"], width)
        if layers and config["norm_position"] == "pre":
            found |= _norm_shapes(f"{side}_norm", config["norm"], width)
    for side, layers in (("source", sizes.encoder_layers), ("target", sizes.decoder_layers)):
        if layers and config["positions"] == "learned":
            found[f"{side}_positions.weight"] = (config["max_positions"], width)
        if layers and config["embedding_norm"]:
            found |= _norm_shapes(f"{side}_norm", config["norm"], width)
    return found


def _output_shapes(config: Mapping[str, Any], source: int, target: int) -> dict[str, tuple[int, ...]]:
    """Of embeddings, and of what makes the scores."""
    width = config["width"]
    found: dict[str, tuple[int, ...]] = {}
    match config["kind"]:
        case "transformer":
            found["output_weight"] = (target, width)
            if config.get("output_bias"):
                found["output_bias"] = (target,)
            if config["tie"] != "all":
                found["source_embedding.weight"] = (source, width)
            if config["tie"] == "none":
                found["target_embedding.weight"] = (target, width)
        case "causal-language":
            found["output_weight"] = (target, width)
            if not config["tie"]:
                found["target_embedding.weight"] = (target, width)
        case "masked-language":
            rows = source + 1  # the mask is the last
            found |= {"output_weight": (rows, width), "output_bias": (rows,)}
            found |= _linear_shapes({"readout": (width, width)}) | _norm_shapes("readout_norm", config["norm"], width)
            if not config["tie"]:
                found["source_embedding.weight"] = (rows, width)
        case _:
            found["source_embedding.weight"] = (source, width)
            found |= _linear_shapes({"head.linear": (target, width)})
    return found


def _attention_shapes(at: str, sizes: Architecture) -> dict[str, tuple[int, ...]]:
    width, heads = sizes.width, sizes.heads * sizes.head_width
    inner = {f"{at}.{name}": (heads, width) for name in ("query", "key", "value")}
    return _linear_shapes(inner | {f"{at}.output": (width, heads)})


def _ssru_shapes(at: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{at}.candidate.weight": (width, width)} | _linear_shapes({f"{at}.forget": (width, width)})


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
