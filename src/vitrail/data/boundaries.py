"""Sentence splitting in any script; a doubtful end is no end."""

import re
from typing import NamedTuple

from vitrail.data.cleaning.normalise import has_letters_or_digits


class TextPart(NamedTuple):
    """A part of a text, the white space and invisible marks after it, and whether it was cut inside a sentence."""

    text: str
    separator: str
    cut: bool = False


# Unicode's Sentence_Terminal marks, by what has to follow them. Left out: the Burmese ၊ and others that part clauses as well.
# Marks that belong to one script and end a sentence everywhere: full-width ones, danda, Khmer, Burmese, Ethiopic, ...
ALWAYS = (
    "。！？｡︒﹖﹗।॥។៕။።፧፨᙮᜵᜶᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫߹܀܁܂༎"
    "\U00011047\U00011048\U000110c0\U000110c1\U00011141\U00011142\U000111c5\U00011238\U000115c2\U00011641\U0001144b"
)
# Marks that need white space after them, because they also occur in numbers, names and abbreviations.
BEFORE_SPACE = ".!?…‽‼⁇⁈⁉؟؞۔։⸮．"
CLOSING_MARKS = "\"'”’»›)]」』】）》〉"
OPENING_MARKS = "\"'“‘„«‹([¿¡—–-「『【（《〈"
_GOES_ON = ",;:、，；："
_CLOSING, _OPENING = re.escape(CLOSING_MARKS), re.escape(OPENING_MARKS)
UNSPACED = "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003134f"
"""Characters of scripts that write no spaces between sentences, as a regular expression has them in brackets."""
# Invisible marks occur between sentences as spaces do: of direction after Arabic and Hebrew ones, others in what was copied.
_UNSEEN = "\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001)))) + _UNSEEN
_BLANK = rf"[\s{_UNSEEN}]"
# Looking behind keeps a long row of marks from being tried again from each of them.
_END = re.compile(
    rf"[{ALWAYS}]+[{_CLOSING}]*{_BLANK}*"
    rf"|(?<![{BEFORE_SPACE}])[{BEFORE_SPACE}]+[{_CLOSING}]*(?:\s+[»›”])?{_BLANK}+"
    rf"|(?<=[{UNSPACED}])[!?．]+(?=[{UNSPACED}])"
    r"|(?<!፡)፡፡\s*"
    r"|(?<!།)།\s?།\s*"
    r"|(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e]\s+(?=[«\"“]?[\u0386-\u03ab\u1f08-\u1fec])"
    r"|(?<=[\u0561-\u0587]):\s+(?=[«\"“]?[\u0531-\u0556])",
)
# Every end begins with one of these: looking for them first takes a tenth of the time. In ASCII, every end has the second.
_MARK = re.compile(rf"[{ALWAYS}{BEFORE_SPACE}፡།;:\u037e]")
_ASCII_END = re.compile(r"[.!?][\"')\]]*\s")
_FIRST = re.compile(rf"[{_OPENING}\s{_UNSEEN}]*(.?)", re.DOTALL)
_AFTER_QUOTE = re.compile(rf"[」』][\u3040-\u309f]|[^」』][^{_OPENING}]")
_LOOKED_BACK = 40
_ASKED = re.compile(r"[^\d\s]\s?[!?؟]$")
_LONG_WORD = re.compile(r"(?<=\s)[^\s\d.]{5,}\.$")
_FULL_STOP = re.compile(r"[^.]\.$")
_LAST_WORD = re.compile(r"([^\s(\[\"'“‘„«‹’]*)\.$")
# No word that often ends a sentence, and no short one that a number follows: before a digit only long words end.
_ENGLISH = "mr mrs ms dr ph.d prof st vs e.g i.e cf vol fig pp eds al approx dept est gen col capt lt sgt rev hon gov sen rep"
_FRENCH = "mm mme mmes mlle mlles mgr p.ex env chap boul bd"
_GERMAN = "hr frl med z.b d.h u.a bzw ca nr str hrsg evtl ggf inkl sog vgl"
_RUSSIAN = "т.е т.д т.п т.к им ул стр гр проф акад св"
_OTHERS = """sr sra srta ud uds dña pág núm sig sigg dott avv ing geom dhr mevr drs nl bijv śp ul tzn tzw np mgr inż dr.hab tj např tzv
sv bl.a t.ex dvs f.eks jf kts esim ang angl niem plkst αρ κ.κ डॉ श्री প্রো ডা திரு দ্র"""
ABBREVIATIONS = frozenset(" ".join((_ENGLISH, _FRENCH, _GERMAN, _RUSSIAN, _OTHERS)).split())
_INITIALS_OR_ORDINAL = re.compile(r"[^\W\d_]|(?:[^\W\d_]\.-?)+[^\W\d_]|\d{1,3}")
_ROMAN = re.compile("[IVXLCDM]{2,}")


def split_sentences(text: str) -> list[TextPart]:
    """Split text after its sentences; parts with their separators give the text back exactly.

    A doubtful end is no end: a missed end makes a longer part, a false one breaks a sentence. A full stop after an abbreviation, an initial
    or a lone number, or before a small letter, ends no sentence; before a digit it does only after a long word in small letters. In text
    without capitals, small letters do not count. A sentence has a letter or a digit. Thai and Lao are not split (a space ends sentences
    there, but has other uses), nor is text at a single Tibetan shad.
    """
    parts: list[TextPart] = []
    start, lowercased = 0, text.islower() and text[:1].isalpha()
    mark = _MARK.search(text) if not text.isascii() or _ASCII_END.search(text) else None
    for end in () if mark is None else _END.finditer(text, mark.start()):
        upto = end.start() + len(end.group().rstrip(_BLANKS))
        if _is_end(text, start, upto, end.end(), lowercased=lowercased):
            parts.append(TextPart(text[start:upto], text[upto : end.end()]))
            start = end.end()
    rest = text[start:]
    if parts and rest and not has_letters_or_digits(rest):
        last = parts.pop()
        rest = last.text + last.separator + rest
    if rest or not parts:
        parts.append(TextPart(rest.rstrip(), rest[len(rest.rstrip()) :]))
    return parts


def count_sentences(text: str) -> int:
    """The number of sentences that `split_sentences` finds."""
    return len(split_sentences(text)) if _END.search(text) else 1


def _is_end(text: str, start: int, upto: int, following: int, *, lowercased: bool) -> bool:
    said = text[start:upto].rstrip(CLOSING_MARKS).rstrip()
    if not has_letters_or_digits(said):
        return False
    first = _FIRST.match(text, following)
    after = first[1] if first else ""
    if after and after in _GOES_ON:
        return False
    if said[-1] not in BEFORE_SPACE:
        # A quotation ends inside a sentence where more is said: 「…。」と…, “…。”他说
        quoted = len(said) < upto - start and upto == following < len(text)
        inside = quoted and bool(_AFTER_QUOTE.match(text, upto - 1))
        return not inside and not text.startswith("ល។", upto) and not said.endswith("។ល។")  # Khmer for "and so on"
    end = said[-_LOOKED_BACK:]  # all of it, from each end, would take quadratic time
    sure = len(said) == upto - start and bool(_ASKED.search(end))
    # A letter is small where it has a greater form; Georgian ones have none in running text.
    small = after.islower() and after != after.title() and not (lowercased and (sure or _FULL_STOP.search(end)))
    long = _LONG_WORD.search(end)
    if small or (after.isdigit() and not sure and not (long and long[0] == long[0].lower())):
        return False
    word = _LAST_WORD.search(text, max(start, upto - 20), upto)
    if word is None:
        return True
    bare = word[1].casefold()
    return not (bare in ABBREVIATIONS or _INITIALS_OR_ORDINAL.fullmatch(bare) or _ROMAN.fullmatch(word[1]))
