"""The largest resident memory of a process."""

import sys
from pathlib import Path


def peak_memory() -> int:
    """That of this process so far, in bytes; 0 where it is unknown.

    From /proc on Linux: getrusage also counts the memory of the parent when it started this process.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
