"""Pairs of words: counted right whatever the memory, shuffled the same way each time, and whole or not there at all."""

import dataclasses
import errno
import os
import tempfile
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from vitrail import files
from vitrail.errors import DataError, UsageError
from vitrail.files import Damaged, FileSystem, FolderLock, NotWritten
from vitrail.vectors.training.cooccurrence import CountedPairs, Counting, count_pairs, open_pairs

TINY = Counting(window=5, memory_bytes=1 << 13, block_pairs=100)
"""A table of 292 places."""


def encoded(lines: list[list[int]]) -> np.ndarray:
    return np.array([number for line in lines for number in (*line, -1)], np.int32)


def naive(lines: list[list[int]], *, window: int, flat: bool = False) -> dict[tuple[int, int], float]:
    """Every place of every line against every other."""
    counts: dict[tuple[int, int], Fraction] = defaultdict(Fraction)
    for line in lines:
        for place, word in enumerate(line):
            for other, context in enumerate(line):
                if 0 < abs(place - other) <= window:
                    counts[word, context] += 1 if flat else Fraction(1, abs(place - other))
    return {pair: float(count) for pair, count in counts.items()}


def counted(pairs: CountedPairs) -> dict[tuple[int, int], float]:
    """The pairs of all blocks, each of which must be there once."""
    found: dict[tuple[int, int], float] = {}
    for number in range(pairs.blocks):
        for word, context, weight in zip(*(array.tolist() for array in pairs.block(number)), strict=True):
            assert (word, context) not in found
            found[word, context] = weight
    assert len(found) == pairs.total
    return found


def some_lines(*, words: int = 200, lines: int = 120, seed: int = 0) -> list[list[int]]:
    """Frequent and rare words in lines of 0 to 40."""
    generator = np.random.default_rng(seed)
    return [(generator.random(generator.integers(0, 41)) ** 2 * words).astype(int).tolist() for _ in range(lines)]


@settings(max_examples=25)
@given(
    lines=st.lists(st.lists(st.integers(0, 30), max_size=40), min_size=1, max_size=20),
    window=st.integers(1, 60),
    flat=st.booleans(),
    block_pairs=st.sampled_from([1, 7, 1000]),
)
def test_pairs_are_those_of_a_naive_count(lines: list[list[int]], window: int, flat: bool, block_pairs: int) -> None:
    right = naive(lines, window=window, flat=flat)
    counting = Counting(window=window, flat=flat, memory_bytes=1 << 16, block_pairs=block_pairs)
    with tempfile.TemporaryDirectory() as folder:
        if not right:
            with pytest.raises(DataError, match="no two words stand in one line"):
                count_pairs(encoded(lines), folder=Path(folder, "pairs"), vocabulary=31, counting=counting)
            return
        found = counted(count_pairs(encoded(lines), folder=Path(folder, "pairs"), vocabulary=31, counting=counting))
    assert found.keys() == right.keys()
    np.testing.assert_allclose([found[pair] for pair in right], list(right.values()), rtol=2e-7)


@pytest.mark.parametrize("window", [1, 5, 100])
def test_many_spills_change_nothing(tmp_path: Path, window: int) -> None:
    lines = some_lines()
    right = naive(lines, window=window)
    counting = dataclasses.replace(TINY, window=window, memory_bytes=1 << 14)
    half = sum(word <= context for word, context in right)
    assert window == 1 or half > 4 * (counting.memory_bytes // 28), "too small for several spills"
    found = counted(count_pairs(encoded(lines), folder=tmp_path / "pairs", vocabulary=200, counting=counting))
    assert found.keys() == right.keys()
    np.testing.assert_allclose([found[pair] for pair in right], list(right.values()), rtol=2e-7)


def test_bytes_depend_on_text_and_seed_but_not_on_memory(tmp_path: Path) -> None:
    tokens = encoded(some_lines())
    memory = (1 << 13, 1 << 14, 1 << 24)
    told = [dataclasses.replace(TINY, memory_bytes=size) for size in memory] + [dataclasses.replace(TINY, memory_bytes=1 << 24, seed=2)]
    folders = [tmp_path / str(number) for number in range(len(told))]
    made = [count_pairs(tokens, folder=folder, vocabulary=200, counting=counting) for folder, counting in zip(folders, told, strict=True)]
    same, *others, reseeded = [(folder / "pairs.bin").read_bytes() for folder in folders]
    assert [same] * len(others) == others
    assert reseeded != same and counted(made[-1]) == counted(made[0])


def test_a_text_in_a_file_and_an_opened_folder_are_the_same(tmp_path: Path) -> None:
    tokens = encoded(some_lines())
    (tmp_path / "tokens").write_bytes(tokens.tobytes())
    mapped = np.memmap(tmp_path / "tokens", dtype="<i4", mode="r")
    told: list[int] = []
    made = count_pairs(mapped, folder=tmp_path / "pairs", vocabulary=200, counting=TINY, progress=told.append)
    assert told == sorted(told) and told[-1] == len(tokens)
    assert open_pairs(tmp_path / "pairs") == made
    assert [*made.block(3)[2]] == [*made.block(3)[2]]


def test_blocks_are_even_shuffled_and_in_groups_of_words(tmp_path: Path) -> None:
    pairs = count_pairs(
        encoded(some_lines()),
        folder=tmp_path / "pairs",
        vocabulary=200,
        counting=dataclasses.replace(TINY, block_pairs=1000, memory_bytes=1 << 16),
    )
    blocks = [pairs.block(number) for number in range(pairs.blocks)]
    sizes = [len(block.words) for block in blocks]
    assert len(blocks) == -(-pairs.total // 1000) and max(sizes) - min(sizes) <= 1
    for block in blocks:
        assert block.words.dtype == block.contexts.dtype == np.int32 and block.weights.dtype == np.float32
        firsts = block.words[np.concatenate([[True], block.words[1:] != block.words[:-1]])]
        assert len(firsts) == len(np.unique(firsts)), "a word's pairs stand together"
        assert abs(np.corrcoef(np.arange(len(firsts)), firsts)[0, 1]) < 0.35, "words in no order"
        largest = block.contexts[block.words == firsts[np.bincount(block.words)[firsts].argmax()]]
        assert (np.diff(largest) < 0).sum() > len(largest) / 4, "contexts in no order"
    shares = np.array([np.bincount(block.words, minlength=200) for block in blocks])
    shares = shares[:, shares.sum(axis=0) > 0]
    means = shares.mean(axis=0)
    assert ((shares - means) ** 2 / means).sum() < (len(blocks) - 1) * len(means), (
        "every block has its part of every word, at least as evenly as by chance"
    )


@pytest.mark.parametrize("text", [[], [[]], [[0]], [[0], [1], [2]]], ids=["empty", "empty line", "one word", "lines of one word"])
def test_a_text_without_pairs_is_refused(tmp_path: Path, text: list[list[int]]) -> None:
    with pytest.raises(DataError, match="no two words stand in one line"):
        count_pairs(encoded(text), folder=tmp_path / "pairs", vocabulary=3, counting=TINY)
    assert list(tmp_path.iterdir()) == []


def test_a_word_beside_itself_and_every_word_once(tmp_path: Path) -> None:
    again = count_pairs(encoded([[0, 0, 0]]), folder=tmp_path / "again", vocabulary=1, counting=TINY)
    assert counted(again) == {(0, 0): 5.0}  # 1 + 1 + 1/2, from both sides
    once = count_pairs(
        np.arange(6, dtype=np.int32),
        folder=tmp_path / "once",
        vocabulary=6,
        counting=dataclasses.replace(TINY, window=10_000, memory_bytes=1 << 20),
    )
    assert counted(once) == {(i, j): np.float32(1 / abs(i - j)) for i in range(6) for j in range(6) if i != j}


@pytest.mark.slow
def test_counts_above_what_float32_can_count(tmp_path: Path) -> None:
    """Sums in float32 would stay at 2^24."""
    tokens = np.tile(np.array([0, 1, -1], np.int32), 2**24 + 6)
    pairs = count_pairs(tokens, folder=tmp_path / "pairs", vocabulary=2, counting=TINY)
    assert counted(pairs) == {(0, 1): 2**24 + 6, (1, 0): 2**24 + 6}


@pytest.mark.parametrize("number", [-2, 3, 2**31 - 1, -(2**31)])
def test_numbers_that_are_no_words_are_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(DataError, match=f"has the number {number} near token") as caught:
        count_pairs(encoded([[0, 1], [2, number, 1]]), folder=tmp_path / "pairs", vocabulary=3, counting=TINY)
    assert "words 0 to 2" in caught.value.expected and caught.value.remedy


@pytest.mark.parametrize("wrong", [{"window": 0}, {"window": 10_001}, {"block_pairs": 0}, {"memory_bytes": 1000}, {"block_pairs": 1 << 20}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError) as caught:
        dataclasses.replace(TINY, **wrong)
    assert caught.value.expected
    if "memory_bytes" in wrong or wrong == {"block_pairs": 1 << 20}:
        assert "bytes of memory for counting pairs" in str(caught.value) and "at least" in caught.value.expected


def test_whatever_write_fails_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, real, numbers = encoded(some_lines(lines=8)), FileSystem(), 0
    counting = dataclasses.replace(TINY, block_pairs=128)
    for fails_at in range(1, 1000):
        calls = iter(range(1, 10**9))

        def write(descriptor: int, data: memoryview, calls: object = calls, fails_at: int = fails_at) -> int:
            if next(calls) == fails_at:  # type: ignore[call-overload]
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real.write(descriptor, data)

        monkeypatch.setattr(files.system, "SYSTEM", dataclasses.replace(real, write=write))
        try:
            count_pairs(tokens, folder=tmp_path / "pairs", vocabulary=200, counting=counting)
            break
        except NotWritten as error:
            assert "No space left" in str(error) and "bytes free" in str(error)
            assert list(tmp_path.iterdir()) == []
            numbers += 1
    monkeypatch.setattr(files.system, "SYSTEM", real)
    assert numbers > 10 and counted(open_pairs(tmp_path / "pairs")) == pytest.approx(naive(some_lines(lines=8), window=5), rel=2e-7)


def test_after_an_interrupt_the_earlier_pairs_are_there(tmp_path: Path) -> None:
    made = count_pairs(encoded(some_lines()), folder=tmp_path / "pairs", vocabulary=200, counting=TINY)

    def interrupt(read: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count_pairs(encoded(some_lines(seed=1)), folder=tmp_path / "pairs", vocabulary=200, counting=TINY, progress=interrupt)
    assert [entry.name for entry in tmp_path.iterdir()] == ["pairs"] and open_pairs(tmp_path / "pairs") == made


def test_what_a_killed_count_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "pairs-runs.vitrail-tmp-99999999").write_bytes(b"half")
    with FolderLock(tmp_path):
        assert not list(tmp_path.glob("*tmp*"))


def test_foreign_and_damaged_folders(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="did not write"):
        count_pairs(encoded(some_lines()), folder=tmp_path / "foreign", vocabulary=200, counting=TINY)
    count_pairs(encoded(some_lines()), folder=tmp_path / "pairs", vocabulary=200, counting=TINY)
    data = bytearray((tmp_path / "pairs" / "pairs.bin").read_bytes())
    data[100] ^= 1
    (tmp_path / "pairs" / "pairs.bin").write_bytes(data)
    with pytest.raises(Damaged, match=r"pairs\.bin"):
        open_pairs(tmp_path / "pairs")
