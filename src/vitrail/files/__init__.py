"""The only code that writes files: atomic files and folders, a manifest that detects damage, logs, a lock.

Before writing, `owner` checks the existing files: foreign files are refused and not changed.

Written files survive `kill -9` and, on a disk that syncs correctly, a power cut: everything is written under a temporary name beside its
place, synced, and then renamed. A reader sees the previous version or the new one, never a part.
"""

from vitrail.files.checked_reading import read_whole
from vitrail.files.jsonlines import JsonLines, read_json_lines
from vitrail.files.lock import LOCK, FolderLock
from vitrail.files.manifest import MANIFEST, MANIFEST_FORMAT, Damaged, FileEntry, read_manifest, verify_file, verify_folder
from vitrail.files.owner import (
    Recognise,
    holds,
    holds_others,
    is_json_with,
    is_log_with,
    is_published,
    require_apart,
    require_folder,
    require_own,
    start_of,
)
from vitrail.files.scratch import ScratchFile, scratch_file
from vitrail.files.sealed import seal, unseal
from vitrail.files.system import FileSystem, NotWritten, make_folder
from vitrail.files.writing import (
    FileWriter,
    FolderWriter,
    exchange,
    is_being_replaced,
    keep_entries,
    publish_file,
    publish_folder,
    remove_folder,
    remove_leftovers,
    rename,
    share_folder,
    write_file,
)

__all__ = [
    "LOCK",
    "MANIFEST",
    "MANIFEST_FORMAT",
    "Damaged",
    "FileEntry",
    "FileSystem",
    "FileWriter",
    "FolderLock",
    "FolderWriter",
    "JsonLines",
    "NotWritten",
    "Recognise",
    "ScratchFile",
    "exchange",
    "holds",
    "holds_others",
    "is_being_replaced",
    "is_json_with",
    "is_log_with",
    "is_published",
    "keep_entries",
    "make_folder",
    "publish_file",
    "publish_folder",
    "read_json_lines",
    "read_manifest",
    "read_whole",
    "remove_folder",
    "remove_leftovers",
    "rename",
    "require_apart",
    "require_folder",
    "require_own",
    "scratch_file",
    "seal",
    "share_folder",
    "start_of",
    "unseal",
    "verify_file",
    "verify_folder",
    "write_file",
]
