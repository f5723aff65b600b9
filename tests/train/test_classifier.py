"""A classifier is trained, stopped, resumed, scored and used through the run, loop and folder of translators."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from same_bits import require_same_when_killed, require_same_when_stopped
from sklearn.metrics import f1_score

import vitrail
from vitrail import cli
from vitrail.config import parse_override
from vitrail.errors import DataError, ModelError, UsageError
from vitrail.models.base import unique_tensors
from vitrail.models.model_folder import load_folder
from vitrail.train.choosing.choose_labels import LabelFacts, choose_for_labels
from vitrail.train.request import Request, plan_run, to_run_config
from vitrail.train.run import train
from vitrail.vectors import WordVectors, save_vectors

PRAISE, BLAME = ["good", "fine", "lovely"], ["bad", "awful", "dull"]
THINGS = ["film", "book", "song", "meal", "show", "trip", "town"]
SHAPE = {"width": 16, "dropout": 0.1, "context": 24}
TRANSFORMER = {"kind": "transformer-classifier", "encoder_layers": 1, "heads": 2, "feed_forward": 24, **SHAPE}
RECURRENT = {"kind": "recurrent-classifier", "embedding_width": 12, "pooling": "last", **SHAPE}
BAG = {"kind": "bag-classifier", "width": 16, "buckets": 200, "context": 24}
MODELS = [pytest.param(TRANSFORMER, id="transformer"), pytest.param(RECURRENT, id="recurrent"), pytest.param(BAG, id="bag")]


def examples(count: int) -> tuple[list[str], list[str]]:
    """Every third text is blame: classes of unequal size."""
    words = [(BLAME if number % 3 == 0 else PRAISE)[number // 3 % 3] for number in range(count)]
    lines = [f"the {THINGS[number % 7]} of {number} was {word}" for number, word in enumerate(words)]
    return lines, ["negative" if word in BLAME else "positive" for word in words]


def write(folder: Path, count: int = 240) -> tuple[Path, Path]:
    paths = folder / "texts.txt", folder / "labels.txt"
    for path, lines in zip(paths, examples(count), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines))
    return paths


def settings(folder: Path, model: dict[str, object], **changed: object) -> dict[str, object]:
    source, target = write(folder)
    return {
        "data": {
            "examples": [{"source": str(source), "target": str(target)}],
            "subwords": {"kind": "word", "size": 60},
            "holdout": {"dev_examples": 24, "test_examples": 24},
        },
        "model": dict(model),
        "train": {
            "duration": "30 steps",
            "batch_tokens": 128,
            "validate_every": "15 steps",
            "save_every": "7 steps",
            "threads": 1,
            "log_every": 1,
            "precision": "fp32",
            "label_smoothing": 0.0,
            "average_decay": 0.9,
            **changed,
        },
        "optimizer": {"learning_rate": 0.05, "kind": "adagrad"} if model["kind"] == BAG["kind"] else {"learning_rate": 0.01},
        "schedule": {"warmup": "5 steps"},
    }


@pytest.mark.parametrize("model", MODELS)
def test_stopped_at_any_step_it_goes_on_to_the_same_bits(tmp_path: Path, model: dict[str, object]) -> None:
    require_same_when_stopped(settings(tmp_path, model, accumulate=2), tmp_path, after=(1, 20))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_killed_it_goes_on_to_the_same_bits(tmp_path: Path, model: dict[str, object]) -> None:
    table = settings(tmp_path, model, duration="400 steps", save_every="20 steps", validate_every="100 steps")
    require_same_when_killed(table, tmp_path)


@pytest.fixture(scope="module", params=["classifier-mini", "classifier-lstm", "fasttext"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by two files from the command line, with the smallest of what zero configuration does not choose."""
    folder = tmp_path_factory.mktemp("run")
    source, target = write(folder)
    small = ["model.width=16", "train.threads=1", "train.precision=fp32"]
    if request.param == "fasttext":
        small += ["model.context=128"]
    else:
        small += ["model.encoder_layers=1", "model.dropout=0.1", "optimizer.learning_rate=0.01"]
    sets = [part for one in small for part in ("--set", one)]
    given = ["--text", str(source), "--labels", str(target), "--preset", request.param, "--duration", "120 steps", *sets]
    assert cli.run(["train", *given, "-o", str(folder / "run")]) == 0
    return folder / "run"


def test_it_learns_and_says_so(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["f1"]["value"] > 0.9 and scores["f1"]["low"] <= scores["f1"]["value"] <= scores["f1"]["high"]
    log = (trained / "log.txt").read_text()
    assert "macro F1" in log and "examples of each label" in log and "rare ones count" in log
    classifier = vitrail.Classifier.load(trained)
    texts, labels = ((trained / "data" / f"test.{side}").read_text().splitlines() for side in ("source", "label"))
    guessed = [found.label for found in classifier.classify(texts)]
    assert scores["f1"]["value"] == pytest.approx(f1_score(labels, guessed, average="macro"))
    assert cli.run(["evaluate", str(trained)]) == 0
    assert f"macro F1  {scores['f1']['value']:.3f} [" in capsys.readouterr().out


def test_texts_get_labels_alone_and_together_alike(trained: Path) -> None:
    classifier = vitrail.Classifier.load(trained)
    assert classifier.labels == ("negative", "positive")
    texts = [f"the {thing} was {word}" for thing in THINGS for word in (*PRAISE, *BLAME)] + ["", "good " * 400]
    found = classifier.classify(texts)
    assert [one.cut for one in found] == [False] * (len(texts) - 1) + [True]
    for text, one in list(zip(texts, found, strict=True))[::5]:
        alone = classifier.classify(text)
        assert alone.label == one.label and alone.probability == pytest.approx(one.probability, abs=1e-5)
        assert sum(one.probabilities.values()) == pytest.approx(1) and one.probability == max(one.probabilities.values())
    assert classifier.classify([]) == [] and classifier.embed(texts[:3]).shape == (3, 16)


def test_the_command_line_reads_arguments_and_lines(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.run(["classify", str(trained), "the film was lovely", "the film was awful"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split("\t")[0] == "positive" and second.split("\t")[0] == "negative" and 0.5 < float(first.split("\t")[1]) <= 1
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the book was dull\n\nthe book was fine\n")))
    assert cli.run(["classify", str(trained), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["the book was dull", "", "the book was fine"]
    assert rows[0]["labels"] == ["negative"] and rows[2]["labels"] == ["positive"]
    assert cli.run(["classify", str(trained), "the town was dull", "--top", "5"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split("\t")[::2] == ["negative", "positive"]
    assert cli.run(["classify", str(trained), "the town was dull", "--explain"]) == 0
    assert "softmax over two scores is the sigmoid of their difference" in capsys.readouterr().out


def test_it_is_scored_on_other_examples(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{text}\t{label}" for text, label in zip(*examples(20), strict=True)]
    path = tmp_path / "other.tsv"
    path.write_text("".join(f"{row}\n" for row in rows))
    assert cli.run(["evaluate", str(trained), "--examples", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["examples"] == 20 and sum(map(sum, found["confusion"])) == 20
    path.write_text(path.read_text() + "so so\tneutral\n")
    assert cli.run(["evaluate", str(trained), "--examples", str(path)]) == DataError.exit_code
    assert "example 21: the label 'neutral'" in capsys.readouterr().err
    assert cli.run(["evaluate", str(trained), "--source", str(path)]) == UsageError.exit_code


def test_other_verbs_say_what_it_is_and_what_to_call(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {
        "generate": ["generate", str(trained)],
        "fill": ["fill", str(trained), "a [MASK]"],
    }
    for verb, command in asked.items():
        assert cli.run(command) == ModelError.exit_code, verb
        told = capsys.readouterr().err
        assert "holds a classifier" in told and f"vitrail classify {trained}" in told, verb
    assert isinstance(vitrail.load(trained), vitrail.InspectableClassifier)
    for load in (vitrail.Translator.load, vitrail.Generator.load, vitrail.MaskFiller.load):
        with pytest.raises(ModelError, match="holds a classifier"):
            load(trained)
    golden = Path(__file__).parents[1] / "golden" / "format_2" / "model"
    with pytest.raises(ModelError, match="holds a model that translates") as caught:
        vitrail.Classifier.load(golden)
    assert "vitrail translate" in caught.value.remedy


def test_labels_that_hold_together_from_python(tmp_path: Path) -> None:
    topics = {"war": "the soldiers fought", "love": "they kissed", "sea": "waves and ships"}
    names = list(topics)
    held = [[name for place, name in enumerate(names) if number >> place & 1] for number in range(160)]
    (tmp_path / "texts").write_text("".join(f"{number} {' '.join(topics[name] for name in one)}\n" for number, one in enumerate(held)))
    (tmp_path / "labels").write_text("".join(",".join(one) + "\n" for one in held))
    small = ["model.width=16", "model.encoder_layers=1", "train.threads=1", "train.precision=fp32", "train.duration=150 steps"]
    more = ["data.several=true", "optimizer.learning_rate=0.01", "model.dropout=0.0", "model.head_dropout=0.0"]
    classifier = vitrail.train_classifier(tmp_path / "texts", tmp_path / "labels", tmp_path / "run", settings=[*small, *more])
    assert classifier.several
    both = classifier.classify("the soldiers fought they kissed")
    assert set(both.labels) == {"war", "love"} and sum(both.probabilities.values()) > 1.2
    assert classifier.classify("nothing").labels == () and classifier.classify("waves and ships").label == "sea"


def test_settings_that_contradict_are_refused(tmp_path: Path) -> None:
    asked = settings(tmp_path, TRANSFORMER | {"several": True})
    with pytest.raises(UsageError, match=r"model.several = true with data.several = false"):
        train(to_run_config(asked), tmp_path / "run")
    with pytest.raises(UsageError, match=r"a classifier .* with data of kind text"):
        to_run_config(asked | {"data": {"text": [{"source": "a.txt"}]}})
    with pytest.raises(UsageError, match=r"train.select = bleu"):
        train(to_run_config(settings(tmp_path, TRANSFORMER, select="bleu")), tmp_path / "run")


def test_what_is_chosen_depends_on_the_examples(tmp_path: Path) -> None:
    source, target = write(tmp_path)
    given = {"data": {"examples": [{"source": str(source), "target": str(target)}]}}
    file = tmp_path / "s.toml"
    file.write_text(f'[data]\nexamples = [{{source = "{source}", target = "{target}"}}]\nseveral = true\n')
    table = plan_run(Request(file=file), tmp_path / "none", gpu=False).table
    assert table["preset"] == "classifier-mini" and table["model"]["several"] is True and table["train"]["label_smoothing"] == 0
    assert to_run_config(table).task == "classification" and given["data"]["examples"] == table["data"]["examples"]
    with pytest.raises(UsageError, match="preset 'gpt-mini' with labels"):
        plan_run(Request(file=file, overrides=(parse_override("preset=gpt-mini"),)), tmp_path / "none", gpu=False)


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, {"data.subwords.kind": "word", "data.subwords.size": 200_000, "model.buckets": 65_536, "train.duration": "5 epochs"}),
        ({"model": {"word_ngrams": 4}}, {"model.buckets": 262_144}),
        ({"model": {"word_ngrams": 1}}, {"model.buckets": None}),
        ({"data": {"subwords": {"kind": "bpe"}}}, {"data.subwords.kind": None, "data.subwords.size": 4_000}),
        ({"data": {"several": True}}, {"model.several": True}),
        ({"model": {"word_ngrams": -1}}, {"model.buckets": None}),
        ({"model": 3}, {"model.buckets": 65_536}),
    ],
    ids=str,
)
def test_a_bag_of_words_is_chosen_for_its_text(given: dict[str, Any], chosen: dict[str, Any]) -> None:
    facts = LabelFacts(examples=6_200, words=19.0, longest=40, characters=60)
    found = {choice.name: choice.value for choice in choose_for_labels(facts, preset="fasttext", asked=given)}
    assert {name: found.get(name) for name in chosen} == chosen
    assert found["optimizer.kind"] == "adagrad" and found["train.average_decay"] == 0
    few, many = (choose_for_labels(facts._replace(examples=number), preset="fasttext") for number in (3, 10**9))
    assert [{choice.name: choice.value for choice in one}["model.buckets"] for one in (few, many)] == [1_024, 2_000_000]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["model.buckets=0"], ["model.buckets", "greater than or equal to 1", "not 0"]),
        (["model.buckets=-5"], ["model.buckets", "not -5"]),
        (["model.word_ngrams=0"], ["model.word_ngrams", "greater than or equal to 1"]),
        (["model.word_ngrams=100"], ["model.word_ngrams", "less than or equal to"]),
        (["model.heads=2"], ["model.heads", "transformer-classifier"]),
        (["model.output=softmax", "data.several=true"], ["softmax with labels that may hold together", "--set model.output=sigmoid"]),
    ],
)
def test_settings_that_a_bag_of_words_cannot_have(
    settings: list[str], told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = write(tmp_path)
    sets = [part for one in settings for part in ("--set", one)]
    command = ["train", "--text", str(source), "--labels", str(target), "--preset", "fasttext", *sets, "-o", str(tmp_path / "run")]
    assert cli.run(command) == UsageError.exit_code
    error = capsys.readouterr().err
    assert all(part in error for part in told), error


def test_texts_of_one_kind_of_word_each_empty_or_unknown_are_classified(tmp_path: Path) -> None:
    """Every text once and no word twice: nothing can be learned, and the labels' own frequencies are what is left."""
    lines = [f"once{number}" for number in range(60)]
    (tmp_path / "texts.txt").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "labels.txt").write_text("".join("rare\n" if number % 4 == 0 else "usual\n" for number in range(60)))
    sets = ["preset=fasttext", "train.threads=1", "train.duration=20 steps", "data.holdout.test_examples=0"]
    run = vitrail.train_classifier(tmp_path / "texts.txt", tmp_path / "labels.txt", tmp_path / "run", settings=sets)
    for text in ("", "   ", "нет", "never seen 犬"):
        found = run.classify(text)
        assert found.label == "usual" and found.probabilities == run.classify("").probabilities


def test_a_bag_of_words_starts_from_vectors_and_from_another_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = write(tmp_path)
    draw = np.random.default_rng(1)
    words = ["the", "film", "good", "bad", "unheard"]
    vectors = WordVectors(words, draw.normal(size=(5, 24)).astype(np.float32))
    save_vectors(vectors, tmp_path / "vectors")
    command = ["train", "--text", str(source), "--labels", str(target), "--preset", "fasttext", "--set", "train.threads=1"]
    start = ["--init", f"embeddings={tmp_path / 'vectors'}", "--duration", "1 steps", "--set", "optimizer.learning_rate=1e-9"]
    assert cli.run([*command, *start, "-o", str(tmp_path / "one")]) == 0
    log = (tmp_path / "one" / "log.txt").read_text()
    assert "model.width = 24" in log and "4 taken as they are" in log
    loaded = load_folder(tmp_path / "one")
    table = loaded.model.get_parameter("source_embedding.weight").detach().numpy()
    for word in words[:4]:
        (id,) = loaded.vocabularies.source.encode(f"{word}")
        given = vectors.matrix[vectors.index[word]]
        np.testing.assert_allclose(table[id] / np.linalg.norm(table[id]), given / np.linalg.norm(given), atol=1e-5)
    # A whole bag: its n-grams as well, whose rows depend on the words alone.
    assert cli.run([*command, "-o", str(tmp_path / "two"), "--set", "model.word_ngrams=3"]) == 0
    again = ["--init", f"all={tmp_path / 'two'}", "--duration", "1 steps", "--set", "optimizer.learning_rate=1e-9"]
    assert cli.run([*command[:5], *command[7:], *again, "-o", str(tmp_path / "three")]) == 0
    two, three = (load_folder(tmp_path / name) for name in ("two", "three"))
    assert two.config == three.config
    for name, tensor in unique_tensors(two.model).items():
        torch.testing.assert_close(unique_tensors(three.model)[name], tensor, atol=1e-6, rtol=1e-5)
    capsys.readouterr()
    refused = [*command[:5], "--preset", "classifier-lstm", "--init", f"encoder={tmp_path / 'two'}", "-o", str(tmp_path / "four")]
    assert cli.run(refused) == UsageError.exit_code
    assert "bag-classifier" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["--labels", "l.txt"], "0 --text and 1 --labels"),
        (["--text", "a.txt", "--labels", "l.txt", "--source", "b.en"], "labels together with pairs"),
        (["--examples", "a.tsv,wieght=2"], "weight=2"),
    ],
)
def test_options_that_do_not_belong_together(command: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", *command, "-o", str(tmp_path / "run")]) == UsageError.exit_code
    assert told in capsys.readouterr().err
