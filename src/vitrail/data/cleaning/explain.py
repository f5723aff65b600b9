"""Show what preparation does with single pairs: the text before and after, the outcome, the subwords."""

from collections.abc import Iterator
from typing import NamedTuple

from vitrail.data.cleaning.clean import make_filters, normalise_pair, printable
from vitrail.data.cleaning.filters import DuplicateFilter, Reason
from vitrail.data.cleaning.typical import survey
from vitrail.data.preparing.holdout import HeldOut, held_out, sentence_key
from vitrail.data.preparing.prepare import DataConfig
from vitrail.data.preparing.prepared import NEIGHBOUR, OVERLAP, TOO_LONG, Prepared
from vitrail.data.reading.parallel_text import SentencePair
from vitrail.data.vocabularies.subwords import Subwords


class Explained(NamedTuple):
    """What became of one pair."""

    corpus: str
    line: int
    before: tuple[str, str]
    after: tuple[str, str]
    """Normalised text."""
    fate: str
    """`train`, `dev`, `test`, or the reason for which it was dropped."""
    pieces: tuple[list[str], list[str]]
    """The subwords of both sides; empty for a pair that was dropped in cleaning."""

    def to_text(self) -> str:
        """A few lines of text."""
        lines = [f"{self.corpus}:{self.line}: {self.fate}"]
        for before, after, pieces in zip(self.before, self.after, self.pieces, strict=True):
            lines.append(f"  {printable(before)}")
            lines += [f"    becomes  {printable(after)}"] if after != before else []
            lines += [f"    subwords {printable(' '.join(pieces), characters=400)}"] if pieces else []
        return "\n".join(lines)


def explain(config: DataConfig, prepared: Prepared, *, pairs: int = 20) -> Iterator[Explained]:
    """Show what became of some pairs, spread evenly over each corpus. Cost: cleans all the text again, to know the duplicates.

    Precondition: `prepared` was made with this configuration.
    """
    judge = _Judge(config, prepared)
    counts = [corpus.count() for corpus in config.training_text]
    found = survey(list(zip(config.training_text, counts, strict=True)))
    for corpus, count, typical in zip(config.training_text, counts, found.typical, strict=True):
        every = max(1, count // pairs)
        filters = make_filters(config.clean, typical)
        if Reason.DUPLICATE not in config.clean.skip:
            filters = (*filters, DuplicateFilter())
        for raw in corpus.pairs():
            pair = normalise_pair(raw, found.normalisation)
            reason = next((reason for keep in filters if (reason := keep(pair)) is not None), None)
            number, rest = divmod(raw.line - 1, every)
            if rest == 0 and number < pairs:
                fate, pieces = (reason.value, ([], [])) if reason else judge.decide(pair)
                yield Explained(corpus.label, raw.line, raw[:2], pair[:2], fate, pieces)


class _Judge:
    """Finds what preparation did with a clean pair."""

    def __init__(self, config: DataConfig, prepared: Prepared) -> None:
        self.prepared, self.max_length = prepared, config.max_length
        self.held: dict[tuple[str, str], str] = {}
        self.keys: list[tuple[str, HeldOut]] = []
        for name, given, texts in (("dev", config.dev, prepared.dev), ("test", config.test, prepared.test)):
            pairs = list(zip(texts.source, texts.target, strict=True))
            self.held |= dict.fromkeys(pairs, name) if given is None else {}
            self.keys.append((NEIGHBOUR if given is None else OVERLAP, held_out(SentencePair(*pair, 0) for pair in pairs)))
        self.keys.sort(key=lambda item: item[0] != OVERLAP)

    def decide(self, pair: SentencePair) -> tuple[str, tuple[list[str], list[str]]]:
        """The pair's fate and its subwords."""
        sides = (self.prepared.vocabularies.source, self.prepared.vocabularies.target)
        pieces = (_pieces(sides[0], pair.source), _pieces(sides[1], pair.target))
        if held := self.held.get((pair.source, pair.target)):
            return held, pieces
        source, target = sentence_key(pair.source), sentence_key(pair.target)
        fate = next((reason for reason, keys in self.keys if source in keys.sources or target in keys.targets), "train")
        if fate == "train" and max(map(len, pieces)) > self.max_length:
            fate = TOO_LONG
        return fate, pieces


def _pieces(subwords: Subwords, text: str) -> list[str]:
    return subwords.pieces(subwords.encode(text))
