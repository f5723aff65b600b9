"""What preparation drops is said, with an example and a cure; much of it loudly."""

from pathlib import Path
from typing import Any

import pytest
from invented import LANGUAGES, LATIN, parallel, spoil, truncated

from vitrail.data.cleaning.filters import Reason
from vitrail.data.cleaning.left_out import describe_dropped
from vitrail.data.preparing.holdout import HoldoutConfig
from vitrail.data.preparing.prepare import DataConfig, prepare
from vitrail.data.preparing.prepared import NEIGHBOUR, OVERLAP, TOO_LONG
from vitrail.data.reading.encodings import guess_encoding
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.vocabularies.subwords import SubwordsConfig
from vitrail.errors import DataError

TEXTS = {
    "latin1": ("fr", "latin-1", "Où est passé l'élève ? Là-bas, à côté du château. Garçon, un café très chaud !"),
    "windows-1250": ("pl", "cp1250", "Zażółć gęślą jaźń. Źdźbło trawy rośnie obok kościoła."),
    "windows-1251": ("ru", "cp1251", "Кошка спит на столе. Сегодня хорошая погода."),
    "koi8-r": ("ru", "koi8-r", "Кошка спит на столе. Сегодня хорошая погода."),
    "windows-1253": ("el", "cp1253", "Η γάτα κοιμάται πάνω στο τραπέζι."),
    "windows-1256": ("ar", "cp1256", "القطة تنام على الطاولة في البيت."),
    "tis-620": ("th", "cp874", "แมวนอนอยู่บนโต๊ะในบ้าน"),
    "shift-jis": ("ja", "cp932", "猫はテーブルの上で寝ています。"),
    "euc-jp": ("ja", "euc-jp", "猫はテーブルの上で寝ています。"),
    "gb18030": ("zh", "gb18030", "我们的猫在桌子上睡了一个下午，他说这是好的。"),
    "big5": ("zh", "big5", "我們的貓在桌子上睡了一個下午，他說這是好的。"),
    "euc-kr": ("ko", "euc-kr", "고양이가 식탁 위에서 자고 있습니다."),
}
ALONE = ("latin1", "windows-1251", "koi8-r", "windows-1253", "windows-1256", "tis-620", "shift-jis", "euc-jp", "gb18030", "big5", "euc-kr")


@pytest.mark.parametrize("name", TEXTS)
def test_an_encoding_is_guessed_from_its_lines(name: str) -> None:
    language, codec, text = TEXTS[name]
    lines = [text.encode(codec)] * 3
    assert guess_encoding(lines, language=language) == name
    if name in ALONE:
        assert guess_encoding(lines) == name


def test_quotation_marks_of_windows_are_told_from_latin_1() -> None:
    assert guess_encoding(["Il a dit : “où est l’été ?”".encode("cp1252")]) == "windows-1252"


def test_noise_is_no_encoding() -> None:
    assert guess_encoding([]) == ""
    assert guess_encoding([b"plain"]) == ""
    assert guess_encoding([bytes(range(128, 256))] * 3) == ""


def write(folder: Path, sides: tuple[list[bytes], list[bytes]]) -> ParallelText:
    for name, lines in zip(("a.en", "a.fr"), sides, strict=True):
        (folder / name).write_bytes(b"".join(line + b"\n" for line in lines))
    return ParallelText(source=folder / "a.en", target=folder / "a.fr")


def prepared(corpus: ParallelText, folder: Path, **more: Any) -> list[str]:
    said: list[str] = []
    settings: dict[str, Any] = {"subwords": SubwordsConfig(size=400), "holdout": HoldoutConfig(dev_pairs=2, test_pairs=0)} | more
    config = DataConfig(corpora=(corpus,), **settings)
    result = prepare(config, folder / "out", workers=1, say=said.append)
    told = list(describe_dropped(result.report.details, config))
    assert said[len(said) - len(told) :] == told
    assert prepare(config, folder / "out", workers=1, say=said.append).digest == result.digest
    assert [line for line in said[-len(told) :] if line in told] == [line for line in told if line.startswith("WARNING")], "told again"
    return told


def test_latin_1_is_told_with_the_command_that_cures_it(tmp_path: Path) -> None:
    english = [f"The number {number} of the house over there is red.".encode() for number in range(100)]
    french = [f"Le numéro {number} de cette maison-là est rouge.".encode("utf-8" if number > 29 else "latin-1") for number in range(100)]
    told = prepared(write(tmp_path, (english, french)), tmp_path)
    assert len(told) == 2
    assert "dropped 30 of 100 pairs (30.0%): bytes that are not UTF-8, such as line 1: The number 0 of the house" in told[0]
    assert r"Le num\xe9ro 0 de cette maison-l\xe0 es…" in told[0]
    assert f"iconv -f latin1 -t utf-8 {tmp_path / 'a.fr'} > a-utf8.fr" in told[0]
    assert told[1].startswith("WARNING") and "30%" in told[1]


def test_a_text_that_is_not_utf_8_at_all_is_refused_with_the_cure(tmp_path: Path) -> None:
    russian = [f"Дом номер {number} там красный.".encode("koi8-r") for number in range(20)]
    with pytest.raises(DataError, match="iconv -f koi8-r"):
        prepared(write(tmp_path, ([f"House number {number} is red.".encode() for number in range(20)], russian)), tmp_path)


def test_few_drops_are_told_quietly_and_none_not_at_all(tmp_path: Path) -> None:
    good = parallel(LATIN, LANGUAGES[0], count=200)
    few, _ = spoil(good, truncated, share=0.05)
    for pairs, lines in ((good, 0), (few, 1)):
        sides = ([pair.source.encode() for pair in pairs], [pair.target.encode() for pair in pairs])
        told = prepared(write(tmp_path, sides), tmp_path)
        assert len(told) == lines and not any(line.startswith("WARNING") for line in told)
    assert "do the lines" in told[0] or "still match" in told[0]


def test_unknown_words_are_told(tmp_path: Path) -> None:
    pairs = parallel(LATIN, LANGUAGES[0], count=200)
    corpus = write(tmp_path, ([pair.source.encode() for pair in pairs], [pair.target.encode() for pair in pairs]))
    told = prepared(corpus, tmp_path, subwords=SubwordsConfig(kind="word", size=200))
    assert len(told) == 1 and told[0].startswith("WARNING") and "unknown to the vocabulary" in told[0]
    assert "tokens are unknown" in (tmp_path / "out" / "report.txt").read_text()
    few = prepared(corpus, tmp_path, subwords=SubwordsConfig(kind="word", size=4000))
    assert len(few) == 1 and "0.0% of its tokens are unknown" in few[0]


def test_every_reason_is_explained(tmp_path: Path) -> None:
    corpus = write(tmp_path, ([b"a"], [b"b"]))
    reasons = [*(reason.value for reason in Reason), OVERLAP, NEIGHBOUR, TOO_LONG]
    part = {"name": "a.en", "read": 1000, "dropped": dict.fromkeys(reasons, 1), "examples": {}}
    lines = list(describe_dropped({"corpora": [part]}, DataConfig(corpora=(corpus,))))
    assert len(lines) == len(reasons)
    assert all(f"[{reason}]" in line for reason, line in zip(reasons, lines, strict=True))
