"""The logit lens: the output distribution of a Transformer's decoder, or of a masked language model, after each layer.

The last norm and the output matrix are applied to the output of each decoder block, as they are to that of the last one (nostalgebraist
2020). Layer 0 is what the first block reads, Y + P; layer L is the output of the last one, where the lens shows the model's own
distribution.

Arrays that `apply_lens` adds; L+1 layers, T predicted tokens, all float32 but the first and the third, which are int32:
    logit_lens.top_ids            (L+1 T 5)  the most probable tokens, best first
    logit_lens.top_probabilities  (L+1 T 5)  their probabilities
    logit_lens.rank               (L+1 T)    the rank of the token of the translation, from 1
    logit_lens.right              (L+1 T)    its probability
    logit_lens.entropy            (L+1 T)    of the layer's distribution, in nats
    logit_lens.divergence         (L+1 T)    KL(last layer || this layer), in nats: the distance to the final one (Belrose et al. 2023)
Extra `logit_lens`: {"layers": [name of the value in the record, for each layer], "pieces": [[[the top tokens as people read them]]]}.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.data.vocabularies.subwords import Subwords
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.decoding import piece_of
from vitrail.inspection.record import Inspection
from vitrail.models.base import AutoregressiveModel
from vitrail.models.places import Role, find, layer_outputs

TOP = 5
"""Number of tokens recorded for each layer and position; fewer where the vocabulary is smaller."""
_STREAM: tuple[Role, Role] = ("position", "residual")
_SAME = 1e-3
"""Tolerance for probabilities of a record by the same model, made perhaps with other threads or on another device."""


def apply_lens(inspection: Inspection, model: AutoregressiveModel, vocabulary: Subwords) -> Inspection:
    """Add the logit lens to a record: the decoder's distribution after each layer.

    Args:    model: the model of the record. vocabulary: of the target.
    Raises:  UsageError for a recurrent model; ModelError where the record is from another model.
    Cost:    L + 1 products with the output matrix; the model is not run.
    """
    names = layer_names(inspection)
    log_p = np.stack([_read(model, inspection, name) for name in names])
    last, seen = log_p[-1], inspection["probabilities"]
    if last.shape != seen.shape or np.abs(np.exp(last) - seen).max() > _SAME:
        raise ModelError("this record was made by another model", remedy="inspect the sentence again with this model")
    return add_lens(inspection, log_p, names=names, predicted=inspection.predicted_ids, vocabulary=vocabulary)


def add_lens(
    inspection: Inspection, log_p: npt.NDArray[np.float64], *, names: Sequence[str], predicted: Sequence[int], vocabulary: Subwords
) -> Inspection:
    """Add what the lens shows. Args: log_p: (L+1 T V), by layer and position. names: of the values. predicted: each position's token."""
    last = log_p[-1]
    right = np.take_along_axis(log_p, np.array(predicted)[None, :, None], axis=2)
    top = np.argsort(-log_p, axis=2, kind="stable")[:, :, :TOP]
    arrays = {
        "top_ids": top.astype(np.int32),
        "top_probabilities": np.exp(np.take_along_axis(log_p, top, axis=2)).astype(np.float32),
        "rank": (1 + (log_p > right).sum(axis=2)).astype(np.int32),
        "right": np.exp(right[:, :, 0]).astype(np.float32),
        "entropy": -(np.exp(log_p) * log_p).sum(axis=2).astype(np.float32),
        "divergence": (np.exp(last) * (last - log_p)).sum(axis=2).clip(min=0).astype(np.float32),
    }
    pieces = [[[piece_of(token, vocabulary) for token in best] for best in layer] for layer in top.tolist()]
    return inspection.with_arrays(
        {f"logit_lens.{name}": values for name, values in arrays.items()}, logit_lens={"layers": list(names), "pieces": pieces}
    )


def has_lens(inspection: Inspection) -> bool:
    """Whether the model's target side has a residual stream, whose values are all in the space of the output vectors."""
    return all(find(inspection.places, role, "target") is not None for role in _STREAM)


def layer_names(inspection: Inspection) -> list[str]:
    """The names of the residual stream between decoder blocks: the input of the first one, and the output of each.

    With norms before the sublayers that is the last residual sum; with norms after them, the norm's output. Raises UsageError for a
    recurrent decoder, whose state is not in the space of the output vectors.
    """
    first = find(inspection.places, "position", "target")
    if first is None or not has_lens(inspection):
        raise UsageError(
            "the logit lens: this model has no residual stream",
            expected="a Transformer; of a recurrent decoder only the attentional vector is in the space of the output vectors",
        )
    return [place.name for place in (first, *layer_outputs(inspection.places, "target"))]


@torch.inference_mode()
def _read(model: AutoregressiveModel, inspection: Inspection, name: str) -> npt.NDArray[np.float64]:
    """log p(token) (T V), from one layer of the record."""
    device = next(model.parameters()).device
    values: Float[Tensor, "1 T D"] = torch.as_tensor(inspection[name])[None].to(device)
    return model.read_out(model.finish(values))[0].double().log_softmax(-1).cpu().numpy()
