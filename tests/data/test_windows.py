"""Windows of a text: every token once an epoch, in an order that the seed decides; documents kept apart."""

import numpy as np
import numpy.typing as npt
import pytest

from vitrail.data.windows import Documents, Windows
from vitrail.errors import DataError


class Text:
    """A store of text that was never on disk."""

    def __init__(self, lines: list[list[int]]) -> None:
        self.lines = lines

    def ids(self, role: str) -> npt.NDArray[np.int32]:
        assert role == "text"
        return np.concatenate([np.array(line, dtype=np.int32) for line in self.lines])

    def lengths(self, role: str) -> npt.NDArray[np.int64]:
        assert role == "text"
        return np.array([len(line) for line in self.lines])


def windows(lines: list[list[int]], *, tokens: int = 12, length: int = 4, seed: int = 0, documents: Documents = "file") -> Windows:
    return Windows([Text(lines)], tokens=tokens, length=length, seed=seed, documents=documents)  # pyright: ignore[reportArgumentType]


COUNTED = [list(range(start, start + 10)) for start in range(100, 220, 10)]
"""Lines whose tokens are all different: 120 of them."""


@pytest.mark.parametrize(("length", "tokens"), [(4, 12), (8, 8), (5, 100), (40, 40)])
def test_an_epoch_reads_every_token_once(length: int, tokens: int) -> None:
    ours = windows(COUNTED, tokens=tokens, length=length)
    for epoch in range(3):
        read = np.concatenate([ours.at(epoch, place).tokens.numpy().ravel() for place in range(ours.epoch_length(epoch))])
        assert set(read.tolist()) == set(range(100, 220)) and len(read) < 120 + ours.rows * length
    orders = [ours.at(epoch, 0).tokens.tolist() for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]


def test_what_follows_each_token_is_the_next_one_and_the_end_is_followed_by_the_beginning() -> None:
    ours = windows(COUNTED)
    for number in range(20):
        batch = ours.at(*ours.locate(number))
        assert ((batch.tokens - 100 + 1) % 120 == batch.following - 100).all()


def test_batches_are_a_function_of_seed_and_number() -> None:
    one, other = windows(COUNTED, seed=4), windows(COUNTED, seed=4)
    later = other.sequence(7)
    assert [next(later).tokens.tolist() for _ in range(9)] == [one.at(*one.locate(7 + n)).tokens.tolist() for n in range(9)]
    assert windows(COUNTED, seed=5).at(0, 0).tokens.tolist() != one.at(0, 0).tokens.tolist()


def test_ranks_share_the_batches() -> None:
    ours = windows(COUNTED)
    whole, parts = ours.sequence(3), [ours.sequence(3, rank=rank, world=3) for rank in range(3)]
    for _ in range(4):
        found = {str(next(part).tokens.tolist()) for part in parts}
        assert found == {str(next(whole).tokens.tolist()) for _ in range(3)}


@pytest.mark.parametrize(
    ("documents", "begin"),
    [("file", []), ("line", [2, 4, 5, 9, 10, 12]), ("paragraph", [5, 10, 12])],
)
def test_a_document_begins_with_the_end_of_line_before_it(documents: Documents, begin: list[int]) -> None:
    """2 ends a line; a line of its own is an empty one."""
    lines = [[5, 6, 2], [7, 2], [2], [8, 9, 10, 2], [2], [11, 2]]
    ids = [token for line in lines for token in line]
    ours = windows(lines, tokens=12, length=12, documents=documents)
    for epoch in range(8):
        batch = ours.at(epoch, 0)
        entry = next(k for k in range(13) if (ids[k:] + ids[:k])[:12] == batch.tokens[0].tolist())
        places = [(entry + n) % 13 for n in range(12)]
        changes = [place for place, step in zip(places[1:], batch.documents[0].diff().tolist(), strict=True) if step]
        assert changes == [place for place in places[1:] if place in {*begin, 12}], "the last end of line ends the text"


def test_a_text_shorter_than_a_window_is_refused_with_a_way_out() -> None:
    with pytest.raises(DataError, match="9 tokens of text") as caught:
        windows([[5] * 9], length=9)
    assert "10" in caught.value.expected and caught.value.remedy.endswith("--set model.context=8")
    assert windows([[5] * 9], length=8).at(0, 0).tokens.shape == (1, 8)
