"""Recognise a file that is not text by its first bytes, with a remedy."""

import tarfile
from typing import NamedTuple


class NonText(NamedTuple):
    """A kind of file that cannot be read as text."""

    what: str
    remedy: str
    """`{name}` stands for the file."""


_DOCUMENT = "save it as plain text or TSV"
_UNPACK = "unpack it first, and give the files that are in it"
_STARTS = (
    (b"\xff\xfe\x00\x00", NonText("UTF-32", "convert it: iconv -f UTF-32 -t UTF-8 {name} > new-file")),
    (b"\x00\x00\xfe\xff", NonText("UTF-32", "convert it: iconv -f UTF-32 -t UTF-8 {name} > new-file")),
    (b"\xff\xfe", NonText("UTF-16", "convert it: iconv -f UTF-16 -t UTF-8 {name} > new-file")),
    (b"\xfe\xff", NonText("UTF-16", "convert it: iconv -f UTF-16 -t UTF-8 {name} > new-file")),
    (b"%PDF-", NonText("a PDF document", "take its text out first, for example with pdftotext")),
    (b"{\\rtf", NonText("an RTF document", _DOCUMENT)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", NonText("an old Office document", _DOCUMENT)),
    (b"7z\xbc\xaf\x27\x1c", NonText("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", NonText("a RAR archive", _UNPACK)),
    (b"\x04\x22\x4d\x18", NonText("lz4-compressed", _UNPACK)),
    (b"LZIP\x01", NonText("lzip-compressed", _UNPACK)),
    (b"\x1f\x9d", NonText("compressed by `compress`", _UNPACK)),
    (b"PAR1", NonText("a Parquet table", "write its two columns as TSV or JSONL first")),
    (b"ARROW1\x00\x00", NonText("an Arrow table", "write its two columns as TSV or JSONL first")),
    (b"SQLite format 3\x00", NonText("an SQLite database", "write its two columns as TSV or JSONL first")),
    (b"\xde\x12\x04\x95", NonText("a compiled gettext catalogue", "make a .po of it: msgunfmt {name} > new-file.po")),
    (b"\x95\x04\x12\xde", NonText("a compiled gettext catalogue", "make a .po of it: msgunfmt {name} > new-file.po")),
    (b"\x89PNG\r\n\x1a\n", NonText("a picture", "name a text file")),
    (b"\x7fELF", NonText("a program", "name a text file")),
    (b"version https://git-lfs.github.com/spec/", NonText("a Git LFS pointer, not the file itself", "fetch the file: git lfs pull")),
)
_IN_ZIP = (
    (b"word/", NonText("a Word document", _DOCUMENT)),
    (b"xl/", NonText("an Excel workbook", _DOCUMENT)),
    (b"mimetypeapplication/vnd.oasis.opendocument", NonText("an OpenDocument file", _DOCUMENT)),
    (b"mimetypeapplication/epub", NonText("an EPUB book", _DOCUMENT)),
)
_WEB_PAGES = (b"<!doctype html", b"<html")
_ENOUGH = 256
"""Bytes examined before shares of them count."""
_CONTROLS = bytes({*range(8), *range(14, 27), *range(28, 32), 127})


def detect_non_text(head: bytes, *, xml: bool = False) -> NonText | None:
    """The kind of a file that begins with these bytes (some kilobytes, already decompressed); None where it can be text.

    Args: xml: XML is expected. It names its own encoding, so UTF-16 is allowed, and its parser rejects what is not XML.
    """
    for start, found in _STARTS:
        if head.startswith(start):
            return None if xml and found.what == "UTF-16" else found
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return next((found for mark, found in _IN_ZIP if mark in head), NonText("a zip archive", _UNPACK))
    if not xml and head[:64].lstrip().lower().startswith(_WEB_PAGES):
        return NonText("a web page, perhaps one with the reason why a download failed", "open it in a browser, and download the text again")
    if b"\x00" in head:
        return _with_zeros(head, xml=xml)
    if len(head) >= _ENOUGH and _share_of_controls(head) > 0.1:
        return NonText("binary data", "name a text file")
    if len(head) >= _ENOUGH and b"\n" not in head and head.count(b"\r") >= 8:
        return NonText("text with the line ends of old Macintoshes (CR alone)", "convert it: tr '\\r' '\\n' < {name} > new-file")
    return None


def _with_zeros(head: bytes, *, xml: bool) -> NonText | None:
    if _is_tar(head):
        return NonText("a tar archive", "unpack it first: tar -xf {name}; and give the files that are in it")
    zeros = max(head[::2].count(0) / len(head[::2]), head[1::2].count(0) / len(head[1::2])) if len(head) >= 16 else 0.0
    if zeros > 0.5 and head.count(0) < 0.9 * len(head):
        return None if xml else NonText("UTF-16 or UTF-32", "convert it: iconv -f UTF-16 -t UTF-8 {name} > new-file")
    if len(head) >= _ENOUGH and _share_of_controls(head) > 0.1:
        return NonText("binary data", "name a text file")
    return None


def _is_tar(head: bytes) -> bool:
    """Checks the checksum in the header, so that old archives are recognised too."""
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _share_of_controls(head: bytes) -> float:
    """Bytes that are rare in text: C0 controls except tab, line ends, form feed and escape."""
    return 1 - len(head.translate(None, _CONTROLS)) / len(head)
