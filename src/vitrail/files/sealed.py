"""JSON files with a checksum: the last key is the SHA-256 of all the others."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

_SEAL = "sha256"


def seal(table: Mapping[str, Any]) -> bytes:
    """The bytes of the file."""
    plain: dict[str, Any] = json.loads(json.dumps(table))  # tuples become lists and keys text, as a reader gets them
    return (json.dumps({**plain, _SEAL: _hash(plain)}, indent=2, ensure_ascii=False) + "\n").encode()


def unseal(data: bytes) -> dict[str, Any]:
    """The content without the hash. A file of an older release, without a hash, is accepted. Raises ValueError."""
    try:
        table: Any = json.loads(data)
    except RecursionError:
        raise ValueError("is not valid JSON") from None
    if not isinstance(table, dict):
        raise ValueError("is not a JSON object")
    found: dict[str, Any] = table
    if _SEAL in found and found.pop(_SEAL) != _hash(found):
        raise ValueError("is altered: its SHA-256 is not the one that it holds")
    return found


def _hash(table: Mapping[str, Any]) -> str:
    return sha256(json.dumps(table, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
