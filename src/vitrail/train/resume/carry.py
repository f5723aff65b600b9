"""States carried from batch to batch: truncated back-propagation through time over a long text."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vitrail.data.blocks import Block
from vitrail.models.base import CarriedState, CarryingModel
from vitrail.nn.losses import LossSum
from vitrail.runtime.ranks import Ranks


class Carried:
    """The states of all groups of lanes (see `Blocks`), each as the last block of its group left it.

    An update is taken per block, the state is carried on and its gradient is not (Williams and Peng 1990, with k1 = k2 = the block).
    Of several processes, each reads the blocks of its own groups: those whose number is its rank, modulo the number of processes.

    Args: goes_on: whether a block of this number continues the last one of its group; else it starts with a fresh state.
    """

    def __init__(self, model: CarryingModel, *, groups: int, lanes: int, goes_on: Callable[[int], bool]) -> None:
        self._model, self._groups, self._lanes, self._goes_on = model, groups, lanes, goes_on
        self._states: dict[int, CarriedState] = {}
        self._new: dict[int, CarriedState] = {}

    def loss(self, number: int, block: Block, *, label_smoothing: float) -> LossSum:
        """The loss of block `number`. Its new state is used once `keep` is called."""
        group = number % self._groups
        known = self._states.get(group) if self._goes_on(number) else None
        state = self._model.start(len(block.tokens)) if known is None else known
        loss, after = self._model.loss_from(block.tokens, block.following, state, label_smoothing=label_smoothing)
        self._new[group] = after.detached()
        return loss

    def keep(self, ranks: Ranks) -> None:
        """The update was done: continue from the states after it. Every process gets those of all groups, for a checkpoint is of all."""
        self._states |= self._new if ranks.world == 1 else self._of_all(ranks)
        self._new = {}

    def _of_all(self, ranks: Ranks) -> dict[int, CarriedState]:
        """The new states of all groups: each process adds its own ones to zeros."""
        like = next(iter(self._new.values()))
        zeros = {name: torch.zeros_like(tensor) for name, tensor in like.tensors().items()}
        parts = [self._new[group].tensors() if group in self._new else zeros for group in range(self._groups)]
        together = torch.cat([part[name].flatten() for part in parts for name in zeros])
        ranks.sum(together)
        pieces = iter(together.split([tensor.numel() for tensor in zeros.values()] * self._groups))
        return {group: like.filled({name: next(pieces).view_as(tensor) for name, tensor in zeros.items()}) for group in range(self._groups)}

    def forget(self) -> None:
        """The update was skipped, or was a trial: continue from the states before it."""
        self._new = {}

    def tensors(self) -> dict[str, Tensor]:
        """The states for a checkpoint."""
        return {f"{group}/{name}": tensor for group, state in self._states.items() for name, tensor in state.tensors().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        groups = {int(name.partition("/")[0]) for name in tensors}
        self._states = {
            group: self._model.start(self._lanes).filled(
                {name.removeprefix(f"{group}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{group}/")}
            )
            for group in groups
        }
