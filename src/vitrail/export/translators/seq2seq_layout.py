"""Translators in the layouts of Hugging Face's Marian (post-norm) and Pegasus (pre-norm): configuration and names of weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from vitrail.config import reason
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, Vocabularies
from vitrail.errors import ModelError, UsageError
from vitrail.export.layouts import Weight
from vitrail.models.configs.transformer import TransformerConfig

Seq2SeqType = Literal["marian", "pegasus"]
CLASSES: dict[Seq2SeqType, str] = {"marian": "MarianMTModel", "pegasus": "PegasusForConditionalGeneration"}
SHARED, SOURCE, TARGET = "model.shared.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"
OUTPUT, BIAS = "lm_head.weight", "final_logits_bias"
POSITIONS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")
MAX_LENGTH = 512
_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "silu": "silu"}
_READ_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_python": "gelu", "silu": "silu", "swish": "silu"}


def type_for(config: Any, vocabularies: Vocabularies) -> Seq2SeqType:
    """The layout that holds a model. Raises UsageError naming each setting that none holds."""
    if not isinstance(config, TransformerConfig) or config.kind != "transformer":
        raise UsageError(f"model.kind = {config.kind}", expected="a Transformer that translates, for --to huggingface")
    type: Seq2SeqType = "marian" if config.norm_position == "post" else "pegasus"
    wanted: dict[str, Any] = {"norm": "layer", "positions": "sinusoidal", "embedding_norm": False, "decoder": "attention"}
    faults = [f"model.{name} = {getattr(config, name)}" for name, value in wanted.items() if getattr(config, name) != value]
    if config.activation not in _ACTIVATIONS:
        faults.append(f"model.activation = {config.activation}")
    if config.width_of_head * config.heads != config.width:
        faults.append(f"model.head_width = {config.head_width}")
    if type == "pegasus" and config.tie != "all":
        faults.append(f"model.tie = {config.tie} with pre-norm")
    if faults:
        raise UsageError(
            f"{', '.join(faults)}: not what the layouts of Marian and Pegasus hold",
            expected="layer norm, sinusoidal positions, self-attention, relu, gelu or silu; with pre-norm, embeddings shared by both sides",
            remedy="vitrail export --to ctranslate2, or train with these settings",
        )
    return type


def seq2seq_layout(config: TransformerConfig) -> list[Weight]:
    """The weights but for the output's bias and positions. Embeddings are scaled by sqrt(D) there as here."""
    match config.tie:
        case "all":
            found = [Weight(SHARED, ("output_weight",))]
        case "target":
            found = [Weight(SOURCE, ("source_embedding.weight",)), Weight(TARGET, ("output_weight",))]
        case "none":
            found = [
                Weight(SOURCE, ("source_embedding.weight",)),
                Weight(TARGET, ("target_embedding.weight",)),
                Weight(OUTPUT, ("output_weight",)),
            ]
    sides = (("encoder", config.encoder_layers), ("decoder", config.decoder_layers))
    for side, layers in sides:
        if config.norm_position == "pre":
            found += _affine(f"model.{side}.layer_norm", f"{side}_norm.norm")
        for layer in range(layers):
            theirs, ours = f"model.{side}.layers.{layer}", f"{side}.{layer}"
            found += _attention(f"{theirs}.self_attn", ours, ("self_attention", "residual_1"))
            if side == "decoder":
                found += _attention(f"{theirs}.encoder_attn", ours, ("cross_attention", "residual_2"))
            found += _affine(f"{theirs}.fc1", f"{ours}.feed_forward.expand")
            found += _affine(f"{theirs}.fc2", f"{ours}.feed_forward.contract")
            found += _affine(f"{theirs}.final_layer_norm", f"{ours}.residual_{2 if side == 'encoder' else 3}.norm.norm")
    return found


def _affine(theirs: str, ours: str) -> list[Weight]:
    return [Weight(f"{theirs}.{part}", (f"{ours}.{part}",)) for part in ("weight", "bias")]


def _attention(theirs: str, at: str, names: tuple[str, str]) -> list[Weight]:
    """An attention and its norm. Args: at: our block. names: of the attention and of its residual connection."""
    found: list[Weight] = []
    for name, own in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "output")):
        found += _affine(f"{theirs}.{name}", f"{at}.{names[0]}.{own}")
    return [*found, *_affine(f"{theirs}_layer_norm", f"{at}.{names[1]}.norm.norm")]


def seq2seq_config(type: Seq2SeqType, config: TransformerConfig, *, sizes: tuple[int, int]) -> dict[str, Any]:
    """The content of config.json. Args: sizes: of both vocabularies."""
    separate = {"share_encoder_decoder_embeddings": config.tie == "all"} if type == "marian" else {}
    return {
        "architectures": [CLASSES[type]],
        "model_type": type,
        "vocab_size": sizes[0],
        **({"decoder_vocab_size": sizes[1]} if type == "marian" else {}),
        **separate,
        "d_model": config.width,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.feed_forward,
        "decoder_ffn_dim": config.feed_forward,
        "activation_function": _ACTIVATIONS[config.activation],
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "scale_embedding": True,
        "max_position_embeddings": MAX_LENGTH,
        "is_encoder_decoder": True,
        "pad_token_id": PAD,
        "bos_token_id": SOS,
        "eos_token_id": EOS,
        "decoder_start_token_id": SOS,
        "forced_eos_token_id": None,
        "tie_word_embeddings": config.tie != "none",
    }


def require_known(config: Mapping[str, Any], *, origin: Path) -> None:
    """Raise ModelError for another layout than these."""
    if config.get("model_type") not in CLASSES:
        raise ModelError(f"{origin}: model_type {config.get('model_type')!r}", expected="marian or pegasus, for a translator")


def read_shape(config: Mapping[str, Any], *, origin: Path, tie: str, bias: bool) -> TransformerConfig:
    """Our configuration of a model in one of the layouts.

    Args:   tie: which embeddings are shared. bias: whether the output has one.
    Raises: ModelError for what ours cannot hold, by name. Precondition: `require_known`.
    """
    activation = config.get("activation_function", "gelu")
    if activation not in _READ_ACTIVATIONS:
        raise ModelError(f"{origin}: activation_function {activation!r}", expected=" ".join(_READ_ACTIVATIONS))
    for name in ("attention_heads", "ffn_dim"):
        both = [config.get(f"{side}_{name}") for side in ("encoder", "decoder")]
        if both[0] != both[1]:
            raise ModelError(f"{origin}: encoder_{name} {both[0]}, decoder_{name} {both[1]}", expected="the same in both")
    sizes = {"width": "d_model", "heads": "encoder_attention_heads", "feed_forward": "encoder_ffn_dim"}
    sizes |= {name: name for name in ("encoder_layers", "decoder_layers")}
    rates = {name: config.get(name, 0.0) for name in ("dropout", "attention_dropout", "activation_dropout")}
    try:
        return TransformerConfig.model_validate(
            {name: config[theirs] for name, theirs in sizes.items()}
            | rates
            | {"activation": _READ_ACTIVATIONS[activation], "norm_position": "post" if config["model_type"] == "marian" else "pre"}
            | {"tie": tie, "output_bias": bias}
        )
    except (KeyError, ValidationError) as error:
        raise ModelError(f"{origin}: {reason(error)}", expected="the configuration of a Marian or Pegasus model") from None
