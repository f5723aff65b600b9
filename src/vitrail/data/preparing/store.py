"""Encoded pairs on disk: memory-mapped ids and offsets, written once and atomically, readable on any machine."""

import json
import mmap
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.errors import DataError, ModelError
from vitrail.files import Damaged, FileWriter, publish_folder, read_manifest, verify_folder

FORMAT = 1
INDEX = "prepared.json"
"""The file of prepared data that lists its stores."""
META = "meta.json"
_MAGIC = b"vitrids\x01"
PAIRS, TEXT, LABELLED = ("source", "target"), ("text",), ("source", "label")
"""The streams of a store, by role: a translator's pairs; the lines of a language model's text; a classifier's texts with their labels."""
_REMEDY = "prepare the data again: vitrail prepare"
# Pairs encoded at a time: enough for all threads of a large machine, about 20 MB of text. The files do not depend on it.
_CHUNK = 50_000


def store_name(place: int) -> str:
    """The folder of the corpus at this place of the configuration."""
    return f"store-{place}"


def ids_dtype(vocabulary_size: int) -> np.dtype[Any]:
    """The smallest of two types that holds all ids: two bytes up to 65,536 ids, else four. Little-endian on every machine."""
    return np.dtype("<u2") if vocabulary_size <= 1 << 16 else np.dtype("<i4")


class _SideWriter:
    """Writes the rows of one side."""

    def __init__(self, ids: FileWriter, offsets: FileWriter, *, dtype: np.dtype[Any]) -> None:
        self._ids, self._offsets, self.dtype = ids, offsets, dtype
        self.count = 0
        ids.write(_MAGIC)
        offsets.write(np.zeros(1, dtype="<i8").tobytes())

    def append(self, rows: Sequence[npt.NDArray[np.int32]]) -> None:
        ends = self.count + np.cumsum(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)))
        self._ids.write(np.concatenate(rows).astype(self.dtype).tobytes())
        self._offsets.write(ends.astype("<i8").tobytes())
        self.count = int(ends[-1])

    def describe(self) -> dict[str, Any]:
        return {"dtype": self.dtype.str, "ids": self.count}


class StoreWriter:
    """A store being written. Got from `write_store`."""

    def __init__(self, sides: dict[str, _SideWriter]) -> None:
        self._sides = sides
        self.pairs = 0

    def append(self, *streams: Sequence[npt.NDArray[np.int32]]) -> None:
        """Add some rows of each stream, in the order of the roles. The division into calls changes nothing on disk."""
        assert len(streams) == len(self._sides) and len(set(map(len, streams))) == 1
        if streams[0]:
            for side, rows in zip(self._sides.values(), streams, strict=True):
                side.append(rows)
            self.pairs += len(streams[0])

    def describe(self, vocabularies: Vocabularies) -> bytes:
        """What `meta.json` says."""
        sides = {role: side.describe() for role, side in self._sides.items()}
        meta = {"format": FORMAT, "pairs": self.pairs, **sides, "vocabularies": vocabularies.digest}
        return (json.dumps(meta, indent=2) + "\n").encode()


@contextmanager
def write_store(folder: Path, vocabularies: Vocabularies, *, roles: Sequence[str] = PAIRS) -> Generator[StoreWriter, None, None]:
    """Write a store in pieces; it appears under its name, synced and with its manifest, when the block ends without an error.

    Args:   roles: of its streams.
    Raises: DataError when there is not one pair; NotWritten when the disk refuses. An older store of that name is then intact.
    """
    with publish_folder(folder) as out:
        with ExitStack() as stack:
            sides: dict[str, _SideWriter] = {}
            for role in roles:
                ids, offsets = (stack.enter_context(out.create(f"{role}.{kind}")) for kind in ("ids", "offsets"))
                sides[role] = _SideWriter(ids, offsets, dtype=ids_dtype(vocabularies.of(role).size))
            writer = StoreWriter(sides)
            yield writer
            if writer.pairs == 0:
                raise DataError(
                    f"{folder}: no sentence pair is left to store", remedy="see the cleaning report for what was dropped, and why"
                )
        out.write(META, writer.describe(vocabularies))


@dataclass(frozen=True)
class _Side:
    ids: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]

    def row(self, index: int) -> npt.NDArray[np.int32]:
        return self.ids[self.offsets[index] : self.offsets[index + 1]].astype(np.int32)


class Store:
    """Streams of encoded rows by role, read from disk on demand. Ids are those of `vocabularies` (a digest).

    Pairs are stored without SOS and EOS; a line of text ends in EOS.
    """

    def __init__(self, folder: Path, *, sides: dict[str, _Side], vocabularies: str, digest: str) -> None:
        self.folder, self.vocabularies, self.digest = folder, vocabularies, digest
        self._sides = sides
        self._lengths = {role: np.diff(side.offsets).astype(np.int32) for role, side in sides.items()}

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a store; sizes and headers are checked always, contents by `verify`.

        Raises: ModelError naming the file that is missing, truncated or damaged.
        Cost:   reads the offsets, and keeps 8 bytes a pair for the lengths; ids stay on disk.
        """
        entries = read_manifest(folder)
        roles = TEXT if "text.ids" in entries else LABELLED if "label.ids" in entries else PAIRS
        files = (META, *(f"{role}.{kind}" for role in roles for kind in ("ids", "offsets")))
        for name in files:
            if name not in entries:
                raise _damaged(folder / name, "is not in the manifest")
            if (size := _size(folder / name)) != entries[name].size:
                raise _damaged(folder / name, f"has {size} bytes, {entries[name].size} by the manifest")
        meta = _read_meta(folder / META, roles)
        sides = {role: _open_side(folder, role, meta) for role in roles}
        digest = sha256("".join(f"{name} {entries[name].sha256}\n" for name in sorted(files)).encode()).hexdigest()
        return cls(folder, sides=sides, vocabularies=meta["vocabularies"], digest=digest)

    def verify(self) -> None:
        """Compare every file with the manifest. Raises ModelError naming the first damaged file."""
        verify_folder(self.folder)

    def require(self, vocabularies: Vocabularies) -> None:
        """Raise ModelError unless this store was made with these vocabularies."""
        if vocabularies.digest != self.vocabularies:
            raise ModelError(
                f"{self.folder}: was made with other vocabularies ({self.vocabularies[:12]}, not {vocabularies.digest[:12]})",
                expected="the vocabularies of this model",
                remedy="prepare the data again with the vocabularies of this model",
            )

    def __len__(self) -> int:
        return len(next(iter(self._lengths.values())))

    @property
    def roles(self) -> tuple[str, ...]:
        """Its streams."""
        return tuple(self._sides)

    def row(self, role: str, index: int) -> npt.NDArray[np.int32]:
        """The ids of a row. Precondition: 0 <= index < len(self)."""
        return self._sides[role].row(index)

    def lengths(self, role: str) -> npt.NDArray[np.int32]:
        """The number of ids of each row."""
        return self._lengths[role]

    def ids(self, role: str) -> npt.NDArray[Any]:
        """All rows, concatenated, as on disk."""
        return self._sides[role].ids

    @property
    def source_lengths(self) -> npt.NDArray[np.int32]:
        """Of a store of pairs."""
        return self._lengths["source"]

    @property
    def target_lengths(self) -> npt.NDArray[np.int32]:
        """Of a store of pairs."""
        return self._lengths["target"]

    def source(self, index: int) -> npt.NDArray[np.int32]:
        """The source ids of a pair. Precondition: 0 <= index < len(self)."""
        return self.row("source", index)

    def target(self, index: int) -> npt.NDArray[np.int32]:
        """The target ids of a pair. Precondition: 0 <= index < len(self)."""
        return self.row("target", index)


def _damaged(path: Path, reason: str) -> Damaged:
    return Damaged(f"{path}: {reason}", remedy=_REMEDY)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from None


def _read_meta(path: Path, roles: Sequence[str]) -> dict[str, Any]:
    try:
        meta: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise _damaged(path, "is not valid JSON") from None
    match meta:
        case {"format": int(number)} if number > FORMAT:
            raise ModelError(
                f"{path}: has format {number}", expected=f"format {FORMAT} or older", remedy="update vitrail: pip install -U vitrail"
            )
        case {"format": 1, "pairs": int(), "vocabularies": str(), **streams} if all(map(_is_stream, map(streams.get, roles))):
            return meta
        case _:
            raise _damaged(path, "does not describe a store")


def _is_stream(value: Any) -> bool:
    match value:
        case {"dtype": "<u2" | "<i4", "ids": int()}:
            return True
        case _:
            return False


def _open_side(folder: Path, side: str, meta: dict[str, Any]) -> _Side:
    count, dtype = meta[side]["ids"], np.dtype(meta[side]["dtype"])
    ids, offsets = folder / f"{side}.ids", folder / f"{side}.offsets"
    if _size(ids) != len(_MAGIC) + count * dtype.itemsize:
        raise _damaged(ids, f"does not hold the {count} ids of {META}")
    if _size(offsets) != 8 * (meta["pairs"] + 1):
        raise _damaged(offsets, f"does not hold the {meta['pairs']} pairs of {META}")
    raw, places = _map(ids), np.frombuffer(_map(offsets), dtype="<i8")
    if raw[: len(_MAGIC)] != _MAGIC:
        raise _damaged(ids, "does not start as a file of ids does")
    if places[0] != 0 or places[-1] != count or meta["pairs"] < 1 or np.diff(places).min() < 0:
        raise _damaged(offsets, f"does not rise from 0 to {count}")
    return _Side(np.frombuffer(raw, dtype=dtype, offset=len(_MAGIC), count=count), places)


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
