"""The notebook: stored without results, and each of its cells runs, in order, in an empty folder."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = json.loads((ROOT / "docs" / "walk.ipynb").read_text(encoding="utf-8"))
CELLS: list[tuple[str, str]] = [(cell["cell_type"], "".join(cell["source"])) for cell in NOTEBOOK["cells"]]
CODE = [text for kind, text in CELLS if kind == "code"]

# What a notebook does: the value of a cell's last line is shown, as HTML where it can be.
RUNNER = """
import ast, json, sys
names = {"__name__": "__main__"}
for text in json.loads(sys.stdin.read()):
    lines = ast.parse(text)
    last = lines.body.pop() if isinstance(lines.body[-1], ast.Expr) else None
    exec(compile(lines, "cell", "exec"), names)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        if value is not None:
            print(value._repr_html_())
"""


def run(cells: list[str], folder: Path) -> str:
    command = [sys.executable, "-W", "error", "-X", "utf8", "-c", RUNNER]
    done = subprocess.run(
        command, input=json.dumps(cells), cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=900, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_it_is_stored_without_results() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    cells: list[dict[str, Any]] = NOTEBOOK["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells) > 20
    for cell in cells:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_it_names_no_path_of_a_machine() -> None:
    for _, text in CELLS:
        assert not re.search(r"(?<![\w.)])/(?:[a-z]\w*/|tmp\b)|\b[A-Za-z]:\\\\", text), text


def test_its_links_lead_somewhere() -> None:
    links = [link for kind, text in CELLS if kind == "markdown" for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text)]
    assert len(links) > 3
    for link in links:
        assert (ROOT / "docs" / link).is_file(), link


def shrunk(text: str) -> str:
    """The first cell with a training of seconds."""
    for old, new in (("500 steps", "20 steps"), ("250 steps", "20 steps"), ("8_000", "800")):
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.slow
def test_its_equations_hold_for_a_model_that_has_learned_little(tmp_path: Path) -> None:
    shown = run([shrunk(CODE[0]), *CODE[1:]], tmp_path)
    assert shown.count(": equal, shape (") > 20
    assert shown.count("<iframe ") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["walk"], "it writes into one folder"


@pytest.mark.slow
def test_it_runs_as_it_stands(tmp_path: Path) -> None:
    shown = run(CODE, tmp_path)
    assert "\nJe vais bien.\n" in shown
    assert "\nUn chien a mangé la nourriture parce qu'il avait faim.\n" in shown
    assert shown.count(": equal, shape (") > 20
