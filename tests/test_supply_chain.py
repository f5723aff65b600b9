"""What is installed is pinned by hash, is what the project asks for, and an audit that could not look fails."""

import re
import subprocess
import sys
import tomllib
import venv
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _load_audit() -> Any:
    spec = spec_from_file_location("audit", ROOT / "tools" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


audit = _load_audit()
LOCKED: dict[str, str] = audit.locked(LOCK)


def test_lock_holds_every_dependency_but_torch() -> None:
    asked = {audit.canonical(re.split(r"[<>=\[; ]", text)[0]) for text in PROJECT["dependencies"]}
    assert asked - set(LOCKED) == {"torch"}


def test_lock_agrees_with_the_versions_that_the_tests_ran_on() -> None:
    tested = audit.locked((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert {name: version for name, version in LOCKED.items() if tested[name] != version} == {}


def test_every_locked_package_has_a_hash_and_none_brings_cuda() -> None:
    entries = re.split(r"\n(?=\S)", LOCK.strip())
    assert len(entries) == len(LOCKED) <= 35
    assert all(re.search("--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert not [name for name in LOCKED if re.match("nvidia|cuda|triton|torch", name)]


def test_floors_are_those_without_known_holes() -> None:
    floors = dict(re.fullmatch(r"([\w\-]+)>=([\w.]+)", text).groups() for text in PROJECT["dependencies"])  # pyright: ignore
    assert floors["torch"] == "2.11" and floors["sentencepiece"] == "0.2.3"


ANSWER = {"dependencies": [{"name": "A.b", "version": "1.0", "vulns": []}, {"name": "c", "version": "2.0", "vulns": []}]}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"version": "1.1"}, ["a-b 1.0: not looked up (another version)"]),
        ({"skip_reason": "no network"}, ["a-b 1.0: not looked up (no network)"]),
        ({"name": "other"}, ["a-b 1.0: not looked up"]),
        ({"vulns": [{"id": "CVE-1", "fix_versions": ["1.2"]}]}, ["a-b 1.0: CVE-1, fixed in 1.2"]),
    ],
)
def test_audit_fails_unless_every_package_was_looked_up(changed: dict[str, Any], expected: list[str]) -> None:
    first, second = ANSWER["dependencies"]
    answer = {"dependencies": [first | changed, second]}
    assert audit.problems({"a-b": "1.0", "c": "2.0"}, answer) == expected


def test_audit_without_its_tool_fails() -> None:
    # In an environment that has no pip-audit nothing is looked up: that is a failure and not "no known vulnerabilities".
    done = subprocess.run(
        [sys.executable, "-I", str(ROOT / "tools" / "audit.py"), str(ROOT / "requirements.lock")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "none known" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("locked", [True, False], ids=["by hash", "pip install ."])
def test_both_ways_to_install_bring_the_same_packages(tmp_path: Path, locked: bool) -> None:
    venv.create(tmp_path / "new", with_pip=True)
    python = str(tmp_path / "new" / "bin" / "python")
    torch = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert torch is not None
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, torch[0]], check=True)
    if locked:
        subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "--no-deps", "-r", str(ROOT / "requirements.lock")], check=True)
        subprocess.run([*pip, "--no-deps", str(ROOT)], check=True)
    else:
        subprocess.run([*pip, str(ROOT)], check=True)
    shown = subprocess.run([python, "-m", "pip", "list", "--format", "freeze"], capture_output=True, text=True, check=True).stdout
    names = {audit.canonical(line.split("==")[0]) for line in shown.split()} - {"pip", "setuptools"}
    # colorama is wanted on Windows alone, but sacreBLEU asks for it everywhere.
    assert names == (set(LOCKED) - {"setuptools"}) | {"torch", "vitrail"}
    subprocess.run([python, "-m", "pip", "check"], check=True)
    subprocess.run([str(tmp_path / "new" / "bin" / "vitrail"), "--help"], check=True, capture_output=True)
