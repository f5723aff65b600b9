"""A student's weights as the items of Marian's binary form, in float32 or rounded to 8 bits."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from vitrail.data.vocabularies.subwords import PAD, SOS, UNK
from vitrail.export.marian.binary import Item, floats, rounded, text
from vitrail.export.marian.layout import SETTINGS, names_of, settings_of, to_marian
from vitrail.export.marian.rounding import OUTPUT, matrices_of, round_matrix, without_padding
from vitrail.export.translators.seq2seq_tokens import NEVER
from vitrail.models.base import TranslationModel, unique_tensors
from vitrail.models.configs.transformer import TransformerConfig

BLOCK = 64
"""Products of whole numbers read so many inputs at once."""
_TOKENS = 8
"""The vocabulary is read so many tokens at once."""


class Sizes(NamedTuple):
    """Tokens of both vocabularies there: whole eights."""

    source: int
    target: int

    @classmethod
    def of(cls, source: int, target: int) -> "Sizes":
        """From what they are here."""
        return cls(*(-(-size // _TOKENS) * _TOKENS for size in (source, target)))


def student_items(
    model: TranslationModel, sizes: Sizes, *, writes_unknown: bool, multipliers: Mapping[str, float] | None
) -> dict[str, Item]:
    """The items of a model's file.

    Args: writes_unknown: whether a translation may hold <unk>; padding and <s> are never written. multipliers: of the inputs of all
    matrices; None: all stays in float32.
    """
    config = model.config
    assert isinstance(config, TransformerConfig)
    tensors = _whole_eights(unique_tensors(model), config, sizes, never=[PAD, SOS, *([] if writes_unknown else [UNK])])
    found = {SETTINGS: text(settings_of(config, sizes))}
    if multipliers is None:
        return found | {name: floats(value.numpy()) for name, value in tensors.items()}
    theirs = names_of(config)
    matrices = {theirs[f"{name}.weight"]: name for name in matrices_of(model)}
    for name, value in tensors.items():
        if name in matrices:  # stored output by output
            kept = round_matrix(value.t())
            found[name] = rounded(kept.values, tuple(value.shape), kept.multiplier)
            found[f"{name}_QuantMultA"] = _number(multipliers[matrices[name]])
        elif "Wemb" in name:  # stored token by token
            kept = round_matrix(_with_multiplier(value))
            found[name] = rounded(kept.values, tuple(value.shape), kept.multiplier)
        else:
            found[name] = floats(value.numpy())
    return found | _of_vocabulary(multipliers[OUTPUT], shared="Wemb" in found)


def _with_multiplier(table: Tensor) -> Tensor:
    """Embeddings whose largest number makes Marian find their multiplier again: it widens them, and then rounds them anew by 127 / max|W|.

    That number is put in the row of padding, which nothing reads.
    """
    found = without_padding(table)
    found[PAD, 0] = 127 / round_matrix(found).multiplier
    return found


def _of_vocabulary(multiplier: float, *, shared: bool) -> dict[str, Item]:
    """The multiplier of the product with the vocabulary, which has no name where a shortlist chose its columns."""
    if shared:
        return {"none_QuantMultA": _number(multiplier), "Wemb_QuantMultA": _number(multiplier)}
    # Rounded, as Marian's converter leaves what is named so: 127 / (127 / a).
    return {"none_QuantMultA": _number(multiplier), "decoder_Wemb_QuantMultA": rounded(np.array([127], np.int8), (1, 1), 127 / multiplier)}


def _number(value: float) -> Item:
    return floats(np.array([[value]], np.float32))


def _whole_eights(tensors: Mapping[str, Tensor], config: TransformerConfig, sizes: Sizes, *, never: Sequence[int]) -> dict[str, Tensor]:
    """Weights under their names, with rows of zeros for the tokens that fill up the vocabularies, which are never written."""
    output = tensors["output_weight"]
    rows = [range(len(tensors.get("source_embedding.weight", output))), range(len(output))]
    found = to_marian(tensors, config, rows)
    for name in ("Wemb", "encoder_Wemb", "decoder_Wemb"):
        if name in found:
            found[name] = F.pad(found[name], (0, 0, 0, (sizes.source if name == "encoder_Wemb" else sizes.target) - len(found[name])))
    bias = found["decoder_ff_logit_out_b"].clone()
    bias[0, list(never)] = NEVER
    return found | {"decoder_ff_logit_out_b": F.pad(bias, (0, sizes.target - bias.shape[1]), value=NEVER)}
