"""Clean parallel text: one normalisation step, then the filters; every drop is counted, with examples."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.data.cleaning.filters import (
    MAX_REPEATS,
    MAX_WORD_CHARACTERS,
    MIN_ALPHABET_RATIO,
    RATIO_SLACK,
    AlphabetRatioFilter,
    DuplicateFilter,
    Filter,
    IdenticalFilter,
    LengthFilter,
    LengthRatioFilter,
    LongWordFilter,
    Reason,
    RepetitionFilter,
    UnusableCharacterFilter,
    drop_empty_side,
    drop_html_tag,
    drop_invalid_utf8,
)
from vitrail.data.cleaning.normalise import CURRENT, Normalisation, normalise
from vitrail.data.cleaning.typical import UNMEASURED, Typical
from vitrail.data.reading.parallel_text import SentencePair
from vitrail.errors import UsageError

_ALWAYS = frozenset({Reason.LENGTH, Reason.INVALID_UTF8, Reason.EMPTY_SIDE})


class CleanConfig(Config):
    """Which pairs are kept. The defaults drop what cannot be a translation and keep anything that merely looks untypical."""

    max_words: int = Field(default=250, ge=1)
    """LengthFilter: words between white space, on the side that needs fewer; the other side's limit is scaled by the usual length ratio."""
    max_characters: int = Field(default=2_000, ge=1)
    """LengthFilter: characters, in the same way; this limit also works for text without spaces."""
    max_length_ratio: float | None = Field(default=None, ge=1.0)
    """LengthRatioFilter: how many times longer than usual in the corpus either side may be, in characters, each plus
    `length_ratio_slack`. Empty: 2.5 where most pairs are alike in this, up to 4 where they are not."""
    length_ratio_slack: int = Field(default=RATIO_SLACK, ge=0)
    """LengthRatioFilter: characters added to both sides, so that "Oui ." may translate "Yes, of course I do."."""
    max_word_characters: int = Field(default=MAX_WORD_CHARACTERS, ge=1)
    """LongWordFilter: characters of one word, or four times those of the longest word of a usual line, where that is more; scripts
    written without spaces and addresses of web pages do not count."""
    min_alphabet_ratio: float = Field(default=MIN_ALPHABET_RATIO, ge=0.0, le=1.0)
    """AlphabetRatioFilter: letters of any script over all characters that are not white space, on either side; lower only where both
    sides hold the same digits."""
    max_repeats: int = Field(default=MAX_REPEATS, ge=1)
    """RepetitionFilter: how often the same words or letters may repeat in a row; marks do not count."""
    identical_words: int = Field(default=2, ge=0)
    """IdenticalFilter: sides of at most this many words may be the same, as names and short phrases often are; more in a corpus of two
    languages that share most words."""
    skip: tuple[Reason, ...] = ()
    """Filters to leave out, such as ["HtmlTagFilter"]."""

    @model_validator(mode="after")
    def _keep_what_later_steps_need(self) -> "CleanConfig":
        needed = sorted(_ALWAYS.intersection(self.skip))
        if needed:
            raise UsageError(
                f"skip: {', '.join(needed)} cannot be left out", remedy="raise data.clean.max_words and data.clean.max_characters instead"
            )
        return self


def normalise_pair(pair: SentencePair, normalisation: Normalisation = CURRENT) -> SentencePair:
    """One way to write the same text, on both sides."""
    return SentencePair(normalisation.source(pair.source), normalise(pair.target), pair.line)


def make_filters(config: CleanConfig, typical: Typical = UNMEASURED) -> tuple[Filter, ...]:
    """The filters of a configuration in the order of Reason, without DuplicateFilter: pure functions, so that any process may apply them.

    Args: typical: what the corpus usually looks like; see `typical.measure`.
    """
    filters: dict[Reason, Filter] = {
        Reason.LENGTH: LengthFilter(config.max_words, config.max_characters, typical.length_ratio, typical.word_ratio),
        Reason.INVALID_UTF8: drop_invalid_utf8,
        Reason.UNUSABLE_CHARACTER: UnusableCharacterFilter(typical.private_use),
        Reason.EMPTY_SIDE: drop_empty_side,
        Reason.HTML_TAG: drop_html_tag,
        Reason.LENGTH_RATIO: LengthRatioFilter(
            config.max_length_ratio or typical.ratio_limit, config.length_ratio_slack, typical.length_ratio
        ),
        Reason.LONG_WORD: LongWordFilter(config.max_word_characters, typical.longest_words),
        Reason.ALPHABET_RATIO: AlphabetRatioFilter(config.min_alphabet_ratio, typical.unlettered),
        Reason.REPETITION: RepetitionFilter(config.max_repeats),
        Reason.IDENTICAL: IdenticalFilter(max(config.identical_words, typical.equal_words)),
    }
    return tuple(keep for reason, keep in filters.items() if reason not in config.skip)


def printable(text: str, *, characters: int = 120) -> str:
    """Text for a terminal and for JSON: invisible characters and stray bytes are spelled out, long text is cut."""
    cut = text[:characters]
    spelled = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return spelled + ("…" if len(text) > characters else "")


@dataclass(frozen=True)
class Example:
    """One pair as it was read (`before`) and, where normalisation changed it, as it became."""

    line: int
    before: tuple[str, str]
    after: tuple[str, str] | None = None


EXAMPLES = 5


@dataclass
class Report:
    """What cleaning did: total == kept + sum of dropped, always; the first few examples of each reason."""

    total: int = 0
    kept: int = 0
    dropped: Counter[Reason] = field(default_factory=Counter[Reason])
    normalised: int = 0
    """Pairs that the normalisation step changed, kept or not."""
    examples: dict[str, list[Example]] = field(default_factory=dict[str, list[Example]])

    def drop(self, reason: Reason, pair: SentencePair) -> None:
        """Count a dropped pair."""
        self.dropped[reason] += 1
        if self.dropped[reason] <= EXAMPLES:
            self._exemplify(reason, Example(pair.line, (printable(pair.source), printable(pair.target))))

    def drop_kept(self, reason: Reason, pair: SentencePair) -> None:
        """Count a pair as dropped that was counted as kept."""
        self.kept -= 1
        self.drop(reason, pair)

    def normalise(self, before: SentencePair, after: SentencePair) -> None:
        """Count a pair changed by normalisation."""
        self.normalised += 1
        if self.normalised <= EXAMPLES:
            was, now = (printable(before.source), printable(before.target)), (printable(after.source), printable(after.target))
            self._exemplify("normalised", Example(before.line, was, now))

    def _exemplify(self, key: str, example: Example) -> None:
        self.examples.setdefault(str(key), []).append(example)

    def add(self, other: "Report") -> None:
        """Add the report on later lines (of another file or another process)."""
        self.total += other.total
        self.kept += other.kept
        self.dropped.update(other.dropped)
        self.normalised += other.normalised
        for key, examples in other.examples.items():
            self.examples[key] = (self.examples.get(key, []) + examples)[:EXAMPLES]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: counts, reasons in the filters' order, examples."""
        return {
            "total": self.total,
            "kept": self.kept,
            "normalised": self.normalised,
            "dropped": {reason.value: self.dropped[reason] for reason in Reason if self.dropped[reason]},
            "examples": {
                key: [{"line": e.line, "before": list(e.before)} | ({"after": list(e.after)} if e.after else {}) for e in examples]
                for key, examples in self.examples.items()
            },
        }

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "Report":
        """The report that `as_dict` gave."""
        examples = {
            key: [Example(one["line"], tuple(one["before"]), tuple(one["after"]) if "after" in one else None) for one in examples]
            for key, examples in table["examples"].items()
        }
        dropped = Counter({Reason(name): number for name, number in table["dropped"].items()})
        return cls(table["total"], table["kept"], dropped, table["normalised"], examples)

    def to_json(self) -> str:
        """The report as readable JSON."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_text(self, *, explain: bool = False) -> str:
        """The report as text: one line per reason with its share; with `explain`, examples before and after."""
        total = max(self.total, 1)
        lines = [f"{self.kept:,} of {self.total:,} pairs kept ({self.kept / total:.2%}); {self.normalised:,} normalised"]
        for key in ("normalised", *Reason):
            if isinstance(key, Reason) and self.dropped[key]:
                lines.append(f"  {key.value:<20} {self.dropped[key]:>10,}  {self.dropped[key] / total:7.3%}")
            if explain:
                for example in self.examples.get(str(key), []):
                    lines.append(f"    line {example.line:,}: {example.before[0]}  |  {example.before[1]}")
                    lines += [f"      becomes: {example.after[0]}  |  {example.after[1]}"] if example.after else []
        return "\n".join(lines)


def clean(
    pairs: Iterable[SentencePair],
    *,
    config: CleanConfig,
    report: Report,
    typical: Typical = UNMEASURED,
    normalisation: Normalisation = CURRENT,
) -> Iterator[SentencePair]:
    """Yield the normalised pairs that every filter keeps; count the others in the report by the first filter that drops them.

    Args:    typical, normalisation: what the corpus usually looks like, and how its sources are read; see `typical.survey`.
    Cost:    9 to 13 µs of one core a pair, reading included (6 to 12 words a side); 12 to 24 bytes a distinct pair for DuplicateFilter.
    """
    filters = make_filters(config, typical)
    if Reason.DUPLICATE not in config.skip:
        filters = (*filters, DuplicateFilter())
    for raw in pairs:
        report.total += 1
        pair = normalise_pair(raw, normalisation)
        if pair != raw:
            report.normalise(raw, pair)
        for keep in filters:
            reason = keep(pair)
            if reason is not None:
                report.drop(reason, pair)
                break
        else:
            report.kept += 1
            yield pair
