"""Read PO and XLIFF, the files of software translation, by the Translate Toolkit (the extra `formats`).

Both are held in memory as a whole, so their size is bounded. XLIFF is searched for declarations of entities before it is parsed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple
from xml.parsers import expat

from vitrail.data.reading.lines import Notes, one_line, open_text, shown_name
from vitrail.data.reading.unpack import Limits
from vitrail.errors import DataError

_CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})  # inline mark-up: its content is not text
_UNFINISHED = frozenset({"new", "needs-translation", "initial"})


class _Unit(NamedTuple):
    source: str
    target: str
    left_out: str
    """Why the translation is not used; empty where it is."""


class Catalogue(NamedTuple):
    """All units of a file, and the languages that it names, or empty ones."""

    units: list[_Unit]
    languages: tuple[str, str]


def read_catalogue(
    path: Path, kind: Literal["po", "xliff"], *, languages: tuple[str, str] | None, notes: Notes, limits: Limits
) -> Iterator[tuple[str, str]]:
    """Every unit in order. One without a finished translation has an empty target, and is counted.

    Args: languages: where the file names its languages the other way round, its sides are swapped.
    """
    name = shown_name(path)
    data = _whole(path, limits=limits, xml=kind == "xliff")
    found = _parse_po(data, name=name) if kind == "po" else _parse_xliff(data, name=name)
    swapped = languages is not None and _swapped(found.languages, languages, name=name)
    for unit in found.units:
        if unit.left_out:
            notes.add(name, unit.left_out)
        target = "" if unit.left_out else unit.target
        left, right = one_line(unit.source), one_line(target)
        yield (right, left) if swapped else (left, right)


def _whole(path: Path, *, limits: Limits, xml: bool) -> bytes:
    with open_text(path, limits=limits, xml=xml) as stream:
        data = stream.read(limits.document_bytes + 1)
    if len(data) > limits.document_bytes:
        raise DataError(
            f"{shown_name(path)}: more than {limits.document_bytes:,} bytes, which is held in memory as a whole",
            expected="a smaller file",
            remedy="split it, or turn it into TSV: po2csv, xliff2po",
        )
    return data


def _swapped(found: tuple[str, str], wanted: tuple[str, str], *, name: str) -> bool:
    """Whether the file goes from the wanted target to the wanted source."""
    if all(not code or _same(code, asked) for code, asked in zip(found, wanted, strict=True)):
        return False
    if all(not code or _same(code, asked) for code, asked in zip(found, wanted[::-1], strict=True)):
        return True
    named = " to ".join(code or "?" for code in found)
    raise DataError(
        f"{name}: from {named}, as the file says",
        expected=f"{wanted[0]} and {wanted[1]}",
        remedy=f"if that is right: --corpus FILE,languages={found[0] or wanted[0]}:{found[1]}",
    )


def _same(code: str, other: str) -> bool:
    one, two = (text.lower().replace("_", "-").split("-")[0] for text in (code, other))
    return one == two


def _missing(name: str, error: ImportError) -> DataError:
    return DataError(
        f"{name}: PO and XLIFF are read by the Translate Toolkit, which is not installed ({error})",
        remedy="pip install 'vitrail[formats]'",
    )


# ---- PO ------------------------------------------------------------------------------------------------------------------------


def _parse_po(data: bytes, *, name: str) -> Catalogue:
    try:
        from translate.storage.pypo import pofile
    except ImportError as error:
        raise _missing(name, error) from None
    try:
        store: Any = pofile.parsestring(data)
        units = [_po_unit(unit) for unit in store.units if not unit.isheader() and str(unit.source)]
        language = str(store.parseheader().get("Language", "")) if store.units else ""
    except Exception as error:  # any error of its parser
        raise DataError(f"{name}: not PO ({type(error).__name__}: {error})", expected="msgid and msgstr, as gettext writes them") from None
    if not units:
        raise DataError(f"{name}: holds no messages", expected="msgid and msgstr, as gettext writes them")
    return Catalogue(units, ("", language))


def _po_unit(unit: Any) -> _Unit:
    """The first of the plural forms: the singular."""
    source, target = (str(getattr(side, "strings", [side])[0]) for side in (unit.source, unit.target))
    if unit.isobsolete():
        return _Unit(source, target, "obsolete message, left out")
    if unit.isfuzzy():
        return _Unit(source, target, "fuzzy translation, left out")
    return _Unit(source, target, "" if target else "message without translation, left out")


# ---- XLIFF ---------------------------------------------------------------------------------------------------------------------


def _parse_xliff(data: bytes, *, name: str) -> Catalogue:
    version = _look_through(data, name=name)
    try:
        from translate.storage.xliff import xlifffile
        from translate.storage.xliff2 import Xliff2File
    except ImportError as error:
        raise _missing(name, error) from None
    try:
        store: Any = (Xliff2File if version.startswith("2") else xlifffile).parsestring(data)
        units = [_xliff_unit(unit) for unit in store.units]
        languages = (str(store.getsourcelanguage() or ""), str(store.gettargetlanguage() or ""))
    except Exception as error:  # any error of its parser
        raise DataError(f"{name}: not XLIFF ({type(error).__name__}: {error})", expected="XLIFF 1.2 or 2.0") from None
    if not units:
        raise DataError(f"{name}: holds no units to translate", expected="XLIFF 1.2 or 2.0 with <source> and <target>")
    return Catalogue(units, languages)


def _look_through(data: bytes, *, name: str) -> str:
    """The version that the outermost element names. Raises DataError for XML with entities, malformed XML, or another format."""
    parser, seen = expat.ParserCreate(), list[tuple[str, str]]()

    def refuse(found: str) -> None:
        raise DataError(f"{name}:{parser.CurrentLineNumber}: {found}", expected="plain XLIFF: <xliff> with <source> and <target>")

    def doctype(_name: str, _system: str | None, _public: str | None, has_internal_subset: int) -> None:
        if has_internal_subset:
            refuse("its DOCTYPE holds declarations (an internal subset)")

    def entity(*_: object) -> None:
        refuse("declares an entity, or uses one that only a DTD could define")

    def start(tag: str, attributes: dict[str, str]) -> None:
        if not seen:
            seen.append((tag, attributes.get("version", "")))

    parser.StartDoctypeDeclHandler, parser.StartElementHandler = doctype, start
    parser.EntityDeclHandler, parser.SkippedEntityHandler = entity, entity
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DataError(f"{name}: not well-formed XML ({error})", expected="XLIFF") from None
    if seen[0][0].rpartition(":")[2] != "xliff":
        refuse(f"the outermost element is <{seen[0][0][:40]}>")
    return seen[0][1]


def _xliff_unit(unit: Any) -> _Unit:
    source, target = _text(unit.source_dom), _text(unit.target_dom)
    state = "" if unit.target_dom is None else unit.target_dom.get("state") or unit.xmlelement.get("state") or ""
    unfinished = not target or state in _UNFINISHED
    return _Unit(source, target, "unit without finished translation, left out" if unfinished else "")


def _text(element: Any) -> str:
    """The text of an element, without codes and their content."""
    if element is None:
        return ""
    parts = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str) and child.tag.rpartition("}")[2] not in _CODES:
            parts.append(_text(child))
        parts.append(child.tail or "")
    return "".join(parts)
