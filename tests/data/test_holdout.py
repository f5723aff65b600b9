"""Dev and test share no sentence with train, whatever the order of the file; every pair has one role."""

import json
import random
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.preparing.holdout import HeldOut, HoldoutConfig, Overlap, Split, SplitRole, held_out, sentence_key, split
from vitrail.data.reading.parallel_text import SentencePair
from vitrail.errors import DataError

few_words = st.integers(0, 30).map(lambda n: f"sentence number {n}")
corpora = st.lists(st.tuples(few_words, few_words), min_size=1, max_size=60)


def pairs_of(sides: list[tuple[str, str]]) -> list[SentencePair]:
    return [SentencePair(source, target, line) for line, (source, target) in enumerate(sides, 1)]


def corpus(size: int) -> list[SentencePair]:
    return pairs_of([(f"The house number {n} is old.", f"La maison numéro {n} est vieille.") for n in range(size)])


def texts(divided: Split, pairs: list[SentencePair], role: SplitRole) -> set[tuple[str, str]]:
    return {(pair.source, pair.target) for pair in divided.select(pairs, role=role)}


def admitted(train: list[SentencePair], held: HeldOut, report: Overlap) -> list[SentencePair]:
    found = [(pair, sentence_key(pair.source) in held.sources, sentence_key(pair.target) in held.targets) for pair in train]
    return [pair for pair, source, target in found if report.keeps(lambda pair=pair: pair, by_source=source, by_target=target)]


# --- laws ----------------------------------------------------------------------------------------------------------------------


@given(sides=corpora, dev=st.integers(0, 4), test=st.integers(0, 4))
@settings(deadline=None)
def test_no_sentence_is_shared_between_parts(sides: list[tuple[str, str]], dev: int, test: int) -> None:
    pairs = pairs_of(sides)
    try:
        divided = split(pairs, config=HoldoutConfig(dev_pairs=dev, test_pairs=test))
    except DataError:
        return
    assert divided.count(SplitRole.DEV) == dev
    assert divided.count(SplitRole.TEST) == test
    assert sum(divided.count(role) for role in SplitRole) == len(pairs)
    parts = {role: texts(divided, pairs, role) for role in (SplitRole.TRAIN, SplitRole.DEV, SplitRole.TEST)}
    assert parts[SplitRole.TRAIN]
    for one, other in ((SplitRole.TRAIN, SplitRole.DEV), (SplitRole.TRAIN, SplitRole.TEST), (SplitRole.DEV, SplitRole.TEST)):
        for side in (0, 1):
            assert not {pair[side] for pair in parts[one]} & {pair[side] for pair in parts[other]}
    held = parts[SplitRole.DEV] | parts[SplitRole.TEST]
    for source, target in texts(divided, pairs, SplitRole.REMOVED):  # nothing is removed without cause
        assert source in {s for s, _ in held} or target in {t for _, t in held}


@given(sides=corpora, seed=st.integers(0, 99))
@settings(deadline=None)
def test_the_order_of_the_file_does_not_matter(sides: list[tuple[str, str]], seed: int) -> None:
    pairs, config = pairs_of(sides), HoldoutConfig(dev_pairs=2, test_pairs=2)
    shuffled = list(pairs)
    random.Random(seed).shuffle(shuffled)
    try:
        divided = split(pairs, config=config)
    except DataError:
        with pytest.raises(DataError):
            split(shuffled, config=config)
        return
    again = split(shuffled, config=config)
    for role in (SplitRole.TRAIN, SplitRole.DEV, SplitRole.TEST):
        assert texts(divided, pairs, role) == texts(again, shuffled, role)


@given(train=corpora, given_text=corpora)
@settings(deadline=None)
def test_overlap_is_removed_and_counted(train: list[tuple[str, str]], given_text: list[tuple[str, str]]) -> None:
    report = Overlap()
    kept = admitted(pairs_of(train), held_out(pairs_of(given_text)), report)
    sources, targets = {s for s, _ in given_text}, {t for _, t in given_text}
    assert [(pair.source, pair.target) for pair in kept] == [(s, t) for s, t in train if s not in sources and t not in targets]
    assert report.by_both == sum(s in sources and t in targets for s, t in train)
    assert report.by_source == sum(s in sources and t not in targets for s, t in train)
    assert report.total == len(train) == report.kept + report.by_source + report.by_target + report.by_both


@given(text=st.text(max_size=50))
@settings(deadline=None)
def test_keys_do_not_see_case_or_outer_space(text: str) -> None:
    assert sentence_key(f"  {text} ") == sentence_key(text)
    assert 0 <= sentence_key(text) < 2**64


# --- examples ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Oui.", "oui\u202f!"),
        ("C'est toi ?", "C\u2019EST  TOI"),
        ("caf\u00e9", "cafe\u0301"),
        ("Straße", "STRASSE..."),
        ("ＡＢＣ！", "abc"),
        ("雨です。", "雨です"),
    ],
)
def test_the_same_words_have_the_same_key(one: str, other: str) -> None:
    assert sentence_key(one) == sentence_key(other)


@pytest.mark.parametrize(("one", "other"), [("Oui", "Non"), ("a b", "ab"), ("été", "ete"), ("?", "!"), ("", "."), ("1.5", "15")])
def test_other_words_have_another_key(one: str, other: str) -> None:
    assert sentence_key(one) != sentence_key(other)


def test_the_key_is_the_same_on_every_machine() -> None:
    assert sentence_key("Oui.") == 5259686588706167709 == int.from_bytes(blake2b(b"oui", digest_size=8).digest(), "little")


def test_sizes_follow_the_corpus() -> None:
    for size, expected in ((3, 1), (100, 4), (2_000, 80), (26_000, 1_000)):
        divided = split(corpus(size), config=HoldoutConfig())
        assert (divided.count(SplitRole.DEV), divided.count(SplitRole.TEST), divided.count(SplitRole.REMOVED)) == (expected, expected, 0)
    divided = split(corpus(50), config=HoldoutConfig(dev_pairs=0, test_pairs=0))
    assert divided.count(SplitRole.TRAIN) == 50


def test_the_choice_is_pinned() -> None:
    divided = split(corpus(40), config=HoldoutConfig(dev_pairs=2, test_pairs=2))
    assert [int(place) for place in np.flatnonzero(divided.roles)] == [8, 18, 19, 29]


def test_several_translations_of_a_held_out_sentence_leave_train() -> None:
    pairs = pairs_of([(f"Source {n % 20}", f"Cible {n}") for n in range(100)])
    divided = split(pairs, config=HoldoutConfig(dev_pairs=1, test_pairs=1))
    assert [divided.count(role) for role in SplitRole] == [90, 1, 1, 8]
    assert "8 removed" in divided.to_text()
    assert json.loads(divided.to_json()) == {"train": 90, "dev": 1, "test": 1, "removed": 8}


@pytest.mark.parametrize(
    "pairs", [[], corpus(1), corpus(2), pairs_of([("same", f"t{n}") for n in range(50)])], ids=["none", "1", "2", "alike"]
)
def test_too_little_text_is_refused(pairs: list[SentencePair]) -> None:
    with pytest.raises(DataError, match="too few, or too alike") as caught:
        split(pairs, config=HoldoutConfig())
    assert "dev_pairs" in caught.value.remedy


def test_selecting_from_another_text_is_refused() -> None:
    divided = split(corpus(30), config=HoldoutConfig())
    for other in (corpus(29), corpus(31)):
        with pytest.raises(DataError, match="30 were split"):
            list(divided.select(other, role=SplitRole.TRAIN))


def test_an_empty_side_of_a_given_test_matches_nothing() -> None:
    report = Overlap()
    train = pairs_of([("", "Bonjour"), ("Hello", "Salut")])
    kept = admitted(train, held_out(pairs_of([("", "x"), ("hello!", "")])), report)
    assert [pair.line for pair in kept] == [1]
    assert "1 of 2" in report.to_text()
    assert json.loads(report.to_json())["examples"] == [[2, "Hello", "Salut"]]
