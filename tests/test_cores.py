"""Which cores may be used, and how threads wait for each other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitrail.runtime.cores import KERNELS, WAITING, keep_few_kernels, usable_cores, wait_briefly

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SHOW = "import os, {first}, vitrail; print(*(os.environ.get(name) for name in ('GOMP_SPINCOUNT', 'KMP_BLOCKTIME')))"
UNSAID = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", *WAITING, *KERNELS)}
SHAPES = """
import sys, vitrail, torch
torch.set_num_threads(1)
weight = torch.randn(128, 256, dtype=torch.bfloat16)
for rows in range(1, 1001):
    torch.randn(rows, 128, dtype=torch.bfloat16) @ weight
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


def shown(code: str, **said: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", code], env=UNSAID | said, capture_output=True, text=True, check=True).stdout.split()


def test_importing_says_how_threads_wait_unless_somebody_has() -> None:
    first = SHOW.format(first="sys")
    assert shown(first) == list(WAITING.values())
    assert shown(first, GOMP_SPINCOUNT="7") == ["7", "None"]
    assert shown(first, OMP_WAIT_POLICY="active") == ["None", "None"]
    assert shown("import os; from vitrail.cli import main; print(os.environ['GOMP_SPINCOUNT'])") == [WAITING["GOMP_SPINCOUNT"]]


def test_nothing_is_said_when_torch_has_read_it_already(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setitem(sys.modules, "torch", sys)
    assert not wait_briefly(environment) and environment == {}
    monkeypatch.delitem(sys.modules, "torch")
    assert wait_briefly(environment) and environment == WAITING
    assert not wait_briefly(environment)


def test_few_kernels_are_kept_unless_somebody_has_said_how_many() -> None:
    environment: dict[str, str] = {}
    assert keep_few_kernels(environment) and environment == KERNELS
    for name in ("DNNL_PRIMITIVE_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        assert not keep_few_kernels(said := {name: "9"}) and said == {name: "9"}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_batches_of_many_shapes_hold_little() -> None:
    held, held_by_default = (int(shown(SHAPES, **said)[0]) for said in ({}, {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024"}))
    assert held < held_by_default - 20_000  # kB


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "max 100000"}, ALLOWED),
        ("0::/user/mine\n", {"user/mine/cpu.max": "max 100000", "user/cpu.max": "100000 100000"}, 1),
        ("0::/gone/from/here\n", {"cpu.max": "100000 100000"}, 1),
        (
            "4:memory:/x\n1:cpu,cpuacct:/box\n0::/\n",
            {"cpu,cpuacct/box/cpu.cfs_quota_us": "9", "cpu,cpuacct/box/cpu.cfs_period_us": "10"},
            1,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, ALLOWED),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "0", "cpu/cpu.cfs_period_us": "0"}, ALLOWED),
        ("nonsense\n", {"cpu.max": "1 2 3"}, ALLOWED),
        ("0::/\n", {"cpu.max": "900000000 100000"}, ALLOWED),
    ],
)
def test_a_quota_limits_the_cores(tmp_path: Path, own: str, files: dict[str, str], cores: int) -> None:
    for name, content in {"proc/self/cgroup": own, **{f"sys/fs/cgroup/{name}": content for name, content in files.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    assert usable_cores(tmp_path) == cores


def test_where_nothing_is_told_affinity_holds(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == ALLOWED
    bound = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code = f"{bound}; from vitrail.runtime.device import set_threads; print(set_threads(0))"
    if hasattr(os, "sched_setaffinity"):
        environment = {name: value for name, value in UNSAID.items() if not name.endswith("_NUM_THREADS")}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "1\n"


def test_usual_threads_are_those_that_torch_would_have() -> None:
    """Before torch is there by its variables, else one for each core; then torch's own number."""
    code = (
        "import sys; from vitrail.runtime.cores import usable_cores, usual_threads as usual; "
        "found = [usual({'OMP_NUM_THREADS': '3,2', 'MKL_NUM_THREADS': '7'}), usual({'MKL_NUM_THREADS': '7', 'OMP_NUM_THREADS': 'x'})]; "
        "found += [usual({}) == usable_cores(), 'torch' in sys.modules]; import torch; torch.set_num_threads(5); print(found, usual({}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[3, 7, True, False] 5"
