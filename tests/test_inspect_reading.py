"""vitrail inspect and doctor on masked language models and classifiers: each verb gives a result, or says why not and what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import vitrail
from vitrail.cli import run
from vitrail.commands.inspecting.studies import STUDIES
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.record import Inspection

WORDS = {
    " ": [["ann", "bob", "cleo"], ["sees", "likes", "has"], ["the", "a", "no"], ["bird", "dog", "cat"], ["now .", "here .", "there ."]],
    "": [["犬", "猫", "鳥"], ["は"], ["餌", "水", "魚"], ["を"], ["食べた。", "見た。"]],
    "  ": [["الكلب", "القطة"], ["يأكل", "ترى"], ["الطعام .", "الماء ."]],
    "   ": [["कुत्ते", "बिल्ली"], ["ने"], ["खाना", "पानी"], ["खाया।", "देखा।"]],
}
"""What lines are made of, by what is between the words (but for their number): English, Japanese, Arabic, Hindi."""
TEXTS = ["ann sees a dog here .", "犬は水を見た。", "القطة ترى الماء .", "कुत्ते ने पानी देखा।"]
BLOCKS = ["model.encoder_layers=2", "model.width=16", "model.heads=2", "model.feed_forward=24"]
MODELS = {
    "masked": ["preset=bert-mini", *BLOCKS],
    "classifier": ["preset=classifier-mini", *BLOCKS],
    "recurrent": ["preset=classifier-gru", "model.width=16", "model.embedding_width=12", "model.pooling=last"],
}
SETTINGS = ["data.subwords.kind=character", "train.validate_every='10 steps'", "train.threads=1", "train.batch_tokens=256"]
LABELS = ["latin", "日本", "عربي", "देवनागरी"]
MORE: dict[str, list[str]] = {"order": ["ann sees"], "bottleneck": ["ann sees"]}
RESULTS = {"masked": {"heads", "maps", "film", "projector"}, "classifier": {"heads", "maps", "film", "projector"}}
RESULTS["recurrent"] = RESULTS["classifier"] - {"heads"}
"""The studies that give a result."""
SHOWN = {"film": "2 frames, steps 10 to 20", "heads": "points lost with a head switched off", "maps": "CKA between layers", "projector": ""}


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Vitrail = Callable[..., Ran]


@pytest.fixture(scope="module", params=[pytest.param(kind, marks=pytest.mark.slow) if kind == "recurrent" else kind for kind in MODELS])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Path:
    """A run of a few steps on a text in several scripts; a label tells the script."""
    folder = tmp_path_factory.mktemp(kind)
    draw = np.random.default_rng(0)
    scripts = [list(WORDS.items())[number % len(WORDS)] for number in range(400)]
    lines = [between[:1].join(str(draw.choice(words)) for words in parts) for between, parts in scripts]
    (folder / "text.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "labels.txt").write_text("".join(f"{LABELS[number % 4]}\n" for number in range(400)), encoding="utf-8")
    labels = [] if kind == "masked" else ["--labels", str(folder / "labels.txt")]
    settings = [part for setting in [*MODELS[kind], *SETTINGS] for part in ("--set", setting)]
    command = ["train", "--text", str(folder / "text.txt"), *labels, "-o", str(folder / "run"), "--duration", "20 steps", *settings]
    assert run(command) == 0
    return folder / "run"


@pytest.fixture
def vitrail_runs(capfd: pytest.CaptureFixture[str]) -> Vitrail:
    """Run a command line in this process."""

    def call(*arguments: str | Path, threads: bool = True) -> Ran:
        capfd.readouterr()
        code = run([*map(str, arguments), *(["--threads", "1"] if threads else [])])
        return Ran(code, *capfd.readouterr())

    return call


@pytest.mark.parametrize("study", [study.__name__ for study in STUDIES])
def test_every_study_gives_a_result_or_says_what_to_do(model: Path, kind: str, study: str, tmp_path: Path, vitrail_runs: Vitrail) -> None:
    more = ["-o", str(tmp_path / "projected")] if study == "projector" else MORE.get(study, [])
    ran = vitrail_runs("inspect", study, model, *more, threads=study != "film")
    assert "Traceback" not in ran.out + ran.err and "IndexError" not in ran.err
    if study in RESULTS[kind]:
        assert ran.code == 0 and SHOWN[study] in ran.out
    else:
        assert ran.code in (UsageError.exit_code, ModelError.exit_code) and "try:" in ran.err and not ran.out
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_drawn_told_and_written(model: Path, kind: str, text: str, vitrail_runs: Vitrail, tmp_path: Path) -> None:
    asked = text if kind != "masked" else text.replace(text.split(" ")[0][-1], "[MASK]", 1)
    drawn = vitrail_runs("inspect", model, asked)
    assert drawn.code == 0 and asked in drawn.out and "What each word adds to" in drawn.out
    assert ("Guesses: position" if kind == "masked" else "Labels: probability") in drawn.out
    assert ("This model has no attention." if kind == "recurrent" else "Encoder self-attention: each token") in drawn.out
    told = json.loads(vitrail_runs("inspect", model, asked, "--json").out)
    assert told["target"] is None and told["source"]["text"] == asked and told["format"] == 2
    if kind == "masked":
        assert [one["hidden"] for one in told["extras"]["guesses"]] == [True] and "[MASK]" in told["source"]["pieces"]
    else:
        assert {one["label"] for one in told["extras"]["labels"]["labels"]} <= set(LABELS)
        assert sum(one["probability"] for one in told["extras"]["labels"]["labels"]) == pytest.approx(1, abs=1e-5)
    assert vitrail_runs("inspect", model, asked, "-o", tmp_path / "text.npz").code == 0
    assert "attribution.integrated_gradients" in Inspection.load(tmp_path / "text.npz").arrays
    if text == TEXTS[0]:
        assert vitrail_runs("inspect", model, asked, "-o", tmp_path / "text.html").code == 0
        figure = vitrail_runs("inspect", model, asked, "-o", tmp_path / "text.svg")
        assert (figure.code == 0) == (kind != "recurrent") and "Traceback" not in figure.err


OTHERS = [["--translation", "x"], ["--part", "1"], ["--max-length", "2"], ["--beams", "3"], ["--edit", "prefix=a"], ["--prefix", "a"]]


@pytest.mark.parametrize("options", [*OTHERS, ["-o", "x.html", "--against", "other"], ["--kind", "cross"]])
def test_options_of_other_models_are_refused(model: Path, options: list[str], vitrail_runs: Vitrail) -> None:
    ran = vitrail_runs("inspect", model, "ann sees", *options)
    assert ran.code == UsageError.exit_code and "error:" in ran.err and not ran.out
    assert options[-2] in ran.err or "a prefix, for a" in ran.err or "cross attention: this model has none" in ran.err


def test_an_edit_is_told_and_drawn(model: Path, kind: str, vitrail_runs: Vitrail, tmp_path: Path) -> None:
    text = "ann sees [MASK] dog" if kind == "masked" else "ann sees a dog"
    ran = vitrail_runs("inspect", model, text, "--edit", "hide=dog", "--edit", "off=encoder.0")
    assert ran.code == 0 and "hidden: dog" in ran.out and "p before  p after" in ran.out and "layer" not in ran.out
    page = vitrail_runs("inspect", model, text, "--edit", "word=ann:犬", "--json", "-o", tmp_path / "text.npz")
    (answer,) = json.loads(page.out)["answers"]
    assert answer["position"] == (8 if kind == "masked" else None)
    assert Inspection.load(tmp_path / "text.npz").facts.extras["edits"] == ["word: ann -> 犬"]


def test_positions_and_labels_are_chosen(model: Path, kind: str, vitrail_runs: Vitrail) -> None:
    own, other = (["--of", "2"], ["--of", "latin"]) if kind == "masked" else (["--of", "latin"], ["--of", "2"])
    ran = vitrail_runs("inspect", model, "ann sees", *own, "--json")
    (row,) = json.loads(ran.out)["extras"]["attribution"]["rows"]
    assert (row["position"], row["name"]) == (2, "n") if kind == "masked" else (row["position"], row["name"]) == (None, "latin")
    assert vitrail_runs("inspect", model, "ann", *other).code == UsageError.exit_code
    wrong = vitrail_runs("inspect", model, "ann", own[0], "99")
    assert wrong.code == UsageError.exit_code and "expected:" in wrong.err


def test_python_loads_what_the_kind_can_do(model: Path, kind: str) -> None:
    one = vitrail.load(model)
    if kind == "masked":
        assert isinstance(one, vitrail.InspectableFiller) and one.fill("[MASK]nn")[0][0].text
    else:
        assert isinstance(one, vitrail.InspectableClassifier) and one.classify("ann").label in LABELS
    assert one.inspect("ann").source.text == "ann"
    with pytest.raises(UsageError, match="with other models or settings of translators"):
        vitrail.load(model, search={"beams": 2})


def test_the_other_verbs_give_a_result_or_say_what_to_do(model: Path, kind: str, tmp_path: Path, vitrail_runs: Vitrail) -> None:
    text = tmp_path / "text.txt"
    text.write_text("ann sees\n", encoding="utf-8")
    asked = {
        "fill": ["fill", model, "a [MASK]"],
        "classify": ["classify", model, "a"],
        "embed": ["embed", model, "--text", text, "-o", tmp_path / "vectors.npy"],
        "translate": ["translate", model, "a"],
        "generate": ["generate", model, "a"],
        "align": ["align", model, "--source", text, "--target", text],
        "interpolate": ["interpolate", model, "a", "b"],
    }
    works = {"fill", "embed"} if kind == "masked" else {"classify", "embed"}
    for verb, command in asked.items():
        ran = vitrail_runs(*command)
        assert "Traceback" not in ran.err, verb
        if verb in works:
            assert ran.code == 0, (verb, ran.err)
        else:
            assert ran.code in (UsageError.exit_code, ModelError.exit_code) and "try:" in ran.err, (verb, ran.err)
    examined = vitrail_runs("doctor", model)
    assert examined.code in (0, 1) and "not checked" in examined.out
