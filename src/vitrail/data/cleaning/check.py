"""Check the first lines of all texts before they are prepared: refuse or report what would spoil a training."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from math import sqrt
from typing import NamedTuple

from vitrail.data.data_config import DataConfig
from vitrail.data.reading.formats.layout import shorten_cell
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.errors import DataError
from vitrail.languages import Language, Writing, find_language, writing_of

_PAIRS = 500
_CHARACTERS = 200_000
_LETTERS = 1_500
"""The letters of a shorter text are not compared."""
_UNLIKE, _LIKE = 0.45, 0.55
"""Cosines of trigrams. Texts of one language, such as captions and manuals, have 0.56 or more; of two languages that are not close
relatives, 0.43 at most, or 0.54 where both are full of names (measured on 7 corpora in English, French, German, and 128 languages)."""
_ONE_SCRIPT = 0.8
_MOST_IN_SUBWORDS, _SOME_IN_SUBWORDS = 0.2, 0.01
_SUBWORDS = (
    (re.compile(r"\S@@(?= |$)"), "@@", "sed -E 's/@@( |$)//g'"),
    (re.compile(r"(?:^| )▁\S"), "▁", "sed 's/ //g; s/▁/ /g; s/^ //'"),
    (re.compile(r"\S￭|￭\S"), "￭", "sed -E 's/ ?￭ ?//g'"),
    (re.compile(r"\S ##[^\W_]"), "##", "sed 's/ ##//g'"),
)
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_COPIES = 0.9
_NO_LETTERS = re.compile(r"[\W\d_]+")
_TOKENISED = re.compile(r"&(?:apos|quot|#91|#93|#124);| @-@ ")
_SIDES = ("source", "target")


class _Side(NamedTuple):
    """The first lines of one side of a text."""

    lines: list[str]
    script: str
    """The main script, where there is hardly any other."""
    unspaced: bool
    trigrams: Counter[str]

    @property
    def example(self) -> str:
        return shorten_cell(next((line for line in self.lines if line.strip()), ""))


class _Sample(NamedTuple):
    name: str
    text: ParallelText
    sides: tuple[_Side, _Side]


def check_texts(config: DataConfig, *, say: Callable[[str], None]) -> None:
    """Report how texts are read where that was guessed, and what is unusual in them.

    Raises: DataError for text that is in subwords already, whose sides are the other way round, or that is scored on in another script.
    """
    samples = [_sample(name, text) for name, text in config.texts()]
    for sample in samples:
        if told := sample.text.describe():
            say(told)
        for side, looks in zip(_SIDES, sample.sides, strict=True):
            _require_words(sample, side, looks, words_wanted=config.subwords.kind == "word", say=say)
        _tell_copies(sample, say=say)
    _check_codes(samples[0], config.languages, say=say)
    for sample in (sample for sample in samples[1:] if sample.text.tag == samples[0].text.tag):
        _compare(sample, samples[0], say=say)


def _sample(name: str, text: ParallelText) -> _Sample:
    sides: tuple[list[str], list[str]] = ([], [])
    characters = 0
    for pair in islice(text.pairs(), _PAIRS):
        for lines, line in zip(sides, pair[:2], strict=True):
            lines.append("" if _NOT_UTF8.search(line) else line)  # cleaning reports those
        characters += len(pair.source) + len(pair.target)
        if characters > _CHARACTERS:
            break
    return _Sample(name, text, (_look(sides[0]), _look(sides[1])))


def _look(lines: list[str]) -> _Side:
    writing = writing_of(line[:_CHARACTERS] for line in lines)
    main = next(iter(writing.scripts.values()), 0.0)
    plain = main >= _ONE_SCRIPT or writing.script in ("Jpan", "Kore")
    return _Side(lines, writing.script if plain else "", writing.unspaced, _trigrams(lines))


def _trigrams(lines: Sequence[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in lines:
        words = _NO_LETTERS.sub(" ", line[:_CHARACTERS].lower()).split()
        letters = f" {' '.join(words)} "
        found.update(letters[place : place + 3] for place in range(len(letters) - 2))
    return found


def _likeness(one: _Side, other: _Side) -> float | None:
    """The cosine of their trigrams; None where it is not meaningful: too little text, or no spaces between words."""
    if one.unspaced or other.unspaced or min(one.trigrams.total(), other.trigrams.total()) < _LETTERS:
        return None
    product = sum(count * other.trigrams[gram] for gram, count in one.trigrams.items())
    norms = [sqrt(sum(count * count for count in side.trigrams.values())) for side in (one, other)]
    return product / (norms[0] * norms[1])


# ---- subwords ------------------------------------------------------------------------------------------------------------------


def _require_words(sample: _Sample, side: str, looks: _Side, *, words_wanted: bool, say: Callable[[str], None]) -> None:
    where = f"{sample.name} ({sample.text.label}): the {side}"
    for pattern, mark, cure in _SUBWORDS:
        marked = [line for line in looks.lines if pattern.search(line)]
        share = len(marked) / max(1, len(looks.lines))
        if share >= _MOST_IN_SUBWORDS and not words_wanted:
            raise DataError(
                f"{where} is in subwords already ({mark} in {len(marked)} of the first {len(looks.lines)} lines):"
                f" {shorten_cell(marked[0])}",
                expected="text as people write it; subwords are learned from it",
                remedy=f"remove the marks: {cure}; or use the tokens as words: --set data.subwords.kind=word",
            )
        if share >= _SOME_IN_SUBWORDS and len(marked) >= 3:
            say(f"{where} has marks of subwords ({mark}) in {len(marked)} of the first {len(looks.lines)} lines: {shorten_cell(marked[0])}")
    escaped = [line for line in looks.lines if _TOKENISED.search(line)]
    if len(escaped) >= max(3, 0.05 * len(looks.lines)):
        say(f"{where} was tokenised by Moses; text to translate later must be tokenised in the same way: {shorten_cell(escaped[0])}")


def _tell_copies(sample: _Sample, *, say: Callable[[str], None]) -> None:
    """Warn of pairs with equal sides: a model learns to copy from them. A few are common: names, and untranslated text."""
    source, target = (side.lines for side in sample.sides)
    same = [one for one, other in zip(source, target, strict=True) if one.strip() and one.split() == other.split()]
    if len(same) >= max(20, _COPIES * len(source)):
        where = f"{sample.name} ({sample.text.label})"
        say(f"warning: {where}: source and target are the same in {len(same)} of the first {len(source)} pairs: {shorten_cell(same[0])}")


# ---- languages -----------------------------------------------------------------------------------------------------------------


def _check_codes(first: _Sample, codes: tuple[str, str], *, say: Callable[[str], None]) -> None:
    """Compare the codes of the languages with the scripts of the first corpus."""
    languages = [find_language(code) if code else None for code in codes]
    fits = [[_written_in(code and code.script, side.script) for side in first.sides] for code in languages]
    if not fits[0][0] and not fits[1][1] and fits[0][1] and fits[1][0]:
        raise _swapped(first, f"{codes[0]} to {codes[1]}, as its names say")
    for place, (side, code) in enumerate(zip(_SIDES, codes, strict=True)):
        if not fits[place][place]:
            looks = first.sides[place]
            say(f"{first.name} ({first.text.label}): the {side} is named {code}, but is written in {looks.script} script: {looks.example}")


def _written_in(script: str | None, found: str) -> bool:
    return not script or not found or Language("", script).is_written(Writing({found: 1.0}, 5.0))


def _compare(sample: _Sample, first: _Sample, *, say: Callable[[str], None]) -> None:
    """Compare the scripts and letters of a text with those of the first corpus."""
    if _is_swapped(sample, first):
        raise _swapped(sample, f"as {first.name} ({first.text.label})")
    scored = not sample.name.startswith(("data.corpora", "data.old"))  # old text, and its dev set, are of what the model knew before
    for side, looks, usual in zip(_SIDES, sample.sides, first.sides, strict=True):
        where = f"{sample.name} ({sample.text.label}): the {side}"
        if looks.script and usual.script and looks.script != usual.script:
            found = f"{where} is written in {looks.script} script, that of {first.name} in {usual.script}: {looks.example}"
            if scored and sample.text.languages is None:
                raise DataError(
                    found,
                    expected="a text in the languages that are learned",
                    remedy="give another text; if the text is right, name its languages: --dev FILE,languages=en:fr",
                )
            say(found)
        elif (likeness := _likeness(looks, usual)) is not None and likeness < _UNLIKE:
            say(
                f"{where} does not look like the language of {first.name} ({first.text.label}): "
                f"{looks.example}  where that has  {usual.example}"
            )


def _is_swapped(sample: _Sample, first: _Sample) -> bool:
    scripts, usual = [side.script for side in sample.sides], [side.script for side in first.sides]
    if all(scripts) and all(usual) and usual[0] != usual[1]:
        return scripts == usual[::-1]
    across = [_likeness(side, other) for side, other in zip(sample.sides, first.sides[::-1], strict=True)]
    straight = [_likeness(side, other) for side, other in zip(sample.sides, first.sides, strict=True)]
    return all(a is not None and a > _LIKE for a in across) and all(s is not None and s < _UNLIKE for s in straight)


def _swapped(sample: _Sample, wanted: str) -> DataError:
    examples = "; ".join(f"its {side}: {looks.example}" for side, looks in zip(_SIDES, sample.sides, strict=True))
    return DataError(
        f"{sample.name} ({sample.text.label}): source and target are the other way round; {examples}",
        expected=wanted,
        remedy="swap the two files, or the two columns: --corpus FILE,columns=2:1",
    )
