"""Peak memory of a process: its own, not that of the process that started it."""

import subprocess
import sys

import numpy as np

from vitrail.bench.translating import many_lines
from vitrail.runtime.peak_memory import peak_memory

LARGE = 400 << 20


def test_a_process_of_a_large_one_is_small() -> None:
    large = np.ones(LARGE, np.uint8)
    assert peak_memory() > LARGE
    code = "from vitrail.runtime.peak_memory import peak_memory; print(peak_memory())"
    small = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 0 < small < LARGE // 2
    assert 0 < many_lines._run_command(["--version"]).peak_bytes < LARGE // 2  # pyright: ignore[reportPrivateUsage]
    assert large.all()
