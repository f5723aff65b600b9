"""Where exits and imports write: never in the place of what they read, nor over a model or a part of a run."""

from pathlib import Path

import pytest
from exits import pieces, saved

from vitrail.cli import run
from vitrail.config import to_toml


def every_byte(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with its model, and that model as other programs have it."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("run/model", "own"):
        saved(folder / name, {"norm_position": "post"}, pieces())
    settings = {name: {"a": 1} for name in ("data", "model", "optimizer", "schedule", "train", "search")} | {"seed": 1}
    (folder / "run/config.toml").write_text(to_toml(settings))
    for exit in ("huggingface", "ctranslate2"):
        assert run(["export", str(folder / "run"), "--to", exit, "-o", str(folder / exit), "--no-check"]) == 0
    return folder


@pytest.mark.parametrize(
    ("verb", "output", "told"),
    [
        ("import huggingface", "huggingface", "would replace what it is made of"),
        ("import ctranslate2", "ctranslate2", "would replace what it is made of"),
        ("export own", "own", "would replace what it is made of"),
        ("export run", "run/model", "would replace what it is made of"),
        ("export run", "own", "which vitrail wrote as something else"),
        ("import huggingface", "ctranslate2", "which vitrail wrote as something else"),
        ("import huggingface", "run/model", "is a part of the run"),
        ("export own", "run/model", "is a part of the run"),
        ("export own", "run/state/step-000001", "is a part of the run"),
        ("lora unmerge own", "run/model", "is a part of the run"),
        ("lora save run", "run/model", "would replace what it is made of"),
    ],
)
def test_nothing_is_written_over_what_is_read_or_over_a_model(
    made: Path, verb: str, output: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = every_byte(made)
    *words, given = verb.split()
    checks = ["--no-check"] if words == ["export"] else []
    assert run([*words, str(made / given), "-o", str(made / output), *checks]) == 2
    assert told in capfd.readouterr().err
    assert every_byte(made) == before


def test_what_was_written_before_is_written_again(made: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert run(["export", str(made / "own"), "--to", "huggingface", "-o", str(tmp_path / "theirs"), "--no-check"]) == 0
        assert run(["import", str(tmp_path / "theirs"), "-o", str(tmp_path / "back")]) == 0
