"""Trains one rung in a separate process: peak memory is then that of the rung, and a crash does not affect the others.

Reads the configuration as one line of JSON from standard input; when standard input closes early, it saves and ends as after SIGTERM.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from vitrail.errors import VitrailError
from vitrail.files import make_folder, write_file
from vitrail.runtime.peak_memory import peak_memory
from vitrail.runtime.streams import guard_streams
from vitrail.train.log.display import TrainingDisplay
from vitrail.train.run import train
from vitrail.train.run_config import RunConfig

PROCESS = "process.json"
"""File in the run's folder: facts of the processes that trained it."""


def main() -> int:
    """Train the configuration of standard input in the folder given as the only argument; record how it ended."""
    guard_streams()
    folder = Path(sys.argv[1])
    config = RunConfig.model_validate_json(_read_line())
    threading.Thread(target=_stop_with_parent, name="lifeline", daemon=True).start()
    make_folder(folder)
    told, code = "", 0
    try:
        with TrainingDisplay(folder) as display:
            train(config, folder, observers=[display.observe], say=display.say, begin=display.keep)
    except VitrailError as error:
        told, code = str(error), error.exit_code
    before = read_process(folder).get("peak_memory_bytes", 0)
    record = {"peak_memory_bytes": max(before, peak_memory()), "error": told}
    write_file(folder / PROCESS, f"{json.dumps(record, ensure_ascii=False)}\n".encode())
    return code


def read_process(folder: Path) -> dict[str, Any]:
    """What a run's last process recorded; empty where there is nothing."""
    try:
        found: Any = json.loads((folder / PROCESS).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _read_line() -> bytes:
    """One line of standard input, without Python's reader, whose lock the waiting thread would hold at exit."""
    line = b""
    while not line.endswith(b"\n") and (piece := os.read(0, 1 << 16)):
        line += piece
    return line


def _stop_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
