"""The files of a report, written together: nothing is written where another file has one of their names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vitrail.files import Recognise, require_own, write_file


def write_report_files(files: Mapping[Path, Recognise], texts: Sequence[str]) -> tuple[Path, ...]:
    """Write a text to each file, each atomically, and return their paths. Args: files: path -> how a file of this kind is recognised.

    Raises: UsageError where a file is something else; NotWritten.
    """
    require_own(files, what="the report")
    for path, text in zip(files, texts, strict=True):
        write_file(path, text.encode("utf-8", errors="replace"))  # "replace": names of files need not be Unicode
    return tuple(files)
