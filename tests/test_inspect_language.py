"""vitrail inspect and doctor on language models as their users meet them: each verb gives a result, or says why not and what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import vitrail
from vitrail.cli import run
from vitrail.commands.inspecting.studies import STUDIES
from vitrail.data.vocabularies.subwords import EOS
from vitrail.errors import UsageError
from vitrail.inspection.record import Inspection

WORDS = {
    " ": [["ann", "bob", "cleo"], ["sees", "likes", "has"], ["the", "a", "no"], ["bird", "dog", "cat"], ["now .", "here .", "there ."]],
    "": [["犬", "猫", "鳥"], ["は"], ["餌", "水", "魚"], ["を"], ["食べた。", "見た。"]],
    "  ": [["الكلب", "القطة"], ["يأكل", "ترى"], ["الطعام .", "الماء ."]],
    "   ": [["कुत्ते", "बिल्ली"], ["ने"], ["खाना", "पानी"], ["खाया।", "देखा।"]],
}
"""What lines are made of, by what is between the words (but for their number): English, Japanese, Arabic, Hindi."""
TEXTS = ["ann sees a dog here .", "犬は水を見た。", "القطة ترى الماء .", "कुत्ते ने पानी देखा।"]
MODELS = {
    "causal": ["preset=gpt-mini", "model.layers=2", "model.width=16", "model.heads=2", "model.feed_forward=24", "model.context=24"],
    "recurrent": ["preset=gru-lm", "model.width=16", "model.embedding_width=12"],
}
SETTINGS = ["data.subwords.kind=character", "train.validate_every='10 steps'", "train.threads=1", "train.batch_tokens=256"]


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
    """A run of a few steps on a text in several scripts."""
    folder = tmp_path_factory.mktemp(kind)
    draw, lines = np.random.default_rng(0), list[str]()
    for number in range(400):
        between, parts = list(WORDS.items())[number % len(WORDS)]
        lines.append(between[:1].join(str(draw.choice(words)) for words in parts))
    (folder / "text.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    set_all = [part for setting in [*MODELS[kind], *SETTINGS] for part in ("--set", setting)]
    assert run(["train", "--text", str(folder / "text.txt"), "-o", str(folder / "run"), "--duration", "20 steps", *set_all]) == 0
    return folder / "run"


@pytest.fixture
def vitrail_runs(capfd: pytest.CaptureFixture[str]) -> Vitrail:
    """Run a command line in this process."""

    def call(*arguments: str | Path) -> Ran:
        capfd.readouterr()
        code = run([*map(str, arguments), "--threads", "1"])
        return Ran(code, *capfd.readouterr())

    return call


WITHOUT_THREADS = ("film",)
MORE: dict[str, list[str]] = {"order": ["ann sees"], "bottleneck": ["ann sees"]}
RESULTS = {"causal": {"heads", "maps", "film", "projector"}, "recurrent": {"maps", "film", "projector"}}
"""The studies that give a result."""


@pytest.mark.parametrize("study", [study.__name__ for study in STUDIES])
def test_every_study_gives_a_result_or_says_what_to_do(
    model: Path, kind: str, study: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = ["-o", str(tmp_path / "projected")] if study == "projector" else MORE.get(study, [])
    threads = [] if study in WITHOUT_THREADS else ["--threads", "1"]
    code = run(["inspect", study, str(model), *more, *threads])
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    if study in RESULTS[kind]:
        assert code == 0 and (out + err).strip()
    else:
        assert code == UsageError.exit_code and "expected:" in err and "try:" in err and not out
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_drawn_told_and_written(model: Path, kind: str, text: str, vitrail_runs: Vitrail, tmp_path: Path) -> None:
    drawn = vitrail_runs("inspect", model, text)
    assert drawn.code == 0 and text in drawn.out and "perplexity" in drawn.out
    assert ("Decoder self-attention" if kind == "causal" else "This model has no attention.") in drawn.out
    told = json.loads(vitrail_runs("inspect", model, text, "--json").out)
    assert told["source"] is None and told["target"]["text"] == text and told["first"] == "<eos>" and told["format"] == 2
    pieces = [step["chosen"]["piece"] for step in told["decoding"]["steps"]]
    assert pieces == [*told["target"]["pieces"], "<eos>"]
    assert vitrail_runs("inspect", model, text, "-o", tmp_path / "text.npz").code == 0
    assert Inspection.load(tmp_path / "text.npz").target.text == text
    if text != TEXTS[0]:
        return
    assert vitrail_runs("inspect", model, "ann", "-o", tmp_path / "text.html").code == 0
    assert (tmp_path / "text.html").stat().st_size > 10_000
    figure = vitrail_runs("inspect", model, "ann sees", "-o", tmp_path / "text.svg")
    assert (figure.code == 0) == (kind == "causal") and "Traceback" not in figure.err
    assert kind == "causal" or "this model has none" in figure.err


def test_the_model_writes_on_and_shows_what_an_edit_changes(model: Path, kind: str, vitrail_runs: Vitrail) -> None:
    drawn = vitrail_runs("inspect", model, "ann", "--max-length", "4", "--beams", "3")
    assert drawn.code == 0 and "best of 3 beams, after 3 given tokens" in drawn.out and "Beam search" in drawn.out
    off = "decoder.0.self_attention:1" if kind == "causal" else "cells.0:3"
    changed = vitrail_runs("inspect", model, "ann sees", "--edit", f"off={off}", "--edit", "hide=sees", "--json")
    told = json.loads(changed.out)
    assert changed.code == 0 and told["edits"] == [f"off: {off}", "hidden: sees"]
    assert told["log_probability"]["old"]["before"] != told["log_probability"]["old"]["after"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--translation", "x"], "--translation, with a language model"),
        (["--part", "1", "--max-length", "2"], "--part, with a language model"),
        (["--prefix", "a", "--max-length", "2"], "--prefix, with a language model"),
        (["--beams", "3"], "--beams without --max-length"),
        (["--edit", "word=ann:bob"], "an edit with other words"),
        (["--kind", "cross"], "cross attention: this model has none"),
        (["-o", "x.html", "--against", "other"], "--against, with a language model"),
    ],
)
def test_options_of_translators_are_refused(model: Path, options: list[str], told: str, vitrail_runs: Vitrail) -> None:
    ran = vitrail_runs("inspect", model, "ann sees", *options)
    assert ran.code == UsageError.exit_code and told in ran.err and not ran.out


def test_python_loads_what_the_kind_can_do(model: Path) -> None:
    one = vitrail.load(model)
    assert isinstance(one, vitrail.InspectableGenerator) and isinstance(one, vitrail.Generator)
    assert one.inspect("ann sees").target.text == "ann sees" and one.generate("ann")[0].prompt == "ann"
    with pytest.raises(UsageError, match="a language model, with other models or settings of translators"):
        vitrail.load(model, search={"beams": 2})
    with pytest.raises(UsageError, match="a language model, with other models"):
        vitrail.load(model, model)


def test_the_doctor_runs_the_checks_that_need_no_pairs(model: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    code = run(["doctor", str(model), "--json", "--threads", "1"])
    findings = {one["check"]: one for one in json.loads(capfd.readouterr().out)["findings"]}
    assert code in (0, 1)
    checked = {name for name, one in findings.items() if one["severity"] != "unchecked"}
    assert {"vocabulary", "warm-up", "steadiness", "learning", "overfitting", "gradients", "heads", "neurons", "completion"} <= checked
    for name in ("misaligned lines", "unheard source", "same output", "repetition"):
        assert findings[name]["severity"] == "unchecked" and "does not apply" in findings[name]["found"]
    heads = findings["heads"]
    assert heads["numbers"].get("heads", 0) == (4 if kind == "causal" else 0)
    assert "encoder" not in findings["gradients"]["found"] and "misaligned" not in findings["learning"]["remedy"]
    assert findings["vocabulary"]["numbers"]["text_unknown_dev"] == 0
    entropy = findings["learning"]["numbers"]["word_entropy_nats"]
    assert 1 < entropy < 5  # of some 50 characters


def test_ablation_of_a_head_is_that_of_its_columns_in_the_output_matrix(model: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    """With a copy of the model whose output matrix of the attention has zeros for the head."""
    if kind == "recurrent":
        assert run(["inspect", "heads", str(model), "--threads", "1"]) == UsageError.exit_code
        assert "no attention heads in this model" in capfd.readouterr().err
        return
    capfd.readouterr()
    assert run(["inspect", "heads", str(model), "--json", "--threads", "1"]) == 0
    told = json.loads(capfd.readouterr().out)
    one = vitrail.load(model)
    lines = (model / "data" / "dev.text").read_text(encoding="utf-8").splitlines()
    chosen = [one.vocabulary.encode(line)[: one.longest] for line in lines]
    assert told["sentences"] == len(chosen) and len(told["heads"]) == 4

    def score() -> tuple[float, float]:
        right, count, nats = 0, 0, list[float]()
        with torch.no_grad():
            for ids in chosen:
                hidden = one.model.hidden(torch.tensor([[EOS, *ids]]))[0]
                logits, wanted = hidden @ one.model.output_weight.t(), torch.tensor([*ids, EOS])
                right, count = right + int((logits.argmax(-1) == wanted).sum()), count + len(wanted)
                nats.append(float(logits.double().log_softmax(-1)[range(len(wanted)), wanted].mean()))
        return 100 * right / count, float(np.mean(nats))

    value, nats = score()
    assert told["value"] == pytest.approx(value) and told["nats"] == pytest.approx(nats, abs=1e-5)
    for head in told["heads"]:
        attention = one.model.decoder[head["layer"]].self_attention
        kept = attention.output.weight.detach().clone()
        with torch.no_grad():
            attention.output.weight[:, head["head"] * 8 : (head["head"] + 1) * 8] = 0
            found = score()
            attention.output.weight.copy_(kept)
        assert head["value"] == pytest.approx(found[0]) and head["nats"] == pytest.approx(found[1], abs=1e-5)
        assert head["low"] <= head["lost"] + 1e-9 <= head["high"] + 2e-9
