"""Texts with labels: how they are read, cleaned, divided and stored, and what is refused."""

import json
from collections import Counter
from pathlib import Path

import pytest

from vitrail.config import build
from vitrail.data.labels_config import LabelsConfig
from vitrail.data.preparing.prepare import prepare
from vitrail.data.preparing.prepare_labels import Example, hold_out
from vitrail.data.preparing.prepared import PreparedLabels, open_data
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import EOS, UNK
from vitrail.errors import DataError, ModelError, UsageError, VitrailError

WORDS = {
    "latin": ("the film was truly", "good bad dull fine"),
    "cyrillic": ("этот фильм был очень", "хорош плох скучен мил"),
    "arabic": ("كان هذا الفيلم حقا", "جيدا سيئا مملا لطيفا"),
    "han": ("这 部 电影 真 的", "好 坏 闷 妙"),
    "thai": ("หนัง เรื่อง นี้ จริง", "ดี แย่ เบื่อ งาม"),
}


def texts(count: int, *, script: str = "latin") -> list[str]:
    start, ends = WORDS[script]
    return [f"{start} {ends.split()[number % 4]} {number}" for number in range(count)]


def write(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="surrogateescape")
    return path


def config(**data: object) -> LabelsConfig:
    return build(LabelsConfig, {"subwords": {"kind": "character", "size": 200}, **data}, origin="data")


def prepared(folder: Path, **data: object) -> PreparedLabels:
    found = prepare(config(**data), folder / "run" / "data", workers=1)
    assert isinstance(found, PreparedLabels)
    return found


def train_pairs(found: PreparedLabels) -> list[tuple[str, str]]:
    words, labels = found.vocabularies.source, found.labels
    rows = [(store.row("source", place), store.row("label", place)) for store in found.stores for place in range(len(store))]
    return [(words.decode(text.tolist()), labels.decode(label.tolist())) for text, label in rows]


@pytest.mark.parametrize("script", WORDS)
def test_two_files_of_any_script_become_a_folder_that_is_opened_again(tmp_path: Path, script: str) -> None:
    lines = texts(60, script=script)
    labels = [f"{WORDS[script][1].split()[number % 3]}" for number in range(60)]
    given = {"source": str(write(tmp_path, "a.txt", lines)), "target": str(write(tmp_path, "labels.txt", labels))}
    found = prepared(tmp_path, examples=[given])
    again = open_data(tmp_path / "run" / "data")
    assert isinstance(again, PreparedLabels) and again.digest == found.digest and again.labels.labels == tuple(sorted(set(labels)))
    pairs = [*train_pairs(again), *zip(*again.dev, strict=True), *zip(*again.test, strict=True)]
    assert sorted(pairs) == sorted(zip(lines, labels, strict=True))
    assert len(again.dev.source) == len(again.test.source) == 6
    assert again.facts["labels"] == 3 and again.facts["examples"] == 48
    assert "label" in (tmp_path / "run" / "data" / "report.txt").read_text(encoding="utf-8")


FORMS = {
    "plain.tsv": lambda text, label: f"{text}\t{label}",
    "numbers.csv": lambda text, label: f'"{text}, yes",{label}',
    "records.jsonl": lambda text, label: json.dumps({"id": 7, "sentence": text, "label": label}),
    "numbers.jsonl": lambda text, label: json.dumps({"text": text, "label": int(label)}),
}


@pytest.mark.parametrize("name", FORMS)
def test_one_file_holds_texts_and_labels(tmp_path: Path, name: str) -> None:
    labels = [str(number % 3) for number in range(40)]
    path = write(tmp_path, name, [FORMS[name](text, label) for text, label in zip(texts(40), labels, strict=True)])
    found = prepared(tmp_path, examples=[{"source": str(path)}])
    assert found.labels.labels == ("0", "1", "2")
    counts = Counter(label for _, label in [*train_pairs(found), *zip(*found.dev, strict=True), *zip(*found.test, strict=True)])
    assert counts == Counter(labels)


@pytest.mark.parametrize("header", ["text\tlabel", "sentence\tSentiment", "inhalt\tbewertung"])
def test_a_header_is_no_example(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, "a.tsv", [header, *(f"{text}\t{number % 2}" for number, text in enumerate(texts(30)))])
    found = prepared(tmp_path, examples=[{"source": str(path)}])
    assert found.labels.labels == ("0", "1") and found.report.read == 30
    assert "header" in found.report.to_text()


def test_columns_are_named_where_there_are_more(tmp_path: Path) -> None:
    rows = [f"gj04\t{number % 2}\t*\t{text}" for number, text in enumerate(texts(30))]
    path = write(tmp_path, "cola.tsv", rows)
    with pytest.raises(DataError, match="not clear which is the text and which the label") as caught:
        prepared(tmp_path, examples=[{"source": str(path)}])
    assert "--examples FILE,columns=" in caught.value.remedy
    found = prepared(tmp_path, examples=[{"source": str(path), "columns": [4, 2]}])
    assert found.labels.labels == ("0", "1") and sorted(text for text, _ in train_pairs(found))[0].startswith("the film")


def test_labels_that_hold_together(tmp_path: Path) -> None:
    rows = [json.dumps({"text": text, "labels": ["war", "love", "sea"][: number % 4]}) for number, text in enumerate(texts(60))]
    found = prepared(tmp_path, examples=[{"source": str(write(tmp_path, "a.jsonl", rows))}], several=True)
    assert found.labels.labels == ("love", "sea", "war") and found.labels.several
    counts = Counter(label for _, label in train_pairs(found))
    assert set(counts) == {"", "war", "love,war", "love,sea,war"}
    plain = [";".join(["b", "a"][: number % 3]) for number in range(60)]
    files = {"source": str(write(tmp_path, "b.txt", texts(60))), "target": str(write(tmp_path, "b.labels", plain))}
    other = prepare(config(examples=[files], several=True, separator=";"), tmp_path / "other", workers=1)
    assert isinstance(other, PreparedLabels) and other.labels.labels == ("a", "b")


def test_the_split_has_the_share_of_each_label_and_no_text_twice(tmp_path: Path) -> None:
    labels = ["rare" if number % 20 == 0 else "usual" for number in range(400)]
    lines = texts(400)
    lines[41], lines[43] = lines[40].upper() + "!", lines[42]  # the same texts with another label, and with the same
    found = prepared(tmp_path, examples=[{"source": str(write(tmp_path, "a.txt", lines)), "target": str(write(tmp_path, "l", labels))}])
    for held in (found.dev, found.test):
        assert Counter(held.label) == {"rare": 2, "usual": 37}
    assert found.report.dropped == {"DuplicateFilter": 1} and found.report.details["contradictory"] == 1
    sets = [
        {text.casefold().rstrip("!") for text in part} for part in (found.dev.source, found.test.source, [t for t, _ in train_pairs(found)])
    ]
    assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]
    assert found.report.read == found.report.train + found.report.dev + found.report.test + sum(found.report.dropped.values())


def test_the_split_depends_on_the_examples_alone_and_leaves_each_label_one() -> None:
    examples = [Example(f"text {number}", "ab"[number % 2] if number else "c", 1_000_003 * number % 997) for number in range(50)]
    parts = hold_out(examples, {"dev": 10, "test": 10}, allowed=[True] * 50)
    drawn = {name: {examples[place].text for place in places} for name, places in parts.items()}
    turned = hold_out(examples[::-1], {"dev": 10, "test": 10}, allowed=[True] * 50)
    assert drawn == {name: {examples[::-1][place].text for place in places} for name, places in turned.items()}
    assert not drawn["dev"] & drawn["test"] and "text 0" not in drawn["dev"] | drawn["test"]
    assert len(hold_out(examples[:3], {"dev": 3}, allowed=[True] * 3)["dev"]) == 0, "an example of each label stays"


def test_several_files_are_mixed_by_weight_and_held_out_from_where_they_may(tmp_path: Path) -> None:
    first = write(tmp_path, "a.tsv", [f"{text}\t{number % 2}" for number, text in enumerate(texts(30))])
    second = write(tmp_path, "b.tsv", [f"more {text}\t{number % 2}" for number, text in enumerate(texts(30))])
    third = write(tmp_path, "c.tsv", [f"{text}\t{number % 2}" for number, text in enumerate(texts(30))])
    files = [{"source": str(first)}, {"source": str(third)}, {"source": str(second), "weight": 2.5, "holdout": False}]
    found = prepared(tmp_path, examples=files)
    assert found.weights == (1.0, 2.5) and len(found.stores) == 2 and found.report.dropped == {"DuplicateFilter": 30}
    assert found.dev.source and not [text for text in (*found.dev.source, *found.test.source) if text.startswith("more")]


def test_given_dev_text_is_kept_out_of_training(tmp_path: Path) -> None:
    rows = [f"{text}\t{number % 2}" for number, text in enumerate(texts(30))]
    train, dev = write(tmp_path, "a.tsv", rows), write(tmp_path, "dev.tsv", rows[:5])
    found = prepared(tmp_path, examples=[{"source": str(train)}], dev={"source": str(dev)}, holdout={"test_examples": 0})
    assert found.report.train == 25 and found.report.dropped == {"OverlapsGivenText": 5} and found.dev.label == list("01010")
    assert not found.test.source


def test_what_cannot_be_used_is_left_out_and_counted(tmp_path: Path) -> None:
    lines = [*texts(20), "", "no label", "caf\udce9"]
    labels = [str(number % 2) for number in range(20)] + ["1", " ", "0"]
    said: list[str] = []
    given = {"source": str(write(tmp_path, "a.txt", lines)), "target": str(write(tmp_path, "l.txt", labels))}
    found = prepare(config(examples=[given]), tmp_path / "data", workers=1, say=said.append)
    assert found.report.dropped == {"Empty": 1, "EmptyLabel": 1, "InvalidUtf8": 1}
    assert any(line.startswith("WARNING: left out: 1 of 23") and "no label" in line for line in said)
    assert any("examples of each label" in line for line in said)


BAD: dict[str, tuple[dict[str, object], str, str]] = {
    "another length": ({"labels": 29}, "30 lines and .* has 29", "added, split or lost"),
    "one label": ({"label": "yes"}, "1 label \\(yes\\)", "labels"),
    "empty labels": ({"label": ""}, "no label 30", ""),
    "texts as labels": ({"swap": True}, "30 labels in 30 examples", "swap"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_labels_are_refused_with_a_remedy(tmp_path: Path, case: str) -> None:
    how, told, remedy = BAD[case]
    lines, labels = texts(30), [str(how.get("label", number % 2)) for number in range(int(str(how.get("labels", 30))))]
    lines, labels = (labels, lines) if how.get("swap") else (lines, labels)
    if how.get("swap"):
        lines = [f"{line} {number}" for number, line in enumerate(lines)]
    given = {"source": str(write(tmp_path, "a.txt", lines)), "target": str(write(tmp_path, "l.txt", labels))}
    with pytest.raises(DataError, match=told) as caught:
        prepared(tmp_path, examples=[given])
    assert remedy in caught.value.remedy and caught.value.expected
    assert not (tmp_path / "run" / "data").exists()


def test_a_label_of_dev_that_training_has_not_is_named(tmp_path: Path) -> None:
    train = write(tmp_path, "a.tsv", [f"{text}\t{number % 2}" for number, text in enumerate(texts(30))])
    dev = write(tmp_path, "dev.tsv", ["one\t0", "two\tpositive"])
    with pytest.raises(DataError, match=r"dev.tsv: the label 'positive' \(1 examples\) is not in the training text") as caught:
        prepared(tmp_path, examples=[{"source": str(train)}], dev={"source": str(dev)})
    assert "0, 1" in caught.value.expected and caught.value.remedy
    empty = write(tmp_path, "empty.tsv", ["one\t0", "two\t"])
    with pytest.raises(DataError, match=r"empty.tsv: line 2: no label"):
        prepared(tmp_path, examples=[{"source": str(train)}], test={"source": str(empty)})


def test_translations_are_no_examples(tmp_path: Path) -> None:
    with pytest.raises(VitrailError, match="translations, not labels"):
        config(examples=[{"source": str(tmp_path / "a.tmx"), "languages": ["en", "fr"]}])
    with pytest.raises(UsageError, match="dev is given"):
        config(examples=[{"source": "a.tsv"}], dev={"source": "b.tsv"}, holdout={"dev_examples": 3})


def test_a_vocabulary_of_labels_is_read_back_and_refuses_others() -> None:
    labels = LabelVocabulary.train(["10", "9", "-1"])
    assert labels.labels == ("-1", "9", "10") and LabelVocabulary.train(["10", "9", "a"]).labels == ("10", "9", "a")
    assert LabelVocabulary.from_bytes(labels.to_bytes(), origin="x").labels == labels.labels
    assert labels.encode("9") == [EOS + 2] and labels.encode("8") == [UNK] and labels.decode([EOS + 1]) == "-1"
    several = LabelVocabulary(["a", "b"], separator="|")
    assert (
        several.encode("b | a|b") == [EOS + 2, EOS + 1]
        and several.encode("") == []
        and several.digest != LabelVocabulary(["a", "b"]).digest
    )
    for damaged in (b"{}", b"[", b'{"format": "vitrail labels 1", "separator": "", "labels": ["a", "a"]}'):
        with pytest.raises(ModelError, match="no list of labels"):
            LabelVocabulary.from_bytes(damaged, origin="x")
