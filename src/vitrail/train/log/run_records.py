"""Logs of a run: metrics, sample translations, the film, and the batches of skipped steps."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vitrail.files import JsonLines, NotWritten, write_file

Marks = dict[str, int]
"""The size of each log at a checkpoint, in bytes."""

_log = logging.getLogger(__name__)


class RunLogs:
    """The logs of a run, open for appending from where a checkpoint left them.

    A failed write loses its line and never ends the training; one warning is shown, until lines are written again.

    Args:
        step: lines of later steps are removed, since they will be written again.
        film: whether `film.jsonl` is written. An existing one is cut in any case, as it may have later steps.
        marks: the result of `marks` at the checkpoint; later lines of the same step are removed too.
    """

    def __init__(self, folder: Path, *, step: int, marks: Mapping[str, int], film: bool = False) -> None:
        self._folder, self._refused = folder, False
        names = ("metrics", "samples", *(("film",) if film or (folder / "film.jsonl").exists() else ()))
        self._logs = {name: JsonLines(folder / f"{name}.jsonl") for name in names}
        for name, log in self._logs.items():
            log.go_back(step, size=marks.get(name))

    def __enter__(self) -> "RunLogs":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for log in self._logs.values():
            log.close()

    def metric(self, record: Mapping[str, Any]) -> None:
        """One line of `metrics.jsonl`."""
        self._try(lambda: self._logs["metrics"].append(record))

    def sample(self, record: Mapping[str, Any]) -> None:
        """One line of `samples.jsonl`."""
        self._try(lambda: self._logs["samples"].append(record))

    def frame(self, record: Mapping[str, Any]) -> None:
        """One line of `film.jsonl`."""
        self._try(lambda: self._logs["film"].append(record))

    def bad_batch(self, step: int, number: int, written: Mapping[str, Any]) -> None:
        """One file of `bad_batches/`: a batch as ids and as text, to find the cause of a skipped step."""
        record = {"step": step, **written}
        path = self._folder / "bad_batches" / f"step-{step:06d}-batch-{number}.json"
        data = (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace")
        self._try(lambda: write_file(path, data))

    def marks(self) -> Marks:
        """Sync the logs, and return their sizes for a checkpoint. Raises NotWritten."""
        for log in self._logs.values():
            log.sync()
        return {name: log.size for name, log in self._logs.items()}

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except NotWritten as error:
            if not self._refused:
                _log.warning("%s; training continues without these lines", error.found)
            self._refused = True
        else:
            self._refused = False
