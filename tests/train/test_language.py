"""A language model is trained, stopped, resumed, scored and used through the run, loop and folder of translators."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from same_bits import final, require_same_when_killed, require_same_when_stopped

import vitrail
from vitrail import cli
from vitrail.decode.generate import Generator
from vitrail.errors import UsageError
from vitrail.evaluation.kinds.text_score import measure_folder
from vitrail.models.model_folder import load_folder, unique_tensors
from vitrail.train.request import to_run_config
from vitrail.train.run import train

NAMES, VERBS, THINGS = ["ann", "bob", "cleo", "dan"], ["sees", "likes", "has", "wants"], ["apples", "birds", "cats", "dogs"]


def lines(count: int, *, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(str(draw.choice(words)) for words in (NAMES, VERBS, THINGS)) for _ in range(count)]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines(400)) + "\n")
    return path


RECURRENT = {"kind": "recurrent-language", "embedding_width": 12, "width": 24, "layers": 2, "dropout": 0.1, "truncate": 8}
CAUSAL = {"kind": "causal-language", "layers": 2, "width": 24, "heads": 2, "feed_forward": 48, "context": 16, "dropout": 0.1}
MASKED = {"kind": "masked-language", "encoder_layers": 2, "width": 24, "heads": 2, "feed_forward": 48, "context": 16, "dropout": 0.1}
MODELS = [pytest.param(RECURRENT, id="recurrent"), pytest.param(CAUSAL, id="causal"), pytest.param(MASKED, id="masked")]


def settings(text: Path, model: dict[str, object] = RECURRENT, **train_settings: object) -> dict[str, object]:
    return {
        "data": {
            "text": [{"source": str(text)}],
            "subwords": {"kind": "character", "size": 60},
            "holdout": {"dev_lines": 20, "test_lines": 20},
        },
        "model": dict(model),
        "train": {
            "duration": "40 steps",
            "batch_tokens": 64,
            "validate_every": "15 steps",
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
@pytest.mark.parametrize("accumulate", [1, 2])
def test_stopped_at_any_step_it_goes_on_to_the_same_bits(tmp_path: Path, text: Path, accumulate: int, model: dict[str, object]) -> None:
    expected = require_same_when_stopped(settings(text, model, accumulate=accumulate), tmp_path, after=(1, 9, 23))
    carried = 4 * accumulate if model is RECURRENT else 0  # two layers with h and c, for each group of lanes
    assert sum(name.startswith("carried/") for name in expected) == carried


@pytest.mark.parametrize("model", [pytest.param(model, marks=pytest.mark.slow) for model in (RECURRENT, CAUSAL, MASKED)])
def test_killed_it_goes_on_to_the_same_bits(tmp_path: Path, text: Path, model: dict[str, object]) -> None:
    table = settings(text, model, duration="400 steps", save_every="20 steps", validate_every="100 steps")
    require_same_when_killed(table, tmp_path)


@pytest.mark.parametrize("model", [MODELS[0], pytest.param(CAUSAL, id="causal", marks=pytest.mark.slow)])
def test_it_learns_the_grammar_and_the_best_step_is_kept(tmp_path: Path, text: Path, model: dict[str, object]) -> None:
    train(to_run_config(settings(text, model, duration="600 steps", validate_every="100 steps", batch_tokens=256)), tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    validations = [line for line in log if line["kind"] == "validation"]
    assert validations[-1]["dev_perplexity"] < 1.8 < validations[0]["dev_perplexity"]
    assert (
        min(line["dev_loss_nats_per_token"] for line in validations)
        == next(line for line in reversed(validations) if line["best"])["dev_loss_nats_per_token"]
    )
    generator = Generator.load(tmp_path / "run")
    written = [one[0].text for one in generator.generate([""] * 40)]
    right = [one for one in written if len(one.split()) == 3 and all(map(list.__contains__, (NAMES, VERBS, THINGS), one.split()))]
    assert len(right) >= 36
    assert generator.measure(lines(30, seed=9)).figures()["perplexity"] < 1.8 < generator.measure(["xxxxx", "yyy"]).figures()["perplexity"]


def test_a_block_that_covers_the_text_is_full_backpropagation(tmp_path: Path, text: Path) -> None:
    """One lane, one block as long as the text: one step by the run has the gradient of the whole text in one pass."""
    table = settings(text, duration="1 steps", batch_tokens=100_000, average_decay=0.0, validate_every="0 steps")
    table["model"] |= {"truncate": 100_000, "dropout": 0.0}  # pyright: ignore[reportOperatorIssue]
    table["optimizer"] = {"kind": "sgd", "learning_rate": 0.5, "weight_decay": 0.0, "clip_norm": 0.0}
    table["schedule"] = {"kind": "constant", "warmup": "1 steps"}
    config = to_run_config(table)
    train(config, tmp_path / "run")
    from vitrail.data.preparing.prepared import open_data
    from vitrail.models.build import build_model
    from vitrail.runtime.device import seed_all

    prepared = open_data(tmp_path / "run" / "data")
    seed_all(config.seed, 0)
    ours = build_model(config.model, prepared.vocabularies)
    ids = torch.from_numpy(prepared.stores[0].ids("text").astype(np.int64))
    hidden, _ = ours.read(ids.roll(1)[None], ours.start(1))  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    logits = hidden @ ours.output_weight.t() + ours.output_bias  # pyright: ignore[reportAttributeAccessIssue, reportOperatorIssue, reportCallIssue]
    torch.nn.functional.cross_entropy(logits[0], ids).backward()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter -= 0.5 * parameter.grad  # pyright: ignore[reportOperatorIssue]
    trained = final(tmp_path / "run")
    for name, tensor in unique_tensors(ours).items():
        torch.testing.assert_close(trained[f"model/{name}"], tensor, atol=2e-6, rtol=1e-4)


def test_folder_of_a_language_model(tmp_path: Path, text: Path) -> None:
    train(to_run_config(settings(text)), tmp_path / "run")
    loaded = load_folder(tmp_path / "run")
    assert loaded.config.kind == "recurrent-language" and loaded.facts["dev_perplexity"] > 1
    document = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert (document["format"], document["kind"]) == (2, "recurrent-language")


@pytest.mark.parametrize("model", [MODELS[0], MODELS[1], pytest.param(MASKED, id="masked", marks=pytest.mark.slow)])
@pytest.mark.parametrize("blank_lines", [False, True], ids=["lines", "paragraphs"])
def test_a_text_is_scored_as_the_dev_text_was(tmp_path: Path, text: Path, model: dict[str, object], blank_lines: bool) -> None:
    """What `vitrail evaluate` says of the dev text is what the training said, empty lines counted or not."""
    dev = ["ann sees birds", "", "", "bob has cats", "", "cleo  wants dogs", ""]
    (tmp_path / "dev.txt").write_text("\n".join(dev) + "\n")
    table = settings(text, model, duration="6 steps", validate_every="6 steps")
    data = {"dev": {"source": str(tmp_path / "dev.txt")}, "holdout": {"test_lines": 20}, "blank_lines": blank_lines}
    assert isinstance(table["data"], dict)
    train(to_run_config(table | {"data": table["data"] | data}), tmp_path / "run")
    said = load_folder(tmp_path / "run").facts
    found = measure_folder(tmp_path / "run", dev).figures()
    assert found["loss_nats_per_token"] == pytest.approx(said["dev_loss_nats_per_token"], abs=1e-4)


def run(*arguments: object) -> int:
    return cli.run([str(argument) for argument in arguments])


def test_a_transformer_from_the_command_line(tmp_path: Path, text: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sizes = ("model.width=24", "model.heads=2", "model.layers=1", "model.context=16", "train.threads=1", "data.documents=line")
    changed = ("data.subwords.kind=character", "data.subwords.size=60", *sizes)
    common = [part for setting in changed for part in ("--set", setting)]
    assert run("train", "--text", text, "--preset", "gpt-mini", "-o", tmp_path / "run", "--duration", "30 steps", *common) == 0
    told = capfd.readouterr()
    assert "bits a byte" in told.err and "perplexity" in told.out and "x 16 tokens a batch" in told.err
    assert run("generate", tmp_path / "run", "--prompt", "ann", "--prompt", "", "--samples", 2, "--lines", 2, "--json") == 0
    found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [one["prompt"] for one in found] == ["ann", "ann", "", ""] and all(one["text"].startswith(one["prompt"]) for one in found)
    assert run("generate", tmp_path / "run", "--prompt", "ann sees apples and bob likes cats", "--beams", 2, "--max-tokens", 40) == 0
    assert run("evaluate", tmp_path / "run") == 0
    short = tmp_path / "short.txt"
    short.write_text("ab\ncd\nef\n")
    few = ("--set", "data.holdout.dev_lines=0", "--set", "data.holdout.test_lines=0")
    assert run("train", "--text", short, "--preset", "gpt-mini", "-o", tmp_path / "short", "--duration", "1 steps", *common, *few) != 0
    told = capfd.readouterr().err
    assert "9 tokens of text" in told and "model.context=8" in told and not (tmp_path / "short" / "model").exists()


@pytest.mark.slow
def test_a_masked_model_from_the_command_line(tmp_path: Path, text: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sizes = ("model.width=32", "model.heads=2", "model.encoder_layers=2", "train.threads=1", "model.whole_words=true")
    changed = ("data.subwords.kind=word", "data.subwords.size=60", "optimizer.learning_rate=0.01", *sizes)
    common = [part for setting in changed for part in ("--set", setting)]
    assert run("train", "--text", text, "--preset", "bert-mini", "-o", tmp_path / "run", "--duration", "150 steps", *common) == 0
    told = capfd.readouterr()
    assert "guessed right" in told.out and "chosen: data.documents" in told.err
    assert run("fill", tmp_path / "run", "ann sees [MASK]", "[MASK] likes birds", "--top", 4, "--json") == 0
    things, names = (json.loads(line)["guesses"] for line in capfd.readouterr().out.splitlines())
    assert sorted(guess["token"] for guess in things) == sorted(f"▁{word}" for word in THINGS)
    assert sorted(guess["text"] for guess in names) == sorted(f"{word} likes birds" for word in NAMES)
    assert run("evaluate", tmp_path / "run", "--json") == 0
    assert 0.1 < json.loads(capfd.readouterr().out)["accuracy"] < 0.6
    assert run("fill", tmp_path / "run", "nothing hidden") != 0 and "[MASK]" in capfd.readouterr().err
    for verb in ("translate", "generate"):
        assert run(verb, tmp_path / "run") != 0
        error = capfd.readouterr().err
        assert "a masked language model" in error and "vitrail fill" in error, verb


def test_from_the_command_line(tmp_path: Path, text: Path, capfd: pytest.CaptureFixture[str]) -> None:
    common = [
        "--set",
        "data.subwords.kind=character",
        "--set",
        "data.subwords.size=60",
        "--set",
        "model.width=24",
        "--set",
        "train.threads=1",
    ]
    assert run("train", "--text", text, "--preset", "gru-lm", "-o", tmp_path / "run", "--duration", "30 steps", *common) == 0
    told = capfd.readouterr()
    assert "bits a byte" in told.err and "perplexity" in told.out and "chosen: model.truncate" in told.err
    assert run("train", "-o", tmp_path / "run") == 0 and "nothing to do" in capfd.readouterr().err
    assert run("generate", tmp_path / "run", "--prompt", "ann", "--prompt", "bob", "--samples", 2, "--seed", 1, "--json") == 0
    found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [one["prompt"] for one in found] == ["ann", "ann", "bob", "bob"] and all(one["text"].startswith(one["prompt"]) for one in found)
    (tmp_path / "beginnings").write_text("ann\nbob\n")
    assert run("generate", tmp_path / "run", "--prompts", tmp_path / "beginnings", "--beams", 3) == 0
    assert [line[:3] for line in capfd.readouterr().out.splitlines()] == ["ann", "bob"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--text", "TEXT", "--preset", "tiny"), "lstm-lm"),
        (("--text", "TEXT", "--source", "TEXT", "--target", "TEXT"), "--text together with pairs"),
        (("--text", "TEXT", "--dev-source", "TEXT"), "--text together with pairs"),
        (("--source", "TEXT", "--target", "TEXT", "--preset", "lstm-lm"), "lstm-lm"),
        (("--text", "MISSING"), "no such file"),
        (("--text", "TEXT", "--set", "train.select=bleu"), "train.select = bleu"),
    ],
)
def test_what_cannot_be_is_told(
    tmp_path: Path, text: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    named = [str(text) if one == "TEXT" else str(tmp_path / "missing") if one == "MISSING" else one for one in arguments]
    assert run("train", *named, "-o", tmp_path / "run", "--duration", "1 steps") != 0
    error = capfd.readouterr().err
    assert told in error and "Traceback" not in error and not (tmp_path / "run" / "model").exists()


def test_going_on_leaves_a_sound_model_alone_and_makes_a_damaged_one_again(
    tmp_path: Path, text: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = to_run_config(settings(text))
    train(config, tmp_path / "run")
    model = tmp_path / "run" / "model"
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in model.iterdir()}
    caplog.clear()
    assert train(config, tmp_path / "run").already_done
    assert before == {path.name: (path.stat().st_ino, path.read_bytes()) for path in model.iterdir()}
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    train(config, tmp_path / "run")
    assert "rebuilt" in caplog.text and load_folder(tmp_path / "run").config.kind == "recurrent-language"


def test_prepared_by_itself_and_trained_from_python(tmp_path: Path, text: Path, capfd: pytest.CaptureFixture[str]) -> None:
    changed = ("data.subwords.kind=character", "data.subwords.size=60", "model.width=24", "train.threads=1", "train.duration=2 steps")
    common = [part for setting in changed for part in ("--set", setting)]
    assert run("prepare", "--text", text, "-o", tmp_path / "run", *common[:4]) == 0
    assert "400 lines read" in " ".join(capfd.readouterr().out.split()) and not (tmp_path / "run" / "model").exists()
    said: list[str] = []
    generator = vitrail.train_language_model(text, tmp_path / "run", settings=changed, say=said.append)
    assert isinstance(generator, Generator) and any("already" in line for line in said)
    assert run("prepare", "--text", text, "--explain") != 0 and "--explain with --text" in capfd.readouterr().err


def test_each_verb_knows_its_kind(tmp_path: Path, text: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(to_run_config(settings(text, duration="2 steps")), tmp_path / "run")
    for verb in ("translate", "align"):
        arguments = [tmp_path / "run", *(["--source", text, "--target", text] if verb == "align" else [])]
        capfd.readouterr()
        assert run(verb, *arguments) != 0
        error = capfd.readouterr().err
        assert "language model" in error and "Traceback" not in error, verb
    assert run("evaluate", tmp_path / "run") == 0
    assert "bits a byte" in capfd.readouterr().out
    assert run("evaluate", tmp_path / "run", "--source", text, "--json") == 0
    assert json.loads(capfd.readouterr().out)["tokens"] == sum(len(line) + 1 for line in text.read_text().splitlines())
    with pytest.raises(UsageError, match="a model that translates"):
        to_run_config(settings(text) | {"model": {"kind": "recurrent"}})
