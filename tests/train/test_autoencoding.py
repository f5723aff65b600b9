"""An autoencoder is trained, stopped, resumed, scored and used through the run, loop, search and folder of translators."""

import json
from pathlib import Path

import numpy as np
import pytest
from same_bits import require_same_when_killed, require_same_when_stopped

import vitrail
from vitrail.cli import run
from vitrail.decode.sentences.autoencoder import Autoencoder
from vitrail.decode.translate import Translator
from vitrail.errors import ModelError, UsageError
from vitrail.models.model_folder import load_folder
from vitrail.train.request import to_run_config
from vitrail.train.run import train

NAMES, VERBS, THINGS = ["ann", "bob", "cleo", "dan"], ["sees", "likes", "has", "wants"], ["apples", "birds", "cats", "犬"]
NOISE = {"masking": 0.1, "deletion": 0.1, "infilling": 0.1, "shuffling": 2, "decoder_input": 0.2}
TRANSFORMER = {"kind": "transformer-autoencoder", "encoder_layers": 1, "decoder_layers": 1, "width": 24, "heads": 2, "feed_forward": 48}
RECURRENT = {"kind": "recurrent-autoencoder", "embedding_width": 16, "width": 32}
SMALL = {"bottleneck": 12, "context": 16, "dropout": 0.1}
MODELS = [
    pytest.param({**TRANSFORMER, **SMALL, "latent": "variational", "noise": NOISE}, id="transformer-variational-noise"),
    pytest.param({**RECURRENT, **SMALL, "noise": NOISE}, id="recurrent-noise"),
]


def lines(count: int, *, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(str(draw.choice(words)) for words in (NAMES, VERBS, THINGS)) for _ in range(count)]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines(400)) + "\n")
    return path


def settings(text: Path, model: dict[str, object], **train_settings: object) -> dict[str, object]:
    return {
        "data": {
            "text": [{"source": str(text)}],
            "subwords": {"kind": "word", "size": 60},
            "holdout": {"dev_lines": 20, "test_lines": 20},
        },
        "model": dict(model),
        "train": {
            "duration": "30 steps",
            "batch_tokens": 64,
            "validate_every": "12 steps",
            "save_every": "7 steps",
            "threads": 1,
            "log_every": 1,
            "precision": "fp32",
            "label_smoothing": 0.0,
            **train_settings,
        },
        "optimizer": {"learning_rate": 0.01},
        "schedule": {"warmup": "5 steps"},
    }


@pytest.mark.parametrize("model", MODELS)
def test_stopped_at_any_step_it_goes_on_to_the_same_bits(tmp_path: Path, text: Path, model: dict[str, object]) -> None:
    require_same_when_stopped(settings(text, model, accumulate=2), tmp_path, after=(1, 13))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_killed_it_goes_on_to_the_same_bits(tmp_path: Path, text: Path, model: dict[str, object]) -> None:
    table = settings(text, model, duration="300 steps", save_every="20 steps", validate_every="100 steps")
    require_same_when_killed(table, tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recurrent autoencoder of the little grammar, which it knows by heart."""
    folder = tmp_path_factory.mktemp("auto")
    (folder / "text.txt").write_text("\n".join(lines(400)) + "\n")
    model = {**RECURRENT, **SMALL, "dropout": 0.0, "width": 64}
    asked = settings(folder / "text.txt", model, duration="150 steps", batch_tokens=256, validate_every="15 steps")
    train(to_run_config(asked | {"optimizer": {"learning_rate": 0.02}}), folder / "run")
    return folder / "run"


def test_it_gives_lines_back_and_the_best_is_kept_by_chrf(trained: Path) -> None:
    log = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    validations = [line for line in log if line["kind"] == "validation"]
    assert validations[-1]["dev_exact_share"] > 0.9 >= validations[0]["dev_exact_share"]
    best = [line for line in validations if line["best"]][-1]
    assert best["dev_chrf"] == max(line["dev_chrf"] for line in validations)
    autoencoder = Autoencoder.load(trained)
    new = lines(40, seed=9)
    found = autoencoder.reconstruct(new)
    assert sum(one == other for one, other in zip(new, found, strict=True)) >= 36
    # The same by the ordinary search of translators.
    assert [one.text for one in vitrail.load(trained, search={"beams": 1}).translate(new)] == found
    score = autoencoder.measure(new)
    assert score.exact >= 36 and score.figures()["loss_nats_per_token"] < 0.3 and score.divergence is None


def test_what_lies_between_two_sentences_and_beside_one(trained: Path) -> None:
    autoencoder = Autoencoder.load(trained)
    first, second = "ann sees apples", "dan wants cats"
    way = autoencoder.interpolate(first, second, steps=5)
    assert [one.share for one in way] == [0, 0.25, 0.5, 0.75, 1]
    assert [way[0].text, way[-1].text] == autoencoder.reconstruct([first, second])
    texts = lines(60, seed=4)
    known = autoencoder.embed(texts)
    assert known.shape == (60, 12) and known.dtype == np.float32
    nearest = autoencoder.nearest(texts[7], texts, top=3, vectors=known)
    assert nearest[0].text == texts[7] and nearest[0].cosine == pytest.approx(1, abs=1e-5)
    assert [one.cosine for one in nearest] == sorted((one.cosine for one in nearest), reverse=True)
    # By the definition, with numpy alone.
    unit = known / np.linalg.norm(known, axis=1, keepdims=True)
    order = np.argsort(-(unit @ unit[7]), kind="stable")[:3]
    assert {one.text for one in nearest} == {texts[place] for place in order}
    assert autoencoder.decode(known[:1]) == autoencoder.reconstruct(texts[:1])
    assert np.array_equal(autoencoder.embed(texts[3:4]), known[3:4]), "a vector depends on the other sentences"


def test_every_verb_works_on_the_command_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "new.txt"
    text.write_text("\n".join(lines(30, seed=5)) + "\n")
    assert run(["evaluate", str(trained), "--source", str(text), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["given_back"]["low"] < found["exact_share"] <= found["given_back"]["high"]
    assert found["chrf_score"]["low"] <= found["chrf"] <= found["chrf_score"]["high"]
    assert run(["evaluate", str(trained)]) == 0
    assert "exactly given back" in capsys.readouterr().out
    assert run(["embed", str(trained), "--text", str(text), "-o", str(tmp_path / "v.jsonl")]) == 0
    assert run(["embed", str(trained), "--text", str(text), "-o", str(tmp_path / "v.tsv")]) == 0
    assert run(["embed", str(trained), "--text", str(text), "-o", str(tmp_path / "v.npy")]) == 0
    written = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    expected = Autoencoder.load(trained).embed(lines(30, seed=5))
    assert [one["text"] for one in written] == lines(30, seed=5)
    np.testing.assert_allclose([one["vector"] for one in written], expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "v.tsv", delimiter="\t"), expected, rtol=1e-6, atol=1e-7)
    assert np.array_equal(np.load(tmp_path / "v.npy"), expected)
    capsys.readouterr()
    assert run(["embed", str(trained), "--text", str(text), "--nearest", "bob has birds", "--top", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert run(["interpolate", str(trained), "ann sees apples", "dan wants cats", "--steps", "3"]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["0.000", "0.500", "1.000"]


def test_what_cannot_be_is_told_with_its_remedy(trained: Path, tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.tsv"
    kept.write_text("mine\n")
    assert run(["embed", str(trained), "--text", str(text), "-o", str(kept)]) == 2 and kept.read_text() == "mine\n"
    assert run(["embed", str(trained), "--text", str(text), "-o", str(tmp_path / "v.bin")]) == 2
    assert ".npy" in capsys.readouterr().err
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    assert run(["embed", str(trained), "--text", str(empty), "--nearest", "ann"]) != 0
    assert run(["interpolate", str(trained), "", "ann"]) == 2
    with pytest.raises(UsageError, match="subword_dropout"):
        train(to_run_config(settings(text, {**TRANSFORMER, **SMALL}, subword_dropout=0.1)), tmp_path / "run")
    with pytest.raises(ModelError, match="autoencoder"):
        Autoencoder.load(Path(__file__).parents[1] / "golden" / "format_2" / "model")


def test_noise_may_change_when_a_run_goes_on_but_the_bottleneck_may_not(tmp_path: Path, text: Path) -> None:
    asked = settings(text, {**TRANSFORMER, **SMALL}, duration="5 steps")
    train(to_run_config(asked), tmp_path / "run")
    longer = settings(text, {**TRANSFORMER, **SMALL, "noise": {"masking": 0.2}}, duration="8 steps")
    with pytest.raises(UsageError, match=r"model\.noise\.masking"):
        train(to_run_config(longer), tmp_path / "run")
    train(to_run_config(longer), tmp_path / "run", allow=["model.noise.masking", "train.duration"])
    wider = settings(text, {**TRANSFORMER, **SMALL, "bottleneck": 13}, duration="8 steps")
    with pytest.raises(UsageError, match="weights belong to another model"):
        train(to_run_config(wider), tmp_path / "run", allow=["model.bottleneck"])


def test_decomposed_text_is_read_as_the_training_text_was(trained: Path) -> None:
    translator = Translator.load(trained)
    assert translator.normalisation.source("か\u3099 cafe\u0301") == "が café"


def test_a_line_of_several_sentences_is_one_vector(trained: Path) -> None:
    """Translators cut a text at the ends of sentences; an autoencoder reads a line as a whole, as it was trained."""
    loaded = load_folder(trained / "model")
    assert loaded.facts["several_sentences_share"] == 1.0 and loaded.facts["longest_source"] == 15
    assert len(vitrail.load(trained).cut("ann sees apples. bob has cats.")) == 1
