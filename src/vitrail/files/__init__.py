"""The only code that writes: whole files and whole folders or nothing, a manifest that detects damage, log lines, a lock.

What is written here survives `kill -9` and, where the disk keeps its promises, a power cut: everything goes to a temporary name
beside its place, is synced, and only then renamed. A reader meets the previous version or the new one, never half of one.
"""

from vitrail.files.jsonlines import JsonLines, read_lines
from vitrail.files.lock import FolderLock
from vitrail.files.manifest import MANIFEST, MANIFEST_FORMAT, Damaged, FileEntry, read_manifest, verify_file, verify_folder
from vitrail.files.system import FileSystem, NotWritten, make_folder
from vitrail.files.writing import FileWriter, FolderWriter, publish_folder, remove_folder, rename, share_folder, sweep, write_file

__all__ = [
    "MANIFEST",
    "MANIFEST_FORMAT",
    "SYSTEM",
    "Damaged",
    "FileEntry",
    "FileSystem",
    "FileWriter",
    "FolderLock",
    "FolderWriter",
    "JsonLines",
    "NotWritten",
    "make_folder",
    "publish_folder",
    "read_lines",
    "read_manifest",
    "remove_folder",
    "rename",
    "share_folder",
    "sweep",
    "verify_file",
    "verify_folder",
    "write_file",
]

SYSTEM = FileSystem()
"""Every call that changes a disk goes through it. Tests replace it to record the calls, or to make one fail."""
