"""The toy model and the random searches of these tests, and the list of models of tests/contract, importable from them; a broken Numba."""

import sys
from pathlib import Path

import pytest

from vitrail.decode.engines import native_engine
from vitrail.native import compiled

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "engines"), str(HERE.parent / "contract")]


@pytest.fixture
def broken_numba(monkeypatch: pytest.MonkeyPatch) -> str:
    """Numba is there and cannot be imported; returns why, as it is told."""

    def fails() -> None:
        raise ImportError("Numba needs NumPy 2.2 or less.\nGot 2.9")

    monkeypatch.setattr(native_engine, "has_numba", lambda: True)
    monkeypatch.setattr(compiled, "cache_folder", lambda program: None)
    monkeypatch.setattr(compiled, "_numba", fails)
    return "numba cannot be imported: Numba needs NumPy 2.2 or less. Got 2.9"
