"""Compiled functions: without Numba, and where their cache lies."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vitrail.errors import UsageError
from vitrail.native import compiled


def test_without_numba_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"numba is not installed") as error:
        compiled.require_numba("word vectors")
    assert "vitrail[fast]" in str(error.value)


_CODE = """
import sys
from vitrail.native.compiled import cache_folder
print(cache_folder())
"""


def _cache_folder(environment: dict[str, str]) -> str:
    found = subprocess.run([sys.executable, "-c", _CODE], env=os.environ | environment, capture_output=True, text=True, check=True)
    return found.stdout.strip()


def test_the_cache_is_named_by_sources_and_processor_and_belongs_to_the_user(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    folder = Path(_cache_folder({"VITRAIL_CACHE": str(tmp_path)}))
    assert folder.parent == tmp_path and folder.name.startswith("native-")
    assert folder.stat().st_mode & 0o777 == 0o700
    other = _cache_folder({"VITRAIL_CACHE": str(tmp_path), "NUMBA_CPU_NAME": "x86-64"})
    assert other != str(folder)


def test_a_cache_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    folder = Path(_cache_folder({"VITRAIL_CACHE": str(tmp_path)}))
    folder.chmod(0o777)
    assert _cache_folder({"VITRAIL_CACHE": str(tmp_path)}) == "None"


def test_a_home_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    environment = {"HOME": str(tmp_path / "home"), "VITRAIL_CACHE": "", "XDG_CACHE_HOME": ""}
    assert _cache_folder(environment) == "None" and not (tmp_path / "home").exists()
    (tmp_path / "home").mkdir()
    assert _cache_folder(environment).startswith(str(tmp_path / "home" / ".cache" / "vitrail" / "native-"))


def test_where_no_cache_can_be_written_there_is_none(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    (tmp_path / "file").write_text("no folder")
    assert _cache_folder({"VITRAIL_CACHE": str(tmp_path / "file" / "below")}) == "None"


def test_compiling_that_takes_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with compiled.compiling("quickly", said.append, program="vectors", after=60):
        pass
    monkeypatch.setattr(compiled, "cache_folder", lambda program: None)
    told = threading.Event()
    with compiled.compiling("the step", lambda line: (said.append(line), told.set()), program="vectors", after=0):
        assert told.wait(60)
    assert said == ["compiling the step, once on this machine", "compiled in 0 seconds; not kept, as no cache can be written"]


def test_one_thread_compiles_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads of a first translation had compiled one after the other, each for itself."""
    made, count = list[str](), 4
    together = threading.Barrier(count)

    def make(module: str, name: str) -> str:
        made.append(name)
        time.sleep(0.05)
        return name

    def load(_: int) -> object:
        together.wait(10)
        return compiled.load_entry("vitrail.native.nothing", "one")

    monkeypatch.setattr(compiled, "_load_entry", make)
    monkeypatch.setattr(compiled, "_loaded", {})
    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(load, range(count))) == ["one"] * count
    assert made == ["one"]
