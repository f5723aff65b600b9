"""Measurements in separate processes: the task goes in as JSON, the result comes out as JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from vitrail.errors import VitrailError


def measure_in_subprocess(module: str, task: Mapping[str, Any], *, name: str, remedy: str) -> dict[str, Any]:
    """Run a module in a new process with a task on its standard input, and return the last line of its output.

    Raises VitrailError that names the measurement, with the last line of the process's errors, when it fails.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(task),
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2] or "no message"
        raise VitrailError(f"measuring {name} ended with {done.returncode}: {last}", remedy=remedy)
    return json.loads(done.stdout.splitlines()[-1])
