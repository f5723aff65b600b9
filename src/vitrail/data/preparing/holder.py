"""The owner of prepared data: data in a run's folder belong to the run, and to the process with its lock."""

import os
import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from vitrail.errors import UsageError
from vitrail.files import LOCK, FolderLock, is_json_with, require_own

RUNG_REQUEST = "asked.json"
"""The file in a rung's folder with the request of a rung of a comparison."""
_SCRATCH = re.compile(r"tree|scratch|old|\.lock|.+\.(?:vitrail-)?(?:tmp|old)-\d+")
"""Names that the folder for data in preparation may hold."""


def owner_lock(folder: Path) -> AbstractContextManager[object]:
    """The lock of the parent folder, where it has one: data in a run's folder belong to the run."""
    return FolderLock(folder.parent) if (folder.parent / LOCK).exists() else nullcontext()


def holds_comparison(folder: Path) -> bool:
    """Whether a folder is that of a comparison, whose rungs were trained on its data/."""
    return any(map(is_json_with("train", "seed", "data"), folder.glob(f"*/{RUNG_REQUEST}")))


def require_untrained(folder: Path) -> None:
    """Refuse to replace the data that a model was trained on: its training can resume only with them."""
    around = folder.parent
    trained = any((around / "state").glob("step-*")) or (around / "model" / "config.json").exists() or holds_comparison(around)
    if trained and os.path.lexists(folder):
        raise UsageError(
            f"{around}: a model was trained on this data, so the data is not replaced",
            expected="the same text and settings, or another folder",
            remedy="-o with another name",
        )


def require_scratch(work: Path) -> None:
    """Refuse a foreign folder under the name of data in preparation."""
    ours = _SCRATCH.fullmatch
    require_own({work: lambda path: path.is_dir() and all(ours(entry.name) for entry in path.iterdir())}, what="data in preparation")
