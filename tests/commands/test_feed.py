"""Lines come out as they went in, no more are held than a few, and what is too long is known."""

import time
from pathlib import Path

import pytest

from vitrail.commands.shared import line_reader
from vitrail.commands.shared.line_reader import LineReader
from vitrail.commands.shared.progress import count_lines
from vitrail.errors import DataError


@pytest.mark.parametrize("lines", [[], [""], ["a"], ["a", "", "\u2028 b\x85\f\t"], [str(number) for number in range(5000)]])
def test_every_line_comes_once_in_order(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "in"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    one = LineReader(path)
    portions = list(one.portions())
    assert [line for portion in portions for line in portion] == lines
    assert all(portions) and max(map(len, portions), default=0) <= 1024
    assert one.cut == [] and not one.unanswered(len(lines))
    assert not lines or one.unanswered(len(lines) - 1)
    assert count_lines(path) == len(lines)


def test_a_line_that_is_cut_is_known(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"first\n" + b"x" * (1 << 20) + b"yz\nlast")
    one = LineReader(path)
    lines = [line for portion in one.portions() for line in portion]
    assert [len(line) for line in lines] == [5, 1 << 20, 4]
    assert one.cut == [2]
    assert count_lines(path) == 3


@pytest.mark.parametrize(
    ("text", "language", "encoding"),
    [
        ("L'été, où es-tu allée ?", "fr", "latin1"),
        ("Кошка спит на старом диване.", "ru", "windows-1251"),
        ("猫は古いソファの上で寝ています。", "ja", "shift-jis"),
    ],
)
def test_lines_that_are_not_utf8_are_known(tmp_path: Path, text: str, language: str, encoding: str) -> None:
    path = tmp_path / "in"
    path.write_bytes("Ünïcode é\n".encode() + f"{text}\n".encode(encoding) + b"plain\n" + f"{text}\n".encode(encoding) + text.encode())
    one = LineReader(path)
    assert len([line for portion in one.portions() for line in portion]) == 5
    assert one.not_utf8 == [2, 4]
    assert one.cure(language=language) == f"iconv -f {encoding} -t UTF-8 {path} > new-file"


def test_lines_that_are_utf8_are_not_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_text("a\n\ufffd \ue000 \U0010ffff é नमस्ते 你好\n", encoding="utf-8")
    one = LineReader(path)
    list(one.portions())
    assert one.not_utf8 == []


def test_long_lines_are_not_all_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in characters, whoever is slow: a queue of so many lines held gigabytes."""
    monkeypatch.setattr(line_reader, "MOST_HELD", 50_000)
    path = tmp_path / "in"
    path.write_text(("x" * 20_000 + "\n") * 200)
    one = LineReader(path)
    seen = 0
    for portion in one.portions():
        seen += len(portion)
        time.sleep(0.01)
        assert sum(map(len, one._waiting)) <= 50_000 + 20_000  # pyright: ignore[reportPrivateUsage]
    assert seen == 200


def test_what_cannot_be_read_is_told_after_the_lines_before(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(LineReader(tmp_path / "none").portions())
    assert count_lines(tmp_path / "none") is None
    (tmp_path / "a.gz").write_bytes(b"")
    assert count_lines(tmp_path / "a.gz") is None
