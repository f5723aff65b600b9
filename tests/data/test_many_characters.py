"""Vocabularies of text with many characters: what is chosen fits, what is asked for and does not fit is told, and all text comes back."""

import logging
import random
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pytest

from vitrail.data.preparing.prepare import DataConfig, prepare
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.vocabularies.subwords import (
    SubwordsConfig,
    Vocabularies,
    count_characters,
    needed_characters,
    train_sentencepiece,
    train_vocabularies,
)
from vitrail.errors import UsageError
from vitrail.train.choosing.choose import choose, gather_facts, to_table

NTREX = next((place / "shared/data/ntrex" for place in Path(__file__).parents if (place / "shared/data/ntrex").is_dir()), None)
QUICK = ("zho_Hans", "yue", "kor", "jpn", "tha", "khm", "mya", "dzo", "amh", "hin", "tam", "arb", "heb", "vie", "fra")
BLOCKS = {"Han": range(0x4E00, 0x9FA5), "Hangul": range(0xAC00, 0xD7A3), "Ethiopic": range(0x1200, 0x1248), "Latin": range(0x61, 0x7B)}


def write_lines(block: str, *, characters: int, lines: int, seed: int = 0) -> list[str]:
    """Lines of 20 characters each, as often as Zipf's law has it."""
    draw = random.Random(seed)
    kinds = draw.sample(BLOCKS[block], min(characters, len(BLOCKS[block])))
    weights = [1 / (place + 3) for place in range(len(kinds))]
    return ["".join(map(chr, draw.choices(kinds, weights, k=20))) for _ in range(lines)]


def corpus_of(folder: Path, source: list[str], target: list[str]) -> ParallelText:
    for name, lines in (("source", source), ("target", target)):
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return ParallelText(source=folder / "source.txt", target=folder / "target.txt")


def chosen(corpus: ParallelText, **subwords: Any) -> DataConfig:
    """As `vitrail prepare` with these settings would."""
    facts = gather_facts([corpus], cores=2, gpu=False)
    table: dict[str, Any] = to_table(choose(facts, asked={"data": {"subwords": subwords}}))["data"]
    return DataConfig.model_validate({**table, "corpora": [corpus], "subwords": table["subwords"] | subwords})


def byte_share(vocabularies: Vocabularies, target: list[str]) -> float:
    """Share of the target's pieces that are single bytes."""
    pieces = Counter(vocabularies.target.pieces(chain.from_iterable(vocabularies.target.encode_batch(target))))
    return sum(number for piece, number in pieces.items() if piece.startswith("<0x")) / pieces.total()


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize(("source", "target"), [("Latin", "Han"), ("Han", "Hangul"), ("Ethiopic", "Han"), ("Hangul", "Latin")])
@pytest.mark.parametrize("joint", [False, True])
def test_what_is_chosen_fits(source: str, target: str, joint: bool, kind: Literal["bpe", "unigram"], tmp_path: Path) -> None:
    """Both ways of learning, for two scripts in one vocabulary as well."""
    sides = [write_lines(block, characters=2_500, lines=600, seed=number) for number, block in enumerate((source, target))]
    config = chosen(corpus_of(tmp_path, sides[0], sides[1]), joint=joint, kind=kind).subwords
    found = train_vocabularies(*sides, config=config)
    learned = [sides[0] + sides[1]] * 2 if joint else sides
    for vocabulary, lines in zip((found.source, found.target), learned, strict=True):
        assert vocabulary.size <= config.size
        assert [vocabulary.decode(ids) for ids in vocabulary.encode_batch(lines)] == lines
        counts = count_characters(lines)
        own = {piece for piece in vocabulary.pieces(range(vocabulary.size)) if piece in counts}
        covered = sum(counts[character] for character in own | {" "}) / counts.total()
        assert covered >= (0.9995 if len(counts) > 400 else 1.0) - 1e-4
    assert byte_share(found, sides[1]) < 0.005


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_size_that_is_tight_is_used_and_told(kind: Literal["bpe", "unigram"], caplog: pytest.LogCaptureFixture) -> None:
    lines = write_lines("Han", characters=1_700, lines=2_000)
    counts = count_characters(lines)
    tight = 260 + needed_characters(counts, coverage=0.98) + 20
    with caplog.at_level(logging.WARNING, logger="vitrail"):
        found = train_sentencepiece(lines, size=tight, kind=kind)
    assert found.size <= tight and [found.decode(ids) for ids in found.encode_batch(lines)] == lines
    told = caplog.text
    assert f"subwords.size: {tight} has room for" in told and f"{len(counts)} characters" in told and "--set data.subwords.size=" in told


def test_a_size_that_is_too_small_is_refused_with_one_that_does() -> None:
    lines = write_lines("Han", characters=1_700, lines=2_000)
    with pytest.raises(UsageError, match=r"subwords\.size: 700 is too small") as refused:
        train_sentencepiece(lines, size=700)
    advised = int(refused.value.remedy.rpartition("=")[2])
    least = int(refused.value.expected.split()[2].rstrip(":"))
    assert train_sentencepiece(lines, size=advised).size <= advised
    assert train_sentencepiece(lines, size=least).size <= least
    with pytest.raises(UsageError):
        train_sentencepiece(lines, size=least - 1)


def test_few_characters_are_all_kept_or_refused_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    lines = write_lines("Latin", characters=26, lines=50)
    with caplog.at_level(logging.WARNING, logger="vitrail"):
        assert train_sentencepiece(lines, size=290).size == 290
    assert not caplog.records
    with pytest.raises(UsageError, match="at least"):
        train_sentencepiece(lines, size=270)


def test_preparing_without_choices_does_not_fail_either(tmp_path: Path) -> None:
    """The default size of `DataConfig`, for two scripts of many characters in one vocabulary."""
    sides = [write_lines(block, characters=9_000, lines=900, seed=number) for number, block in enumerate(("Han", "Hangul"))]
    corpus = corpus_of(tmp_path, sides[0], sides[1])
    holdout = {"dev_pairs": 10, "test_pairs": 10}
    prepared = prepare(DataConfig.model_validate({"corpora": [corpus], "holdout": holdout}), tmp_path / "data")
    assert prepared.vocabularies.joint and prepared.vocabularies.target.size <= SubwordsConfig().size


# ---- professional translations ---------------------------------------------------------------------------------------------------


def read(language: str) -> list[str]:
    assert NTREX is not None
    return (NTREX / f"newstest2019.{language}").read_text(encoding="utf-8").split("\n")[:-1]


def languages() -> list[str]:
    return sorted(path.name.partition(".")[2] for path in NTREX.glob("newstest2019.*")) if NTREX else []


def learn_both_ways(language: str, kind: Literal["bpe", "unigram", "character"], folder: Path) -> None:
    assert NTREX is not None
    sides = {"eng": read("eng"), language: read(language)}
    for source, target in (("eng", language), (language, "eng")):
        corpus = ParallelText(source=NTREX / f"newstest2019.{source}", target=NTREX / f"newstest2019.{target}")
        found = train_vocabularies(sides[source], sides[target], config=chosen(corpus, kind=kind).subwords)
        assert byte_share(found, sides[target]) < 0.01
        back = found.target.encode_batch(sides[target])
        assert [found.target.decode(ids) for ids in back] == [" ".join(filter(None, line.split(" "))) for line in sides[target]]


@pytest.mark.skipif(NTREX is None, reason="no folder shared/data/ntrex above this one")
@pytest.mark.parametrize("language", QUICK)
def test_professional_translations_have_a_vocabulary_that_fits(language: str, tmp_path: Path) -> None:
    learn_both_ways(language, "bpe", tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(NTREX is None, reason="no folder shared/data/ntrex above this one")
@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
@pytest.mark.parametrize("language", languages())
def test_every_language_has_a_vocabulary_that_fits(language: str, kind: Literal["bpe", "unigram", "character"], tmp_path: Path) -> None:
    learn_both_ways(language, kind, tmp_path)
