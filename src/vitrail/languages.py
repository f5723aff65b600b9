"""Language codes of all usual forms, scripts, and the script of a text.

Codes go through langcodes (BCP 47, ISO 639 in all its parts, the usual script of a language by CLDR); characters through the script
property of Unicode as `regex` has it. Whether a language has spaces between words depends on its script, not on a list of languages:
Javanese in Latin letters has spaces, Javanese in its own script has none.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import regex

from vitrail.errors import UsageError

UNSPACED_SCRIPTS = (
    *("Hani", "Hira", "Kana", "Bopo", "Yiii", "Tang", "Nshu", "Kits"),
    *("Thai", "Laoo", "Khmr", "Mymr", "Tale", "Talu", "Lana", "Tavt", "Ahom"),
    *("Tibt", "Java", "Bali", "Bugi", "Batk", "Maka"),
)
"""Scripts without spaces between words, by their ISO 15924 codes: those whose lines break between any two signs (Han, kana, Yi), by a
dictionary (Thai to Ahom) or between syllables (Tibetan, Javanese) by the rules of Unicode (UAX 14)."""

UNSPACED_CLASS = "".join(rf"\p{{Script={code}}}" for code in UNSPACED_SCRIPTS) + "ーｰ"
"""The signs of these scripts, for use between [ and ] in a pattern of `regex` (`re` knows no scripts). The long vowel marks of kana are
listed separately, since Unicode assigns them to no single script."""

# Script codes that cover several scripts of Unicode, or a variant of one.
_AS_WRITTEN = {
    "Hans": "Hani",
    "Hant": "Hani",
    "Hanb": "Hani",
    "Hira": "Jpan",
    "Kana": "Jpan",
    "Hrkt": "Jpan",
    "Hang": "Kore",
    "Aran": "Arab",
    "Latf": "Latn",
    "Latg": "Latn",
    "Cyrs": "Cyrl",
    "Syre": "Syrc",
    "Syrj": "Syrc",
    "Syrn": "Syrc",
}
# Tried first, as almost every text uses almost only these letters.
_COMMON = ("Latn", "Hani", "Hira", "Kana", "Cyrl", "Arab", "Deva", "Hang", "Thai", "Grek", "Hebr", "Beng", "Taml", "Telu", "Mymr", "Khmr")
_LETTER = regex.compile(r"\p{L}")
# Texts that mix Han and kana are Japanese from this share of kana on: Chinese has an occasional kana.
_KANA_SHARE = 0.05
# From this share of letters of unspaced scripts on, a text counts as unspaced; the rest are quotations.
_UNSPACED_SHARE = 0.3
# More letters between spaces, on average, than in any spaced language: of 117 such ones the longest, Malayalam, has 9.
_UNPARTED_LETTERS = 20

# In the name of a file, `en-fr` is a pair of languages, not the English of France. These are regions all the same.
_PAIR = regex.compile(r"\p{Ll}{2,3}-(\p{Ll}{2,3})")
_REGIONS = ("fr-ca", "pt-br", "zh-tw")
_ENDINGS = """
txt src tgt trg source target tok tc bpe spm raw low lc tsv tmx csv xml json jsonl snt sgm po xlf gz bz2 xz zst zip
train training dev devtest valid val test clean norm final all new old out in"""
_NO_LANGUAGE = frozenset(_ENDINGS.split())
_SIDES = {"src", "tgt", "trg", "source", "target"}


@dataclass(frozen=True)
class Language:
    """A language, given by a code. `en`, `eng`, `ENG` and `eng_Latn` are equal; `zh_Hans` and `zh_Hant` are not.

    Regions do not count when two are compared: `pt_BR` and `pt` are one language.
    """

    code: str
    """The shortest one, as BCP 47 has it: "en", "zh" (also for cmn), "yue"."""
    script: str = ""
    """By ISO 15924: the given one, else the usual one of that language and region; empty where unknown."""
    region: str = field(default="", compare=False)
    """Such as "BR", if given."""

    @property
    def unspaced(self) -> bool:
        """Whether it is written without spaces between words."""
        return _written(self.script) in _UNSPACED_WRITINGS

    def is_written(self, writing: "Writing") -> bool:
        """Whether a text may be in this language, by its script. True where either is unknown."""
        return not (self.script and writing.script) or _written(self.script) == writing.script

    def __str__(self) -> str:
        return self.code


@cache
def find_language(code: str) -> Language | None:
    """Read a code of any usual form, in any case: en, eng, zho_Hans, zh-CN, pt_BR, jpn, cmn, yue-Hant. None where it is not one.

    Also None for a well-formed code that is not registered, and for special and private codes (und, zxx, x-mine).
    """
    import langcodes

    try:
        tag = langcodes.Language.get(langcodes.standardize_tag(code.strip(), macro=True))
    except (langcodes.LanguageTagError, ValueError):
        return None
    if tag.language is None or tag.language in ("und", "mis", "mul", "zxx") or tag.language.startswith("x-") or not tag.is_valid():
        return None
    # For a language without a row, CLDR answers "Latin, US", which is only a guess.
    usual = tag.maximize().script if tag.language in _languages_with_script() else None
    script = tag.script or usual or ""
    return Language(tag.language, "Kore" if script == "Hang" else script, tag.territory or "")


@cache
def _languages_with_script() -> frozenset[str]:
    from langcodes.data_dicts import LIKELY_SUBTAGS

    return frozenset(key.split("-")[0] for key in LIKELY_SUBTAGS)


def parse_language(code: str) -> Language:
    """`find_language` for user input. Raises UsageError where that is no code."""
    found = find_language(code)
    if found is None:
        raise UsageError(
            f"language {code!r}", expected="a code of a language, such as fr, fra or fra_Latn", remedy="look for it in ISO 639-3"
        )
    return found


def same_language(first: str, second: str) -> bool:
    """Whether two codes name one language; unknown codes are compared as text."""
    return (find_language(first) or first.casefold()) == (find_language(second) or second.casefold())


def language_of_file(name: str) -> str:
    """The language code at the end of a file's name, as written: `train.en`, `corpus.zho_Hans.gz`, `dev.tok.fr.txt`, `eng_Latn.dev`.

    Returns: empty where it names none. A whole name (`fr.txt`) counts only where it is a code of two letters or has a script with it, and
    nothing after it tells the side (`ht.src`, `ht.trg`: one name of two texts).
    """
    parts, endings = name.split("."), set[str]()
    while len(parts) > 1 and parts[-1].casefold() in _NO_LANGUAGE:
        endings.add(parts.pop().casefold())
    last = parts[-1]
    pair = None if last in _REGIONS else _PAIR.fullmatch(last)
    if last.casefold() in _NO_LANGUAGE or find_language(last) is None or (pair and find_language(pair[1])):
        return ""
    if len(parts) == 1 and (endings & _SIDES or (len(last) != 2 and not regex.search(r"[-_]\p{L}{4}$", last))):
        return ""
    return last


class Writing(NamedTuple):
    """The scripts of a text."""

    scripts: dict[str, float]
    """The share of its letters in each script, the most used first."""
    letters_between_spaces: float
    """Mean number of letters between spaces."""

    @property
    def script(self) -> str:
        """The main one: "Latn", "Jpan" (Han with kana), "Hani" (Han alone), "Kore", ...; empty where there are no letters."""
        han, kana, bopomofo = (self.share(*codes) for codes in (("Hani",), ("Hira", "Kana"), ("Bopo",)))
        shares = {code: share for code, share in self.scripts.items() if code not in ("Hani", "Hira", "Kana", "Bopo")}
        shares["Jpan" if kana > _KANA_SHARE * (han + kana) else "Hani"] = han + kana + bopomofo
        main = max(shares, key=lambda code: shares[code])
        return _written(main) if shares[main] else ""

    @property
    def unspaced(self) -> bool:
        """Whether there are no spaces between words: by the scripts, or by the text itself."""
        return self.unspaced_share >= _UNSPACED_SHARE or self.letters_between_spaces > _UNPARTED_LETTERS

    @property
    def unspaced_share(self) -> float:
        """The share of letters in scripts that have no spaces between words."""
        return self.share(*UNSPACED_SCRIPTS)

    @property
    def parted(self) -> bool:
        """Whether a text in an unspaced script has separated words: it was tokenised."""
        return self.unspaced_share >= _UNSPACED_SHARE and self.letters_between_spaces < _CUT_LETTERS

    def share(self, *codes: str) -> float:
        """The share of letters in these scripts."""
        return sum(self.scripts.get(code, 0.0) for code in codes)


# Text of an unspaced script that was not tokenised has 11 (Burmese) to 55 (Tibetan) letters between two spaces.
_CUT_LETTERS = 5
_UNSPACED_WRITINGS = frozenset((*UNSPACED_SCRIPTS, "Jpan"))


def _written(script: str) -> str:
    return _AS_WRITTEN.get(script, script)


def writing_of(texts: Iterable[str]) -> Writing:
    """Find the scripts of all letters of some texts. Cost: linear; about 10 ms for 100,000 characters."""
    counts: Counter[str] = Counter()
    stretches = 0
    for text in texts:
        counts.update(text)
        stretches += sum(1 for piece in text.split() if _LETTER.search(piece))
    letters = {sign: count for sign, count in counts.items() if _LETTER.match(sign)}
    total = sum(letters.values())
    found = {code: sum(letters[sign] for sign in signs) / total for code, signs in _by_script(letters)} if total else {}
    return Writing(dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))), total / stretches if stretches else 0.0)


def is_unspaced(sign: str) -> bool:
    """Whether a letter belongs to a script that has no spaces between words."""
    return any(_script_pattern(code).match(sign) for code in UNSPACED_SCRIPTS)


def _by_script(signs: Iterable[str]) -> Iterable[tuple[str, list[str]]]:
    """Signs by their script, without those of no single script, except kana's long vowel marks."""
    left = "".join(signs)
    for code in (*_COMMON, *_other_scripts()):
        if not left:
            return
        pattern = _script_pattern(code)
        if found := pattern.findall(left):
            yield code, found
            left = pattern.sub("", left)


@cache
def _script_pattern(code: str) -> "regex.Pattern[str]":
    return regex.compile(rf"[\p{{Script={code}}}{'ーｰ' if code == 'Kana' else ''}]")


@cache
def _other_scripts() -> tuple[str, ...]:
    """The codes that `regex` knows: not those of variants (Hans), mixtures (Jpan) and notations (Zmth)."""
    from langcodes.data_dicts import ALL_SCRIPTS

    return tuple(sorted(code for code in ALL_SCRIPTS if code not in (*_COMMON, "Zinh", "Zyyy", "Zzzz") and _is_known(code)))


def _is_known(code: str) -> bool:
    try:
        regex.compile(rf"\p{{Script={code}}}")
    except regex.error:
        return False
    return True
