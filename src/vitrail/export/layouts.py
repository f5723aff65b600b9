"""The names and forms of our weights in other programs' layouts: one table a layout, used in both directions."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.errors import ModelError


class Weight(NamedTuple):
    """One weight of a layout: ours, one after the other, perhaps turned round, times a factor."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    factor: float = 1.0


def to_layout(table: Sequence[Weight], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under their names. Computed in float64."""
    found: dict[str, Tensor] = {}
    for weight in table:
        value = torch.cat([ours[name] for name in weight.ours]).double() * weight.factor
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
        found |= {name: part.float().clone() for name, part in zip(weight.ours, value.split([part[0] for part in parts]), strict=True)}
    if faults:
        raise ModelError("; ".join(faults[:5]) + (f"; {len(faults) - 5} more" if len(faults) > 5 else ""), remedy="export the model again")
    return found


def _affine(theirs: str, *ours: str, transposed: bool = False, factor: float = 1.0) -> list[Weight]:
    """A layer's weight and bias."""
    weight = Weight(f"{theirs}.weight", tuple(f"{name}.weight" for name in ours), transposed, factor)
    return [weight, Weight(f"{theirs}.bias", tuple(f"{name}.bias" for name in ours), factor=factor)]


class _Names(NamedTuple):
    """How an encoder's parts are called in a layout; {} is the path of a block."""

    root: str
    block_norms: tuple[str, str]
    """The norms of the first and the second sublayer."""
    transform: str
    transform_norm: str
    bias: str
    decoder: str


_BERT = _Names(
    "bert",
    ("{}.attention.output.LayerNorm", "{}.output.LayerNorm"),
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.bias",
    "cls.predictions.decoder",
)
_PRE_NORM = _Names(
    "roberta_prelayernorm",
    ("{}.attention.LayerNorm", "{}.intermediate.LayerNorm"),
    "lm_head.dense",
    "lm_head.layer_norm",
    "lm_head.bias",
    "lm_head.decoder",
)


def encoder_root(*, post: bool) -> str:
    """The path of the encoder in the layout of a masked language model."""
    return (_BERT if post else _PRE_NORM).root


def masked_layout(*, layers: int, width: int, tied: bool, post: bool) -> list[Weight]:
    """`BertForMaskedLM` where norms come after the sum (`post`), else `RobertaPreLayerNormForMaskedLM`; positions left out.

    Embeddings are scaled by sqrt(D) there already; where the output shares them, the norm before it undoes that. Shared weights are named
    as `unique_tensors` names them.
    """
    scale, names = width**0.5, _BERT if post else _PRE_NORM
    found = [
        Weight(f"{names.root}.embeddings.word_embeddings.weight", ("output_weight" if tied else "source_embedding.weight",), factor=scale),
        *_affine(f"{names.root}.embeddings.LayerNorm", "source_norm.norm"),
        *([] if post else _affine(f"{names.root}.LayerNorm", "encoder_norm.norm")),
        *_affine(names.transform, "readout"),
        *_affine(names.transform_norm, "readout_norm.norm", factor=1 / scale if tied else 1.0),
        Weight(names.bias, ("output_bias",)),
        *([] if tied else [Weight(f"{names.decoder}.weight", ("output_weight",)), Weight(f"{names.decoder}.bias", ("output_bias",))]),
    ]
    for layer in range(layers):
        theirs, ours = f"{names.root}.encoder.layer.{layer}", f"encoder.{layer}"
        for name in ("query", "key", "value"):
            found += _affine(f"{theirs}.attention.self.{name}", f"{ours}.self_attention.{name}")
        found += _affine(f"{theirs}.attention.output.dense", f"{ours}.self_attention.output")
        found += _affine(f"{theirs}.intermediate.dense", f"{ours}.feed_forward.expand")
        found += _affine(f"{theirs}.output.dense", f"{ours}.feed_forward.contract")
        for number, norm in enumerate(names.block_norms, start=1):
            found += _affine(norm.format(theirs), f"{ours}.residual_{number}.norm.norm")
    return found


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
