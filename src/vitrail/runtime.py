"""The machine under the program: device, number type, threads, memory, random generators, and the group of processes."""

import ctypes
import os
import sys
from datetime import timedelta
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from vitrail.contention import start_watching
from vitrail.cores import usable_cores
from vitrail.errors import UsageError
from vitrail.heartbeat import Heartbeat, open_store

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "bf16", "fp32"]


def choose_device(wanted: Device, *, instead: str = "--device cpu") -> torch.device:
    """The device to compute on; auto takes a GPU when there is one. Raises UsageError when a GPU is asked for and absent.

    Args: instead: the option by which the processor is asked for.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda, but torch sees no GPU", remedy=instead)
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def choose_dtype(wanted: Precision, device: torch.device) -> torch.dtype:
    """The type of matrix products; auto takes bf16 where the hardware multiplies it, which halves the time of a step."""
    if wanted == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if wanted == "bf16" else torch.float32


def set_threads(threads: int) -> int:
    """Use this many processor threads, and return how many are used.

    0: as many as there are cores that this process may use. Torch knows of its affinity, not of a quota: containers have one. Where
    OMP_NUM_THREADS or its like asks for a number, or it was lowered before, that holds. While other programs want the same cores, threads
    wait for each other more briefly (`contention`).
    """
    asked = any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    if not threads and not asked and (cores := usable_cores()) < torch.get_num_threads():
        threads = cores
    if threads:
        torch.set_num_threads(threads)
    start_watching()
    return torch.get_num_threads()


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory instead of giving it back to the kernel; true when that was done.

    By default glibc returns each large block at once, and the next step faults all its pages in again: training without this
    takes 1.6 times as long. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, 2**31 - 1) and mallopt(top_pad, 64 << 20))


def seed_all(*key: int) -> None:
    """Seed torch's generators from a key such as (seed, step, rank), so that no generator's state needs saving."""
    state = np.random.SeedSequence(key).generate_state(2, np.uint32)
    torch.manual_seed(int(state[0]) << 31 ^ int(state[1]))


class Ranks(NamedTuple):
    """This process among those that train together: `rank` of `world`; one of one without torchrun.

    Where others are waited for, one that hangs or has ended is named in a TrainingError.
    """

    rank: int
    world: int

    def sum(self, *tensors: Tensor) -> None:
        """Add up tensors across all ranks, in place; every rank gets the sums."""
        if self.world > 1:
            for tensor in tensors:
                _reduce(tensor, dist.ReduceOp.SUM)

    def any(self, flag: bool) -> bool:
        """Whether any rank says so; all get the same answer."""
        if self.world == 1:
            return flag
        count = torch.tensor(int(flag))
        _reduce(count, dist.ReduceOp.MAX)
        return bool(count)

    def wait(self) -> None:
        """Go on when all ranks have come this far."""
        self.any(False)


class _Group(NamedTuple):
    """The group of processes that this one has joined."""

    heartbeat: Heartbeat
    patient: dist.ProcessGroup
    """Waits for as long as the others are alive: the first of them may prepare data for hours."""


_groups: list[_Group] = []
"""The one that was joined, as torch.distributed has it: one for the process."""


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

    torch.distributed knows no authentication: use a private network only.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        patient = dist.new_group(backend="gloo", timeout=timedelta(days=30))
        assert isinstance(patient, dist.ProcessGroup), "every process is in it"
        _groups.append(_Group(Heartbeat(open_store(), rank=dist.get_rank(), world=world), patient))
    return Ranks(dist.get_rank(), dist.get_world_size()) if world > 1 else Ranks(0, 1)


def leave_ranks(last_words: str = "it is done") -> None:
    """Leave the group of processes, if there is one; the others can tell why."""
    if _groups:
        _groups.pop().heartbeat.leave(last_words)
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


@cache
def survive_forks() -> None:
    """Let every process that is forked from this one compute with one thread.

    Of a forked process only the thread that forked is there: the first computation with several would wait for the others for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def fewest_rows(threads: int) -> int:
    """From how many rows on a row of a matrix product no longer depends on how many there are.

    Measured with torch 2.13 and MKL: fewer than 4 rows are multiplied by another kernel, which rounds differently, and several threads
    share the rows in blocks of 4, so that one of them may get fewer (two threads: 5 to 7 and 9 to 11 rows; equal from 12 to 64).
    """
    return 4 if threads == 1 else 8 * threads
