"""Read parallel text (two plain files, TSV, JSONL, TMX; gzip; stdin), one pair at a time.

A line ends at the byte 0x0A and nowhere else: U+2028, U+0085, a lone carriage return, VT and FF stay inside their line, so that
line n here is line n of `sed -n np`. Text is decoded with `surrogateescape`; bytes that are not UTF-8 become lone surrogates
(U+DC80 to U+DCFF), for the cleaning filters to count. What cannot be read faithfully is refused by name with a DataError;
what was repaired (byte order mark, carriage returns, ...) is counted in Notes. Memory does not grow with the file or its lines.
"""

import gzip
import io
import json
import stat
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, zip_longest
from math import log
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast
from xml.parsers import expat

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.errors import DataError, UsageError

STDIN = Path("-")
CUT_MARK = "\ud800"
"""Ends a text that was longer than the line limit. No decoded file can hold it, and it cannot be encoded: LengthFilter drops it."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BUFFER_BYTES = 1 << 18
_FOREIGN_STARTS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xfd7zXZ\x00", "xz-compressed"),
    (b"\x28\xb5\x2f\xfd", "zstandard-compressed"),
)
_GZIP_START = b"\x1f\x8b"


class SentencePair(NamedTuple):
    """One sentence and its translation; `line` counts lines (TMX: translation units) from 1."""

    source: str
    target: str
    line: int


@dataclass(frozen=True)
class Limits:
    """How much one file may ask of the machine."""

    line_bytes: int = 1 << 20
    """A longer line is cut here and ends in CUT_MARK; the pair keeps its place."""
    gzip_ratio: int = 200
    """Unzipped over zipped bytes. Text reaches 3 to 10, gzip's greatest is 1032."""
    gzip_ratio_from_bytes: int = 1 << 26
    """The ratio is judged only beyond this many unzipped bytes."""
    gzip_bytes: int = 1 << 40
    """Unzipped bytes in all."""


DEFAULT_LIMITS = Limits()


@dataclass
class Notes:
    """What was repaired while reading, counted by file: filled as the text is read, complete when it has been read to its end."""

    counts: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])

    def add(self, name: str, repair: str, number: int = 1) -> None:
        """Count `number` repairs of one kind in one file."""
        if number:
            self.counts.setdefault(name, Counter())[repair] += number

    def to_text(self) -> str:
        """One line a file; empty when nothing was repaired."""
        return "\n".join(
            f"{name}: " + ", ".join(f"{repair} {n:,}" for repair, n in sorted(seen.items())) for name, seen in self.counts.items()
        )


def is_cut(text: str) -> bool:
    """Whether the text was longer than the line limit and is only its beginning."""
    return text.endswith(CUT_MARK)


def _name(path: Path) -> str:
    return "stdin" if path == STDIN else str(path)


class _Guarded(io.RawIOBase):
    """A stream of bytes in which each way that reading can fail is a DataError that names the file."""

    def __init__(self, read: Callable[[int], bytes], *, name: str, shut: Callable[[], None]) -> None:
        self._read, self._name, self._shut, self.bytes_read = read, name, shut, 0

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        super().close()
        self._shut()

    def readinto(self, buffer: Any, /) -> int:
        try:
            data = self._read(len(buffer))
        except EOFError:
            raise DataError(f"{self._name}: the gzip data ends too early", remedy="copy or download the file again") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{self._name}: damaged gzip data ({error})", remedy="copy or download the file again") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{self._name}: cannot be read ({error})") from None
        buffer[: len(data)] = data
        self.bytes_read += len(data)
        return len(data)


def _unzip(zipped: io.BufferedReader, *, counter: _Guarded, name: str, limits: Limits) -> io.BufferedReader:
    unzipped = gzip.GzipFile(fileobj=zipped)
    size = 0

    def read(wanted: int) -> bytes:
        nonlocal size
        data = unzipped.read(wanted)
        size += len(data)
        too_dense = size > limits.gzip_ratio_from_bytes and size > limits.gzip_ratio * counter.bytes_read
        if too_dense or size > limits.gzip_bytes:
            raise DataError(
                f"{name}: unzips to more than {size:,} bytes from {counter.bytes_read:,}",
                expected=f"at most {limits.gzip_ratio} times its size and {limits.gzip_bytes:,} bytes",
                remedy="if you trust the file, unzip it and give the unzipped one",
            )
        return data

    return io.BufferedReader(_Guarded(read, name=name, shut=zipped.close), _BUFFER_BYTES)


def _open_guarded(path: Path) -> _Guarded:
    if path == STDIN:
        if sys.stdin is None or sys.stdin.closed:  # pyright: ignore[reportUnnecessaryComparison]  None in a process without a terminal
            raise DataError("stdin: is closed", remedy="name a file, or pipe text in")
        return _Guarded(cast(io.BufferedReader, sys.stdin.buffer).read1, name=_name(path), shut=lambda: None)
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a directory", expected="a text file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be opened ({error})") from None
    return _Guarded(file.read, name=_name(path), shut=file.close)


def _foreign(head: bytes) -> str:
    for start, what in _FOREIGN_STARTS:
        if head.startswith(start):
            return what
    zeros = max(head[::2].count(0) / len(head[::2]), head[1::2].count(0) / len(head[1::2])) if len(head) >= 16 else 0.0
    return "UTF-16 or UTF-32" if zeros > 0.5 else ""


def _open(path: Path, *, limits: Limits, allow_empty: bool = False, xml: bool = False) -> io.BufferedReader:
    """Open a file or stdin, unzipped; refuse by name what is not text. XML says its own encoding, so UTF-16 is allowed there."""
    guarded = _open_guarded(path)
    stream: io.BufferedReader = io.BufferedReader(guarded, _BUFFER_BYTES)
    try:
        if _is_zipped(stream, path):
            stream = _unzip(stream, counter=guarded, name=_name(path), limits=limits)
        _require_text(stream.peek(4096)[:4096], name=_name(path), allow_empty=allow_empty, xml=xml)
    except DataError:
        stream.close()
        raise
    return stream


def _is_zipped(stream: io.BufferedReader, path: Path) -> bool:
    head, named = stream.peek(2)[:2], path.suffix == ".gz"
    zipped = head == _GZIP_START
    if zipped and not named:
        raise DataError(f"{_name(path)}: is gzip-compressed", expected="a name ending in .gz", remedy="rename it, or unzip it first")
    if named and not zipped and head:
        raise DataError(f"{path}: is not gzip-compressed", expected="gzip, as its name says", remedy="rename it without .gz")
    return zipped


def _require_text(head: bytes, *, name: str, allow_empty: bool, xml: bool) -> None:
    if head in (b"", _BYTE_ORDER_MARK) and not allow_empty:
        raise DataError(f"{name}: is empty", expected="text, one sentence per line")
    foreign = _foreign(head)
    if foreign and not (xml and foreign.startswith("UTF-16")):
        remedy = f"convert it: iconv -f {foreign[:6]} -t UTF-8 {name} > new-file" if foreign.startswith("UTF") else "unpack it first"
        raise DataError(f"{name}: is {foreign}", expected="UTF-8 text", remedy=remedy)


def _read_lines(path: Path, *, notes: Notes, limits: Limits, allow_empty: bool = False) -> Iterator[str]:
    stream, name, cap = _open(path, limits=limits, allow_empty=allow_empty), _name(path), limits.line_bytes
    returns = cut = 0
    with stream:
        if stream.peek(3).startswith(_BYTE_ORDER_MARK):
            stream.read(3)
            notes.add(name, "byte order mark removed")
        for raw in iter(partial(stream.readline, cap + 1), b""):
            if len(raw) > cap and not raw.endswith(b"\n"):
                cut += 1
                yield raw[:cap].decode("utf-8", "surrogateescape") + CUT_MARK
                for rest in iter(partial(stream.readline, cap), b""):
                    if rest.endswith(b"\n"):
                        break
                continue
            if raw.endswith(b"\r\n"):
                returns += 1
                raw = raw[:-2]
            yield raw.rstrip(b"\n").decode("utf-8", "surrogateescape")
    notes.add(name, "carriage return at line end removed", returns)
    notes.add(name, "line cut", cut)


def _count_lines(path: Path, *, limits: Limits) -> int:
    lines, last = 0, b"\n"
    with _open(path, limits=limits) as stream:
        while chunk := stream.read(_BUFFER_BYTES):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return lines + (last != b"\n")


def _is_stream(path: Path) -> bool:
    """Whether it can be read only once: stdin, a pipe, a device."""
    try:
        mode = path.stat().st_mode if path != STDIN else stat.S_IFIFO
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    """What changes when a file is replaced, cut or appended to; None where there is no regular file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _require_unchanged(path: Path, before: tuple[int, int, int, int] | None) -> None:
    if _stamp(path) != before:
        raise DataError(f"{path}: changed while it was read", remedy="run again when nothing writes to it")


def lines(path: Path, *, notes: Notes | None = None, limits: Limits = DEFAULT_LIMITS, allow_empty: bool = False) -> Iterator[str]:
    """Yield the lines of one file (plain or .gz) or of stdin (`-`), by the same rules as parallel text.

    Args:    allow_empty: a file without a line is no error (a translator answers nothing with nothing).
    Raises:  DataError when the file cannot be read, is not text, or changes while it is read.
    """
    before = _stamp(path)
    yield from _read_lines(path, notes=notes or Notes(), limits=limits, allow_empty=allow_empty)
    _require_unchanged(path, before)


def _fit(source: str, target: str, ratio: float) -> float:
    """How well two lines could be translations by their looks: length against the corpus ratio, final mark, numbers, emptiness."""
    if not source or not target:
        return 0.0 if source == target else -3.0
    score = -min(abs(log((len(source) + 5) / (len(target) + 5) / ratio)), 2.0)
    score += source[-1] == target[-1] or (source[-1].isalnum() and target[-1].isalnum())
    return score + (any(map(str.isdigit, source)) == any(map(str.isdigit, target)))


def _first_suspicious(longer: Path, shorter: Path, *, surplus: int, limits: Limits) -> int:
    """Guess the line from which two files no longer match, when one has `surplus` lines more.

    Suppose the surplus lines stand together before line k of the longer file. Then lines fit straight across before k and `surplus`
    apart after it; the k returned maximises the summed fit (see _fit), found in one pass as the peak of a running sum of differences.
    """
    notes, ratio = Notes(), max(longer.stat().st_size, 1) / max(shorter.stat().st_size, 1)
    here, ahead, other = (_read_lines(path, notes=notes, limits=limits) for path in (longer, longer, shorter))
    total = peak = 0.0
    last_straight = 0
    for number, (straight, shifted, text) in enumerate(zip(here, islice(ahead, surplus, None), other, strict=False), 1):
        total += _fit(straight, text, ratio) - _fit(shifted, text, ratio)
        if total > peak:
            peak, last_straight = total, number
    return last_straight + 1


def _refuse_unequal(source: Path, target: Path, *, counts: tuple[int, int], limits: Limits) -> None:
    swap = counts[0] < counts[1]
    longer, shorter = (target, source) if swap else (source, target)
    line = _first_suspicious(longer, shorter, surplus=abs(counts[0] - counts[1]), limits=limits)
    raise DataError(
        f"{source} has {counts[0]:,} lines and {target} has {counts[1]:,}; the first suspicious line is {line:,}",
        expected="as many lines on both sides, line n of one the translation of line n of the other",
        remedy=f"compare both files around line {line:,} for a line added, split or lost",
    )


def _read_plain(source: Path, target: Path, *, notes: Notes, limits: Limits) -> Iterator[tuple[str, str]]:
    sides = (_read_lines(path, notes=notes, limits=limits) for path in (source, target))
    for number, (left, right) in enumerate(zip_longest(*sides)):
        if left is None or right is None:
            ended = _name(source if left is None else target)
            raise DataError(f"{ended}: ends after line {number:,}, before the other side does", expected="as many lines on both sides")
        yield left, right


def _read_tsv(path: Path, *, notes: Notes, limits: Limits) -> Iterator[tuple[str, str]]:
    """The first two columns. More are ignored and counted; a line without a tab is refused unless it is empty."""
    extra = 0
    for number, text in enumerate(_read_lines(path, notes=notes, limits=limits), 1):
        columns = text.split("\t", 2)
        if is_cut(text):
            yield CUT_MARK, CUT_MARK
        elif len(columns) == 1 and text:
            raise DataError(f"{_name(path)}:{number}: has no tab", expected="source, a tab, target")
        else:
            extra += len(columns) > 2
            yield columns[0], columns[1] if text else ""
    notes.add(_name(path), "line with further columns, ignored", extra)


def _json_sides(record: Any, *, languages: tuple[str, str] | None) -> tuple[Any, Any]:
    if languages is not None and "translation" in record:
        return record["translation"][languages[0]], record["translation"][languages[1]]
    return record["source"], record["target"]


def _read_jsonl(path: Path, *, languages: tuple[str, str] | None, notes: Notes, limits: Limits) -> Iterator[tuple[str, str]]:
    for number, text in enumerate(_read_lines(path, notes=notes, limits=limits), 1):
        if is_cut(text) or not text:
            yield text[-1:], text[-1:]  # the mark alone, or an empty pair
            continue
        try:
            sides = _json_sides(json.loads(text), languages=languages)
            if not all(isinstance(side, str) for side in sides):
                raise TypeError("a side is not text")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            wanted = '{"source": "...", "target": "..."}' + (' or {"translation": {...}} with both languages' if languages else "")
            raise DataError(f"{_name(path)}:{number}: not a pair ({type(error).__name__}: {error})", expected=wanted) from None
        yield _one_line(sides[0]), _one_line(sides[1])


def _one_line(text: str) -> str:
    """A record's text as one line; a lone surrogate (a JSON escape can spell one) as the bytes that are not UTF-8."""
    return text.replace("\n", " ").encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


class _TmxUnits:
    """The two wanted languages of each translation unit, gathered from expat's events; `ready` holds finished units."""

    MAX_DEPTH, MAX_NAMES, MAX_TOKEN_BYTES = 64, 1_000, 1 << 22
    CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})  # inline mark-up: what it encloses is not text

    def __init__(self, *, name: str, languages: tuple[str, str], limits: Limits) -> None:
        self.name, self.languages, self.limits = name, languages, limits
        self.ready: list[tuple[str, str]] = []
        self.tags_seen: set[str] = set()
        self.matched = False
        self._names: dict[str, str] = {}
        self._sides: list[str | None] = [None, None]
        self._side: int | None = None
        self._parts: list[str] | None = None
        self._characters = self._depth = self._codes = self._fed = 0
        self._parser = expat.ParserCreate(intern=self._names)
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.EntityDeclHandler = self._entity
        self._parser.SkippedEntityHandler = self._skipped_entity

    def _refuse(self, found: str) -> None:
        raise DataError(
            f"{self.name}:{self._parser.CurrentLineNumber}: {found}", expected="plain TMX: <tmx> with <tu>, <tuv xml:lang>, <seg>"
        )

    def feed(self, data: bytes) -> None:
        """Parse the next bytes (none: the end)."""
        try:
            self._parser.Parse(data, not data)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise DataError(f"{self.name}: not well-formed XML ({error})", expected="TMX") from None
        self._fed += len(data)
        if self._fed - self._parser.CurrentByteIndex > self.MAX_TOKEN_BYTES:
            self._refuse(f"a tag or comment of more than {self.MAX_TOKEN_BYTES:,} bytes")
        if len(self._names) > self.MAX_NAMES:
            self._refuse(f"more than {self.MAX_NAMES:,} different names of tags and attributes")

    def _doctype(self, _name: str, _system: str | None, _public: str | None, has_internal_subset: int) -> None:
        if has_internal_subset:
            self._refuse("its DOCTYPE holds declarations (an internal subset)")

    def _entity(self, *_: object) -> None:
        self._refuse("declares an entity")

    def _skipped_entity(self, *_: object) -> None:
        self._refuse("uses an entity that only a DTD could define")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1 and tag != "tmx":
            self._refuse(f"the outermost element is <{tag[:40]}>")
        if self._depth > self.MAX_DEPTH:
            self._refuse(f"elements nested more than {self.MAX_DEPTH} deep")
        if tag == "tu":
            self._sides = [None, None]
        elif tag == "tuv":
            self._side = self._side_of(attributes.get("xml:lang") or attributes.get("lang") or "")
        elif tag == "seg" and self._side is not None and self._sides[self._side] is None:
            self._parts, self._characters = [], 0
        elif tag in self.CODES:
            self._codes += 1

    def _side_of(self, tag: str) -> int | None:
        language = tag.lower().replace("_", "-")
        if len(self.tags_seen) < 10:
            self.tags_seen.add(tag[:40])
        for side, wanted in enumerate(self.languages):
            if f"{language}-".startswith(f"{wanted.lower().replace('_', '-')}-") and self._sides[side] is None:
                self.matched = True
                return side
        return None

    def _text(self, data: str) -> None:
        if self._parts is not None and not self._codes:
            if self._characters <= self.limits.line_bytes:
                self._parts.append(data)
            self._characters += len(data)

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if tag == "seg" and self._parts is not None and self._side is not None:
            text = _one_line("".join(self._parts)).strip()
            self._sides[self._side] = text if self._characters <= self.limits.line_bytes else text[: self.limits.line_bytes] + CUT_MARK
            self._parts = None
        elif tag == "tuv":
            self._side = None
        elif tag == "tu":
            self.ready.append((self._sides[0] or "", self._sides[1] or ""))
        elif tag in self.CODES:
            self._codes -= 1


def _read_tmx(path: Path, *, languages: tuple[str, str], limits: Limits) -> Iterator[tuple[str, str]]:
    """Every <tu> in turn; a language that it lacks is an empty side. <bpt>, <ept>, <it>, <ph>, <ut> are left out with their content."""
    units = _TmxUnits(name=_name(path), languages=languages, limits=limits)
    with _open(path, limits=limits, xml=True) as stream:
        data = b"-"
        while data:
            data = stream.read1(_BUFFER_BYTES)
            units.feed(data)
            yield from units.ready
            units.ready.clear()
    if not units.matched:
        found = ", ".join(sorted(units.tags_seen)) or "none"
        raise DataError(f"{_name(path)}: no segment in {languages[0]} or {languages[1]}; its languages: {found}", remedy="set languages")


class ParallelText(Config):
    """Where parallel text is and how it is written."""

    source: Path
    """The source sentences; or the one file of a TSV, JSONL or TMX; `-` is stdin. A name ending in .gz is unzipped while it is read."""
    target: Path | None = None
    """The target sentences, when they stand in a file of their own."""
    format: Literal["auto", "plain", "tsv", "jsonl", "tmx"] = "auto"
    """How pairs are written; auto goes by the name of the file."""
    languages: tuple[str, str] | None = None
    """Source and target language, such as ["en", "fr"]: needed for TMX, and for JSONL of {"translation": {"en": ..., "fr": ...}}."""
    name: str = ""
    """What reports call this corpus; empty: the name of the source file."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """How often this corpus is drawn from when several are mixed, relative to the others."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "ParallelText":
        kind = self.kind
        if (kind == "plain") != (self.target is not None):
            raise UsageError(
                f"{self.source}: {kind} text with{'' if self.target else 'out'} a target file",
                expected="two files, or one TSV, JSONL or TMX",
            )
        if self.source == self.target == STDIN:
            raise UsageError("both sides from stdin", expected="at most one", remedy="pipe in TSV and set format to tsv")
        if kind == "tmx" and self.languages is None:
            raise UsageError(f"{self.source}: TMX without languages", remedy='set languages, for example ["en", "fr"]')
        return self

    @property
    def kind(self) -> Literal["plain", "tsv", "jsonl", "tmx"]:
        """The format, found from the names where it is `auto`. Raises UsageError when they do not tell."""
        if self.format != "auto":
            return self.format
        if self.target is not None:
            return "plain"
        match Path(self.source.name.removesuffix(".gz")).suffix.lower():
            case ".tsv":
                return "tsv"
            case ".jsonl":
                return "jsonl"
            case ".tmx":
                return "tmx"
            case _:
                raise UsageError(
                    f"{self.source}: one file of unknown format", expected=".tsv, .jsonl or .tmx, or a target file", remedy="set format"
                )

    @property
    def label(self) -> str:
        """What reports call this corpus."""
        return self.name or _name(self.source)

    @property
    def _paths(self) -> tuple[Path, ...]:
        return (self.source,) if self.target is None else (self.source, self.target)

    def count(self, *, limits: Limits = DEFAULT_LIMITS) -> int:
        """How many pairs there are, after a quick pass over the files.

        Raises: DataError when a file cannot be read or the sides are unequal: both counts, and a guess where they part; UsageError for
                stdin and pipes, which cannot be read twice.
        """
        streams = [_name(path) for path in self._paths if _is_stream(path)]
        if streams:
            raise UsageError(f"{streams[0]}: cannot be counted and then read", expected="a file", remedy="store it in a file first")
        if self.kind == "tmx":
            return sum(1 for _ in self._records(Notes(), limits))
        counts = [_count_lines(path, limits=limits) for path in self._paths]
        if self.target is not None and counts[0] != counts[1]:
            _refuse_unequal(self.source, self.target, counts=(counts[0], counts[1]), limits=limits)
        return counts[0]

    def pairs(self, *, notes: Notes | None = None, limits: Limits = DEFAULT_LIMITS) -> Iterator[SentencePair]:
        """Yield every pair in order, none left out.

        Two files are compared in length before the first pair; a pipe or stdin can only be found shorter when it ends.

        Args:    notes: filled with what was repaired.
        Raises:  DataError at the call or while reading (file:line first): see the module; UsageError never.
        """
        before = [_stamp(path) for path in self._paths]
        files = [path for path in self._paths if not _is_stream(path)]
        if len(files) == 2:
            self.count(limits=limits)
        for path in files:
            _open(path, limits=limits, xml=self.kind == "tmx").close()
        return self._checked(before, notes=Notes() if notes is None else notes, limits=limits)

    def _checked(self, before: list[tuple[int, int, int, int] | None], *, notes: Notes, limits: Limits) -> Iterator[SentencePair]:
        for number, (source, target) in enumerate(self._records(notes, limits), 1):
            yield SentencePair(source, target, number)
        for path, stamp in zip(self._paths, before, strict=True):
            _require_unchanged(path, stamp)

    def _records(self, notes: Notes, limits: Limits) -> Iterator[tuple[str, str]]:
        if self.target is not None:
            return _read_plain(self.source, self.target, notes=notes, limits=limits)
        if self.kind == "tsv":
            return _read_tsv(self.source, notes=notes, limits=limits)
        if self.kind == "jsonl":
            return _read_jsonl(self.source, languages=self.languages, notes=notes, limits=limits)
        assert self.languages is not None
        return _read_tmx(self.source, languages=self.languages, limits=limits)
