"""Batches: padding, plans, mixtures, ranks and their laws."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data import batches
from vitrail.data.batches import (
    Batch,
    Batches,
    SubwordDropout,
    collate,
    longest,
    pad_rows,
    plan_batches,
    prefetch,
    shares,
    within_max_length,
)
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, Vocabularies, train_sentencepiece
from vitrail.errors import DataError

Lengths = npt.NDArray[np.int32]
MULTI30K = Path(__file__).parents[3] / "shared" / "data" / "multi30k"


def ids(*values: int) -> npt.NDArray[np.int32]:
    return np.array(values, dtype=np.int32)


def corpus_lengths(pairs: int, seed: int = 0) -> tuple[Lengths, Lengths]:
    """Lengths that look like those of real pairs: skewed, and the two sides correlated."""
    generator = np.random.default_rng(seed)
    source = np.maximum(1, generator.gamma(7.0, 2.0, pairs))
    target = np.maximum(1, source * generator.normal(1.1, 0.15, pairs))
    return source.astype(np.int32), target.astype(np.int32)


def test_collate_places_the_special_ids() -> None:
    batch = collate([ids(7, 8, 9), ids(5)], [ids(4), ids(6, 7)])
    assert batch.source.tolist() == [[7, 8, 9, EOS], [5, EOS, PAD, PAD]]
    assert batch.target_in.tolist() == [[SOS, 4, PAD], [SOS, 6, 7]]
    assert batch.target_out.tolist() == [[4, EOS, PAD], [6, 7, EOS]]
    assert {tensor.dtype for tensor in batch} == {torch.int64}


def test_an_empty_side_becomes_its_end_alone() -> None:
    batch = collate([[]], [[]])
    assert (batch.source.tolist(), batch.target_in.tolist(), batch.target_out.tolist()) == ([[EOS]], [[SOS]], [[EOS]])


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(4, 99), max_size=9), min_size=1, max_size=8))
def test_padding_agrees_with_torch(rows: list[list[int]]) -> None:
    expected = torch.nn.utils.rnn.pad_sequence([torch.tensor([*row, EOS]) for row in rows], batch_first=True, padding_value=PAD)
    shifted = torch.nn.utils.rnn.pad_sequence([torch.tensor([SOS, *row]) for row in rows], batch_first=True, padding_value=PAD)
    batch = collate(rows, rows)
    assert torch.equal(pad_rows(rows), expected)
    assert torch.equal(batch.source, expected)
    assert torch.equal(batch.target_out, expected)
    assert torch.equal(batch.target_in, shifted)


pairs_of_lengths = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=120)


@settings(deadline=None)
@given(pairs_of_lengths, st.integers(1, 300), st.integers(0, 2**32), st.integers(0, 5))
def test_a_plan_holds_its_laws(pairs: list[tuple[int, int]], budget: int, seed: int, epoch: int) -> None:
    source, target = np.array(pairs, dtype=np.int32).reshape(-1, 2).T
    made = plan_batches(source, target, budget=budget, seed=seed, epoch=epoch)
    assert sorted(np.concatenate([[], *made]).tolist()) == list(range(len(pairs)))
    for batch in made:
        assert len(batch) > 0
        if len(batch) > 1:
            assert len(batch) * (target[batch].max() + 1) <= budget
            assert len(batch) * (source[batch].max() + 1) <= batches.SOURCE_FACTOR * budget
    again = plan_batches(source, target, budget=budget, seed=seed, epoch=epoch)
    assert [batch.tolist() for batch in made] == [batch.tolist() for batch in again]
    assert len(plan_batches(source, target, budget=budget, seed=seed, epoch=epoch + 1)) == len(made)


def test_epochs_and_seeds_differ_in_order_and_in_composition() -> None:
    source, target = corpus_lengths(3000)
    first, second, other = (plan_batches(source, target, budget=1000, seed=seed, epoch=epoch) for seed, epoch in ((1, 0), (1, 1), (2, 0)))
    compositions = [{frozenset(batch.tolist()) for batch in made} for made in (first, second, other)]
    assert len(compositions[0] & compositions[1]) < 0.1 * len(first)
    assert len(compositions[0] & compositions[2]) < 0.1 * len(first)
    lengths_in_order = [[int(target[batch].max()) for batch in made] for made in (first, second)]
    assert lengths_in_order[0] != lengths_in_order[1]
    assert lengths_in_order[0] != sorted(lengths_in_order[0])


def test_the_plan_is_the_same_on_every_platform() -> None:
    """A golden plan: a run that is resumed elsewhere, or with a later numpy, must see the same order."""
    source, target = ids(3, 1, 4, 1, 5, 9, 2, 6), ids(2, 7, 1, 8, 2, 8, 1, 8)
    made = plan_batches(source, target, budget=20, seed=42, epoch=3)
    assert [batch.tolist() for batch in made] == GOLDEN_PLAN


GOLDEN_PLAN = [[7, 3], [1, 5], [6, 2, 4, 0]]


def test_little_is_padding() -> None:
    source, target = corpus_lengths(20_000)
    made = plan_batches(source, target, budget=4096, seed=1, epoch=0)
    sides = [(lengths + 1, sum(len(batch) * (int(lengths[batch].max()) + 1) for batch in made)) for lengths in (source, target)]
    (source_fill, target_fill) = (float(lengths.sum()) / positions for lengths, positions in sides)
    assert target_fill >= 0.97
    assert source_fill >= 0.85
    assert sum(float(lengths.sum()) for lengths, _ in sides) / sum(positions for _, positions in sides) >= 0.9


def test_fitting_leaves_out_exactly_the_pairs_above_the_limit() -> None:
    source, target = ids(5, 6, 1, 6, 0), ids(5, 1, 6, 6, 0)
    assert within_max_length(source, target, max_length=5).tolist() == [0, 4]
    assert within_max_length(source, target, max_length=6).tolist() == [0, 1, 2, 3, 4]


def test_the_longest_batch_has_the_most_positions() -> None:
    source, target = corpus_lengths(500)
    made = plan_batches(source, target, budget=300, seed=0, epoch=0)
    found = longest(source, target, made)
    sizes = [collate([[9] * int(source[i]) for i in batch], [[9] * int(target[i]) for i in batch]) for batch in made]
    positions = [batch.source.numel() + batch.target_in.numel() for batch in sizes]
    assert positions[found] == max(positions)


@pytest.mark.parametrize("target_length", [50, 51])
def test_a_pair_over_the_budget_stands_alone(target_length: int) -> None:
    source, target = ids(3, 3, 3), ids(4, target_length, 4)
    made = plan_batches(source, target, budget=50, seed=0, epoch=0)
    assert [1] in [batch.tolist() for batch in made]


class Corpus:
    """Pairs in memory whose first source id tells which pair it is."""

    def __init__(self, pairs: int, *, first: int = 10, seed: int = 0) -> None:
        self.source_lengths, self.target_lengths = corpus_lengths(pairs, seed)
        self._first = first

    def __len__(self) -> int:
        return len(self.source_lengths)

    def source(self, index: int) -> npt.NDArray[np.int32]:
        row = np.full(self.source_lengths[index], 5, dtype=np.int32)
        row[0] = self._first + index
        return row

    def target(self, index: int) -> npt.NDArray[np.int32]:
        return np.full(self.target_lengths[index], 6, dtype=np.int32)


def seen(batch: Batch) -> list[int]:
    return batch.source[:, 0].tolist()


def numbers(batches: Batches, first: int, count: int) -> list[list[int]]:
    return [seen(batch) for batch in itertools.islice(batches.sequence(first), count)]


def test_every_epoch_is_every_pair_once() -> None:
    made = Batches([Corpus(400)], budget=300, seed=3, max_length=1000)
    epochs = [[seen(made.at(epoch, position)) for position in range(made.epoch_length(epoch))] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(itertools.chain.from_iterable(epoch)) == list(range(10, 410))
    assert epochs[0] != epochs[1] != epochs[2]
    assert numbers(made, 0, sum(map(len, epochs))) == list(itertools.chain.from_iterable(epochs))


def test_any_batch_can_be_had_at_any_time() -> None:
    """What is asked before must not matter: a resumed training asks only for what is left."""
    corpora = [Corpus(200), Corpus(50, first=1000, seed=1)]
    first, second = (Batches(corpora, budget=300, seed=3, max_length=1000, weights=(1.0, 2.0), temperature=2.0) for _ in range(2))
    in_order = numbers(first, 0, 40)
    assert [numbers(second, number, 1)[0] for number in reversed(range(40))] == in_order[::-1]


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_out_the_same_sequence(world: int) -> None:
    alone = Batches([Corpus(200)], budget=300, seed=3, max_length=1000)
    expected = numbers(alone, 8, 24)
    for start in (8, 9):
        ranks = [
            Batches([Corpus(200)], budget=300, seed=3, max_length=1000).sequence(start, rank=rank, world=world) for rank in range(world)
        ]
        together = [seen(next(ranks[number % world])) for number in range(start, 32)]
        assert together == expected[start - 8 :]


def test_pairs_over_the_limit_are_left_out_and_counted() -> None:
    corpus = Corpus(300)
    limit = 15
    short = (corpus.source_lengths <= limit) & (corpus.target_lengths <= limit)
    made = Batches([corpus], budget=300, seed=0, max_length=limit)
    assert made.left_out == 300 - int(short.sum()) > 0
    epoch = itertools.chain.from_iterable(numbers(made, 0, made.epoch_length(0)))
    assert sorted(epoch) == (10 + np.flatnonzero(short)).tolist()
    with pytest.raises(DataError):
        Batches([corpus], budget=300, seed=0, max_length=0)


def test_the_longest_can_be_asked_for() -> None:
    made = Batches([Corpus(300)], budget=300, seed=0, max_length=1000)
    sizes = [made.at(0, position).source.numel() + made.at(0, position).target_in.numel() for position in range(made.epoch_length(0))]
    longest_batch = made.longest()
    assert longest_batch.source.numel() + longest_batch.target_in.numel() == max(sizes)


def test_shares_follow_the_formula() -> None:
    assert shares([900, 100], [1.0, 1.0], temperature=1.0) == [900, 100]
    assert shares([900, 100], [1.0, 9.0], temperature=1.0) == [500, 500]
    assert shares([900, 100], [1.0, 1.0], temperature=1e9) == [500, 500]
    assert shares([900, 100], [1.0, 1.0], temperature=2.0) == [750, 250]
    assert shares([900, 100], [0.0, 1.0], temperature=1.0) == [0, 1000]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0.01, 100)), min_size=1, max_size=5), st.floats(0.5, 10))
def test_shares_sum_to_the_epoch(corpora: list[tuple[int, float]], temperature: float) -> None:
    sizes, weights = zip(*corpora, strict=True)
    counts = shares(sizes, weights, temperature=temperature)
    assert sum(counts) == sum(sizes)
    assert min(counts) >= 0


def test_a_mixture_deals_each_corpus_evenly() -> None:
    """200 and 50 pairs at temperature 2: 167 and 83 an epoch, so that after some epochs each pair was seen nearly equally often."""
    corpora = [Corpus(200), Corpus(50, first=1000, seed=1)]
    made = Batches(corpora, budget=300, seed=3, max_length=1000, temperature=2.0)
    large, small = Counter[int](), Counter[int]()
    for epoch in range(4):
        drawn = list(itertools.chain.from_iterable(seen(made.at(epoch, position)) for position in range(made.epoch_length(epoch))))
        assert sum(number < 1000 for number in drawn) == 167
        assert len(drawn) == 250
        large.update(number for number in drawn if number < 1000)
        small.update(number for number in drawn if number >= 1000)
    assert len(large) == 200
    assert len(small) == 50
    assert max(large.values()) - min(large.values()) <= 1
    assert max(small.values()) - min(small.values()) <= 1


def test_batches_are_segmented_anew_each_epoch() -> None:
    texts = [f"lanterns and {word} float down" for word in ("barges", "feathers", "paper swans", "corks")] * 5
    subwords = train_sentencepiece(texts, size=330)
    encoded = [np.array(ids, dtype=np.int32) for ids in subwords.encode_batch(texts)]

    class Encoded:
        source_lengths = target_lengths = np.array([len(ids) for ids in encoded], dtype=np.int32)

        def __len__(self) -> int:
            return len(encoded)

        def source(self, index: int) -> npt.NDArray[np.int32]:
            return encoded[index]

        target = source

    dropped = SubwordDropout(Vocabularies(subwords, subwords, joint=True), 0.3)
    made, again = (Batches([Encoded()], budget=50, seed=1, max_length=99, collate=dropped) for _ in range(2))
    plain = Batches([Encoded()], budget=50, seed=1, max_length=99)
    assert made.epoch_length(0) == plain.epoch_length(0)
    changed = 0
    for position in range(made.epoch_length(0)):
        batch = made.at(0, position)
        assert all(torch.equal(a, b) for a, b in zip(batch, again.at(0, position), strict=True))
        expected = plain.at(0, position)
        for row, plain_row in zip(batch.source.tolist(), expected.source.tolist(), strict=True):
            assert subwords.decode(row) == subwords.decode(plain_row)
            changed += [id for id in row if id] != [id for id in plain_row if id]
    assert changed > 5
    first, second = made.at(0, 0), made.at(0, 0)
    assert torch.equal(first.source, second.source)


def test_prefetch_keeps_order_and_makes_no_more_than_its_depth_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    for number in (ahead := prefetch(items(), depth=2)):
        assert len(made) <= number + 3
        if number == 20:
            ahead.close()
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())
    assert list(prefetch(range(50))) == list(range(50))
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())


def test_prefetch_raises_what_its_source_raises_after_what_came_before() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise DataError("the store is damaged")

    got: list[int] = []
    with pytest.raises(DataError, match="damaged"):
        got.extend(prefetch(items()))
    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(DataError):
        next(ahead)
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())


@pytest.mark.skipif(not MULTI30K.is_dir(), reason="the Multi30k corpus is not here")
def test_padding_on_multi30k_is_under_a_tenth() -> None:
    sides = [(MULTI30K / f"train.{language}").read_text(encoding="utf-8").split("\n")[:-1] for language in ("en", "fr")]
    vocabulary = train_sentencepiece(itertools.chain(*sides), size=8000)
    source, target = (np.array([len(row) for row in vocabulary.encode_batch(side)], dtype=np.int32) for side in sides)
    real = cells = 0
    for chosen in plan_batches(source, target, budget=4096, seed=1, epoch=3):
        for lengths in (source[chosen] + 1, target[chosen] + 1):
            real += int(lengths.sum())
            cells += len(lengths) * int(lengths.max())
    assert real / cells > 0.90
