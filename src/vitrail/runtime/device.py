"""How to compute: device, number type, threads, memory, random generators."""

import ctypes
import os
import sys
from functools import cache
from typing import Literal

import numpy as np
import torch

from vitrail.errors import UsageError
from vitrail.runtime.contention import start_watching
from vitrail.runtime.cores import THREADS, usable_cores
from vitrail.runtime.machine import Device

Precision = Literal["auto", "bf16", "fp32"]


def choose_device(wanted: Device, *, instead: str = "--device cpu") -> torch.device:
    """The device to compute on; auto takes a GPU when there is one. Raises UsageError when a GPU is asked for and absent.

    Args: instead: the option that selects the processor.
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

    0: one for each core that this process may use; unlike torch's default, this includes the quota of a container. OMP_NUM_THREADS and
    similar variables, or an earlier lower number, take precedence. While other programs use the same cores, threads wait for each other
    more briefly (`contention`).
    """
    asked = any(os.environ.get(name) for name in THREADS)
    if not threads and not asked and (cores := usable_cores()) < torch.get_num_threads():
        threads = cores
    if threads:
        torch.set_num_threads(threads)
    start_watching()
    return torch.get_num_threads()


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory instead of returning it to the kernel; true if it was set.

    By default glibc returns each large block at once, and the next step must map all its pages again: training then takes 1.6 times as
    long. Does nothing where the C library is not glibc.
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


@cache
def survive_forks() -> None:
    """Make every process forked from this one compute with one thread.

    A forked process has only the thread that forked: its first computation with several threads would wait for the others forever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def fewest_rows(threads: int) -> int:
    """The least number of rows from which on a row of a matrix product does not depend on the number of rows.

    Measured with torch 2.13 and MKL: fewer than 4 rows are multiplied by another kernel, which rounds differently, and several threads
    share the rows in blocks of 4, so that one of them may get fewer (two threads: 5 to 7 and 9 to 11 rows; equal from 12 to 64).
    """
    return 4 if threads == 1 else 8 * threads
