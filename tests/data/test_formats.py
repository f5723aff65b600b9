"""Tables, records, catalogues and compressed files: what is written by other programs is read as they meant it, or refused by its line."""

import bz2
import csv
import io
import json
import lzma
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitrail.data.reading.parallel_text import CUT_MARK, Limits, Notes, ParallelText, SentencePair, lines
from vitrail.errors import DataError, UsageError

SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
PAIRS = [
    ("Hello, world!", "Bonjour, le monde !"),
    ('She said "no".', "Elle a dit « non »."),
    ("Where is it; there?", "Où est-ce ; là ?"),
    ("Привет, мир", "سلام دنیا"),
    ("猫は\u2028黒い", "बिल्ली काली है"),
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write_file(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write_file


def read(path: Path, **fields: Any) -> list[tuple[str, str]]:
    text = ParallelText(source=path, **fields)
    pairs = [pair[:2] for pair in text.pairs()]
    assert text.count() == len(pairs)
    return pairs


def table(rows: list[tuple[str, ...]], **options: Any) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, **options).writerows(rows)
    return buffer.getvalue().encode()


# --- which columns -------------------------------------------------------------------------------------------------------------


def crawl(source: str, target: str, number: int) -> tuple[str, ...]:
    return (f"https://example.org/en/{number}", f"https://example.org/fr/{number}", source, target, f"{0.5 + number / 100:.3f}")


def test_a_crawls_addresses_and_scores_are_not_text(write: Callable[[str, bytes], Path]) -> None:
    rows = [crawl(*pair, number) for number, pair in enumerate(PAIRS)]
    path = write("x.tsv", "".join("\t".join(row) + "\n" for row in rows).encode())
    assert read(path) == PAIRS
    told = ParallelText(source=path).describe()
    assert "columns 3 and 4 of 5" in told and "addresses" in told and "numbers" in told
    assert told.count("\n") == 3 and "Hello, world!  |  Bonjour, le monde !" in told


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        (("doc-12:3", "{s}", "{t}"), "2 and 3"),
        (("{s}", "{t}", "CC-BY 2.0 (France) Attribution: tatoeba.org #1158250 (CM)"), "1 and 2"),
        (("en", "fr", "{s}", "{t}", "europarl"), "3 and 4"),
        (("{s}", "0.93", "{t}", ""), "1 and 3"),
    ],
)
def test_what_other_columns_hold_is_found_out(write: Callable[[str, bytes], Path], row: tuple[str, ...], texts: str) -> None:
    pairs = [(f"{source} {n}", f"{target} {n}") for n in range(6) for source, target in PAIRS]
    body = "".join("\t".join(cell.format(s=source, t=target) for cell in row) + "\n" for source, target in pairs)
    path = write("x.tsv", body.encode())
    assert read(path) == pairs
    assert f"columns {texts}" in ParallelText(source=path).describe()


def test_columns_that_are_not_plain_are_asked_for_with_rows_as_read(write: Callable[[str, bytes], Path]) -> None:
    path = write("x.tsv", b"One cat\tun chat\teine Katze\nTwo cats\tdeux chats\tzwei Katzen\n")
    with pytest.raises(DataError, match="has 3 columns, and it is not clear which two are the text") as caught:
        ParallelText(source=path).count()
    assert "1: One cat | 2: un chat | 3: eine Katze" in caught.value.found
    assert "columns=1:2" in caught.value.remedy
    assert read(path, columns=(1, 3)) == [("One cat", "eine Katze"), ("Two cats", "zwei Katzen")]
    with pytest.raises(DataError, match="column 4 is asked for"):
        ParallelText(source=path, columns=(1, 4)).count()


@pytest.mark.parametrize("labels", [["0", "1"], ["https://a.b/c", "http://a.b/d"], ["doc_1", "doc_2"]])
def test_two_columns_of_which_one_is_no_text_are_asked_for(write: Callable[[str, bytes], Path], labels: list[str]) -> None:
    path = write("x.tsv", "".join(f"{labels[n % 2]}\tA sentence with number {n}\n" for n in range(40)).encode())
    with pytest.raises(DataError, match="column 1 holds"):
        ParallelText(source=path).count()
    assert len(read(path, columns=(1, 2))) == 40


def test_a_word_list_is_text(write: Callable[[str, bytes], Path]) -> None:
    words = [("cat", "chat"), ("猫", "кот"), ("dog", "chien"), ("ไทย", "thaï")] * 10
    assert read(write("x.tsv", "".join("\t".join(row) + "\n" for row in words).encode())) == words


def test_a_stray_tab_is_refused_by_its_line_or_left_out_when_the_columns_are_named(write: Callable[[str, bytes], Path]) -> None:
    rows = [f"{source}\t{target}" for source, target in PAIRS] * 3
    rows[9] = "A stray\ttab\tune tabulation"
    path = write("x.tsv", "\n".join(rows).encode())
    with pytest.raises(DataError, match=r"x\.tsv:10: has 3 columns, and the rows before it have 2: 1: A stray \| 2: tab") as caught:
        list(ParallelText(source=path).pairs())
    assert "columns=1:2" in caught.value.remedy
    notes = Notes()
    pairs = list(ParallelText(source=path, columns=(1, 2)).pairs(notes=notes))
    assert pairs[9] == ("", "", 10) and len(pairs) == 15 and all(pair[:2] in PAIRS for pair in pairs[:9] + pairs[10:])
    assert notes.counts[str(path)] == {"row of another number of columns left out (the first: line 10)": 1}


def test_codes_of_languages_alone_are_a_header_but_words_are_none(write: Callable[[str, bytes], Path]) -> None:
    body = "".join("\t".join(pair) + "\n" for pair in PAIRS)
    with_header = write("x.tsv", f"en\tfr\n{body}".encode())
    assert read(with_header) == PAIRS and "header" in ParallelText(source=with_header).describe()
    several = write("s.tsv", ("en\tfr\tde\n" + "".join("\t".join((*pair, "Guten Tag.")) + "\n" for pair in PAIRS)).encode())
    assert [pair[:2] for pair in ParallelText(source=several, columns=(1, 2)).pairs()] == PAIRS
    with pytest.raises(DataError, match="it is not clear which two are the text"):
        ParallelText(source=several).count()
    assert read(write("y.tsv", f"one\ttwo\n{body}".encode())) == [("one", "two"), *PAIRS]
    assert read(write("z.tsv", b"to\tla\nshe\telle\n")) == [("to", "la"), ("she", "elle")]


@pytest.mark.parametrize(
    ("header", "columns"),
    [("source\ttarget", None), ("id\tsrc\ttgt", None), ("FR\tEN", None), ("eng_Latn\tfra_Latn", None), ("hyp\tbest", ("best", "hyp"))],
)
def test_a_header_names_columns_and_is_no_pair(write: Callable[[str, bytes], Path], header: str, columns: Any) -> None:
    names = header.split("\t")
    places = {"source": 0, "src": 0, "EN": 0, "eng_Latn": 0, "best": 0, "target": 1, "tgt": 1, "FR": 1, "fra_Latn": 1, "hyp": 1}
    rows = ["\t".join(pair[places[name]] if name in places else "17" for name in names) for pair in PAIRS]
    path = write("x.tsv", "\n".join([header, *rows]).encode())
    text = ParallelText(source=path, columns=columns, languages=("en", "fr"))
    assert [pair[:2] for pair in text.pairs()] == PAIRS
    assert [pair.line for pair in text.pairs()] == [2, 3, 4, 5, 6]
    assert text.count() == 5
    assert bool(text.describe()) == (columns is None)
    with pytest.raises(DataError, match="no column is called quelle"):
        ParallelText(source=path, columns=("quelle", "hyp")).count()


def test_quotes_as_of_a_spreadsheet_are_not_text(write: Callable[[str, bytes], Path]) -> None:
    path = write("x.tsv", table(PAIRS, delimiter="\t", lineterminator="\n"))
    assert '""no""' in path.read_text()
    assert read(path)[1] == PAIRS[1]
    with_two = write("y.tsv", b'"a ""b"" c"\t"d"\nx\t"e ""f"""\n')
    assert read(with_two) == [('a "b" c', "d"), ("x", 'e "f"')]
    assert "quotes enclose fields" in ParallelText(source=with_two).describe()
    assert read(with_two, format="tsv")[0] == ('"a ""b"" c"', '"d"')
    every = write("z.tsv", table(PAIRS, delimiter="\t", quoting=csv.QUOTE_ALL))
    assert read(every) == PAIRS


def test_quotes_of_speech_are_text(write: Callable[[str, bytes], Path]) -> None:
    pairs = [('"Hello," he said.', '"Bonjour", dit-il.'), ('"No."', '"Non."'), ("And she left.", "Et elle partit."), ('"', '"')]
    assert read(write("x.tsv", "".join("\t".join(pair) + "\n" for pair in pairs).encode())) == pairs


# --- CSV -----------------------------------------------------------------------------------------------------------------------

cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=9) | st.sampled_from(
    ['"', '""', "a,b", "x\ny", "\t", ""]
)


@SAME_FOLDER
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=8), delimiter=st.sampled_from(",;\t|"), quoting=st.sampled_from([0, 1]))
def test_what_pythons_csv_writes_is_read(tmp_path: Path, rows: list[tuple[str, str]], delimiter: str, quoting: Any) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(table(rows, delimiter=delimiter, quoting=quoting, lineterminator="\n") or b"\n")
    text = ParallelText(source=path, delimiter=delimiter, columns=(1, 2))
    pairs = [pair[:2] for pair in text.pairs()]
    with path.open(newline="", encoding="utf-8") as file:
        expected = [tuple(row) for row in csv.reader(file, delimiter=delimiter)]
    expected = [row if len(row) == 2 else ("", "") for row in expected]
    assert pairs == [tuple(cell.replace("\n", " ").removeprefix("\ufeff" * (n == 0)) for cell in row) for n, row in enumerate(expected)]
    assert text.count() == len(pairs)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(write: Callable[[str, bytes], Path], delimiter: str) -> None:
    path = write("x.csv", table([("source", "target"), *PAIRS], delimiter=delimiter))
    assert read(path) == PAIRS
    described = ParallelText(source=path).describe()
    assert "header" in described and ("divided by" in described) == (delimiter != ",")


def test_csv_that_is_torn_is_refused_with_its_line(write: Callable[[str, bytes], Path]) -> None:
    with pytest.raises(DataError, match=r"x\.csv:3: has 3 columns"):
        list(ParallelText(source=write("x.csv", b"a cat,un chat\na dog,un chien\nwell, yes,bien oui\n")).pairs())
    with pytest.raises(DataError, match=r"y\.csv:2: not CSV"):
        list(ParallelText(source=write("y.csv", b'a cat,un chat\n"a" dog,un chien\n')).pairs())
    left_open = b'a cat,un chat\n"a dog,un chien\n' + b"a bird,un oiseau\n" * 20_000
    with pytest.raises(DataError, match=r"z\.csv:2 to \d+: not CSV"):
        list(ParallelText(source=write("z.csv", left_open)).pairs())


# --- JSON ----------------------------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, tuple[Callable[[str, str], Any], Any]] = {
    "flat": (lambda s, t: {"source": s, "target": t, "n": 1}, None),
    "short": (lambda s, t: {"id": "a", "src": s, "tgt": t}, None),
    "languages": (lambda s, t: {"fr": t, "en": s, "x": None}, None),
    "nested": (lambda s, t: {"translation": {"fr": t, "en": s}}, None),
    "told": (lambda s, t: {"text": {"a": s}, "other": {"deep": {"er": t}}, "more": "m"}, ("text.a", "other.deep.er")),
    "dotted": (lambda s, t: {"a.b": s, "c.d": t, "e": "m"}, ("a.b", "c.d")),
    "two keys": (lambda s, t: {"question": s, "answer": t, "score": 0.5}, None),
    "list": (lambda s, t: [s, t], None),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("written", ["lines", "lines named json", "array", "array over lines", "array in one line"])
def test_json_is_read_flat_nested_by_line_and_as_an_array(write: Callable[[str, bytes], Path], name: str, written: str) -> None:
    make, columns = LAYOUTS[name]
    values = [make(*pair) for pair in PAIRS]
    match written:
        case "array":
            content = "[" + ",\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "]\n"
        case "array over lines":
            content = json.dumps(values, indent=2)
        case "array in one line":
            content = json.dumps(values)
        case _:
            content = "".join(json.dumps(value) + "\n" for value in values)
    path = write("x.json" if "json" in written or "array" in written else "x.jsonl", content.encode())
    assert read(path, languages=("en", "fr"), columns=columns) == [(s, t) for s, t in PAIRS]
    assert bool(ParallelText(source=path, languages=("en", "fr"), columns=columns).describe()) == (name in ("short", "two keys", "list"))


def test_an_array_larger_than_its_buffer_in_one_line_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    count = 15_000
    with path.open("w") as file:
        file.write("[" + ", ".join(json.dumps({"source": f"Sätze {n} " + "x" * 900, "target": f"satz {n}"}) for n in range(count)) + "]")
    program = (
        "import resource; from pathlib import Path; from vitrail.data.reading.parallel_text import ParallelText\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"assert ParallelText(source=Path('x.json')).count() == {count}\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10_000  # KiB, of 14 MB


def test_json_that_is_wrong_is_refused_with_its_line(write: Callable[[str, bytes], Path]) -> None:
    good = '{"source": "a", "target": "b"}'
    for content, found in (
        (f"[{good},\n{good},\n{{]", r"x\.json:3: not a pair"),
        (f"[{good}\n{good}]", r"x\.json:2: found '\{', expected ','"),
        (f"[{good},\n{good}", r"x\.json:2: the array does not end"),
        (f"[\n{good},\n]", r"x\.json:3: not a pair"),
        (f"[{good}] 3", "text after the end"),
        ('[{"source": "a"}]', r"x\.json:1: not a pair .*keys are source"),
        ("[" * 100_000, "nested too deep"),
        ('{\n"source": "a",\n"target": "b"}', r"x\.json:1: not a pair"),
        ('{"en": "a", "fr": "b", "de": "c"}', "its keys are en, fr, de"),
        ('{"data": [{"en": "a", "fr": "b"}], "version": 2}', "none of its keys holds text: data, version"),
        ('[{"source": "' + "y" * 3_000_000 + '", "target": "b"}]', "more than 1,048,576 characters"),
    ):
        with pytest.raises(DataError, match=found):
            list(ParallelText(source=write("x.json", content.encode())).pairs())
    assert read(write("e.json", b" [ ] \n")) == []


# --- PO and XLIFF --------------------------------------------------------------------------------------------------------------


def test_po_as_the_translate_toolkit_writes_it(tmp_path: Path) -> None:
    from translate.storage.pypo import pofile

    store = pofile()
    store.updateheader(add=True, Language="fr", Content_Type="text/plain; charset=UTF-8")
    for source, target in PAIRS:
        store.addsourceunit(source).target = target
    store.addsourceunit("Line one\nline two").target = "Ligne une\nligne deux"
    store.addsourceunit("Not translated")
    fuzzy = store.addsourceunit("Fuzzy")
    fuzzy.target = "Flou"
    fuzzy.markfuzzy()
    plural = store.addsourceunit("A file")
    plural.source = ["%d file", "%d files"]
    plural.target = ["%d fichier", "%d fichiers"]
    path = tmp_path / "x.po"
    path.write_bytes(bytes(store))
    notes = Notes()
    pairs = [pair[:2] for pair in ParallelText(source=path).pairs(notes=notes)]
    assert pairs == [
        *PAIRS,
        ("Line one line two", "Ligne une ligne deux"),
        ("Not translated", ""),
        ("Fuzzy", ""),
        ("%d file", "%d fichier"),
    ]
    assert sum(notes.counts[str(path)].values()) == 2
    assert read(path, languages=("fr", "en")) == [pair[::-1] for pair in pairs]
    with pytest.raises(DataError, match=r"from \? to fr, as the file says"):
        list(ParallelText(source=path, languages=("en", "de")).pairs())


@pytest.mark.parametrize("version", ["1.2", "2.0"])
def test_xliff_as_the_translate_toolkit_writes_it(tmp_path: Path, version: str) -> None:
    from translate.storage.xliff import xlifffile
    from translate.storage.xliff2 import Xliff2File

    store: Any = xlifffile() if version == "1.2" else Xliff2File()
    store.setsourcelanguage("en-GB")
    store.settargetlanguage("fr")
    for source, target in PAIRS:
        store.addsourceunit(source).target = target
    store.addsourceunit("Not translated")
    path = tmp_path / "x.xlf"
    path.write_bytes(bytes(store))
    assert read(path, languages=("en", "fr")) == [*PAIRS, ("Not translated", "")] == read(path)
    assert read(path, languages=("fr", "en"))[:5] == [pair[::-1] for pair in PAIRS]
    with pytest.raises(DataError, match="from en-GB to fr, as the file says"):
        list(ParallelText(source=path, languages=("de", "fr")).pairs())


def test_codes_in_xliff_are_not_text(write: Callable[[str, bytes], Path]) -> None:
    unit = (
        '<trans-unit id="1"><source>A <g id="1">big</g> <bpt id="2">&lt;b&gt;</bpt>cat<ept id="2">&lt;/b&gt;</ept></source>'
        '<target>Un <g id="1">gros</g> <ph id="3">%s</ph>chat</target><alt-trans><target>other</target></alt-trans></trans-unit>'
        '<trans-unit id="2"><source>No</source><target state="needs-translation">No</target></trans-unit>'
    )
    content = f'<xliff version="1.2"><file source-language="en" target-language="fr" original="x"><body>{unit}</body></file></xliff>'
    assert read(write("x.xliff", content.encode())) == [("A big cat", "Un gros chat"), ("No", "")]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("x.xlf", '<!DOCTYPE x [<!ENTITY a "aaaa">]><xliff version="1.2">&a;</xliff>', "internal subset"),
        ("x.xlf", '<!DOCTYPE x SYSTEM "file:///etc/hostname"><xliff version="1.2">&a;</xliff>', "only a DTD"),
        ("x.xlf", "<tmx/>", "outermost element is <tmx>"),
        ("x.xlf", "<xliff version='1.2'>", "not well-formed"),
        ("x.xlf", "<xliff version='1.2'/>", "x.xlf: "),
        ("x.po", "hello\nworld\n", "not PO"),
        ("x.po", 'msgid ""\nmsgstr ""\n', "holds no messages"),
        ("x.po", 'msgid "a', "not PO"),
    ],
)
def test_catalogues_that_cannot_be_trusted_are_refused(write: Callable[[str, bytes], Path], name: str, content: str, found: str) -> None:
    with pytest.raises(DataError, match=found):
        list(ParallelText(source=write(name, content.encode())).pairs())


def test_a_catalogue_is_bounded_and_says_what_reads_it(write: Callable[[str, bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("x.po", b'msgid "a"\nmsgstr "b"\n')
    with pytest.raises(DataError, match="more than 10 bytes"):
        list(ParallelText(source=path).pairs(limits=Limits(document_bytes=10)))
    monkeypatch.setitem(sys.modules, "translate.storage.pypo", None)
    with pytest.raises(DataError, match="Translate Toolkit, which is not installed") as caught:
        list(ParallelText(source=path).pairs())
    assert "vitrail[formats]" in caught.value.remedy


# --- compressed ----------------------------------------------------------------------------------------------------------------

TEXT = "".join(f"{source} {n}\n" for n in range(300) for source, _ in PAIRS).encode()
PACKERS: dict[str, Callable[[bytes], bytes]] = {"bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor().compress}


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_text_is_read_whole(write: Callable[[str, bytes], Path], suffix: str) -> None:
    pack = PACKERS[suffix]
    expected = TEXT.decode().split("\n")[:-1]
    assert list(lines(write(f"s.{suffix}", pack(TEXT)))) == expected
    assert list(lines(write(f"t.{suffix}", pack(TEXT) + pack(TEXT)))) == expected * 2
    assert read(write(f"x.tsv.{suffix}", pack("".join("\t".join(pair) + "\n" for pair in PAIRS).encode()))) == PAIRS
    with pytest.raises(DataError, match="-compressed"):
        list(lines(write("s.txt", pack(TEXT))))
    with pytest.raises(DataError, match=r"is not .*-compressed"):
        list(lines(write(f"u.{suffix}", TEXT)))
    with pytest.raises(DataError, match="is empty"):
        list(lines(write(f"v.{suffix}", pack(b""))))


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_text_that_ends_early_or_is_damaged_never_passes_for_whole(write: Callable[[str, bytes], Path], suffix: str) -> None:
    packed = PACKERS[suffix](TEXT)
    for length in (12, len(packed) // 3, len(packed) // 2, len(packed) - 1):
        with pytest.raises(DataError, match="ends too early"):
            list(lines(write(f"s.{suffix}", packed[:length])))
    with pytest.raises(DataError, match="damaged"):
        list(lines(write(f"s.{suffix}", packed + b"a tail of text")))
    generator = random.Random(7)
    for _ in range(25):
        damaged = bytearray(packed)
        damaged[generator.randrange(11, len(packed))] ^= generator.randrange(1, 256)
        try:
            found = list(lines(write(f"s.{suffix}", bytes(damaged))))
        except DataError as error:
            assert f"s.{suffix}" in error.found
        else:  # zstandard writes no checksum by default; the others notice
            assert suffix == "zst" or found == TEXT.decode().split("\n")[:-1]


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_bomb_is_stopped_in_bounded_memory(tmp_path: Path, suffix: str) -> None:
    zeros = b" " * (1 << 20) + b"\n"
    path = tmp_path / f"bomb.{suffix}"
    with (bz2.open if suffix == "bz2" else lzma.open if suffix == "xz" else zstandard.open)(path, "wb") as file:
        for _ in range(80):
            file.write(zeros)
    assert path.stat().st_size < 60_000
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from vitrail.data.reading.parallel_text import lines; from vitrail.errors import DataError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: print(sum(1 for _ in lines(Path(sys.argv[1]))))\n"
        "except DataError as error: assert 'unpacks to more than' in str(error), error\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150_000  # KiB


def test_zstandard_that_is_not_installed_is_told_by_name(write: Callable[[str, bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("s.zst", PACKERS["zst"](TEXT))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(DataError, match="the package zstandard is not installed") as caught:
        list(lines(path))
    assert "vitrail[formats]" in caught.value.remedy


# --- what is no text -----------------------------------------------------------------------------------------------------------


def archive(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind.startswith("tar"):
        with tarfile.open(fileobj=buffer, mode="w" + kind[3:]) as tar:
            info = tarfile.TarInfo("corpus.en")
            info.size = 4
            tar.addfile(info, io.BytesIO(b"one\n"))
    else:
        with zipfile.ZipFile(buffer, "w") as packed:
            packed.writestr({"docx": "word/document.xml", "xlsx": "xl/workbook.xml"}.get(kind, "corpus.en"), "one")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("x.tar", archive("tar"), "a tar archive"),
        ("x.en", archive("tar"), "a tar archive"),
        ("x.tar.gz", archive("tar:gz"), "a tar archive"),
        ("x.tgz", archive("tar:gz"), "a tar archive"),
        ("x.tar.bz2", archive("tar:bz2"), "a tar archive"),
        ("x.txz", archive("tar:xz"), "a tar archive"),
        ("x.zip", archive("zip"), "a zip archive"),
        ("x.docx", archive("docx"), "a Word document"),
        ("x.txt", archive("docx"), "a Word document"),
        ("x.xlsx", archive("xlsx"), "an Excel workbook"),
        ("x.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
        ("x.en", "日本語の文。\n".encode("utf-16"), "UTF-16"),
        ("x.en", b"<!DOCTYPE html><html><body>404", "a web page"),
        ("x.en", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        ("x.en", b"PAR1" + bytes(30), "a Parquet table"),
        ("x.en", bytes(range(256)) * 4, "binary data"),
        ("x.en", b"\rline".join(b"one sentence" for _ in range(40)), "old Macintoshes"),
    ],
)
def test_what_is_no_text_is_refused_by_what_it_is(write: Callable[[str, bytes], Path], name: str, content: bytes, found: str) -> None:
    path = write(name, content)
    for text in (lambda: ParallelText(source=path, target=write("t", b"un\n")).pairs(), lambda: ParallelText(source=path).pairs()):
        with pytest.raises((DataError, UsageError), match=found if name != "x.en" else f"{found}|unknown format") as caught:
            text()
        assert caught.value.remedy


# --- laws ----------------------------------------------------------------------------------------------------------------------

DIRT = (
    *(b"a", b"b c", b"\n", b"\r\n", b"\t", b",", b";", b'"', b'""', b"{", b"}", b"[", b"]", b":", b'"source"', b'"target"'),
    *(b"\xff", b"\x00", b"\xef\xbb\xbf", "\u2028".encode(), b"msgid ", b"msgstr ", b"\\", b"#, fuzzy\n", b"<", b">", b"/"),
    *(b"&a;", b"0.5"),
)
dirt = st.binary(max_size=80) | st.lists(st.sampled_from(DIRT), max_size=40).map(b"".join)


@SAME_FOLDER
@given(content=dirt)
@pytest.mark.parametrize("name", ["x.tsv", "x.csv", "x.json", "x.jsonl", "x.po", "x.xlf", "x.csv.bz2", "x.tsv.xz", "x.jsonl.zst"])
@pytest.mark.parametrize("columns", [None, (1, 2)])
def test_any_bytes_give_as_many_pairs_as_are_counted_or_a_data_error(tmp_path: Path, name: str, columns: Any, content: bytes) -> None:
    packed = PACKERS.get(name.rpartition(".")[2], bytes)(content)
    path = tmp_path / name
    path.write_bytes(b'<xliff version="1.2">' + content if name == "x.xlf" else packed)
    if columns is not None and name in ("x.po", "x.xlf"):
        return
    text = ParallelText(source=path, columns=columns)
    try:
        pairs = list(text.pairs())
    except DataError as error:
        assert str(path) in error.found
        return
    assert text.count() == len(pairs)
    assert all("\n" not in side for pair in pairs for side in pair[:2])
    assert [pair.line for pair in pairs] == list(range(pairs[0].line if pairs else 1, len(pairs) + (pairs[0].line if pairs else 1)))
    text.describe()


def test_a_field_too_long_to_be_a_sentence_is_cut_or_refused_but_never_held(write: Callable[[str, bytes], Path]) -> None:
    limits = Limits(line_bytes=60)
    for name, good in (("x.tsv", b"a\tb\n"), ("x.jsonl", b'{"source": "a", "target": "b"}\n')):
        pairs = list(ParallelText(source=write(name, good + b"x" * 100 + b"\n" + good)).pairs(limits=limits))
        assert pairs == [SentencePair("a", "b", 1), SentencePair(CUT_MARK, CUT_MARK, 2), SentencePair("a", "b", 3)]
    with pytest.raises(DataError, match="not CSV"):
        list(ParallelText(source=write("x.csv", b"a,b\n" + b"x" * 200_000 + b",y\n")).pairs())
