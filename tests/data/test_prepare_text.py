"""The text of a language model: prepared whole or not at all, in order, and read in blocks."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail.data.blocks import Blocks
from vitrail.data.preparing.fingerprints import fingerprint, fingerprint_differences
from vitrail.data.preparing.prepare import prepare
from vitrail.data.preparing.prepared import PreparedText, open_data, open_prepared
from vitrail.data.preparing.store import Store
from vitrail.data.text_config import TextConfig
from vitrail.data.vocabularies.subwords import EOS
from vitrail.errors import DataError, ModelError, UsageError
from vitrail.files import Damaged

WORDS = {
    "Latn": ["the", "cat", "saw", "a", "bird", "near", "old", "trees", "while", "snow", "fell", "softly", "on", "every", "roof"],
    "Cyrl": ["кот", "видел", "птицу", "у", "старых", "деревьев", "пока", "снег", "тихо", "падал", "на", "все", "крыши"],
    "Deva": ["बिल्ली", "ने", "पुराने", "पेड़ों", "के", "पास", "एक", "चिड़िया", "देखी", "जब", "बर्फ", "गिर", "रही", "थी"],
    "Arab": ["رأت", "القطة", "طائرا", "قرب", "الأشجار", "القديمة", "بينما", "كان", "الثلج", "يتساقط", "بهدوء"],
}


def sentences(script: str, count: int, *, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS[script], 9)) for _ in range(count)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    return path


def config(*files: Path, **settings: object) -> TextConfig:
    table = {"text": [{"source": str(file)} for file in files], "subwords": {"kind": "character", "size": 200}, **settings}
    return TextConfig.model_validate(table)


def ready(folder: Path, asked: TextConfig) -> PreparedText:
    found = prepare(asked, folder)
    assert isinstance(found, PreparedText)
    return found


def train_lines(found: PreparedText) -> list[str]:
    return [found.vocabularies.target.decode(store.row("text", place)) for store in found.stores for place in range(len(store))]


@pytest.mark.parametrize("script", WORDS)
def test_every_line_is_somewhere_and_in_order(tmp_path: Path, script: str) -> None:
    lines = sentences(script, 400)
    found = ready(tmp_path / "data", config(write(tmp_path / "a.txt", lines)))
    train = train_lines(found)
    assert len(found.dev) == len(found.test) == 16
    assert len(train) + len(found.dev) + len(found.test) + sum(found.report.dropped.values()) == 400
    places = [lines.index(line) for line in train]
    assert places == sorted(places) and set(train).isdisjoint(found.dev) and set(train).isdisjoint(found.test)
    assert all(found.stores[0].row("text", place)[-1] == EOS for place in range(len(train)))
    assert found.facts["lines"] == len(train) and found.facts["tokens"] == sum(map(len, map(found.stores[0].ids, ["text"])))


def test_held_out_lines_are_neighbours(tmp_path: Path) -> None:
    lines = [f"line number {place} of a text that is long enough" for place in range(3_000)]
    found = ready(tmp_path / "data", config(write(tmp_path / "a.txt", lines)))
    places = [lines.index(line) for line in found.dev]
    assert sum(after - before == 1 for before, after in pairwise(places)) >= 0.9 * len(places)
    assert max(places) - min(places) > 1_000  # of several places of the text


def test_what_cannot_be_used_is_counted_by_reason(tmp_path: Path) -> None:
    lines = ["", "   ", "caf\udce9 au lait", "a line", *sentences("Latn", 200)]
    said: list[str] = []
    found = prepare(config(write(tmp_path / "a.txt", lines)), tmp_path / "data", say=said.append)
    assert found.report.dropped["Empty"] == 2 and found.report.dropped["InvalidUtf8"] == 1
    assert found.report.read == 204 == found.report.train + found.report.dev + found.report.test + sum(found.report.dropped.values())
    assert any("WARNING" in line and "iconv" in line for line in said)
    assert "dropped: Empty" in (tmp_path / "data" / "report.txt").read_text()


def test_what_stands_in_a_given_dev_text_is_not_trained_on(tmp_path: Path) -> None:
    lines = sentences("Latn", 100)
    dev = write(tmp_path / "dev.txt", ["yes", *lines[10:15]])
    found = ready(
        tmp_path / "data", config(write(tmp_path / "a.txt", ["yes", *lines]), dev={"source": str(dev)}, holdout={"test_lines": 0})
    )
    assert found.dev == ["yes", *lines[10:15]] and found.test == []
    assert found.report.dropped == {"OverlapsGivenText": 5} and "yes" in train_lines(found)
    with pytest.raises(UsageError, match=r"data\.dev is given"):
        config(tmp_path / "a.txt", dev={"source": str(dev)}, holdout={"dev_lines": 5})


def test_the_same_again_is_opened_and_anything_else_made_anew(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", sentences("Latn", 200))
    first = ready(tmp_path / "data", config(file))
    said: list[str] = []
    assert prepare(config(file), tmp_path / "data", say=said.append).digest == first.digest and "already" in said[0]
    moved = file.rename(tmp_path / "b.txt")
    assert fingerprint(config(moved)) == first.fingerprint
    write(moved, sentences("Latn", 201))
    (changed,) = fingerprint_differences(first.fingerprint, fingerprint(config(moved)))
    assert changed.startswith("data.text.0.source")
    assert prepare(config(moved), tmp_path / "data").digest != first.digest


def test_damage_is_found_and_a_translator_does_not_take_text(tmp_path: Path) -> None:
    ready(tmp_path / "data", config(write(tmp_path / "a.txt", sentences("Latn", 200))))
    with pytest.raises(ModelError, match="language model"):
        open_prepared(tmp_path / "data")
    ids = tmp_path / "data" / "store-0" / "text.ids"
    content = bytearray(ids.read_bytes())
    content[40] ^= 1
    ids.write_bytes(content)
    with pytest.raises(Damaged):
        open_data(tmp_path / "data")


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none is left"):
        prepare(config(write(tmp_path / "a.txt", ["", " "])), tmp_path / "data")
    with pytest.raises(DataError, match="held out"):
        prepare(config(write(tmp_path / "a.txt", ["one line"]), holdout={"dev_lines": 1}), tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, ...]:
    files = [write(tmp_path / f"{seed}.txt", sentences("Latn", 60, seed=seed)) for seed in (1, 2)]
    return ready(tmp_path / "data", config(*files)).stores


@pytest.mark.parametrize(("groups", "length"), [(1, 10), (3, 10), (1, 700), (1, 100_000)])
def test_an_epoch_of_blocks_is_the_text(stores: tuple[Store, ...], groups: int, length: int) -> None:
    whole = torch.from_numpy(np.concatenate([store.ids("text") for store in stores]).astype(np.int64))
    ring = torch.cat([whole, whole, whole])
    blocks = Blocks(stores, tokens=50, length=length, groups=groups, seed=3)
    for epoch in (0, 2):
        seen = torch.zeros(len(whole), dtype=torch.bool)
        first = epoch * blocks.epoch_length(0)
        for group in range(groups):
            stretches: list[list[torch.Tensor]] = []
            for number in range(first + group, first + blocks.epoch_length(epoch), groups):
                block = blocks.at(*blocks.locate(number))
                assert torch.equal(block.tokens[:, 1:], block.following[:, :-1])
                if not blocks.goes_on(number):
                    assert (block.tokens[:, 0] == EOS).all()  # each lane begins at the start of a line
                    stretches.append([])
                stretches[-1].append(block.following)
            for row in (row for stretch in stretches for row in torch.cat(stretch, dim=1)):
                begun = next(at for at in range(len(whole)) if torch.equal(ring[at : at + len(row)], row))
                seen[(begun + torch.arange(len(row))) % len(whole)] = True
        assert seen.float().mean() > 0.9  # a lane that was set back to the start of a line ends as much earlier
    if length > len(whole) and groups == 1:
        assert torch.equal(blocks.at(0, 0).following[0], whole)


def test_blocks_are_a_pure_function_of_their_number(stores: tuple[Store, ...]) -> None:
    one, other = (Blocks(stores, tokens=40, length=8, groups=2, seed=1) for _ in range(2))
    sequence = other.sequence(7)
    for number in range(7, 7 + 2 * one.epoch_length(0)):
        block = next(sequence)
        assert torch.equal(one.at(*one.locate(number)).tokens, block.tokens) and block.tokens.shape[0] == one.lanes == 5
    starts = [number for number in range(2 * one.epoch_length(0)) if not one.goes_on(number)]
    per_epoch = [place for place in range(one.epoch_length(0)) if place // 2 % 32 == 0]
    assert starts == [epoch * one.epoch_length(0) + place for epoch in (0, 1) for place in per_epoch] and len(per_epoch) == 4
    with pytest.raises(DataError, match="at least 2"):
        Blocks([], tokens=4, length=2, groups=1, seed=0)
