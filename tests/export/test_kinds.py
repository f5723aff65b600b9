"""Which exit carries which kind of model."""

from pathlib import Path
from typing import Any

import pytest
from exits import pieces, saved

from vitrail.cli import run
from vitrail.doctor.checks.programs import EXITS
from vitrail.models.architectures import MODEL_KINDS


def test_every_kind_that_an_exit_names_is_a_kind_of_model() -> None:
    assert {kind for one in EXITS.values() for kind in one.kinds} <= set(MODEL_KINDS)


@pytest.mark.parametrize("to", EXITS)
@pytest.mark.parametrize(("changes", "carried_by"), [({"cell": "lstm"}, {"onnx"}), ({}, set(EXITS) - {"marian", "bergamot"})])
def test_a_kind_that_an_exit_does_not_carry_is_refused_with_those_that_do(
    to: str, changes: dict[str, Any], carried_by: set[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = saved(tmp_path / "model", changes, pieces())
    code = run(["export", str(model), "--to", to, "-o", str(tmp_path / "theirs"), "--no-check"])
    told = capfd.readouterr().err
    assert (code == 0) == (to in carried_by), told
    assert code == 0 or not (tmp_path / "theirs").exists()
    if "cell" in changes and code != 0:
        assert f"--to {to} does not carry" in told and f"try: vitrail export {model} --to onnx" in told


def test_a_wrong_name_is_refused_without_the_words_of_a_library(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(tmp_path), "--to", "word", "-o", str(tmp_path / "theirs")]) == 2
    told = capfd.readouterr().err
    assert told.startswith("error: Invalid value for '--to': 'word' is not one of 'huggingface'"), told
