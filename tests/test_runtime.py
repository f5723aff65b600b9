"""The machine: seeds, types, devices, the allocator."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vitrail.errors import UsageError
from vitrail.runtime.device import choose_device, choose_dtype, seed_all
from vitrail.runtime.machine import has_gpu
from vitrail.runtime.ranks import Ranks, join_ranks


def drawn(*key: int) -> list[float]:
    seed_all(*key)
    return torch.rand(4).tolist()


def test_the_same_key_draws_the_same_and_others_do_not() -> None:
    assert drawn(1, 2) == drawn(1, 2)
    assert len({tuple(drawn(*key)) for key in [(1, 2), (2, 1), (1, 3), (1,), (1, 2, 0, 1)]}) == 5


def test_numbers_are_chosen_as_asked() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("fp32", cpu) == torch.float32
    assert choose_dtype("bf16", cpu) == torch.bfloat16
    assert choose_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
    assert choose_device("cpu") == cpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match=r"torch sees no GPU[^$]*--device cpu"):
        choose_device("cuda")
    with pytest.raises(UsageError, match=r"torch sees no GPU[^$]*--set train\.device=cpu"):
        choose_device("cuda", instead="--set train.device=cpu")


def test_one_process_alone_needs_no_group() -> None:
    ranks = join_ranks()
    assert ranks == Ranks(0, 1)
    total = torch.ones(2)
    ranks.sum(total)
    assert total.tolist() == [1, 1] and ranks.any(True) and not ranks.any(False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_kept() -> None:
    """After the setting, a large block that is freed and taken again costs no new pages, once the heap has settled."""
    script = """
import resource, torch
from vitrail.runtime.device import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(8_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
torch.set_num_threads(1)
before = max(faults() for _ in range(3))
assert keep_freed_memory()
for _ in range(12):
    faults()
after = max(faults() for _ in range(3))
raise SystemExit(0 if before > 1000 and after < before / 10 else f"{before} page faults before, {after} after")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the devices of Linux")
def test_torch_is_asked_about_a_gpu_only_where_the_system_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not has_gpu(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_gpu(tmp_path)
