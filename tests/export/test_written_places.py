"""Where exits and imports write: never in the place of what they read, nor over a model or a part of a run."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from exits import pieces, saved

from vitrail.cli import run
from vitrail.config import to_toml
from vitrail.export import huggingface
from vitrail.export.translators.staging import publish_checked
from vitrail.files import NotWritten
from vitrail.models.architectures import read_config
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.model_folder import save_model


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


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("nowhere", "nowhere: no such file or folder\n  expected: a folder of Marian, "),
        ("own", "own: holds a model of vitrail already\n  try: use it as it is"),
        ("run", "run: holds a model of vitrail already\n  try: use it as it is"),
        ("run/..", "neither config.json nor an .npz\n  expected: a folder of Marian, "),
    ],
)
def test_what_is_no_model_of_another_program_is_told(made: Path, given: str, told: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["import", str(made / given), "-o", str(made / "new")]) == 4
    said = capfd.readouterr().err
    assert told in said and "Errno" not in said and not (made / "new").exists()


@pytest.mark.parametrize("exit", ["huggingface", "ctranslate2"])
@pytest.mark.parametrize("changed", [3, {"model": 3, "facts": {}}, {"facts": [1]}, {"model": {"kind": "transformer", "width": "x"}}])
def test_what_of_ours_was_changed_there_is_told(
    made: Path, tmp_path: Path, exit: str, changed: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(made / exit, theirs)
    path = theirs / ("config.json" if exit == "huggingface" else "vitrail.json")
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"vitrail": changed} if exit == "huggingface" else changed))
    assert run(["import", str(theirs), "-o", str(tmp_path / "back")]) == 4
    said = capfd.readouterr().err
    assert "TypeError" not in said and "pydantic" not in said and not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("name", "value", "told"), [("d_model", "x", "width: Input should be"), ("decoder_layers", None, "lacks decoder_layers")]
)
def test_a_wrong_setting_there_is_told_by_name(
    made: Path, tmp_path: Path, name: str, value: str | None, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(made / "huggingface", theirs)
    settings = json.loads((theirs / "config.json").read_bytes())
    del settings[name]
    (theirs / "config.json").write_text(json.dumps(settings | ({} if value is None else {name: value})))
    assert run(["import", str(theirs), "-o", str(tmp_path / "back")]) == 4
    said = capfd.readouterr().err
    assert f"config.json: {told}" in said and "pydantic" not in said


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "model.bin").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(NotWritten, match=r"theirs: cannot be written: No space left on device(.|\n)*free some space"):
        publish_checked(tmp_path / "theirs", write=write, check=lambda folder: None)
    assert list(tmp_path.iterdir()) == []


def test_a_language_model_whose_check_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = pieces()
    table = {"layers": 1, "context": 12, "width": 16, "heads": 2, "feed_forward": 24, "activation": "gelu", "positions": "rotary"}
    config = read_config({"kind": "causal-language", **table})
    save_model(tmp_path / "model", tensors=unique_tensors(build_model(config, both)), config=config, vocabularies=both, facts={})
    command = ["export", str(tmp_path / "model"), "-o", str(tmp_path / "theirs")]

    def differ(model: Path, output: Path) -> float:
        return 0.5 if model.exists() and output.exists() else 0.0

    monkeypatch.setattr(huggingface, "largest_difference", differ)
    assert run(command) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert run([*command, "--no-check"]) == 0
    before = every_byte(tmp_path / "model")
    assert run(["export", str(tmp_path / "model"), "-o", str(tmp_path / "model"), "--no-check"]) == 2
    assert every_byte(tmp_path / "model") == before
