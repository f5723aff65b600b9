"""Where a verb writes a model: never in the place of what it reads, nor into a run."""

from collections.abc import Iterable
from pathlib import Path


def require_place(output: Path, *, inputs: Iterable[Path]) -> None:
    """Refuse a place that is read, or that belongs to a run. Raises UsageError; nothing is changed."""
    from vitrail.files import require_apart
    from vitrail.train.run_folder import require_no_part

    require_apart(output, inputs=inputs)
    require_no_part(output)
