"""Report what preparation left out: one line per reason with an example and a remedy; a warning where it is much."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from vitrail.data.cleaning.filters import Reason
from vitrail.data.data_config import DataConfig
from vitrail.data.preparing.prepared import NEIGHBOUR, OVERLAP, TOO_LONG
from vitrail.data.reading.encodings import guess_encoding
from vitrail.data.reading.parallel_text import ParallelText

WARNING = "WARNING: "
"""Prefix of the most important lines."""
LOUD_SHARE = 0.1
"""Share of the pairs of a corpus; where more are dropped, the text or a limit is probably wrong."""
MANY_UNKNOWN = 0.05
_EXPECTED = (Reason.DUPLICATE.value, OVERLAP, NEIGHBOUR)
"""Reasons for which good text loses pairs, too."""


class _Explanation(NamedTuple):
    what: str
    cure: str = ""


_EXPLANATIONS = {
    Reason.LENGTH: _Explanation("a side is too long", "split such lines, or --set data.clean.max_words=N and data.clean.max_characters=N"),
    Reason.INVALID_UTF8: _Explanation("bytes that are not UTF-8", "convert the file: iconv -f ENCODING -t utf-8 FILE > NEW"),
    Reason.UNUSABLE_CHARACTER: _Explanation("lost (U+FFFD) or private-use characters", "convert the original file to UTF-8 again"),
    Reason.EMPTY_SIDE: _Explanation("a side is empty"),
    Reason.HTML_TAG: _Explanation("HTML tags", "take the tags out of both files"),
    Reason.LENGTH_RATIO: _Explanation("one side is much too long for the other", "check that the lines of both sides still match"),
    Reason.LONG_WORD: _Explanation("an overlong word", "look for text without spaces, or --set data.clean.max_word_characters=N"),
    Reason.ALPHABET_RATIO: _Explanation("hardly any letters", "--set data.clean.min_alphabet_ratio=0 keeps them"),
    Reason.REPETITION: _Explanation("a side repeats itself", "--set data.clean.max_repeats=N allows more"),
    Reason.IDENTICAL: _Explanation("both sides are the same", "--set data.clean.identical_words=N allows longer ones"),
    Reason.DUPLICATE: _Explanation("the same pair came before"),
    OVERLAP: _Explanation("also occurs in the given dev or test text"),
    NEIGHBOUR: _Explanation("shares a sentence with a pair held out for dev or test"),
    TOO_LONG: _Explanation("more subwords than data.max_length", "--set data.max_length=N, or a greater data.subwords.size"),
}


def describe_dropped(report: dict[str, Any], config: DataConfig) -> Iterator[str]:
    """Lines on what each corpus lost, and on words unknown to the vocabulary.

    Args: report: `PreparedReport.details`.
    """
    for corpus, part in zip(config.training_text, report["corpora"], strict=True):
        read = max(part["read"], 1)
        for reason, number in part["dropped"].items():
            yield _line(corpus, part, reason, number, config.languages)
        lost = sum(number for reason, number in part["dropped"].items() if reason not in _EXPECTED)
        if lost > LOUD_SHARE * read:
            share = f"{lost / read:.0%} of its pairs ({lost:,} of {read:,})"
            yield f"{WARNING}{part['name']}: {share} were dropped for the reasons above; check that this is the right text"
        if "unknown_share" in part:
            share = part["unknown_share"]
            yield (
                f"{WARNING if share > MANY_UNKNOWN else ''}{part['name']}: {share:.1%} of its tokens are unknown to the vocabulary"
                + ("; a greater data.subwords.size, or kind = bpe, which knows all" if share > MANY_UNKNOWN else "")
            )


def _line(corpus: ParallelText, part: dict[str, Any], reason: str, number: int, languages: tuple[str, str]) -> str:
    told = _EXPLANATIONS[reason]
    cure = conversion(corpus, languages) or told.cure if reason == Reason.INVALID_UTF8 else told.cure
    examples = part["examples"].get(reason, [])
    example = f", such as line {examples[0]['line']:,}: {' | '.join(map(_brief, examples[0]['before']))}" if examples else ""
    share = f"{number:,} of {max(part['read'], number):,} pairs ({number / max(part['read'], 1):.1%})"
    return f"{part['name']}: dropped {share}: {told.what}{example}" + (f"; {cure}" if cure else "") + f"  [{reason}]"


def _brief(text: str) -> str:
    text = _STRAY_BYTE.sub(r"\\x\1", text)
    return text if len(text) <= 40 else text[:39] + "…"


_STRAY_BYTE = re.compile(r"\\udc([89a-f][0-9a-f])")
_MOST_LINES = 1_000


def conversion(corpus: ParallelText, languages: tuple[str, str]) -> str:
    """The commands that convert a corpus's files to UTF-8; empty where their encoding cannot be guessed."""
    bad: tuple[list[bytes], list[bytes]] = ([], [])
    for pair in corpus.pairs():
        for side, text in zip(bad, pair[:2], strict=True):
            if any("\udc80" <= sign <= "\udcff" for sign in text):
                side.append(text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape"))
        if len(bad[0]) + len(bad[1]) >= _MOST_LINES:
            break
    if corpus.target is None:
        sides = [(corpus.source, bad[0] + bad[1], languages[0] if bad[0] else languages[1])]
    else:
        sides = list(zip((corpus.source, corpus.target), bad, languages, strict=True))
    found = {file: guess for file, lines, code in sides if (guess := guess_encoding(lines, language=code))}
    commands = [f"iconv -f {encoding} -t utf-8 {file} > {file.stem}-utf8{file.suffix}" for file, encoding in found.items()]
    return f"it looks like {' and '.join(sorted(set(found.values())))}: {'; '.join(commands)}" if found else ""
