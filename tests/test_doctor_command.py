"""vitrail doctor: what it prints where, and its exit codes."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from vitrail.cli import run
from vitrail.phrasebook.corpus import phrasebook

SMALL = [
    *("model.width=16", "model.heads=2", "model.encoder_layers=1", "model.decoder_layers=1", "model.feed_forward=16"),
    *("data.subwords.size=360", "data.holdout.dev_pairs=20", "data.holdout.test_pairs=6"),
    *("train.log_every=4", "train.validate_every='10 steps'", "train.validation_sentences=4", "train.threads=1"),
]


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def vitrail(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run one command line in this process."""

    def call(*arguments: str | Path) -> Ran:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        return Ran(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps, which is too short to have learned anything."""
    folder = tmp_path_factory.mktemp("doctor")
    pairs = phrasebook(train_pairs=300).train
    for name, side in (("train.en", [pair.source for pair in pairs]), ("train.fr", [pair.target for pair in pairs])):
        (folder / name).write_text("".join(f"{line}\n" for line in side))
    texts = ["--source", str(folder / "train.en"), "--target", str(folder / "train.fr")]
    settings = [word for setting in SMALL for word in ("--set", setting)]
    assert run(["train", *texts, "--duration", "20 steps", "-o", str(folder / "run"), *settings]) == 0
    return folder / "run"


def test_a_run_with_faults_exits_with_1_and_says_them_first(vitrail: Run, trained: Path) -> None:
    found = vitrail("doctor", trained, "--threads", "1")
    assert found.code == 1 and found.err == ""
    lines = found.out.splitlines()
    assert lines[0] == str(trained) and lines[1].startswith("FAULT") and "faults" in lines[-1]
    assert any(line.strip().startswith("try: ") for line in lines)


def test_the_same_as_json(vitrail: Run, trained: Path) -> None:
    found = vitrail("doctor", trained, "--threads", "1", "--json")
    document = json.loads(found.out)
    assert found.code == 1 and document["subject"] == str(trained)
    first = document["findings"][0]
    assert first["severity"] == "fault" and set(first) == {"check", "severity", "found", "expected", "remedy", "numbers"}


def test_without_a_run_the_machine_is_looked_over(vitrail: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = vitrail("doctor", "--json")
    document = json.loads(found.out)
    assert document["subject"] == "this machine"
    assert found.code == int(any(one["severity"] == "fault" for one in document["findings"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("prepare", [lambda folder: None, lambda folder: folder.mkdir()])
def test_what_is_no_run_exits_with_4(vitrail: Run, tmp_path: Path, prepare: Callable[[Path], object]) -> None:
    prepare(tmp_path / "thing")
    found = vitrail("doctor", tmp_path / "thing")
    assert found.code == 4 and found.out == "" and found.err.startswith("error: ") and "expected: the folder of a run" in found.err


def test_a_model_folder_by_itself_is_not_called_well(vitrail: Run, trained: Path) -> None:
    found = vitrail("doctor", trained / "model", "--threads", "1")
    assert found.code == 4 and "nothing could be checked" in found.out and "no faults" not in found.out


def test_a_damaged_run_exits_with_4(vitrail: Run, trained: Path) -> None:
    weights = trained / "model" / "model.safetensors"
    whole = weights.read_bytes()
    try:
        os.truncate(weights, 100)
        found = vitrail("doctor", trained)
        assert found.code == 4 and "model.safetensors" in found.err
    finally:
        weights.write_bytes(whole)


def test_help_says_the_exit_codes(vitrail: Run) -> None:
    text = " ".join(vitrail("doctor", "--help").out.split())
    assert "Exit code 0: no fault; 1: a fault was found" in text
