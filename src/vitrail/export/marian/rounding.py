"""Weights and inputs of 8 bits as Marian's integer products have them, and what our model computes with the same numbers.

A product is q(x)·q(W) / (a·b) + bias with q(x) = round(a·x) and q(W) = round(b·W), both cut at ±127. a is stored, so that it is one for all
sentences: it is measured on some, and chosen so that the mean squared error of the inputs is smallest.

Processors without VNNI, and WebAssembly, add two products of neighbours, (q(x) + 127)·q(W), in 16 bits and cut the sum at ±32,768. b is
chosen so that no two neighbours of W reach it, whatever x is: then all of them compute the same.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.data.batches import IdRow
from vitrail.data.vocabularies.subwords import PAD
from vitrail.decode.forced import forced_decode, make_batch
from vitrail.models.base import TranslationModel
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.nn.probe import Hook, listen

OUTPUT = "output_weight"
"""The name of the product with the vocabulary among those of matrices."""
_MOST = 127
_MOST_TOGETHER = 128
"""Of two neighbours of one sign, before they are rounded: 254 · (128 + 1) is below 32,768."""
_EPSILON = 1e-6
"""What that engine adds to the variance of a layer norm (Marian's `layerNorm(x, scale, bias, 1e-6f)`); ours is 1e-5. Inputs move so little
that most of them round to the same number, but not all: 3 of 120 sentences became others."""
_BATCH = 32
_KEPT_NUMBERS = 200_000
"""Inputs of a matrix that are kept for choosing its multiplier."""
_CUTS = np.linspace(0.2, 1, 81)
"""Where inputs may be cut, as shares of the largest."""


class RoundedMatrix(NamedTuple):
    """A matrix of 8 bits."""

    values: npt.NDArray[np.int8]
    multiplier: float

    def widened(self) -> Tensor:
        """The numbers that it stands for."""
        return torch.from_numpy(self.values.astype(np.float32)) / self.multiplier


def round_matrix(weight: Tensor) -> RoundedMatrix:
    """Round a matrix [outputs, inputs] to 8 bits, halves to even numbers. Precondition: an even number of inputs."""
    values = weight.detach().float().numpy()
    pairs = values.reshape(len(values), -1, 2)
    largest = max(float(np.abs(values).max()), 1e-30)
    together = max(float(np.maximum(sign * pairs, 0).sum(2).max()) for sign in (1, -1))
    multiplier = np.float32(min(_MOST / largest, _MOST_TOGETHER / max(together, 1e-30)))
    return RoundedMatrix(np.clip(np.rint(values * multiplier), -_MOST, _MOST).astype(np.int8), float(multiplier))


def without_padding(table: Tensor) -> Tensor:
    """Embeddings as they are rounded: the row of padding, which nothing reads, is zero."""
    found = table.detach().clone()
    found[PAD] = 0
    return found


def matrices_of(model: TranslationModel) -> dict[str, nn.Linear]:
    """The linear layers of a model by name, whose products are of whole numbers."""
    return {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}


def hidden_place(config: TransformerConfig) -> str:
    """What the vocabulary is multiplied with: the output of the last block, which has its norm at the end."""
    return f"decoder.{config.decoder_layers - 1}.residual_3.normed"


@torch.inference_mode()
def input_multipliers(model: TranslationModel, sources: Sequence[IdRow], targets: Sequence[IdRow]) -> dict[str, float]:
    """The multiplier of each matrix's input, from given translations. `OUTPUT` names that of the vocabulary."""
    config = model.config
    seen: dict[str, list[npt.NDArray[np.float32]]] = {}

    def keep(name: str, values: Tensor) -> None:
        seen.setdefault(name, []).append(values.detach().abs().flatten().numpy())

    def of_matrix(name: str) -> Hook:
        return lambda output, inputs: keep(name, inputs[0])

    hooks: list[tuple[str, Hook]] = [(name, of_matrix(name)) for name in matrices_of(model)]
    hooks.append((hidden_place(config), lambda output, inputs: keep(OUTPUT, output)))
    with listen(model, hooks):
        for at in range(0, len(sources), _BATCH):
            forced_decode(model, make_batch(model, sources[at : at + _BATCH], targets[at : at + _BATCH]))
    return {name: _multiplier(np.concatenate(parts)) for name, parts in seen.items()}


def _multiplier(sizes: npt.NDArray[np.float32]) -> float:
    """127 / c for the cut c that gives the smallest mean squared error. Args: sizes: |x|."""
    largest = max(float(sizes.max()), 1e-6)
    some = sizes[:: max(1, len(sizes) // _KEPT_NUMBERS)]
    errors: list[float] = []
    for cut in _CUTS * largest:
        factor = np.float32(_MOST / cut)
        found = np.minimum(np.rint(some * factor), _MOST) / factor
        errors.append(float(np.square(found - some).mean()))
    return float(np.float32(_MOST / (_CUTS[int(np.argmin(errors))] * largest)))


@contextmanager
def rounded_inputs(model: TranslationModel, multipliers: Mapping[str, float]) -> Generator[None]:
    """While open, inputs of all matrices are rounded. The weights must be rounded ones already: see `round_weights`."""

    def of_matrix(name: str, part: nn.Linear) -> Hook:
        return lambda output, inputs: F.linear(_round(inputs[0], multipliers[name]), part.weight, part.bias)

    hooks: list[tuple[str, Hook]] = [(name, of_matrix(name, part)) for name, part in matrices_of(model).items()]
    hooks.append((hidden_place(model.config), lambda output, inputs: _round(output, multipliers[OUTPUT])))
    with listen(model, hooks):
        yield


def _round(values: Tensor, multiplier: float) -> Tensor:
    return (values * multiplier).round().clamp(-_MOST, _MOST) / multiplier


@torch.no_grad()
def round_weights(model: TranslationModel) -> None:
    """Replace matrices and embeddings by what is left of them, and the epsilon of norms by that engine's, in place."""
    for part in model.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = _EPSILON
    for part in matrices_of(model).values():
        part.weight.copy_(round_matrix(part.weight).widened())
    tables = [model.get_parameter(f"{side}_embedding.weight") for side in ("source", "target")]
    for table in dict.fromkeys(tables):
        table.copy_(round_matrix(without_padding(table)).widened())
