"""Every command of the README works as it stands there, in a folder with the files that it names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vitrail.phrasebook.corpus import phrasebook

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAIRS = 300


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(text: str) -> list[str]:
    found = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    return [line.split("   #")[0].strip() for block in found for line in block.splitlines() if line.strip()]


_WALKS = README[README.index("## More than translators") : README.index("## How to read the scores")]
WALKS = commands(_WALKS)
COMMANDS = commands(README.replace(_WALKS, ""))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's files, and what `make demo` would have left: here the same short run stands for both."""
    place = tmp_path_factory.mktemp("readme")
    pairs = phrasebook(1, train_pairs=2000).train[:PAIRS]
    for name in ("corpus", "new", "test"):
        chosen = pairs if name == "corpus" else pairs[:5]
        (place / f"{name}.en").write_text("".join(f"{pair.source}\n" for pair in chosen), encoding="utf-8")
        (place / f"{name}.fr").write_text("".join(f"{pair.target}\n" for pair in chosen), encoding="utf-8")
    train = next(command for command in COMMANDS if command.startswith("vitrail train"))
    run(train + " --duration '4 steps' --set model.width=32 --set model.feed_forward=32 --set search.min_length=3", place)
    (place / "runs" / "demo").symlink_to("en-fr")
    return place


def run(command: str, place: Path) -> str:
    # The program that belongs to this interpreter, whatever else is on the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, shell=True, cwd=place, capture_output=True, text=True, env=os.environ | {"PATH": path}, timeout=240, check=False
    )
    # The doctor finds, and says by its exit code, that a model of four steps has not learned much.
    expected = (0, 1) if command.startswith("vitrail doctor") else (0,)
    assert done.returncode in expected, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_readme_has_the_commands_that_it_promises() -> None:
    assert {"make demo", "make test"} <= set(COMMANDS)
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make")])
def test_make_knows_the_target(command: str) -> None:
    done = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "vitrail demo" in done.stdout or "pytest" in done.stdout


@pytest.mark.parametrize("command", [command for command in COMMANDS if not command.startswith(("make", "vitrail train"))])
def test_command_works(command: str, folder: Path) -> None:
    output = run(command, folder)
    if ">" in command:
        lines = (folder / command.split(">")[-1].strip()).read_bytes().split(b"\n")
        assert len(lines) == 5 + 1 and lines[-1] == b""
    elif " -o " in command:
        assert (folder / command.split(" -o ")[-1]).read_bytes().startswith(b"<!doctype html>")
    else:
        assert output.strip()


@pytest.mark.slow
def test_each_kind_of_model_is_two_lines_away(tmp_path: Path) -> None:
    """The commands one after the other, trainings cut short."""
    pairs = phrasebook(1, train_pairs=2000).train[:1000]
    columns = {
        "corpus.txt": [pair.source for pair in pairs],
        "corpus.en": [pair.source for pair in pairs],
        "corpus.fr": [pair.target for pair in pairs],
        "reviews.txt": [pair.source for pair in pairs],
        "labels.txt": ["long" if len(pair.source) > 30 else "short" for pair in pairs],
    }
    for name, lines in columns.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    assert len(WALKS) == 11
    for command in WALKS:
        short = command.startswith("vitrail train")
        silent = short or command.startswith("vitrail vectors train")
        assert run(command + " --duration '8 steps' --set train.threads=1" * short, tmp_path).strip() or silent, command
    assert (tmp_path / "vectors" / "words.txt").is_file()


def test_python_story_works(folder: Path) -> None:
    story = blocks("python")
    assert len(story) == 2
    done = subprocess.run([sys.executable, "-c", "".join(story)], cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert (folder / "page.html").is_file()


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link
