"""The benchmark of classifiers: all systems on one test set, intervals of the same resamples, and scikit-learn's baseline as it is."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from vitrail import cli
from vitrail.bench.classifying.compare import Variant, compare_classifiers
from vitrail.bench.classifying.program import predict_by_program
from vitrail.bench.classifying.tfidf import Texts, predict_by_tfidf
from vitrail.decode.sentences.label_scores import Predictions, flags
from vitrail.errors import UsageError

GOOD, BAD = ["good", "fine", "lovely", "bright"], ["bad", "awful", "dull", "grey"]


def examples(count: int, *, seed: int) -> tuple[list[str], list[int]]:
    """Texts whose label one word tells, but for a tenth."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(2, size=count).tolist()
    lines = [f"thing {number} is {draw.choice((BAD, GOOD)[label])} and round" for number, label in enumerate(labels)]
    return lines, [label if draw.random() > 0.1 else 1 - label for label in labels]


def one_of(labels: list[int]) -> np.ndarray:
    return flags([[label] for label in labels], 2)


def test_the_baseline_is_scikit_learns() -> None:
    parts = [examples(number, seed=seed) for seed, number in enumerate((200, 50, 60))]
    texts = [Texts(lines, one_of(labels)) for lines, labels in parts]
    found, told = predict_by_tfidf(*texts, several=False)
    strength = float(told.split("C = ")[1].split()[0])
    features = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\S+", ngram_range=(1, 2))
    model = LogisticRegression(C=strength, max_iter=1_000).fit(features.fit_transform(parts[0][0]), parts[0][1])
    expected = model.predict(features.transform(parts[2][0]))
    assert np.array_equal(found.predicted.argmax(1), expected) and np.array_equal(found.right, texts[2].labels)
    assert found.rates().accuracy[0] > 0.8


@pytest.mark.parametrize("several", [False, True])
def test_the_baseline_reads_scripts_without_spaces_and_labels_that_hold_together(several: bool) -> None:
    lines = [f"这部电影真的很{'好看' if number % 2 else '难看'}{number}" for number in range(60)]
    labels = flags([[number % 2] if number % 3 or not several else [0, 1] for number in range(60)], 2)
    part = Texts(lines, labels)
    found, told = predict_by_tfidf(part, part, part, several=several)
    assert "signs in runs" in told and found.several == several and found.rates().accuracy[0] > (0.6 if several else 0.95)


def test_weighted_rates_are_those_of_repeated_texts() -> None:
    draw = np.random.default_rng(0)
    right, predicted = (one_of(draw.integers(2, size=30).tolist()) for _ in range(2))
    rows = draw.integers(30, size=30)
    weights = np.bincount(rows, minlength=30).astype(np.float64)[None]
    expected = Predictions(right[rows], predicted[rows], False).rates()
    found = Predictions(right, predicted, False).rates(weights)
    for name in ("accuracy", "f1", "matthews"):
        assert getattr(found, name)[0] == pytest.approx(getattr(expected, name)[0])


def test_all_systems_are_in_one_table_and_nothing_is_trained_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, count, seed in (("train", 160, 0), ("test", 60, 1)):
        rows = [f"{text}\t{label}" for text, label in zip(*examples(count, seed=seed), strict=True)]
        (tmp_path / f"{name}.tsv").write_text("".join(f"{row}\n" for row in rows))
    wanted = ["model.width=16", "model.encoder_layers=1", "train.duration=8 steps", "train.threads=1", "train.precision=fp32"]
    sets = [part for one in [*wanted, "data.subwords.kind=word", "data.subwords.size=40"] for part in ("--set", one)]
    files = ["--examples", str(tmp_path / "train.tsv"), "--test", str(tmp_path / "test.tsv"), "-o", str(tmp_path / "runs")]
    command = ["bench", "classify", *files, *sets, "--seeds", "1,2", "--variant", "gru: preset=classifier-gru; model.width=12"]
    command.append("--no-fasttext")
    assert cli.run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["rows"]] == ["from scratch", "gru", "TF-IDF + logistic regression"]
    first, second, baseline = found["rows"]
    assert first["difference"] is None and first["seeds"] == [1, 2] and baseline["seeds"] == [] and found["examples"]["test"] == 60
    for row in (first, second):
        assert row["f1"]["value"] == pytest.approx(np.mean(row["by_seed"]["f1"]))
        assert row["f1"]["low"] <= row["f1"]["value"] <= row["f1"]["high"]
    gap = baseline["difference"]["accuracy"]
    assert gap["value"] == pytest.approx(baseline["accuracy"]["value"] - first["accuracy"]["value"]) and gap["low"] <= gap["high"]
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/model/model.safetensors")}
    assert len(stamps) == 4
    assert cli.run(command) == 0
    table = capsys.readouterr().out
    assert 'difference from "from scratch"' in table and f"{first['f1']['value']:.3f} [" in table
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


@pytest.mark.parametrize("several", [False, True])
def test_the_fasttext_program_learns_the_same_examples(several: bool) -> None:
    pytest.importorskip("fasttext")
    parts = [examples(number, seed=seed) for seed, number in enumerate((300, 50, 60))]
    texts = [
        Texts(lines, flags([[label] if not several or row % 3 else [0, 1] for row, label in enumerate(labels)], 2))
        for lines, labels in parts
    ]
    found = predict_by_program(*texts, several=several, seeds=(1, 2))
    assert len(found.predictions) == len(found.seconds) == 2 and all(0 < spent < 60 for spent in found.seconds)
    assert "epochs by macro F1 on dev" in found.detail
    for one in found.predictions:
        assert np.array_equal(one.right, texts[2].labels) and one.several == several
        assert one.rates().accuracy[0] > (0.5 if several else 0.8)


@pytest.mark.slow
def test_fasttext_is_in_the_table_with_its_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, count, seed in (("train", 160, 0), ("test", 60, 1)):
        rows = [f"{text}\t{label}" for text, label in zip(*examples(count, seed=seed), strict=True)]
        (tmp_path / f"{name}.tsv").write_text("".join(f"{row}\n" for row in rows))
    wanted = ["model.width=16", "model.encoder_layers=1", "train.duration=30 steps", "train.threads=1", "data.subwords.kind=word"]
    sets = [part for one in wanted for part in ("--set", one)]
    files = ["--examples", str(tmp_path / "train.tsv"), "--test", str(tmp_path / "test.tsv"), "-o", str(tmp_path / "runs")]
    command = ["bench", "classify", *files, *sets, "--seeds", "1", "--no-tfidf"]
    assert cli.run([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["name"] for row in rows][:2] == ["from scratch", "fasttext"]
    assert all(len(row["seconds"]) == 1 and row["seconds"][0] > 0 for row in rows)
    assert cli.run([*command, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["rows"]
    assert [row["seconds"] for row in again][:2] == [row["seconds"] for row in rows][:2], "what is not trained again keeps its time"


def test_what_cannot_be_compared_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="two variants of one name"):
        compare_classifiers([], tmp_path, variants=[Variant("a"), Variant("a")], seeds=[1], say=lambda _: None)
    for command, told in (
        (["--seeds", "x"], "--seeds x"),
        (["--variant", "lstm"], "--variant lstm"),
        (["--init", "bert"], "--init bert"),
        ([], "no examples"),
    ):
        given = ["--examples", "a.tsv"] if command else []
        assert cli.run(["bench", "classify", *given, "-o", str(tmp_path / "runs"), *command]) == UsageError.exit_code
        assert told in capsys.readouterr().err
