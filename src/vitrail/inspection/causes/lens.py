"""What a Transformer's decoder would say after each layer: the logit lens.

The last norm and the output matrix are applied to what each decoder block hands on, as they are to the last one (nostalgebraist 2020).
Layer 0 is what the first block reads, Y + P; layer L what the last one hands on, where the lens shows the model's own distribution.

Arrays that `apply_lens` adds; L+1 layers, T predicted tokens, all float32 but the first and the third, which are int32:
    logit_lens.top_ids            (L+1 T 5)  the most probable tokens, best first
    logit_lens.top_probabilities  (L+1 T 5)  their probabilities
    logit_lens.rank               (L+1 T)    the place of the token that stands in the translation, 1 being the first
    logit_lens.right              (L+1 T)    its probability
    logit_lens.entropy            (L+1 T)    of the layer's distribution, in nats
    logit_lens.divergence         (L+1 T)    KL(last layer || this layer), in nats: how much is still to come (Belrose et al. 2023)
Extra `logit_lens`: {"layers": [name of the value in the record, for each layer], "pieces": [[[the top tokens as people read them]]]}.
"""

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.data.vocabularies.subwords import Subwords
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.decoding import piece_of
from vitrail.inspection.record import Inspection
from vitrail.models.base import TranslationModel
from vitrail.models.places import find, layer_outputs

TOP = 5
"""Tokens that are told of each layer and position; fewer where the vocabulary is smaller."""
_SAME = 1e-3
"""How far a probability may be from that in a record by the same model, made perhaps with other threads or on another device."""


def apply_lens(inspection: Inspection, model: TranslationModel, vocabulary: Subwords) -> Inspection:
    """Add to a record what the decoder would say after each layer.

    Args:    model: the one that the record is of. vocabulary: of the target.
    Raises:  UsageError for a recurrent model; ModelError where the record is of another model.
    Cost:    L + 1 products with the output matrix; the model is not run.
    """
    names = layer_names(inspection)
    log_p = np.stack([_read(model, inspection, name) for name in names])
    predicted = np.array(inspection.predicted_ids)
    last = log_p[-1]
    if last.shape != inspection["probabilities"].shape or np.abs(np.exp(last) - inspection["probabilities"]).max() > _SAME:
        raise ModelError("this record was made by another model", remedy="inspect the sentence anew with this one")
    right = np.take_along_axis(log_p, predicted[None, :, None], axis=2)
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
        {f"logit_lens.{name}": values for name, values in arrays.items()}, logit_lens={"layers": names, "pieces": pieces}
    )


def layer_names(inspection: Inspection) -> list[str]:
    """The names of what goes from decoder block to decoder block: the first one's input, and what each hands on.

    With norms before the sublayers that is the last residual sum; with norms after them, what its norm made of that. Raises UsageError
    where there is no such thing: a recurrent decoder's state is not in the space of the output's vectors.
    """
    first = find(inspection.places, "position", "target")
    if first is None or find(inspection.places, "residual", "target") is None:
        raise UsageError(
            "the logit lens: this model has no residual stream to look at",
            expected="a Transformer; a recurrent decoder's states only become comparable to the output's vectors in its attentional vector",
        )
    return [place.name for place in (first, *layer_outputs(inspection.places, "target"))]


@torch.inference_mode()
def _read(model: TranslationModel, inspection: Inspection, name: str) -> npt.NDArray[np.float64]:
    """log p(token) (T V), from one layer of the record."""
    device = next(model.parameters()).device
    values: Float[Tensor, "1 T D"] = torch.as_tensor(inspection[name])[None].to(device)
    return model.read_out(model.finish(values))[0].double().log_softmax(-1).cpu().numpy()
