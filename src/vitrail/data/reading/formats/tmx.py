"""Read TMX, the exchange format of translation memories, as a stream. Declarations of entities are refused."""

from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from vitrail.data.reading.lines import CUT_MARK, one_line, open_text, shown_name
from vitrail.data.reading.unpack import BUFFER_BYTES, Limits
from vitrail.errors import DataError


class _TmxUnits:
    """The two wanted languages of each translation unit, gathered from expat's events; `ready` holds finished units."""

    MAX_DEPTH, MAX_NAMES, MAX_TOKEN_BYTES = 64, 1_000, 1 << 22
    CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})  # inline mark-up: its content is not text

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

    def _doctype(self, shown_name: str, _system: str | None, _public: str | None, has_internal_subset: int) -> None:
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
            text = one_line("".join(self._parts)).strip()
            self._sides[self._side] = text if self._characters <= self.limits.line_bytes else text[: self.limits.line_bytes] + CUT_MARK
            self._parts = None
        elif tag == "tuv":
            self._side = None
        elif tag == "tu":
            self.ready.append((self._sides[0] or "", self._sides[1] or ""))
        elif tag in self.CODES:
            self._codes -= 1


def read_tmx(path: Path, *, languages: tuple[str, str], limits: Limits) -> Iterator[tuple[str, str]]:
    """Every <tu> in order; a missing language is an empty side. <bpt>, <ept>, <it>, <ph>, <ut> are left out with their content."""
    units = _TmxUnits(name=shown_name(path), languages=languages, limits=limits)
    with open_text(path, limits=limits, xml=True) as stream:
        data = b"-"
        while data:
            data = stream.read1(BUFFER_BYTES)
            units.feed(data)
            yield from units.ready
            units.ready.clear()
    if not units.matched:
        found = ", ".join(sorted(units.tags_seen)) or "none"
        raise DataError(
            f"{shown_name(path)}: no segment in {languages[0]} or {languages[1]}; its languages: {found}",
            remedy="name the right ones: --languages en,fr",
        )
