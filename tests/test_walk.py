"""A new user's walk from a clean clone: the two commands of the README, then two files of one's own, then a translation."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from vitrail.phrasebook.corpus import opening, phrasebook

ROOT = Path(__file__).parents[1]
SENTENCES = {"I am good.": "Je vais bien.", "I am good": "Je vais bien"}


def walk(command: str, place: Path, *, minutes: float, stdin: str = "", **environment: str) -> str:
    # Nothing of this process's own environment but what any shell has: the clone must stand on its own feet.
    plain = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        command,
        shell=True,
        cwd=place,
        input=stdin,
        capture_output=True,
        text=True,
        env=plain | environment,
        timeout=60 * minutes,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.slow
def test_from_clone_to_translation(tmp_path: Path) -> None:
    walk(f"git clone --quiet {ROOT} vitrail", tmp_path, minutes=1)
    clone = tmp_path / "vitrail"

    shown = walk("make demo", clone, minutes=40).splitlines()
    wanted = SENTENCES | {opening().pair().source: opening().pair().target}
    assert {f"{source}  ->  {target}" for source, target in wanted.items()} <= set(shown)
    result = json.loads((clone / "runs/demo/demo.json").read_text())
    bleu = next(score for score in result["test"]["scores"] if score["name"] == "BLEU")
    assert bleu["value"] >= 90
    assert result["pronouns"]["total"] >= 500 and result["pronouns"]["correct"] >= 0.9 * result["pronouns"]["total"]

    started = time.monotonic()
    # make says what it runs; the second time nothing is left to install.
    assert walk("make demo", clone, minutes=2).splitlines() == shown[shown.index(".venv/bin/vitrail demo") :]
    assert time.monotonic() - started < 30
    # The whole suite runs elsewhere; here, that the command installs what it needs and works.
    walk("make test", clone, minutes=20, PYTEST_ADDOPTS="tests/test_config.py")

    pairs = phrasebook(7, train_pairs=400).train
    (clone / "mine.en").write_text("".join(f"{pair.source}\n" for pair in pairs), encoding="utf-8")
    (clone / "mine.fr").write_text("".join(f"{pair.target}\n" for pair in pairs), encoding="utf-8")
    walk(".venv/bin/vitrail train --source mine.en --target mine.fr -o runs/mine --duration '20 epochs'", clone, minutes=10)
    lines = walk(".venv/bin/vitrail translate runs/mine", clone, minutes=2, stdin="I am good.\n\nThe dog sleeps.\n").split("\n")
    assert len(lines) == 4 and lines[0] and lines[1] == "" and lines[2] and lines[3] == ""
