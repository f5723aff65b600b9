"""Cut long text at sentence ends, or where there are none between words, so that the parts put together are the text again."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple


class Part(NamedTuple):
    """A stretch of text, the white space that followed it, and whether it was cut inside a sentence."""

    text: str
    separator: str
    cut: bool = False


_CLOSING = r"\"'”’»›)\]」』】）》〉"
_OPENING = r"\"'“‘„«‹(\[¿¡—–\-"
# Marks that end a sentence wherever they stand, and those that need white space after them.
_ENDS_ALWAYS = "。！？｡"
_ENDS_BEFORE_SPACE = ".!?…‽؟۔।॥։"
# Looking behind keeps a long row of marks from being tried again from each of them.
_END = re.compile(
    rf"[{_ENDS_ALWAYS}]+[{_CLOSING}]*\s*|(?<![{_ENDS_BEFORE_SPACE}])[{_ENDS_BEFORE_SPACE}]+[{_CLOSING}]*(?:\s+[»›”])?\s+",
)
_STARTS_SMALL = re.compile(rf"[{_OPENING}\s]*[a-zß-öø-ÿа-яёα-ω0-9,;:]")
_LAST_WORD = re.compile(r"([^\s(\[\"'“‘„«‹’]*)\.$")
_ENGLISH = """
mr mrs ms dr prof st sr jr vs etc e.g i.e cf no nos vol fig p pp ed eds al approx dept est inc ltd co corp gen col capt lt sgt rev
hon gov sen rep jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun"""
_FRENCH = "m mm mme mmes mlle mlles me mgr pr p.ex av env chap art boul bd"
_GERMAN = "hr fr frl z.b d.h u.a usw bzw ca nr str hrsg evtl ggf inkl jh sog vgl"
_OTHERS = "sra srta ud uds dña pág núm sig sigg dott avv ing geom"
_ABBREVIATIONS = frozenset(" ".join((_ENGLISH, _FRENCH, _GERMAN, _OTHERS)).split())


def split_sentences(text: str) -> list[Part]:
    """Cut text after its sentences; parts with their separators give the text back exactly.

    Careful rather than complete: a full stop after an abbreviation, an initial or a number that stands alone, or before a small letter
    or a digit, ends nothing. A missed end makes a longer part, a false one breaks a sentence.
    """
    parts: list[Part] = []
    start = 0
    for end in _END.finditer(text):
        upto = end.start() + len(end.group().rstrip())
        if _is_end(text, start, upto, end.end()):
            parts.append(Part(text[start:upto], text[upto : end.end()]))
            start = end.end()
    rest = text[start:]
    if rest or not parts:
        parts.append(Part(rest.rstrip(), rest[len(rest.rstrip()) :]))
    return parts


def _is_end(text: str, start: int, upto: int, following: int) -> bool:
    if text[upto - 1] in _ENDS_ALWAYS or upto == following:
        return True
    if following < len(text) and _STARTS_SMALL.match(text, following):
        return False
    word = _LAST_WORD.search(text, max(start, upto - 20), upto)
    if word is None:
        return True
    bare = word[1].casefold()
    return bare not in _ABBREVIATIONS and not re.fullmatch(r"[^\W\d_]|(?:[^\W\d_]\.)+[^\W\d_]|\d{1,3}", bare)


def split_to_fit(text: str, *, length: Callable[[str], int], comfortable: int, limit: int) -> list[Part]:
    """Cut text longer than `comfortable` at its sentence ends, and any sentence longer than `limit` again near its middle.

    Args:
        length: how long a text is, for example in subwords.
        comfortable: what needs no cutting; at most `limit`.
        limit: what no part may exceed, unless it is a single character.
    Cost: `length` of all the text, once for every halving.
    """
    if length(text) <= comfortable:
        return [Part(text, "")]
    return [piece for part in split_sentences(text) for piece in _halve(part, length, limit)]


def _halve(part: Part, length: Callable[[str], int], limit: int) -> Iterator[Part]:
    text = part.text
    if len(text) <= 1 or length(text) <= limit:
        yield part
        return
    at, resume = _middle(text)
    yield from _halve(Part(text[:at], text[at:resume], cut=True), length, limit)
    yield from _halve(Part(text[resume:], part.separator, cut=True), length, limit)


def _middle(text: str) -> tuple[int, int]:
    """Where to cut: at the white space after a comma, else at white space, else after a mark, nearest to the middle and within its half."""
    middle = len(text) // 2
    low, high = len(text) // 4, len(text) - len(text) // 4
    for pattern in (r"(?<=[,;:、，；：])\s+", r"\s+", r"(?<=[^\w\s])(?=\w)"):
        places = [match.span() for match in re.finditer(pattern, text[low:high])]
        cuts = [(low + begin, low + end) for begin, end in places if low + begin > 0 and low + end < len(text)]
        if cuts:
            return min(cuts, key=lambda cut: abs(cut[0] - middle))
    return middle, middle
