"""Readers: every byte of good text arrives, every bad file is refused by name, memory and time stay bounded."""

import gzip
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vitrail.data.reading.lines import line_parts
from vitrail.data.reading.parallel_text import CUT_MARK, STDIN, Limits, Notes, ParallelText, SentencePair, is_cut, lines
from vitrail.errors import DataError, UsageError

FOREIGN_STARTS = (
    *(b"PK\x03\x04", b"PK\x05\x06", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"BZh", b"%PDF-", b"{\\rtf", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    *(b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x04\x22\x4d\x18", b"LZIP\x01", b"\x1f\x9d", b"PAR1", b"ARROW1", b"SQLite format 3"),
    *(b"\xde\x12\x04\x95", b"\x95\x04\x12\xde", b"\x89PNG\r\n\x1a\n", b"\x7fELF", b"version https://git-lfs"),
    *(bytes([byte]) + b"\x2a\x4d\x18" for byte in range(0x50, 0x60)),
)
SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
dirty_bytes = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"\t", b"\x00", b"\xff", b"\xef\xbb\xbf", "\u2028".encode(), b"\x0b\x0c", b"\x85"])
    ).map(b"".join),
)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write_file(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write_file


def stdin_of(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def newline_count(content: bytes) -> int:
    return content.count(b"\n") + (not content.endswith(b"\n"))


# --- laws ----------------------------------------------------------------------------------------------------------------------


@SAME_FOLDER
@given(source=dirty_bytes, target=dirty_bytes)
def test_any_two_files_give_a_pair_for_each_newline_or_a_data_error(tmp_path: Path, source: bytes, target: bytes) -> None:
    (tmp_path / "s").write_bytes(source)
    (tmp_path / "t").write_bytes(target)
    text = ParallelText(source=tmp_path / "s", target=tmp_path / "t")
    try:
        pairs = list(text.pairs())
    except DataError:
        return
    assert len(pairs) == newline_count(source) == newline_count(target) == text.count()
    assert [pair.line for pair in pairs] == list(range(1, len(pairs) + 1))


@SAME_FOLDER
@given(content=dirty_bytes.filter(lambda b: not b.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b"))))
@example(content=b"PK\x03\x04")
def test_bytes_survive_reading_but_for_line_ends(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    try:
        read = list(lines(tmp_path / "s", allow_empty=True))
    except DataError as error:  # what begins as another kind of file does, and what looks like UTF-16 for its many zero bytes
        web_page = content.lstrip().lower().startswith((b"<!doctype html", b"<html"))
        assert content.startswith(FOREIGN_STARTS) or web_page or b"\x00" in content, error
        return
    expected = content.split(b"\n")
    expected = expected[:-1] if expected[-1] == b"" else expected
    ended = [line.removesuffix(b"\r") if n < content.count(b"\n") else line for n, line in enumerate(expected)]
    assert [line.encode("utf-8", "surrogateescape") for line in read] == ended


@SAME_FOLDER
@given(content=st.one_of(st.binary(max_size=200), st.text(alphabet="<>tuvseg/ &;!-\"'=xmln:[]DOCTYPE", max_size=100).map(str.encode)))
@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "tmx", "tsv.gz"])
def test_any_bytes_in_one_file_give_pairs_or_a_data_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes((b"<tmx>" + content) if suffix == "tmx" else content)
    try:
        pairs = list(ParallelText(source=path, languages=("en", "fr")).pairs())
    except DataError:
        return
    assert len(pairs) == newline_count(content)


@SAME_FOLDER
@given(data=st.data())
def test_damaged_gzip_gives_a_data_error_or_the_text(tmp_path: Path, data: st.DataObject) -> None:
    zipped = bytearray(gzip.compress(b"one\ttwo\n" * 50, mtime=0))
    zipped[data.draw(st.integers(2, len(zipped) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "x.tsv.gz").write_bytes(zipped)
    try:
        pairs = list(ParallelText(source=tmp_path / "x.tsv.gz").pairs())
    except DataError as error:
        assert "x.tsv.gz" in error.found
    else:
        assert len(pairs) == 50


# --- lines ---------------------------------------------------------------------------------------------------------------------


def test_only_the_newline_byte_ends_a_line(write: Callable[[str, bytes], Path]) -> None:
    odd = "a\u2028b\u2029c\u0085d\re\x0bf\x0cg\x1ch\x00i"
    notes = Notes()
    path = write("s.txt", f"\ufeff{odd}\r\nlast\r".encode())
    assert list(lines(path, notes=notes)) == [odd, "last\r"]
    assert notes.counts[str(path)] == {"byte order mark removed": 1, "carriage return at line end removed": 1}
    assert "byte order mark removed 1" in notes.to_text()


def test_bytes_that_are_not_utf8_become_lone_surrogates(write: Callable[[str, bytes], Path]) -> None:
    assert list(lines(write("s.txt", b"caf\xe9\n\xc0\xaf\n"))) == ["caf\udce9", "\udcc0\udcaf"]


def test_an_overlong_line_is_cut_and_marked_and_alignment_holds(write: Callable[[str, bytes], Path]) -> None:
    limits, notes = Limits(line_bytes=8), Notes()
    source = write("s.txt", b"12345678\n" + b"x" * 9 + b"\n" + b"y" * 100_000 + b"\nend\n" + b"z" * 9)
    target = write("t.txt", b"1\n2\n3\n4\n5")
    pairs = list(ParallelText(source=source, target=target).pairs(notes=notes, limits=limits))
    assert [pair.source for pair in pairs] == ["12345678", "xxxxxxxx" + CUT_MARK, "yyyyyyyy" + CUT_MARK, "end", "zzzzzzzz" + CUT_MARK]
    assert [pair.target for pair in pairs] == ["1", "2", "3", "4", "5"]
    assert [is_cut(pair.source) for pair in pairs] == [False, True, True, False, True]
    assert notes.counts[str(source)]["line cut"] == 3


def test_a_100_megabyte_line_needs_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "s").open("wb") as file:
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b"\nOui .\n")
    (tmp_path / "t").write_bytes(b"a\nYes .\n")
    program = (
        "import resource, sys; from pathlib import Path; from vitrail.data.reading.parallel_text import ParallelText\n"
        "from vitrail.data.cleaning.clean import CleanConfig, Report, clean\n"
        "report = Report(); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "kept = list(clean(ParallelText(source=Path('s'), target=Path('t')).pairs(), config=CleanConfig(), report=report))\n"
        "assert [pair.line for pair in kept] == [2] and report.dropped['LengthFilter'] == 1, report\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30_000  # KiB


# --- unequal sides -------------------------------------------------------------------------------------------------------------

SENTENCES = [f"{'The ' + 'very ' * (n * 7 % 11)}{'old ' * (n * 5 % 7)}house number {n}{'.' if n % 3 else '?'}" for n in range(200)]


@pytest.mark.parametrize("place", [0, 1, 57, 120, 199])
@pytest.mark.parametrize("extra", [["A stray title"], [""], ["Two stray lines.", "stand here together!"]])
@pytest.mark.parametrize("swap", [False, True])
def test_unequal_sides_are_refused_with_both_counts_and_the_place(tmp_path: Path, place: int, extra: list[str], swap: bool) -> None:
    longer = [*SENTENCES[:place], *extra, *SENTENCES[place:]]
    other = [sentence.replace("house", "maison").replace("very", "très").replace("old", "vieille") for sentence in SENTENCES]
    files = (other, longer) if swap else (longer, other)
    for name, content in zip(("s", "t"), files, strict=True):
        (tmp_path / name).write_text("\n".join(content) + "\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        ParallelText(source=tmp_path / "s", target=tmp_path / "t").pairs()  # refused before the first pair is asked for
    message = str(caught.value)
    assert "200 lines" in message or "has 200" in message
    assert str(200 + len(extra)) in message
    found = int(caught.value.found.rsplit(" ", 1)[1])
    assert abs(found - (place + 1)) <= 1


def test_one_line_more_at_the_end_is_named(write: Callable[[str, bytes], Path]) -> None:
    with pytest.raises(DataError, match=r"has 3 lines and .* has 2; the first suspicious line is 3"):
        ParallelText(
            source=write("s", b"Short.\nA longer one, in two parts\nthree"), target=write("t", b"Court.\nUne plus longue, en deux\n")
        ).pairs()


def test_a_missing_final_newline_is_no_difference(write: Callable[[str, bytes], Path]) -> None:
    assert ParallelText(source=write("s", b"one\ntwo"), target=write("t", b"un\ndeux\n")).count() == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_that_ends_early_is_refused(write: Callable[[str, bytes], Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b"one\n"))
    writer.start()
    text = ParallelText(source=tmp_path / "pipe", target=write("t", b"un\ndeux\n"))
    with pytest.raises(UsageError, match="cannot be counted"):
        text.count()
    with pytest.raises(DataError, match="ends after line 1"):
        list(text.pairs())
    writer.join()


# --- files that are refused ----------------------------------------------------------------------------------------------------

ZIPPED = gzip.compress(b"one\n" * 1000)
REFUSED = {
    "utf16": ("s.txt", "une phrase\n".encode("utf-16"), "UTF-16"),
    "utf16 without mark": ("s.txt", "une phrase de plus\n".encode("utf-16-le"), "UTF-16"),
    "utf32": ("s.txt", "une phrase\n".encode("utf-32"), "UTF-32"),
    "empty": ("s.txt", b"", "is empty"),
    "only a byte order mark": ("s.txt", b"\xef\xbb\xbf", "is empty"),
    "empty gzip": ("s.gz", gzip.compress(b""), "is empty"),
    "gzip named txt": ("s.txt", ZIPPED, "is gzip-compressed"),
    "text named gz": ("s.gz", b"one\n", "is not gzip"),
    "truncated gzip": ("s.gz", ZIPPED[:-9], "ends too early"),
    "gzip cut in its header": ("s.gz", ZIPPED[:5], "ends too early"),
    "damaged gzip": ("s.gz", ZIPPED[:12] + b"\xff\xff\xff" + ZIPPED[15:], "damaged gzip"),
    "gzip with a tail": ("s.gz", ZIPPED + b"tail", "damaged gzip"),
    "zip": ("s.txt", b"PK\x03\x04rest", "zip archive"),
    "xz": ("s.txt", b"\xfd7zXZ\x00rest", "xz"),
}


@pytest.mark.parametrize(("name", "content", "found"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_text_is_refused_by_name(write: Callable[[str, bytes], Path], name: str, content: bytes, found: str) -> None:
    path = write(name, content)
    with pytest.raises(DataError, match=found) as caught:
        list(lines(path))
    assert str(path) in caught.value.found
    assert caught.value.expected or caught.value.remedy
    with pytest.raises(DataError, match=found):
        ParallelText(source=path, target=write("t.txt", b"un\n")).pairs()


def test_missing_directory_and_impossible_names_are_refused(tmp_path: Path) -> None:
    for path, found in ((tmp_path / "none", "no such file"), (tmp_path, "is a directory"), (tmp_path / ("x" * 300), "cannot be opened")):
        with pytest.raises(DataError, match=found):
            list(lines(path))
        with pytest.raises(DataError, match=found):
            ParallelText(source=path, target=path).pairs()
    with pytest.raises(DataError, match="cannot be opened"):
        list(lines(Path("a\0b")))


def test_an_unreadable_file_is_refused(write: Callable[[str, bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("s.txt", b"one\n")

    def forbid(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbid)  # a real mode of 000 does not stop root
    with pytest.raises(DataError, match="Permission denied"):
        list(lines(path))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux")
def test_an_error_while_reading_is_a_data_error() -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(lines(Path("/proc/self/mem")))


def test_a_gzip_bomb_is_stopped(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.gz", "wb") as file:
        for _ in range(80):
            file.write(b" " * (1 << 20) + b"\n")
    assert (tmp_path / "bomb.gz").stat().st_size < 100_000
    (tmp_path / "t").write_bytes(b"x\n" * 80)
    with pytest.raises(DataError, match="unpacks to more than"):
        ParallelText(source=tmp_path / "bomb.gz", target=tmp_path / "t").pairs()
    (tmp_path / "big.gz").write_bytes(gzip.compress(os.urandom(500_000).hex().encode()))
    with pytest.raises(DataError, match="unpacks to more than"):
        list(lines(tmp_path / "big.gz", limits=Limits(gzip_bytes=600_000)))


def test_gzip_of_several_members_is_read_through(write: Callable[[str, bytes], Path]) -> None:
    assert list(lines(write("s.gz", gzip.compress(b"one\ntw") + gzip.compress(b"o\n")))) == ["one", "two"]


@pytest.mark.parametrize("change", ["grow", "shrink", "replace", "remove"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "s.tsv"
    path.write_bytes(b"one\tun\n" * 3)
    pairs = ParallelText(source=path).pairs()
    next(pairs)
    match change:
        case "grow":
            path.write_bytes(b"one\tun\n" * 4)
        case "shrink":
            path.write_bytes(b"one\tun\n")
        case "replace":
            (tmp_path / "new").write_bytes(b"two\tde\n" * 3)
            (tmp_path / "new").replace(path)
        case _:
            path.unlink()
    with pytest.raises(DataError, match="changed while it was read"):
        list(pairs)


# --- formats -------------------------------------------------------------------------------------------------------------------


def test_tsv_keeps_empty_lines_and_sides_and_wants_a_tab(write: Callable[[str, bytes], Path]) -> None:
    path = write("x.tsv", b"one\tun\n\ntwo\tdeux\n\tseul\n")
    assert list(ParallelText(source=path).pairs()) == [("one", "un", 1), ("", "", 2), ("two", "deux", 3), ("", "seul", 4)]
    with pytest.raises(DataError, match=r"y\.tsv:2: has no tab"):
        list(ParallelText(source=write("y.tsv", b"one\tun\ntwo deux\n")).pairs())


def test_jsonl_reads_both_layouts(write: Callable[[str, bytes], Path]) -> None:
    records = [{"source": "One\nline", "target": "Une\u2028ligne", "id": 3}, {"translation": {"fr": "Deux", "en": "Two"}}]
    path = write("x.jsonl", b"\xef\xbb\xbf" + "\n".join(json.dumps(r, ensure_ascii=False) for r in records).encode() + b"\n\n")
    pairs = list(ParallelText(source=path, languages=("en", "fr")).pairs())
    assert pairs == [("One line", "Une\u2028ligne", 1), ("Two", "Deux", 2), ("", "", 3)]


@pytest.mark.parametrize(
    "line",
    [
        *[b"{", b"[]", b"3", b'"source"', b"null", b'{"source": "a"}', b'{"source": 1, "target": "b"}', b'{"translation": {"en": "a"}}'],
        *[b'{"translation": 3}', b"[" * 100_000, b'{"source": ' + b"9" * 5_000 + b"}"],
    ],
)
def test_jsonl_that_is_no_pair_is_refused_with_its_line(write: Callable[[str, bytes], Path], line: bytes) -> None:
    path = write("x.jsonl", b'{"source": "a", "target": "b"}\n' + line + b"\n")
    with pytest.raises(DataError, match=r"x\.jsonl:2: not a pair"):
        list(ParallelText(source=path, languages=("en", "fr")).pairs())


def test_a_surrogate_spelled_in_json_looks_like_bytes_that_are_not_utf8(write: Callable[[str, bytes], Path]) -> None:
    (pair,) = ParallelText(source=write("x.jsonl", rb'{"source": "a\ud800", "target": "\ud83d\ude00"}')).pairs()
    assert pair.source == b"a\xed\xa0\x80".decode("utf-8", "surrogateescape")
    assert not is_cut(pair.source)
    assert pair.target == "\U0001f600"


def test_an_overlong_tsv_or_json_line_is_a_marked_pair(write: Callable[[str, bytes], Path]) -> None:
    limits = Limits(line_bytes=40)
    for name, good in (("x.tsv", b"a\tb\n"), ("x.jsonl", b'{"source": "a", "target": "b"}\n')):
        pairs = list(ParallelText(source=write(name, b"x" * 100 + b"\n" + good)).pairs(limits=limits))
        assert pairs == [(CUT_MARK, CUT_MARK, 1), ("a", "b", 2)]


def tmx(body: str, *, prolog: str = "") -> str:
    return f'{prolog}<tmx version="1.4"><header/><body>{body}</body></tmx>'


def unit(**segments: str) -> str:
    return (
        "<tu>" + "".join(f'<tuv xml:lang="{lang.replace("_", "-")}"><seg>{text}</seg></tuv>' for lang, text in segments.items()) + "</tu>"
    )


def test_tmx_reads_languages_by_prefix_and_leaves_codes_out(write: Callable[[str, bytes], Path]) -> None:
    body = (
        unit(de="Eins", fr_CA="Un<bpt i='1'>&lt;b&gt;</bpt> <hi>deux</hi><ept i='1'/>\n&amp; trois", EN_us="One")
        + unit(en="Two")
        + unit(es="Tres")
    )
    content = tmx(body, prolog='<!DOCTYPE tmx SYSTEM "tmx14.dtd">')
    for encoded in (content.encode(), content.encode("utf-16")):
        text = ParallelText(source=write("x.tmx", encoded), languages=("en", "fr"))
        assert list(text.pairs()) == [SentencePair("One", "Un deux & trois", 1), ("Two", "", 2), ("", "", 3)]
        assert text.count() == 3
    zipped = ParallelText(source=write("x.tmx.gz", gzip.compress(content.encode())), languages=("fr", "de"))
    assert next(zipped.pairs()).target == "Eins"


TMX_REFUSED = {
    "entity": (tmx(unit(en="&a;"), prolog='<!DOCTYPE tmx [<!ENTITY a "aaaa">]>'), "internal subset"),
    "parameter entity": (tmx(unit(en="a"), prolog='<!DOCTYPE tmx [<!ENTITY % p SYSTEM "file:///etc/hostname"> %p;]>'), "internal subset"),
    "attribute default": (tmx(unit(en="a"), prolog='<!DOCTYPE tmx [<!ATTLIST tuv xml:lang CDATA "en">]>'), "internal subset"),
    "entity of a DTD": (tmx(unit(en="a&nbsp;b"), prolog='<!DOCTYPE tmx SYSTEM "tmx14.dtd">'), "only a DTD"),
    "unknown entity": (tmx(unit(en="a&nbsp;b")), "not well-formed"),
    "other root": ("<html></html>", "outermost element is <html>"),
    "truncated": (tmx(unit(en="a"))[:-9], "not well-formed"),
    "other languages": (tmx(unit(de="a", es="b")), "its languages: de, es"),
    "deep": ("<tmx>" + "<a>" * 1_000_000, "nested more than"),
    "many names": ("<tmx>" + "".join(f"<a{n}/>" for n in range(20_000)), "different names"),
    "long comment": ("<tmx><!--" + "a" * 20_000_000, "tag or comment of more than"),
    "unknown encoding": ("<?xml version='1.0' encoding='klingon'?><tmx></tmx>", "not well-formed"),
}


@pytest.mark.parametrize(("content", "found"), TMX_REFUSED.values(), ids=TMX_REFUSED.keys())
def test_tmx_that_cannot_be_trusted_is_refused(write: Callable[[str, bytes], Path], content: str, found: str) -> None:
    with pytest.raises(DataError, match=found) as caught:
        list(ParallelText(source=write("x.tmx", content.encode()), languages=("en", "fr")).pairs())
    assert "x.tmx" in caught.value.found


def test_an_overlong_tmx_segment_is_cut(write: Callable[[str, bytes], Path]) -> None:
    (pair,) = ParallelText(source=write("x.tmx", tmx(unit(en="w" * 3_000_000, fr="b")).encode()), languages=("en", "fr")).pairs()
    assert is_cut(pair.source)
    assert len(pair.source) < 1_100_000
    assert pair.target == "b"


# --- stdin ---------------------------------------------------------------------------------------------------------------------


def test_stdin_gives_lines_and_pairs(monkeypatch: pytest.MonkeyPatch, write: Callable[[str, bytes], Path]) -> None:
    stdin_of(b"one\r\n\ntwo", monkeypatch)
    assert list(lines(STDIN)) == ["one", "", "two"]
    assert not sys.stdin.buffer.closed
    stdin_of(b"one\tun\n", monkeypatch)
    assert list(ParallelText(source=STDIN, format="tsv").pairs()) == [("one", "un", 1)]
    stdin_of(b"one\n", monkeypatch)
    assert list(ParallelText(source=STDIN, target=write("t", b"un\n")).pairs()) == [("one", "un", 1)]
    with pytest.raises(UsageError, match="stdin"):
        ParallelText(source=STDIN, format="tsv").count()


def test_nothing_on_stdin_is_nothing_to_translate_but_no_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin_of(b"", monkeypatch)
    assert list(lines(STDIN, allow_empty=True)) == []
    with pytest.raises(DataError, match="stdin: is empty"):
        list(lines(STDIN))


def test_closed_or_zipped_stdin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin_of(ZIPPED, monkeypatch)
    with pytest.raises(DataError, match="stdin: is gzip"):
        list(lines(STDIN))
    sys.stdin.close()
    with pytest.raises(DataError, match="stdin: is closed"):
        list(lines(STDIN))
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="stdin: is closed"):
        list(lines(STDIN))


def test_a_pipe_gives_each_line_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as piped, os.fdopen(writing, "wb", buffering=0) as feeding:
        monkeypatch.setattr(sys, "stdin", piped)
        feeding.write(b"first\n")
        read = lines(STDIN)
        assert next(read) == "first"  # would hang if the reader waited for a full buffer
        feeding.write(b"second\n")
        assert next(read) == "second"
        read.close()


# --- description ---------------------------------------------------------------------------------------------------------------


def test_contradictions_are_refused_at_birth() -> None:
    for fields in (
        {"source": Path("a.xyz")},
        {"source": Path("a.csv"), "target": Path("b"), "format": "csv"},
        {"source": Path("a"), "target": Path("b"), "columns": (1, 2)},
        {"source": Path("a.tsv"), "columns": (2, 2)},
        {"source": Path("a.tsv"), "delimiter": ";"},
        {"source": Path("a.tmx"), "languages": ("en", "fr"), "columns": (1, 2)},
        {"source": Path("a.tsv"), "target": Path("b"), "format": "tsv"},
        {"source": Path("a"), "format": "plain"},
        {"source": STDIN, "target": STDIN},
        {"source": Path("a.tmx")},
    ):
        with pytest.raises(UsageError):
            ParallelText.model_validate(fields)


def test_kind_and_label_follow_the_name() -> None:
    assert ParallelText(source=Path("a.TSV.gz")).kind == "tsv"
    assert ParallelText(source=Path("a.jsonl")).label == "a.jsonl"
    assert ParallelText(source=Path("a.en"), target=Path("a.fr"), name="news", weight=2.0).label == "news"


@pytest.mark.parametrize(
    "text", ["one two three four five\nsix\n\nseven", "四五六七八九十" * 3, "a\r\nbb cc\r\n", "x" * 40, "\ufeffone two", "é" * 9 + " b"]
)
@pytest.mark.parametrize("limit", [4, 5, 7, 100])
def test_parts_of_lines_leave_nothing_out(text: str, limit: int, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(text.encode())
    parts = list(line_parts(tmp_path / "text", limits=Limits(line_bytes=limit)))
    assert "".join(parts) == text.removeprefix("\ufeff").replace("\r\n", "").replace("\n", "")
    if limit == 100:
        assert parts == list(lines(tmp_path / "text"))
    assert all(len(part.encode()) <= 2 * limit for part in parts)


def test_a_part_ends_at_a_space(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one two three four")
    assert list(line_parts(tmp_path / "text", limits=Limits(line_bytes=9))) == ["one two ", "three ", "four"]
