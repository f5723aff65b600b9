"""Alignment error rate against gold links: the metric, files of gold links, and those of the phrasebook."""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vitrail.config import Config
from vitrail.data.reading.parallel_text import lines
from vitrail.errors import DataError
from vitrail.inspection.alignment.links import Link, LinkMethod, Links
from vitrail.inspection.alignment.word_alignment import (
    SENTENCES,
    ChosenHeads,
    all_heads,
    attend_pairs,
    choose_heads,
    link_pairs,
    make_alignment_pair,
)
from vitrail.inspection.translator import InspectableTranslator
from vitrail.inspection.words import Span
from vitrail.phrasebook.corpus import fresh_pairs, phrasebook
from vitrail.phrasebook.grammar import TOKEN, PhrasebookPair


class Gold(NamedTuple):
    """The sure and the possible gold links of a sentence pair; sure links are also possible."""

    sure: Links
    possible: Links


class AlignmentCounts(NamedTuple):
    """Numbers of links, so that counts of parts can be added: A found, S sure, P possible. Source: Och and Ney 2003, section 6."""

    found: int
    """|A|"""
    sure: int
    """|S|"""
    found_sure: int
    """|A∩S|"""
    found_possible: int
    """|A∩P|"""

    @property
    def error_rate(self) -> float:
        """AER = 1 - (|A∩S| + |A∩P|) / (|A| + |S|), from 0 to 1; 0 where there is nothing to find and nothing was found."""
        total = self.found + self.sure
        return 1 - (self.found_sure + self.found_possible) / total if total else 0.0

    @property
    def precision(self) -> float:
        """|A∩P| / |A|"""
        return self.found_possible / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """|A∩S| / |S|"""
        return self.found_sure / self.sure if self.sure else 1.0


def count_links(
    found: Sequence[Collection[Link]], *, sure: Sequence[Collection[Link]], possible: Sequence[Collection[Link]] | None = None
) -> AlignmentCounts:
    """Compare links with gold links, sentence by sentence. Without `possible`, all gold links are sure; sure links are also possible."""
    if not len(found) == len(sure) == len(sure if possible is None else possible):
        raise DataError(f"{len(found)} alignments, {len(sure)} gold alignments", expected="one for each sentence pair")
    total = [0, 0, 0, 0]
    for number, links in enumerate(found):
        must = set(sure[number])
        may = must if possible is None else must | set(possible[number])
        own = set(links)
        for place, count in enumerate((len(own), len(must), len(own & must), len(own & may))):
            total[place] += count
    return AlignmentCounts(*total)


def alignment_error_rate(
    found: Sequence[Collection[Link]], sure: Sequence[Collection[Link]], possible: Sequence[Collection[Link]] | None = None
) -> float:
    """AER over all sentences together, not a mean over sentences; see `AlignmentCounts.error_rate`."""
    return count_links(found, sure=sure, possible=possible).error_rate


# Files

_PHARAOH = re.compile(r"(\d+)([-?p])(\d+)(?::[\d.]+)?")
_NUMBERED = re.compile(r"(\d+)\s+(\d+)\s+(\d+)(?:\s+([SP]))?(?:\s+[\d.]+)?")


def read_alignments(path: Path, *, first: int = 0, lengths: Sequence[tuple[int, int]] | None = None) -> list[Gold]:
    """Read links, a line for each sentence pair: `0-0 1-2 2?3`, where - is sure and ? or p is only possible.

    Or a line for each link, as the shared tasks of word alignment had them: `sentence source target S`, all counted from 1.
    Args:   first: what the file calls the first word, 0 or 1.
            lengths: the numbers of words of each sentence and its translation; links beyond them raise an error.
    Raises: DataError that names the line.
    """
    if lengths is not None and _is_numbered(path):
        return _read_numbered(path, lengths=lengths)
    found: list[Gold] = []
    for number, line in enumerate(lines(path, allow_empty=True), start=1):
        sure, possible = set[Link](), set[Link]()
        for part in line.split():
            match = _PHARAOH.fullmatch(part)
            if match is None:
                raise DataError(f"{path}:{number}: {part!r}", expected="links such as 0-0, or 0?0 where only possible")
            place = _place(match[1], match[3], first=first, origin=f"{path}:{number}")
            if lengths is not None and number <= len(lengths):
                _require_inside(place, lengths[number - 1], part=part, first=first, origin=f"{path}:{number}")
            (sure if match[2] == "-" else possible).add(place)
        found.append(Gold(frozenset(sure), frozenset(sure | possible)))
    if lengths is not None and len(found) != len(lengths):
        raise DataError(
            f"{path}: {len(found):,} lines for {len(lengths):,} sentences",
            expected="a line of links for each sentence, empty where it has none",
        )
    return found


def _require_inside(place: Link, length: tuple[int, int], *, part: str, first: int, origin: str) -> None:
    if place[0] < length[0] and place[1] < length[1]:
        return
    raise DataError(
        f"{origin}: {part} links beyond the sentence, which has {length[0]} words, its translation {length[1]}",
        expected=f"the numbers of words between spaces, from {first}",
        remedy="gold links of the same texts" + ("" if first else "; --first 1, if the file counts from 1"),
    )


def _is_numbered(path: Path) -> bool:
    """Whether the first non-empty line is `sentence source target`: no line of links is."""
    first = next((line for line in lines(path, allow_empty=True) if line.strip()), "")
    return _NUMBERED.fullmatch(first.strip()) is not None


def _read_numbered(path: Path, *, lengths: Sequence[tuple[int, int]]) -> list[Gold]:
    """Read links, a line for each: `sentence source target S`, all counted from 1, S sure (the default) or P possible.

    Source of the format: Mihalcea and Pedersen 2003. Raises DataError that names the line.
    """
    sentences = len(lengths)
    sure: list[set[Link]] = [set() for _ in range(sentences)]
    possible: list[set[Link]] = [set() for _ in range(sentences)]
    for number, line in enumerate(lines(path, allow_empty=True), start=1):
        if not line.strip():
            continue
        match = _NUMBERED.fullmatch(line.strip())
        if match is None or not 1 <= int(match[1]) <= sentences:
            raise DataError(f"{path}:{number}: {line!r}", expected=f"sentence (1 to {sentences}), source word, target word, S or P")
        place = _place(match[2], match[3], first=1, origin=f"{path}:{number}")
        part = f"{match[2]} {match[3]}"
        _require_inside(place, lengths[int(match[1]) - 1], part=part, first=1, origin=f"{path}:{number}")
        (possible if match[4] == "P" else sure)[int(match[1]) - 1].add(place)
    return [Gold(frozenset(one), frozenset(one | other)) for one, other in zip(sure, possible, strict=True)]


def _place(source: str, target: str, *, first: int, origin: str) -> Link:
    place = (int(source) - first, int(target) - first)
    if min(place) < 0:
        raise DataError(f"{origin}: a word number 0", expected="numbers from 1", remedy="--first 0, if the file counts from 0")
    return place


# The phrasebook


class AlignmentRow(Config):
    """One alignment method, and its error."""

    name: str
    error_rate: float
    precision: float
    recall: float


class PhrasebookAlignment(Config):
    """Alignment error of a model's cross-attention on the phrasebook, references forced."""

    fresh: int | None
    """The seed of new sentences; None: the test set."""
    sentences: int
    links: int
    """In the gold alignments; all are sure."""
    heads: ChosenHeads
    """Found on the development set without gold."""
    method: LinkMethod
    error_rate: float
    """Of the chosen heads with this method."""
    rows: tuple[AlignmentRow, ...]
    """Other methods for comparison."""

    def to_text(self) -> str:
        """For people."""
        width = max(len(row.name) for row in self.rows)
        which = f"{self.sentences:,} {'test' if self.fresh is None else 'fresh'} sentences of the phrasebook"
        table = [f"{row.name:<{width}}  {row.error_rate:6.3f}  {row.precision:9.3f}  {row.recall:6.3f}" for row in self.rows]
        return "\n".join(
            [
                f"Alignment error rate on {which} ({self.links:,} gold links): {self.error_rate:.3f}",
                self.heads.how,
                "",
                f"{'':<{width}}  {'AER':>6}  {'precision':>9}  {'recall':>6}",
                *table,
            ]
        )

    def to_record(self) -> dict[str, Any]:
        """For programs."""
        return self.model_dump(mode="json")


def grammar_words(text: str) -> list[Span]:
    """The words that the phrasebook's gold links are numbered by: those of `vitrail.phrasebook.grammar.tokenise`."""
    return [match.span() for match in TOKEN.finditer(text)]


def phrasebook_aer(
    translator: InspectableTranslator,
    *,
    method: LinkMethod = "grow-diag",
    sentences: int = 1000,
    heads: ChosenHeads | None = None,
    fresh: int | None = None,
) -> PhrasebookAlignment:
    """Align the phrasebook's test set by forced decoding of its references, and compute the error rate against the grammar's links.

    Args:   heads: to align with; by default chosen on the first development sentences, without gold links.
            fresh: instead of the test set, new sentences of the same grammar, generated with this seed.
    Raises: UsageError for a model without attention to its source.
    Cost:   6 s to generate the phrasebook, and 5 s for 1,000 sentences and a tiny model on one thread.
    """
    book = phrasebook()
    dev, test = book.dev[:SENTENCES], book.test[:sentences] if fresh is None else fresh_pairs(book, seed=fresh, count=sentences)
    if heads is None:
        heads = _choose(translator, dev, gold=False)
    pairs = [make_alignment_pair(translator, pair.source, pair.target, words=grammar_words) for pair in test]
    gold = [pair.alignment for pair in test]

    def row(name: str, links: Sequence[Collection[Link]]) -> AlignmentRow:
        counts = count_links(links, sure=gold)
        return AlignmentRow(name=name, error_rate=counts.error_rate, precision=counts.precision, recall=counts.recall)

    known = translator.engine.attention_heads()
    attention = attend_pairs(translator, pairs, heads=known)

    def aligned(chosen: ChosenHeads, how: LinkMethod) -> list[Links]:
        return link_pairs(attention, pairs, known=known, heads=chosen, method=how)

    methods: tuple[LinkMethod, ...] = ("target", "intersection", "union", "grow-diag")
    rows = [row(f"chosen heads, {how}", aligned(heads, how)) for how in methods]
    rows += [row(f"best head by itself, {method}", aligned(_best(heads), method))] if heads.scores else []
    rows.append(row(f"all heads, {method}", aligned(all_heads(translator), method)))
    rows.append(row(f"heads chosen with gold, {method}", aligned(_choose(translator, dev, gold=True), method)))
    diagonal = [_diagonal(len(pair.source_words), len(pair.target_words)) for pair in pairs]
    rows.append(row("no model: the diagonal", diagonal))
    counts = count_links(aligned(heads, method), sure=gold)
    return PhrasebookAlignment(
        fresh=fresh, sentences=len(test), links=counts.sure, heads=heads, method=method, error_rate=counts.error_rate, rows=tuple(rows)
    )


def _choose(translator: InspectableTranslator, pairs: Sequence[PhrasebookPair], *, gold: bool) -> ChosenHeads:
    right: list[Iterable[Link]] | None = [pair.alignment for pair in pairs] if gold else None
    sources, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
    return choose_heads(translator, sources, targets, gold=right, words=grammar_words if gold else None)


def _best(heads: ChosenHeads) -> ChosenHeads:
    """The best single head."""
    _, layer, head = max((worth, -layer, -head) for layer, row in enumerate(heads.scores) for head, worth in enumerate(row))
    return ChosenHeads(heads=((-layer, -head),), row=heads.row)


def _diagonal(sources: int, targets: int) -> set[Link]:
    return {(min(sources - 1, j * sources // targets), j) for j in range(targets)} if sources else set()
