"""The processor cores of this process, the waiting of OpenMP's threads, and the number of cached kernels.

Never imports torch.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

SPIN_COUNT = 10_000
"""How often a thread checks whether the others are ready before it sleeps. GNU's default of 300,000 suits an otherwise idle machine: beside
another busy process, each waiting thread uses the time that the other one needs (docs/benchmarks.md, "Beside other work")."""
WAITING = {"GOMP_SPINCOUNT": str(SPIN_COUNT), "KMP_BLOCKTIME": "1"}
"""The settings for GNU's OpenMP (Linux), and for LLVM's and Intel's (macOS, Windows; the least number of milliseconds above 0)."""
_SAID = ("OMP_WAIT_POLICY", *WAITING)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""The variables by which users set the number of threads; torch heeds the first."""
KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}
"""How many compiled kernels oneDNN caches. It makes one for every shape, and batches of text have many shapes: with its default of 1,024 a
training that needs 1.4 GB takes 2.3 GB, and is not faster (docs/experiments.md, "What a training holds")."""
_KERNELS_SAID = ("DNNL_PRIMITIVE_CACHE_CAPACITY", *KERNELS)


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Make OpenMP's threads sleep soon while they wait for each other; true if it was set. It changes the speed and no bit of a result.

    OpenMP reads this once, when torch loads it: too late after torch was imported. Child processes inherit it. An existing setting of the
    user is kept.
    """
    if "torch" in sys.modules or any(name in environment for name in _SAID):
        return False
    environment.update(WAITING)
    return True


def keep_few_kernels(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Limit the memory of oneDNN's kernels; true if it was set. An existing setting of the user is kept.

    oneDNN reads this once, when torch first uses it.
    """
    if any(name in environment for name in _KERNELS_SAID):
        return False
    environment.update(KERNELS)
    return True


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: from its affinity and the quotas of its control groups, rounded up.

    Args: root: the folder of `proc` and `sys`.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        allowed = os.cpu_count() or 1
    quotas = [_quota(group) for group in control_groups("cpu", root)]
    return max(1, min([allowed, *(-(-quota // period) for quota, period in filter(None, quotas) if quota > 0 and period > 0)]))


def usual_threads(environment: Mapping[str, str] = os.environ) -> int:
    """The threads of a process that was not told how many: torch's where it is loaded, or those that it would have by the variables
    that it reads; else one for each core.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.get_num_threads()
    said = (environment.get(name, "").partition(",")[0].strip() for name in THREADS)
    return next((int(number) for number in said if number.isdecimal() and int(number)), usable_cores())


def _quota(group: Path) -> tuple[int, int] | None:
    """Microseconds of processor time in each period; None where there is no limit."""
    words = read_words(group / "cpu.max") or read_words(group / "cpu.cfs_quota_us") + read_words(group / "cpu.cfs_period_us")
    return (int(words[0]), int(words[1])) if len(words) == 2 and all(word.isdecimal() for word in words) else None


def control_groups(controller: str, root: Path = Path("/")) -> list[Path]:
    """The files with the limits of this process: its control group and all above, versions 1 and 2; none outside Linux."""
    found: list[Path] = []
    for line in read_system_lines(root / "proc/self/cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        own = top / path.lstrip("/")
        found += [place for place in (own, *own.parents) if place == top or top in place.parents]
    return found


def read_words(path: Path) -> list[str]:
    """The words of a small file; none where it cannot be read."""
    return " ".join(read_system_lines(path)).split()


def read_system_lines(path: Path) -> list[str]:
    """The lines of a small file; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
