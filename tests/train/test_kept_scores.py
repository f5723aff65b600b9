"""A run's score on its test set: kept while all that it rests on is the same, and the same from `evaluate`."""

import json
from pathlib import Path
from typing import Any

import pytest
from training_runs import run, tiny, write_text
from typer.testing import CliRunner

from vitrail.cli import app
from vitrail.config import build, merge
from vitrail.errors import UsageError
from vitrail.evaluation.run_score import SCORES, score_run
from vitrail.train.run_config import RunConfig

_SIGNS = "กขคงจชซญดตถทนบปผพฟมยรลวสห"


def thai(line: str) -> str:
    """A line in Thai letters, with nothing between its words."""
    return "".join(_SIGNS[ord(sign) % len(_SIGNS)] for sign in line if sign != " ")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    place = tmp_path_factory.mktemp("scored")
    table = write_text(place / "text")
    target = place / "text" / "text.tha"
    target.write_text(
        "".join(f"{thai(line)}\n" for line in Path(table["target"]).read_text(encoding="utf-8").splitlines()), encoding="utf-8"
    )
    changes = {
        "data": {"corpora": [{"source": table["source"], "target": str(target)}], "holdout": {"dev_pairs": 4, "test_pairs": 6}},
        "train": {"duration": "2 steps"},
        "search": {"beams": 1, "max_length": 6},
    }
    config = tiny(place, changes)
    run(config, place / "run")
    return config, place / "run"


def with_search(config: RunConfig, **search: Any) -> RunConfig:
    return build(RunConfig, merge(config.model_dump(mode="json"), {"search": search}), origin="test")


def test_a_score_is_kept_while_it_is_that_of_the_run(trained: tuple[RunConfig, Path]) -> None:
    config, folder = trained
    said: list[str] = []

    def scored(config: RunConfig) -> tuple[bool, dict[str, Any]]:
        said.clear()
        found = score_run(folder, config, step=2, say=said.append)
        assert found is not None and json.loads(json.dumps(found)) == json.loads((folder / SCORES).read_bytes())
        return bool(said), found

    assert scored(config)[0] and not scored(config)[0]
    anew, found = scored(with_search(config, beams=2, length_penalty=0.2))
    assert anew and found["decided_by"]["search"]["beams"] == 2
    assert scored(config)[0], "and back again"
    manifest = folder / "model" / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b" ")  # as after training went on, and found a better model at the same step
    assert scored(config)[0]
    manifest.write_bytes(whole)
    for old in (b"{", b'{"step": 2, "lines": []}', b'{"step": 2, "lines": [1], "decided_by": {}}'):
        (folder / SCORES).write_bytes(old)
        assert scored(config)[0]
    assert not scored(config)[0]


def test_evaluate_tells_the_score_that_train_told(trained: tuple[RunConfig, Path]) -> None:
    config, folder = trained
    told = score_run(folder, config, step=2, say=lambda _: None)
    assert told is not None
    again = CliRunner().invoke(app, ["evaluate", str(folder), "--json"])
    assert again.exit_code == 0, again.output
    scores = {one["name"]: one for one in json.loads(again.stdout)["scores"]}
    for one in told["scores"]:
        assert scores[one["name"]]["signature"] == one["signature"] and scores[one["name"]]["value"] == pytest.approx(one["value"])
    assert "tok:char" in scores["BLEU"]["signature"] and any("BLEU tokenizer char" in line for line in told["lines"])
    (folder.parent / "test.out").write_bytes((folder / "test.translated").read_bytes())
    files = CliRunner().invoke(
        app, ["evaluate", str(folder.parent / "test.out"), "--reference", str(folder / "data" / "test.target"), "--json"]
    )
    assert {one["name"]: one for one in json.loads(files.stdout)["scores"]} == scores, "the references alone tell the same"


def test_a_language_that_is_no_code_is_refused(trained: tuple[RunConfig, Path]) -> None:
    target = str(trained[1] / "data" / "test.target")
    refused = CliRunner().invoke(app, ["evaluate", target, "--reference", target, "--language", "french"])
    assert isinstance(refused.exception, UsageError) and "fra_Latn" in str(refused.exception)
