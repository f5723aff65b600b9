"""Vectors and scores of texts computed by torch, with every model that has them, on every device."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.data.batches import IdRow, pad_rows
from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.encoding.engine import Array, EncoderEngine, How, Rows
from vitrail.models.model_folder import build_stored
from vitrail.models.stored import StoredModel
from vitrail.runtime.device import choose_device, fewest_rows, set_threads

_ROWS, _TOKENS = 64, 8_192


class TorchEncoder(EncoderEngine):
    """Reads texts with a model of torch.

    Args: model: in evaluation mode, on its device; what it cannot do is not asked for.
    """

    name = "torch"

    def __init__(self, model: Any) -> None:
        self._model = model
        self.marks_start, self.longest, self.config = model.marks_start, model.longest, model.config

    @classmethod
    def of(cls, stored: StoredModel, how: How) -> "TorchEncoder":
        """See `EncoderEngine.of`; the threads are those of the whole process."""
        if how.threads is not None:
            set_threads(how.threads)
        return cls(build_stored(stored, device=choose_device(how.device)))

    @property
    def model(self) -> Any:
        """See `EncoderEngine.model`."""
        return self._model

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self._model.parameters()).device

    def vectors(self, rows: Rows) -> Array:
        """See `EncoderEngine.vectors`."""
        return sentence_vectors(self._model.embed, rows, start=self.marks_start, device=self.device)

    @torch.inference_mode()
    def scores(self, rows: Rows) -> Array:
        """See `EncoderEngine.scores`."""
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        parts = [self._model.classify(batch).float().cpu() for batch in self.batches([rows[place] for place in order])]
        if not parts:
            return np.zeros((0, self._model.head.linear.out_features), np.float32)
        found = torch.cat(parts)
        return torch.empty_like(found).index_copy_(0, torch.tensor(order), found).numpy()

    def probabilities(self, scores: Array) -> Array:
        """See `EncoderEngine.probabilities`."""
        return self._model.head.probabilities(torch.from_numpy(scores)).numpy()

    def batches(self, rows: Rows) -> Iterator[Int[Tensor, "B S"]]:
        """Padded rows, in order: as many at once as fit. Precondition: in the order of their lengths, or few."""
        start = 0
        while start < len(rows):
            end = start + 1
            while end < min(len(rows), start + _ROWS) and max(map(len, rows[start : end + 1])) * (end + 1 - start) <= _TOKENS:
                end += 1
            yield pad_rows(rows[start:end], start=self.marks_start).to(self.device)
            start = end

    @torch.inference_mode()
    def guesses(self, row: Sequence[int], places: Sequence[int]) -> Array:
        """See `EncoderEngine.guesses`."""
        hidden = self._model.encode(pad_rows([row], start=True).to(self.device)).memory[0, torch.tensor(places) + 1]
        return guess_logits(self._model.read_out(hidden)).softmax(1).cpu().numpy()


def guess_logits(logits: Float[Tensor, "N V"]) -> Float[Tensor, "N G"]:
    """The scores of what can be guessed: without the mask, which is the last token, and with -inf for signs that no text holds."""
    return logits[:, :-1].float().index_fill(1, torch.arange(EOS + 1, device=logits.device), -math.inf)


@torch.inference_mode()
def sentence_vectors(
    embed: Callable[[Int[Tensor, "B S"]], Float[Tensor, "B D"]], rows: Sequence[IdRow], *, start: bool, device: torch.device
) -> npt.NDArray[np.float32]:
    """Vectors of rows of ids without SOS and EOS, in their order.

    Rows of equal length are read together, and never few: a vector does not depend on the other rows. Precondition: evaluation mode.
    """
    found: dict[int, npt.NDArray[np.float32]] = {}
    by_length: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(place)
    least = fewest_rows(torch.get_num_threads())
    for places in by_length.values():
        for first in range(0, len(places), _ROWS):
            part = places[first : first + _ROWS]
            asked = part + part[:1] * max(0, least - len(part))
            vectors = embed(pad_rows([rows[place] for place in asked], start=start).to(device)).float().cpu().numpy()
            found.update(zip(part, vectors, strict=False))
    return np.stack([found[place] for place in range(len(rows))]) if rows else np.zeros((0, 0), dtype=np.float32)
