"""The names and forms of our weights in other programs' layouts: one table a layout, used in both directions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from vitrail.errors import ModelError


class Weight(NamedTuple):
    """One weight of a layout: ours, one after the other, perhaps turned round, times a factor."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    factor: float = 1.0
    heads: int = 0
    """Where set, parts alternate head by head: q, k, v of the first head, then of the second."""

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Our parts as theirs."""
        if self.heads:
            split = [part.unflatten(0, (self.heads, -1)) for part in parts]
            return torch.stack(split, dim=1).flatten(0, 2)
        return torch.cat(list(parts))

    def parted(self, value: Tensor, rows: Sequence[int]) -> list[Tensor]:
        """The inverse. Args: rows: of each part."""
        if self.heads:
            return [part.flatten(0, 1) for part in value.unflatten(0, (self.heads, len(self.ours), -1)).unbind(1)]
        return list(value.split(list(rows)))


class Ours(NamedTuple):
    """What an export put into the settings of another program."""

    model: dict[str, Any]
    """Our configuration; empty where the model is not ours."""
    facts: dict[str, Any]


def ours_in(settings: Any, *, origin: Path) -> Ours:
    """What an export put there; empty tables where it put nothing. Raises ModelError where these are no tables."""
    if isinstance(settings, dict):
        table: dict[str, Any] = settings
        model, facts = table.get("model", {}), table.get("facts", {})
        if isinstance(model, dict) and isinstance(facts, dict):
            return Ours(model, facts)  # pyright: ignore[reportUnknownArgumentType]
    raise ModelError(f"{origin}: what vitrail export put there is no table", remedy="export the model again")


def to_layout(table: Sequence[Weight], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under their names. Computed in float64."""
    found: dict[str, Tensor] = {}
    for weight in table:
        value = weight.joined([ours[name] for name in weight.ours]).double() * weight.factor
        found[weight.theirs] = (value.t() if weight.transposed else value).float().contiguous()
    return found


def from_layout(table: Sequence[Weight], theirs: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """The inverse. Args: shapes: of our weights. Raises: ModelError naming every weight that is missing or of another shape."""
    found: dict[str, Tensor] = {}
    faults: list[str] = []
    for weight in table:
        value = theirs.get(weight.theirs)
        parts = [shapes[name] for name in weight.ours]
        whole = [sum(part[0] for part in parts), *parts[0][1:]]
        wanted = whole[::-1] if weight.transposed else whole
        if value is None or list(value.shape) != wanted:
            faults.append(f"{weight.theirs}: {'missing' if value is None else tuple(value.shape)}, expected {tuple(wanted)}")
            continue
        value = (value.t() if weight.transposed else value).double() / weight.factor
        own = weight.parted(value, [part[0] for part in parts])
        found |= {name: part.float().contiguous() for name, part in zip(weight.ours, own, strict=True)}
    if faults:
        raise ModelError("; ".join(faults[:5]) + (f"; {len(faults) - 5} more" if len(faults) > 5 else ""), remedy="export the model again")
    return found


def _affine(theirs: str, *ours: str, transposed: bool = False, factor: float = 1.0, heads: int = 0) -> list[Weight]:
    """A layer's weight and bias."""
    weight = Weight(f"{theirs}.weight", tuple(f"{name}.weight" for name in ours), transposed, factor, heads)
    return [weight, Weight(f"{theirs}.bias", tuple(f"{name}.bias" for name in ours), factor=factor, heads=heads)]


MaskedType = Literal["bert", "roberta-prelayernorm", "esm"]
"""BERT has norms after the sums; RoBERTa with pre-norm and ESM before them; ESM has rotary positions."""


class _Names(NamedTuple):
    """How the parts of a masked language model are called in a layout."""

    root: str
    embedding_norm: str
    last_norm: str
    block_norms: tuple[str, str]
    """The norms of the first and the second sublayer; {} is the path of the block."""
    head: tuple[str, str]
    """The layer before the output, and its norm."""
    bias: str
    decoder: str


_MASKED: dict[MaskedType, _Names] = {
    "bert": _Names(
        "bert",
        "embeddings.LayerNorm",
        "",
        ("{}.attention.output.LayerNorm", "{}.output.LayerNorm"),
        ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"),
        "cls.predictions.bias",
        "cls.predictions.decoder",
    ),
    "roberta-prelayernorm": _Names(
        "roberta_prelayernorm",
        "embeddings.LayerNorm",
        "LayerNorm",
        ("{}.attention.LayerNorm", "{}.intermediate.LayerNorm"),
        ("lm_head.dense", "lm_head.layer_norm"),
        "lm_head.bias",
        "lm_head.decoder",
    ),
    "esm": _Names(
        "esm",
        "embeddings.layer_norm",
        "encoder.emb_layer_norm_after",
        ("{}.attention.LayerNorm", "{}.LayerNorm"),
        ("lm_head.dense", "lm_head.layer_norm"),
        "lm_head.bias",
        "lm_head.decoder",
    ),
}


def masked_root(type: MaskedType) -> str:
    """The path of the encoder in a layout."""
    return _MASKED[type].root


def masked_layout(type: MaskedType, *, layers: int, width: int, tied: bool, embedding_norm: bool) -> list[Weight]:
    """The weights of a masked language model but for its positions.

    Embeddings are scaled by sqrt(D) there already; where the output shares them, the norm before it undoes that. Shared weights are named
    as `unique_tensors` names them.
    """
    scale, names = width**0.5, _MASKED[type]
    root, (dense, norm) = names.root, names.head
    found = [
        Weight(f"{root}.embeddings.word_embeddings.weight", ("output_weight" if tied else "source_embedding.weight",), factor=scale),
        *(_affine(f"{root}.{names.embedding_norm}", "source_norm.norm") if embedding_norm else []),
        *(_affine(f"{root}.{names.last_norm}", "encoder_norm.norm") if names.last_norm else []),
        *_affine(dense, "readout"),
        *_affine(norm, "readout_norm.norm", factor=1 / scale if tied else 1.0),
        Weight(names.bias, ("output_bias",)),
    ]
    if not tied:
        found.append(Weight(f"{names.decoder}.weight", ("output_weight",)))
        found += [Weight(f"{names.decoder}.bias", ("output_bias",))] if type != "esm" else []
    return found + _encoder_blocks(f"{root}.encoder.layer", names.block_norms, layers)


def _encoder_blocks(theirs: str, norms: tuple[str, str], layers: int) -> list[Weight]:
    """The blocks of an encoder, whose names BERT and those after it share but for the norms'."""
    found: list[Weight] = []
    for layer in range(layers):
        block, ours = f"{theirs}.{layer}", f"encoder.{layer}"
        for name in ("query", "key", "value"):
            found += _affine(f"{block}.attention.self.{name}", f"{ours}.self_attention.{name}")
        found += _affine(f"{block}.attention.output.dense", f"{ours}.self_attention.output")
        found += _affine(f"{block}.intermediate.dense", f"{ours}.feed_forward.expand")
        found += _affine(f"{block}.output.dense", f"{ours}.feed_forward.contract")
        for number, norm in enumerate(norms, start=1):
            found += _affine(norm.format(block), f"{ours}.residual_{number}.norm.norm")
    return found


EncoderType = Literal["bert", "xlm-roberta-xl"]
"""BERT has norms after the sums and one of the embeddings; XLM-RoBERTa-XL has norms before the sums and one at the end."""


def encoder_layout(type: EncoderType, *, layers: int, width: int) -> list[Weight]:
    """The encoder of a translator but for its positions; embeddings are scaled by sqrt(D) there already."""
    embeddings = Weight("embeddings.word_embeddings.weight", ("source_embedding.weight",), factor=width**0.5)
    if type == "bert":
        norms = _MASKED["bert"].block_norms
        return [embeddings, *_affine("embeddings.LayerNorm", "source_norm.norm"), *_encoder_blocks("encoder.layer", norms, layers)]
    norms = ("{}.attention.self_attn_layer_norm", "{}.LayerNorm")
    return [embeddings, *_affine("encoder.LayerNorm", "encoder_norm.norm"), *_encoder_blocks("encoder.layer", norms, layers)]


def gpt2_layout(*, layers: int, width: int, tied: bool) -> list[Weight]:
    """`GPT2LMHeadModel`. Its matrices are turned round; query, key and value are one; embeddings as for BERT."""
    scale = width**0.5
    found = [
        Weight("transformer.wte.weight", ("output_weight" if tied else "target_embedding.weight",), factor=scale),
        *_affine("transformer.ln_f", "decoder_norm.norm", factor=1 / scale if tied else 1.0),
        *([] if tied else [Weight("lm_head.weight", ("output_weight",))]),
    ]
    for layer in range(layers):
        theirs, ours = f"transformer.h.{layer}", f"decoder.{layer}"
        projections = [f"{ours}.self_attention.{name}" for name in ("query", "key", "value")]
        found += _affine(f"{theirs}.attn.c_attn", *projections, transposed=True)
        found += _affine(f"{theirs}.attn.c_proj", f"{ours}.self_attention.output", transposed=True)
        found += _affine(f"{theirs}.mlp.c_fc", f"{ours}.feed_forward.expand", transposed=True)
        found += _affine(f"{theirs}.mlp.c_proj", f"{ours}.feed_forward.contract", transposed=True)
        found += _affine(f"{theirs}.ln_1", f"{ours}.residual_1.norm.norm")
        found += _affine(f"{theirs}.ln_2", f"{ours}.residual_2.norm.norm")
    return found


def neox_layout(*, layers: int, heads: int, width: int, tied: bool) -> list[Weight]:
    """`GPTNeoXForCausalLM`, which has rotary positions. Query, key and value are one matrix, head by head."""
    scale = width**0.5
    found = [
        Weight("gpt_neox.embed_in.weight", ("output_weight" if tied else "target_embedding.weight",), factor=scale),
        *_affine("gpt_neox.final_layer_norm", "decoder_norm.norm", factor=1 / scale if tied else 1.0),
        *([] if tied else [Weight("lm_head.weight", ("output_weight",))]),
    ]
    for layer in range(layers):
        theirs, ours = f"gpt_neox.layers.{layer}", f"decoder.{layer}"
        projections = [f"{ours}.self_attention.{name}" for name in ("query", "key", "value")]
        found += _affine(f"{theirs}.attention.query_key_value", *projections, heads=heads)
        found += _affine(f"{theirs}.attention.dense", f"{ours}.self_attention.output")
        found += _affine(f"{theirs}.mlp.dense_h_to_4h", f"{ours}.feed_forward.expand")
        found += _affine(f"{theirs}.mlp.dense_4h_to_h", f"{ours}.feed_forward.contract")
        found += _affine(f"{theirs}.input_layernorm", f"{ours}.residual_1.norm.norm")
        found += _affine(f"{theirs}.post_attention_layernorm", f"{ours}.residual_2.norm.norm")
    return found
