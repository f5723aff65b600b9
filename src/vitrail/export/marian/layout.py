"""Our Transformer in Marian's terms: names of its weights, and the settings that lie beside them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vitrail.models.configs.transformer import TransformerConfig

SETTINGS = "special:model.yml"
ACTIVATIONS = {"relu": "relu", "silu": "swish"}
SIZES = {"enc-depth": "encoder_layers", "dec-depth": "decoder_layers", "transformer-heads": "heads", "dim-emb": "width"}
NORM_STEPS = {"pre": ("n", "da", "n"), "post": ("", "dan", "")}
"""transformer-preprocess, -postprocess and -postprocess-top."""
_OTHERS: dict[str, Any] = {
    "bert-train-type-embeddings": True,
    "bert-type-vocab-size": 2,
    "dim-rnn": 1024,
    "enc-cell": "gru",
    "enc-cell-depth": 1,
    "dec-cell-base-depth": 2,
    "dec-cell-high-depth": 1,
    "enc-type": "bidirectional",
    "factors-combine": "sum",
    "factors-dim-emb": 0,
    "input-types": [],
    "layer-normalization": False,
    "lemma-dependency": "",
    "lemma-dim-emb": 0,
    "right-left": False,
    "skip": False,
    "output-omit-bias": False,
    "tied-embeddings-src": False,
    "transformer-aan-activation": "swish",
    "transformer-aan-depth": 2,
    "transformer-aan-nogate": False,
    "transformer-depth-scaling": False,
    "transformer-dim-aan": 2048,
    "transformer-ffn-depth": 2,
    "transformer-guided-alignment-layer": "last",
    "transformer-no-projection": False,
    "transformer-postprocess-emb": "d",
    "transformer-tied-layers": [],
    "transformer-train-position-embeddings": False,
    "type": "transformer",
    "ulr": False,
    "ulr-dim-emb": 0,
    "ulr-trainable-transformation": False,
    "version": "v1.9.0",
}
"""Settings that say nothing of a model of ours, or the same of each, without which Marian does not read it."""


def settings_of(config: TransformerConfig, sizes: Sequence[int]) -> str:
    """The YAML beside the weights. Args: sizes: of both vocabularies."""
    before, after, top = NORM_STEPS[config.norm_position]
    table: dict[str, Any] = _OTHERS | {
        **{theirs: getattr(config, ours) for theirs, ours in SIZES.items()},
        "dec-cell": "ssru" if config.decoder == "ssru" else "gru",
        "transformer-dim-ffn": config.feed_forward,
        "transformer-ffn-activation": ACTIVATIONS[config.activation],
        "transformer-preprocess": before,
        "transformer-postprocess": after,
        "transformer-postprocess-top": top,
        "transformer-decoder-autoreg": "rnn" if config.decoder == "ssru" else "self-attention",
        "tied-embeddings": config.tie == "target",
        "tied-embeddings-all": config.tie == "all",
    }
    lines = [f"{name}: {json.dumps(value)}" for name, value in sorted(table.items())]
    return "\n".join([*lines, f"dim-vocabs:\n  - {sizes[0]}\n  - {sizes[1]}"]) + "\n"


def names_of(config: TransformerConfig) -> dict[str, str]:
    """Their name of each of our weights but embeddings and output; matrices are turned round there, vectors are rows."""
    suffix = "_pre" if config.norm_position == "pre" else ""
    found: dict[str, str] = {}
    for side, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        for layer in range(layers):
            at, there = f"{side}.{layer}", f"{side}_l{layer + 1}"
            recurs = side == "decoder" and config.decoder == "ssru"
            norms = [f"{there}_rnn_ffn_ln" if recurs else f"{there}_self_Wo_ln"]
            found |= _ssru(at, there) if recurs else _attention(f"{at}.self_attention", f"{there}_self")
            if side == "decoder":
                norms.append(f"{there}_context_Wo_ln")
                found |= _attention(f"{at}.cross_attention", f"{there}_context")
            for part, number in (("expand", 1), ("contract", 2)):
                found |= _pair(f"{at}.feed_forward.{part}", f"{there}_ffn_W{number}", f"{there}_ffn_b{number}")
            for number, norm in enumerate([*norms, f"{there}_ffn_ffn_ln"], start=1):
                found |= _pair(f"{at}.residual_{number}.norm.norm", f"{norm}_scale{suffix}", f"{norm}_bias{suffix}")
        if config.norm_position == "pre":
            found |= _pair(f"{side}_norm.norm", f"{side}_top_ln_scale", f"{side}_top_ln_bias")
    return found


def _attention(ours: str, theirs: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part, letter in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
        found |= _pair(f"{ours}.{part}", f"{theirs}_W{letter}", f"{theirs}_b{letter}")
    return found


def _ssru(at: str, there: str) -> dict[str, str]:
    return {f"{at}.recurrence.candidate.weight": f"{there}_rnn_W"} | _pair(f"{at}.recurrence.forget", f"{there}_rnn_Wf", f"{there}_rnn_bf")


def _pair(ours: str, weight: str, bias: str) -> dict[str, str]:
    return {f"{ours}.weight": weight, f"{ours}.bias": bias}


def to_marian(tensors: Mapping[str, Tensor], config: TransformerConfig, orders: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Our weights under their names, [inputs, outputs] and [1, numbers]. Args: orders: the ids of each side in their order."""
    found = {theirs: (tensors[ours].t() if tensors[ours].ndim == 2 else tensors[ours][None]) for ours, theirs in names_of(config).items()}
    output = tensors["output_weight"]
    target = tensors.get("target_embedding.weight", output)
    if config.tie == "all":
        found["Wemb"] = target[list(orders[1])]
    else:
        found["encoder_Wemb"] = tensors["source_embedding.weight"][list(orders[0])]
        found["decoder_Wemb"] = target[list(orders[1])]
    if config.tie == "none":
        found["decoder_ff_logit_out_W"] = output[list(orders[1])].t()
    bias = tensors.get("output_bias", torch.zeros(len(output)))
    found["decoder_ff_logit_out_b"] = bias[list(orders[1])][None]
    return {name: value.float().contiguous() for name, value in found.items()}
