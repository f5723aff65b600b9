"""Classifiers of the fastText program: the same probabilities here, and files that cannot be taken over."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitrail
from vitrail import cli
from vitrail.errors import DataError
from vitrail.export.fasttext import import_fasttext

fasttext = pytest.importorskip("fasttext")

LINES = ["not a good film !", "un très bon film", "кот не видит", "ฉันชอบ หนัง", "好看 的 电影", "👩‍🚀 naïve Straße good", "good"]
LABELS = ["no", "да", "oui"]
TEXTS = [*LINES, "good film", "film good très не", "  good\tfilm  ", "", "的 好看 的", "a a a a a"]


def trained(path: Path, **settings: Any) -> Path:
    rows = [f"__label__{LABELS[number % 3]} {line}" for number, line in enumerate(LINES * 3)]
    (path / "train.txt").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    plain = {"dim": 11, "epoch": 20, "lr": 0.7, "wordNgrams": 3, "bucket": 500, "thread": 1, "verbose": 0}
    fasttext.train_supervised(str(path / "train.txt"), **plain | settings).save_model(str(path / "model.bin"))
    return path / "model.bin"


def probabilities(path: Path, text: str) -> dict[str, float]:
    """What the program says; it adds 1e-5 to each before their logarithm."""
    found = fasttext.load_model(str(path)).f.predict(text + "\n", -1, 0.0, "strict")
    return {label.removeprefix("__label__"): share - 1e-5 for share, label in found}


@pytest.mark.parametrize("settings", [{}, {"wordNgrams": 1}, {"wordNgrams": 2, "dim": 100}], ids=str)
def test_probabilities_are_those_of_the_program(settings: dict[str, Any], tmp_path: Path) -> None:
    path, told = trained(tmp_path, **settings), list[str]()
    import_fasttext(path, tmp_path / "ours", say=told.append)
    ours = vitrail.Classifier.load(tmp_path / "ours")
    assert sorted(ours.labels) == sorted(LABELS) and bool(told) == (settings.get("wordNgrams") != 1)
    for text in [*TEXTS, *(["never heard of good"] if settings.get("wordNgrams") == 1 else [])]:
        expected, found = probabilities(path, text), ours.classify(text).probabilities
        assert found.keys() == expected.keys()
        np.testing.assert_allclose([found[label] for label in expected], list(expected.values()), atol=1e-5, err_msg=text)


def test_labels_that_hold_together_have_a_sigmoid_each(tmp_path: Path) -> None:
    """The program looks its sigmoid up in a table with steps of 1/32."""
    path = trained(tmp_path, loss="ova")
    import_fasttext(path, tmp_path / "ours")
    ours = vitrail.Classifier.load(tmp_path / "ours")
    assert ours.several
    for text in TEXTS:
        expected, found = probabilities(path, text), ours.classify(text).probabilities
        np.testing.assert_allclose([found[label] for label in expected], list(expected.values()), atol=0.008, err_msg=text)


def test_it_is_used_like_any_other_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = trained(tmp_path)
    assert cli.run(["import", str(path), "-o", str(tmp_path / "ours")]) == 0
    assert cli.run(["classify", str(tmp_path / "ours"), "good film", "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert row["probabilities"].keys() == set(LABELS)
    assert cli.run(["inspect", str(tmp_path / "ours"), "un très bon film"]) == 0
    assert "▁très ▁bon" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"loss": "hs"}, "hierarchical softmax"),
        ({"loss": "ns"}, "negative sampling"),
        ({"minn": 2, "maxn": 3}, "n-grams of 2 to 3 characters"),
    ],
)
def test_models_whose_scores_are_more_than_a_sum_of_rows_are_refused(settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = trained(tmp_path, **settings)
    with pytest.raises(DataError, match=told) as caught:
        import_fasttext(path, tmp_path / "ours")
    assert caught.value.expected and caught.value.remedy and not (tmp_path / "ours").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = trained(tmp_path)
    whole = path.read_bytes()
    for name, content, told in (
        ("cut.bin", whole[:-10], "ends within"),
        ("text.bin", b"2 2\na 1 2\n", "no model of the fastText program"),
        ("empty.bin", b"", "no model of the fastText program"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=told):
            import_fasttext(tmp_path / name, tmp_path / "ours")
    program = fasttext.load_model(str(path))
    program.quantize(input=str(tmp_path / "train.txt"))
    program.save_model(str(tmp_path / "model.ftz"))
    with pytest.raises(DataError, match="quantised") as caught:
        import_fasttext(tmp_path / "model.ftz", tmp_path / "ours")
    assert ".bin" in caught.value.remedy
    unsupervised = fasttext.train_unsupervised(str(tmp_path / "train.txt"), dim=4, minCount=1, epoch=1, thread=1, verbose=0, bucket=50)
    unsupervised.save_model(str(tmp_path / "vectors.bin"))
    with pytest.raises(DataError, match="not a classifier"):
        import_fasttext(tmp_path / "vectors.bin", tmp_path / "ours")
