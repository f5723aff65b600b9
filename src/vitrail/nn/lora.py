"""Low-rank adapters: a matrix W that stays as it is, plus the product of two thin ones that learn."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vitrail.nn.layers import Dropout

_ORIGINAL, _UP, _DOWN = "original", "0.up", "0.down"
_MARK = ".parametrizations."


def add_low_rank(
    weight: Float[Tensor, "O I"], *, up: Float[Tensor, "O R"], down: Float[Tensor, "R I"], scale: float
) -> Float[Tensor, "O I"]:
    """W + scale·B·A, in the precision of the weights whatever the rest is computed in: so that a merged model has the same bits."""
    with torch.autocast(weight.device.type, enabled=False):
        return weight + (up @ down) * scale


class LowRank(nn.Module):
    """W + (alpha / r)·B·A in the place of W, with B of zeros at first, so that nothing changes.

    Source: Hu et al. 2021, section 4.1 (our up is their B, our down their A). Differs from it: the sum is computed, not two products, so
    that it serves any matrix of any layer, recurrent cells too; dropout thus leaves out features of the input for all tokens of a batch.
    """

    def __init__(self, outputs: int, inputs: int, *, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.down = nn.Parameter(torch.empty(rank, inputs))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.scale = alpha / rank
        self.dropout = Dropout(dropout)

    def forward(self, weight: Float[Tensor, "O I"]) -> Float[Tensor, "O I"]:
        """The sum."""
        mask = self.dropout.draw((1, self.down.shape[1]), self.down)
        return add_low_rank(weight, up=self.up, down=self.down if mask is None else self.down * mask, scale=self.scale)


def adapt(model: nn.Module, path: str, *, rank: int, alpha: float, dropout: float) -> None:
    """Give the matrix at a path an adapter. The matrix itself is frozen."""
    owner, _, name = path.rpartition(".")
    module = model.get_submodule(owner)
    weight = module.get_parameter(name).requires_grad_(False)
    adapter = LowRank(*weight.shape, rank=rank, alpha=alpha, dropout=dropout).to(weight.device)
    parametrize.register_parametrization(module, name, adapter, unsafe=True)


def plain_name(name: str) -> str:
    """The name that a weight has in a model without adapters; of an adapter's parts, that of its matrix."""
    owner, mark, rest = name.partition(_MARK)
    return f"{owner}.{rest.partition('.')[0]}" if mark else name


def is_adapter(name: str) -> bool:
    """Whether a weight's name is that of an adapter's part."""
    return _MARK in name and not name.endswith(_ORIGINAL)


def adapters_in(tensors: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Up and down of each adapter among the weights of a model, by the plain name of its matrix."""
    matrices = [name.removesuffix(_ORIGINAL) for name in tensors if _MARK in name and name.endswith(_ORIGINAL)]
    return {plain_name(start): (tensors[start + _UP], tensors[start + _DOWN]) for start in matrices}


def base_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without adapters, under their plain names."""
    return {plain_name(name): tensor for name, tensor in tensors.items() if not is_adapter(name)}


def merged(tensors: dict[str, Tensor], *, scale: float) -> dict[str, Tensor]:
    """The weights that a model with adapters computes with, under their plain names. Without adapters: the same."""
    found = base_of(tensors)
    for name, (up, down) in adapters_in(tensors).items():
        found[name] = add_low_rank(found[name], up=up, down=down, scale=scale)
    return found
