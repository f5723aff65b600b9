"""Old text beside new text: read back from a run's prepared pairs, and mixed in by the share of its tokens."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from vitrail.config import build
from vitrail.data.batches import Batches
from vitrail.data.data_config import OLD_PART, DataConfig
from vitrail.data.preparing.fingerprints import fingerprint
from vitrail.data.preparing.prepare import prepare
from vitrail.data.preparing.prepared import Prepared
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.text_config import TextConfig
from vitrail.data.vocabularies.vocabulary import PAD
from vitrail.errors import DataError, UsageError

NUMBERS = [("one", "un"), ("two", "deux"), ("three", "trois"), ("four", "quatre"), ("five", "cinq"), ("six", "six"), ("seven", "sept")]
NOUNS = [("cat", "chat"), ("dog", "chien"), ("bird", "oiseau"), ("horse", "cheval"), ("goat", "bouc")]


def write(folder: Path, name: str, *, words: int) -> dict[str, Any]:
    """Pairs of about so many words a side."""
    more = "aeioubdghklm"[: words - 1]
    pairs = [
        (" ".join([one, *(f"{a}{end}s" for end in more), "sat"]), " ".join([un, *(f"{b}{end}s" for end in more), "assis"]))
        for one, un in NUMBERS
        for a, b in NOUNS
    ]
    for side, code in enumerate(("en", "fr")):
        (folder / f"{name}.{code}").write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    return {"source": str(folder / f"{name}.en"), "target": str(folder / f"{name}.fr")}


def prepared(folder: Path, table: dict[str, Any]) -> Prepared:
    return prepare(build(DataConfig, {"subwords": {"size": 300}} | table, origin="test"), folder)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that was trained on two corpora, one of them tagged, with pairs held out."""
    corpora = [write(tmp_path, "long", words=4), write(tmp_path, "short", words=2) | {"tag": "<2fr>", "holdout": False}]
    prepared(tmp_path / "run" / "data", {"corpora": corpora, "holdout": {"dev_pairs": 3, "test_pairs": 3}})
    return tmp_path / "run"


def test_training_pairs_are_read_back_without_those_that_were_held_out(run: Path) -> None:
    text = build(ParallelText, {"source": str(run / "data" / "prepared.json")}, origin="test")
    pairs = list(text.pairs())
    assert text.kind == "prepared" and text.count() == len(pairs) > 40
    lines = {tuple(line) for line in zip(*(_lines(run.parent / f"long.{code}") for code in ("en", "fr")), strict=True)}
    held = set(zip(*(_lines(run / "data" / f"test.{side}") for side in ("source", "target")), strict=True))
    plain = {(pair.source, pair.target) for pair in pairs if not pair.source.startswith("<2fr> ")}
    assert len(held) == 3 and held < lines and plain < lines and not plain & held
    assert sum(pair.source.startswith("<2fr> ") for pair in pairs) == 35


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


@pytest.mark.parametrize(("most", "expected"), [(0, range(35)), (99, range(35)), (5, range(6, 35, 7)), (34, range(1, 35))])
def test_of_much_text_a_part_is_read_spread_evenly(tmp_path: Path, most: int, expected: range) -> None:
    table = write(tmp_path, "text", words=3)
    everything = list(build(ParallelText, table, origin="test").pairs())
    text = build(ParallelText, table | {"most": most}, origin="test")
    found = list(text.pairs())
    assert found == [everything[place] for place in expected] and text.count() == len(found)


def test_prepared_text_that_cannot_be_read_is_refused(run: Path, tmp_path: Path) -> None:
    index = run / "data" / "prepared.json"
    text = build(ParallelText, {"source": str(index)}, origin="test")
    shutil.rmtree(run / "data" / "store-1")
    with pytest.raises(DataError, match="store-1"):
        text.count()
    index.write_text("{}")
    with pytest.raises(DataError, match="is damaged"):
        text.count()
    (tmp_path / "plain.txt").write_text("a line\nanother one\nand a third\n" * 4)
    table = {"text": [{"source": str(tmp_path / "plain.txt")}], "holdout": {"dev_lines": 0, "test_lines": 0}, "subwords": {"size": 300}}
    prepare(build(TextConfig, table, origin="test"), tmp_path / "text")
    with pytest.raises(DataError, match="holds no pairs"):
        build(ParallelText, {"source": str(tmp_path / "text" / "prepared.json")}, origin="test").count()


@pytest.mark.parametrize(("part", "temperature"), [(0.5, 1.0), (0.25, 1.0), (0.6, 2.0)])
def test_old_text_makes_its_part_of_the_target_tokens(tmp_path: Path, run: Path, part: float, temperature: float) -> None:
    new = write(tmp_path, "new", words=12)
    old = [{"source": str(run / "data" / "prepared.json")}, write(tmp_path, "more", words=3) | {"weight": 2}]
    table = {"corpora": [new], "old": old, "old_part": part, "temperature": temperature, "subwords": {"taken_from": str(run)}}
    found = prepared(tmp_path / "data", table | {"holdout": {"dev_pairs": 3, "test_pairs": 0}})
    batches = Batches(found.stores, budget=200, seed=1, max_length=256, weights=found.weights, temperature=temperature)
    tokens = {True: 0, False: 0}
    for epoch in range(20):
        for place in range(batches.epoch_length(epoch)):
            for row in batches.at(epoch, place).target_out.tolist():
                words = found.vocabularies.target.decode(row).split()
                tokens[len(words) < 12] += sum(id != PAD for id in row)  # only the new text's lines are longer
    assert tokens[True] / sum(tokens.values()) == pytest.approx(part, abs=0.02)


def test_nothing_is_held_out_from_old_text_and_a_vocabulary_grows_by_the_new_alone(tmp_path: Path, run: Path) -> None:
    new = write(tmp_path, "new", words=3)
    for path in map(Path, new.values()):
        path.write_text(path.read_text().replace("s", "ж"))
    (tmp_path / "old.en").write_text("a щ b\nc щ d\ne щ f\n")
    (tmp_path / "old.fr").write_text("a щ b c\nc щ d e\ne щ f g\n")
    old = {"source": str(tmp_path / "old.en"), "target": str(tmp_path / "old.fr")}
    table = {"corpora": [new], "old": [old], "subwords": {"taken_from": str(run), "new_tokens": 50}}
    found = prepared(tmp_path / "data", table | {"holdout": {"dev_pairs": 3, "test_pairs": 0}})
    pieces = found.vocabularies.source.pieces(range(found.vocabularies.source.size))
    assert any("ж" in piece for piece in pieces) and not any("щ" in piece for piece in pieces)
    assert all("ж" in line for line in found.dev.source) and len(found.stores[1]) == 3


def test_data_without_old_text_have_the_fingerprint_that_they_had(tmp_path: Path) -> None:
    new = write(tmp_path, "new", words=3)
    plain = build(DataConfig, {"corpora": [new], "old": False}, origin="test")
    assert not [name for name in fingerprint(plain) if name.startswith("data.old")]
    told = fingerprint(build(DataConfig, {"corpora": [new], "old": [new]}, origin="test"))
    assert told["data.old_part"] == OLD_PART and told["data.old.0.source"] == told["data.corpora.0.source"]
    with pytest.raises(UsageError, match="old_part"):
        build(DataConfig, {"corpora": [new], "old": [new], "old_part": 1.0}, origin="test")
