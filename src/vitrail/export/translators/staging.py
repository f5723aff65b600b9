"""A folder for another program: written aside, checked there, and then published whole or not at all."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vitrail.files import is_published, make_folder, publish_folder, write_file
from vitrail.files.owner import require_own
from vitrail.files.system import explaining
from vitrail.models.stored import is_model

Result = TypeVar("Result")
_PIECE_BYTES = 1 << 24


def publish_checked(output: Path, *, write: Callable[[Path], None], check: Callable[[Path], Result]) -> Result:
    """Write a folder, run a check on it, and give it its name where the check raises nothing. Returns what the check returns.

    Args:   write: writes files into the empty folder that it gets; other programs' own writers may be used. Files in folders of it are
    written last.
    Raises: UsageError where something else has that name; NotWritten; and what `write` and `check` raise: then nothing is left.
    """
    require_own({output: _is_exit}, what=f"{output.name}/")
    make_folder(output.parent)
    with explaining(output):
        room = tempfile.TemporaryDirectory(prefix=f"{output.name}.", dir=output.parent)
    with room as place:
        aside = Path(place) / output.name
        with explaining(output):
            aside.mkdir()
            write(aside)
        result = check(aside)
        with publish_folder(output, ours=_is_exit) as out:
            for path in sorted(filter(Path.is_file, aside.iterdir())):
                with path.open("rb") as file, out.create(path.name) as copy:
                    while piece := file.read(_PIECE_BYTES):
                        copy.write(piece)
        for path in sorted(filter(Path.is_file, aside.glob("*/*"))):
            write_file(output / path.relative_to(aside), path.read_bytes())
    return result


def _is_exit(path: Path) -> bool:
    """Whether a folder may be replaced by one for another program. A model may not: it may be the only one."""
    return is_published(path) and not is_model(path)
