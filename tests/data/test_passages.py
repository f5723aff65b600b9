"""Passages of a text: lines, or neighbouring ones together, every token in one of them."""

import numpy as np
import numpy.typing as npt
import pytest

from vitrail.data.examples.passages import Passages
from vitrail.data.vocabularies.subwords import EOS
from vitrail.data.windows import Documents
from vitrail.errors import DataError


class Text:
    """A store of text that was never on disk."""

    def __init__(self, lines: list[list[int]]) -> None:
        self.lines = [[*line, EOS] for line in lines]

    def ids(self, role: str) -> npt.NDArray[np.int32]:
        assert role == "text"
        return np.concatenate([np.array(line, dtype=np.int32) for line in self.lines])

    def lengths(self, role: str) -> npt.NDArray[np.int64]:
        assert role == "text"
        return np.array([len(line) for line in self.lines])


def passages(*texts: list[list[int]], length: int = 8, documents: Documents = "line") -> list[list[int]]:
    made = Passages([Text(lines) for lines in texts], length=length, documents=documents)  # pyright: ignore[reportArgumentType]
    assert made.source_lengths.tolist() == [len(made.source(place)) for place in range(len(made))] == made.target_lengths.tolist()
    return [made.source(place).tolist() for place in range(len(made))]


def test_each_line_is_a_passage_and_a_long_one_several() -> None:
    assert passages([[5, 6], [], [7]], [[8]]) == [[5, 6], [7], [8]]
    assert passages([list(range(10, 27)), [9]]) == [list(range(10, 16)), list(range(16, 21)), list(range(21, 27)), [9]]


def test_lines_of_a_document_are_read_together_as_far_as_they_fit() -> None:
    assert passages([[5, 6], [7], [8, 9, 10], [11]], [[12]], documents="file") == [[5, 6, EOS, 7, EOS, 8, 9, 10], [11], [12]]
    assert passages([[5], [6], [], [7], [8]], documents="paragraph") == [[5, EOS, 6], [7, EOS, 8]]


@pytest.mark.parametrize("documents", ["line", "paragraph", "file"])
@pytest.mark.parametrize("length", [1, 2, 5, 64])
def test_every_token_is_in_one_passage(documents: Documents, length: int) -> None:
    draw = np.random.default_rng(length)
    next_token = iter(range(10, 10_000))
    texts = [[[next(next_token) for _ in range(draw.integers(0, 12))] for _ in range(30)] for _ in range(2)]
    found = passages(*texts, length=length, documents=documents)
    assert all(0 < len(row) <= length for row in found)
    assert [token for row in found for token in row if token != EOS] == [token for text in texts for line in text for token in line]


def test_a_text_without_tokens_is_refused() -> None:
    with pytest.raises(DataError, match="no line of the text holds anything"):
        passages([[], []])
