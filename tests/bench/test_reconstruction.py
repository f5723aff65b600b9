"""The study of reconstruction by the width of the bottleneck: it trains, goes on, and draws one plot."""

import json
from pathlib import Path

import pytest

from vitrail.cli import run
from vitrail.errors import UsageError
from vitrail.experiments.reconstruction import ReconstructionPlan

SMALL = (
    *("train.duration=6 steps", "model.width=16", "model.decoder_layers=1", "model.encoder_layers=1", "data.subwords.kind=word"),
    *("data.subwords.size=60", "train.threads=1", "train.batch_tokens=128", "data.holdout.dev_lines=20", "data.holdout.test_lines=20"),
)


@pytest.mark.slow
def test_every_width_and_kind_is_trained_once_and_drawn_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    names, things = ("ann", "bob", "cleo", "dan", "아이"), ("cats", "dogs", "birds", "犬")
    text.write_text("".join(f"{one} {verb} {thing}\n" for one in names for verb in ("sees", "has", "likes") for thing in things) * 4)
    settings = [part for one in SMALL for part in ("--set", one)]
    command = [
        "experiment",
        "reconstruction",
        "--text",
        str(text),
        "-o",
        str(tmp_path / "study"),
        "--widths",
        "4,8",
        "--seeds",
        "1",
        *settings,
    ]
    assert run(command) == 0
    shown = capsys.readouterr().out
    report = json.loads((tmp_path / "study" / "reconstruction.json").read_text())
    assert [(point["preset"], point["width"]) for point in report["points"]] == [
        (preset, width) for preset in ("autoencoder-mini", "autoencoder-lstm") for width in (4, 8)
    ]
    assert all(point["steps"] == 6 and point["score"]["given_back"]["total"] == report["lines"] == 20 for point in report["points"])
    page = (tmp_path / "study" / "reconstruction.html").read_text()
    assert page.count("<svg") == 1 and all(name in page for name in ("Transformer, exact", "LSTM, chrF"))
    assert "Transformer, exact" in shown and len(shown.splitlines()) == 7
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study" / "runs").glob("*/model/*")}
    assert run(command) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "study" / "runs").glob("*/model/*")}, "trained again"
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("wrong", [{"presets": ("tiny",)}, {"widths": (0,)}, {"widths": ()}, {"seeds": 0}])
def test_plans_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ReconstructionPlan(Path("a.txt"), **wrong)  # pyright: ignore
