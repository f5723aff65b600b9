"""Guess the encoding of a text that is not UTF-8, from some of its lines."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import regex

from vitrail.languages import find_language

_LINES = 200
_ENOUGH = 0.8


class Encoding(NamedTuple):
    """The usual name, Python's codec, and the languages written in this encoding."""

    name: str
    codec: str
    languages: str


# iconv knows all of these names. Of two equally good guesses the first wins.
_CANDIDATES = (
    Encoding("latin1", "cp1252", "en fr de es pt it nl sv da nb nn fi is ca gl eu sq af id ms sw fil ga"),
    Encoding("windows-1250", "cp1250", "pl cs sk hu sl hr bs ro"),
    Encoding("iso-8859-2", "iso8859_2", "pl cs sk hu sl hr bs ro"),
    Encoding("windows-1251", "cp1251", "ru uk bg sr mk be kk ky tg mn tt"),
    Encoding("koi8-r", "koi8_r", "ru bg"),
    Encoding("windows-1253", "cp1253", "el"),
    Encoding("windows-1254", "cp1254", "tr az"),
    Encoding("windows-1255", "cp1255", "he yi"),
    Encoding("windows-1256", "cp1256", "ar fa ur"),
    Encoding("windows-1257", "cp1257", "et lv lt"),
    Encoding("windows-1258", "cp1258", "vi"),
    Encoding("shift-jis", "cp932", "ja"),
    Encoding("euc-jp", "euc_jp", "ja"),
    Encoding("gb18030", "gb18030", "zh"),
    Encoding("big5", "cp950", "zh yue"),
    Encoding("euc-kr", "cp949", "ko"),
    Encoding("tis-620", "cp874", "th"),
)
_FOREIGN = regex.compile(r"[^\x00-\x7f]")
_SOUND_MARK = regex.compile(
    r"[\u2013-\u2026\u20ac\u00a0\u00ab\u00bb\u00b0\u00b7\u00bf\u00a1\u0e2f\u060c\u061b\u061f\u3000-\u3002\uff01-\uff1f]"
)
# A capital after a small letter, or letters of two scripts within one word: read in a wrong encoding.
_UNSOUND = regex.compile(r"(?<=\p{Ll})\p{Lu}|(?<=[A-Za-z])(?!\p{Script=Latin})\p{L}|(?!\p{Script=Latin})\p{L}(?=[A-Za-z])|[\x80-\x9f]")
_LETTER = regex.compile(r"[^\x00-\x7f\W\d_]")
_SCRIPTS = [regex.compile(rf"\p{{Script={name}}}") for name in ("Latin", "Cyrillic", "Greek", "Hebrew", "Arabic", "Thai")]
_PLAIN = regex.compile("[A-Za-z]")
_EAST_ASIAN = regex.compile(r"[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}]")
_KANA = regex.compile(r"[\u3041-\u30fa]")
_HANGUL = regex.compile(r"\p{Script=Hangul}")
_COMMON_HAN = regex.compile(
    "[的一是不了在人有我他這这中大來来上國国個个到說说們们為为子和你地出道也時时年得就那要下以生會会自著着去之過过家學学對对可她里裡後后]"
)
_COMMON_SHARE = 0.12
"""A quarter of the characters of Chinese text are these common ones; other text read as Chinese has hardly any."""


def guess_encoding(lines: Iterable[bytes], *, language: str = "") -> str:
    """The iconv name of the encoding that fits these lines best; empty where none fits.

    Args: lines: with bytes that are not UTF-8. language: a code, if known; among equal guesses its own encodings win.
    """
    kept = [line for line, _ in zip((line for line in lines if not line.isascii()), range(_LINES), strict=False)]
    found = find_language(language) if language else None
    code = found.code if found else ""
    # To a twentieth: closer ones are equals.
    scored = [
        (round(20 * _plausibility(kept, one)) / 20 + (code in one.languages.split()) * 0.1, -place) for place, one in enumerate(_CANDIDATES)
    ]
    best, place = max(scored)
    if not kept or best < _ENOUGH:
        return ""
    name = _CANDIDATES[-place].name
    # Bytes that are control characters in Latin-1 are quotation marks in Windows.
    return "windows-1252" if name == "latin1" and any(0x80 <= byte <= 0x9F for line in kept for byte in line) else name


def _plausibility(lines: Sequence[bytes], encoding: Encoding) -> float:
    """0 for bytes that this encoding cannot decode, about 1 for a result that looks like text."""
    try:
        text = b"\n".join(lines).decode(encoding.codec)
    except UnicodeDecodeError:
        return 0.0
    foreign = len(_FOREIGN.findall(text))
    letters = "".join(_LETTER.findall(text))
    marks = len(_SOUND_MARK.findall(text))
    if not foreign:
        return 0.0
    sound = min(1.0, (len(letters) + marks) / foreign) - 2 * len(_UNSOUND.findall(text)) / foreign
    if _EAST_ASIAN.search(letters):
        return sound * _east_asian(letters)
    return sound * _one_script(letters, plain=len(_PLAIN.findall(text)))


def _one_script(letters: str, *, plain: int) -> float:
    """Latin text has more letters without marks than with marks."""
    shares = [len(script.findall(letters)) / max(1, len(letters)) for script in _SCRIPTS]
    return max(shares[0] if len(letters) <= plain else 0.0, *shares[1:]) if letters else 0.5


def _east_asian(letters: str) -> float:
    """Japanese has kana, Korean is Hangul, Chinese has its common characters: a wrong guess gives none of these."""
    japanese = min(1.0, len(_KANA.findall(letters)) / len(letters) / 0.2)
    chinese = min(1.0, len(_COMMON_HAN.findall(letters)) / len(letters) / _COMMON_SHARE)
    korean = len(_HANGUL.findall(letters)) / len(letters)
    return max(japanese, chinese, korean)
