"""The group of processes that train together, joined from torchrun's environment."""

import os
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from vitrail.runtime.heartbeat import Heartbeat, open_store


class Ranks(NamedTuple):
    """This process in a training: `rank` of `world`; one of one without torchrun.

    If another process hangs or has ended, waiting for it raises a TrainingError that names it.
    """

    rank: int
    world: int

    def sum(self, *tensors: Tensor) -> None:
        """Add up tensors across all ranks, in place; every rank gets the sums."""
        if self.world > 1:
            for tensor in tensors:
                _reduce(tensor, dist.ReduceOp.SUM)

    def any(self, flag: bool) -> bool:
        """Whether the value is true on any rank; all get the same answer."""
        if self.world == 1:
            return flag
        count = torch.tensor(int(flag))
        _reduce(count, dist.ReduceOp.MAX)
        return bool(count)

    def wait(self) -> None:
        """Wait until all ranks are here."""
        self.any(False)


class _Group(NamedTuple):
    """The joined group of processes."""

    heartbeat: Heartbeat
    patient: dist.ProcessGroup
    """A group that waits as long as the others are alive: the first one may prepare data for hours."""


_groups: list[_Group] = []
"""The joined group: one per process, as in torch.distributed."""


def _reduce(tensor: Tensor, how: dist.ReduceOp.RedOpType) -> None:
    if tensor.is_cuda or not _groups:
        dist.all_reduce(tensor, how)
        return
    heartbeat, group = _groups[0]
    try:
        work = dist.all_reduce(tensor, how, group=group, async_op=True)
        assert work is not None
        while not _is_done(work):
            heartbeat.require_all()
    except RuntimeError as error:
        raise heartbeat.lost() from error


def _is_done(work: dist.Work) -> bool:
    """Wait for a second. Raises RuntimeError where a connection broke."""
    try:
        work.wait(timedelta(seconds=1))
    except RuntimeError:
        if work.is_completed():
            raise
        return False
    return True


def join_ranks() -> Ranks:
    """Join the group that torchrun describes in the environment (RANK, WORLD_SIZE), over gloo; alone without it.

    torch.distributed has no authentication: use a private network only.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        patient = dist.new_group(backend="gloo", timeout=timedelta(days=30))
        assert isinstance(patient, dist.ProcessGroup), "every process is in it"
        _groups.append(_Group(Heartbeat(open_store(), rank=dist.get_rank(), world=world), patient))
    return Ranks(dist.get_rank(), dist.get_world_size()) if world > 1 else Ranks(0, 1)


def leave_ranks(exit_message: str = "it is done") -> None:
    """Leave the group of processes, if there is one; the others get the reason."""
    if _groups:
        _groups.pop().heartbeat.leave(exit_message)
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
