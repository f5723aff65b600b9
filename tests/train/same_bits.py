"""A training that was stopped or killed goes on to the same bits: for every kind of model."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from vitrail.errors import Interrupted
from vitrail.train.log.metrics import Event
from vitrail.train.request import to_run_config
from vitrail.train.resume import checkpoints
from vitrail.train.run import train

_TRAIN = """
import json, sys
from pathlib import Path
from vitrail.train.request import to_run_config
from vitrail.train.run import train
train(to_run_config(json.loads(sys.argv[1])), Path(sys.argv[2]))
"""
_KILLS, _BETWEEN = 2, 60


def final(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the last checkpoint of a finished run."""
    parts = {"model": None, "optimizer": None, "average": None, "carried": None}
    checkpoint = checkpoints.load_latest(folder, expected=parts, optional={"carried"})
    assert checkpoint is not None and checkpoint.facts["finished"]
    return {f"{group}/{name}": tensor for group, part in checkpoint.tensors.items() for name, tensor in part.items()}


def require_same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)] == []


def require_same_when_stopped(table: Mapping[str, object], folder: Path, *, after: Sequence[int]) -> dict[str, torch.Tensor]:
    """Stop a training by Ctrl-C after each of these steps, and resume it. Returns the tensors of the unbroken one."""
    config = to_run_config(dict(table))
    train(config, folder / "whole")
    expected = final(folder / "whole")
    for steps in after:

        def stop(event: Event, steps: int = steps) -> None:
            if event.step == steps:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(Interrupted, match=f"step {steps}"):
            train(config, folder / str(steps), observers=[stop])
        train(config, folder / str(steps))
        require_same(final(folder / str(steps)), expected)
    return expected


def require_same_when_killed(table: Mapping[str, object], folder: Path) -> None:
    """Kill a training twice with kill -9, each time 60 steps further, and resume it."""
    train(to_run_config(dict(table)), folder / "whole")
    command = [sys.executable, "-c", _TRAIN, json.dumps(table), str(folder / "killed")]
    kills = 0
    for _ in range(_KILLS + 1):
        with subprocess.Popen(command) as process:
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                reached = max((int(path.name[5:]) for path in checkpoints.checkpoints(folder / "killed")), default=0)
                if kills < _KILLS and reached >= _BETWEEN * (kills + 1):
                    os.kill(process.pid, signal.SIGKILL)
                    kills += 1
                    break
                time.sleep(0.01)
    assert kills == _KILLS and process.returncode == 0
    require_same(final(folder / "killed"), final(folder / "whole"))
