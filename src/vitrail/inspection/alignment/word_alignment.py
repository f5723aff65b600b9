"""Word alignment from cross-attention: chooses heads without gold links, and makes links.

What it adds to a record: `alignment.weights` (T S) cross-attention averaged over the chosen heads, rows predicted tokens, <eos> included
on both sides; `alignment.heads` (n 2, int) layer and head; `alignment.links` (n 2, int) source word and target word, by the words of
`Side.words`; extra `alignment`: `how`, one sentence; `pharaoh`, the same between space-separated words, `0-0 1-2` (see
`links.links_between_spaces`); `layer_head_scores`, how well each head aligns by itself, empty where heads were not chosen.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from vitrail.config import Config
from vitrail.data.cleaning.normalise import encodable, plain
from vitrail.data.reading.parallel_text import lines
from vitrail.data.vocabularies.subwords import Subwords
from vitrail.decode.engines.engine import MOST_ALIGNED, Head, Weights
from vitrail.decode.textual.results import Translation
from vitrail.decode.translate import Translator
from vitrail.errors import UsageError
from vitrail.inspection.alignment.links import (
    HeadMatrices,
    Link,
    LinkMethod,
    Links,
    WordMatrix,
    link,
    links_between_spaces,
    mutual_information,
    pool_by_word,
    to_pharaoh,
)
from vitrail.inspection.alignment.pair_words import as_read, positions_in, positions_of
from vitrail.inspection.words import (
    WordPosition,
    Words,
    between_spaces,
    group_spans,
    map_spans,
    spell,
    tokens_by_word,
)

if TYPE_CHECKING:
    from vitrail.inspection.collect import Arrays
    from vitrail.inspection.record import Inspection

WeightRow = Literal["predicted", "read"]
"""The row of a token's weights: the row that predicts it, or the next one, which has read it (Chen et al. 2020)."""

WEIGHT_ROWS: tuple[WeightRow, WeightRow] = ("predicted", "read")
MARGIN = 0.05
"""Minimal lead of the second row over the first to be chosen."""
SENTENCES = 200
"""Number of sentences to choose heads on: the first ones of a run's development set."""


class ChosenHeads(Config):
    """The heads whose average aligns words."""

    heads: tuple[Head, ...]
    """Layer and head, both from 0."""
    row: WeightRow = "predicted"
    """The row of a token's weights."""
    judged_by: Literal["agreement", "gold", "nothing"] = "nothing"
    """The criterion of the choice: agreement of both directions, gold alignments, or none."""
    worth: float | None = None
    """Share of mutual links, or 1 - AER of the heaviest source words, on what they were chosen on."""
    sentences: int = 0
    """Number of sentences they were chosen on."""
    scores: tuple[tuple[float, ...], ...] = ()
    """The score of each single head: a row for each layer."""

    @property
    def how(self) -> str:
        """One sentence on where the alignment comes from."""
        number = len(self.heads)
        names = ", ".join(f"{layer}.{head}" for layer, head in self.heads[:16]) + (", ..." if number > 16 else "")
        which = "the one head" if number == 1 else f"{number} heads"
        row = "" if self.row == "predicted" else "; each token has the weights of the next row, which has read it"
        match self.judged_by:
            case "agreement":
                why = f"chosen on {self.sentences} sentences so that both directions agree ({self.worth:.1%} of the tokens)"
            case "gold":
                why = f"chosen on the gold alignments of {self.sentences} sentences"
            case "nothing":
                why = "taken as they are"
        return f"Average cross-attention of {which} (layer.head from 0: {names}), {why}{row}."


class AlignmentPair(NamedTuple):
    """A sentence and its translation as token ids, and the tokens of each word."""

    source: Sequence[int]
    target: Sequence[int]
    source_words: Sequence[Sequence[int]]
    target_words: Sequence[Sequence[int]]


def all_heads(translator: Translator) -> ChosenHeads:
    """Every head of every layer, without a choice. Raises UsageError for a model without attention to its source."""
    return ChosenHeads(heads=tuple(translator.engine.attention_heads()))


def choose_heads(
    translator: Translator,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    gold: Sequence[Iterable[Link]] | None = None,
    words: Words | None = None,
    one_layer: bool = False,
) -> ChosenHeads:
    """Find the heads whose average aligns best, on sentences and their translations.

    Without gold: those with the highest agreement of both directions, i.e. the share of mutual heaviest tokens (after Liang et al. 2006,
    who train two models to agree; here it only chooses). With gold: the lowest AER of the heaviest source words. See `HeadMatrices.search`
    for how sets of heads are tried.

    Args:
        gold: the gold links of each pair.
        words: the words of the gold links; by default those of the views.
        one_layer: whether all heads must be of one layer, as programs have it that return one layer's attention.
    Raises: UsageError for a model without attention to its source, or where no pair has a token on both sides.
    Cost:   0.1 s for 200 sentences of 10 words and 16 heads, on one thread, and their forced decoding; it grows with the square of the
            heads.
    """
    pairs = [make_alignment_pair(translator, source, target, words=words) for source, target in zip(sources, targets, strict=True)]
    kept = [number for number, pair in enumerate(pairs) if pair.source and pair.target and _fits(pair)]
    if not kept:
        raise UsageError("no sentence with its translation to choose heads on", expected="a few hundred")
    right = None if gold is None else [list(gold[number]) for number in kept]
    pairs = [pairs[number] if gold is not None else _token_by_token(pairs[number]) for number in kept]
    known = translator.engine.attention_heads()
    attention = attend_pairs(translator, pairs, heads=known)
    by_layer = [[at for at, (layer, _) in enumerate(known) if layer == one] for one in dict.fromkeys(layer for layer, _ in known)]
    groups: Sequence[Sequence[int]] = by_layer if one_layer else [range(len(known))]
    results = {row: _choose_in(row, attention, pairs, right, groups) for row in WEIGHT_ROWS}
    # Links shifted by one position agree as well, but no longer join the same tokens repeatedly.
    row: WeightRow = "read" if results["read"].value > (1 + MARGIN) * results["predicted"].value else "predicted"
    heads, worth, single, sentences = results[row][:4]
    return ChosenHeads(
        heads=tuple(known[head] for head in sorted(heads)),
        row=row,
        judged_by="agreement" if gold is None else "gold",
        worth=worth,
        sentences=sentences,
        scores=tuple(tuple(single[at] for at in one) for one in by_layer),
    )


def attend_pairs(translator: Translator, pairs: Sequence["AlignmentPair"], *, heads: Sequence[Head]) -> list[Weights]:
    """What these heads attend to: for each pair (heads T S); see `Engine.cross_attention`."""
    return translator.engine.cross_attention([tuple(pair.source) for pair in pairs], [tuple(pair.target) for pair in pairs], heads=heads)


class _Choice(NamedTuple):
    heads: list[int]
    worth: float
    single: list[float]
    sentences: int
    value: float
    """The criterion between rows: with gold the score, else the mutual information of linked tokens."""


def _choose_in(
    row: WeightRow,
    attention: Sequence[Weights],
    pairs: Sequence[AlignmentPair],
    gold: Sequence[Iterable[Link]] | None,
    groups: Sequence[Sequence[int]],
) -> _Choice:
    """The best heads for a given row, all of one group."""
    stack = HeadMatrices([_by_head(one, pair, row) for one, pair in zip(attention, pairs, strict=True)], gold=gold)
    heads, worth = max((stack.search(group) for group in groups), key=lambda found: found[1])
    if gold is None:
        joined = (
            (pair.source[int(i)], token)
            for pair, places in zip(pairs, stack.heaviest(heads), strict=False)
            for token, i in zip(pair.target, places, strict=True)
        )
        value = mutual_information(joined)
    else:
        value = worth
    return _Choice(heads, worth, stack.single(), len(stack.lengths), value)


def _fits(pair: AlignmentPair) -> bool:
    return max(len(pair.source), len(pair.target)) <= MOST_ALIGNED


def _token_by_token(pair: AlignmentPair) -> AlignmentPair:
    """Each token as a separate word: needs no segmentation into words."""
    return pair._replace(source_words=[[at] for at in range(len(pair.source))], target_words=[[at] for at in range(len(pair.target))])


def heads_for(translator: Translator, folder: Path) -> ChosenHeads:
    """The default heads to align with: chosen on the first `SENTENCES` pairs of a run's development set; all heads for a model folder.

    A model folder has no text to choose on. Nothing is cached: choosing takes less than a second.
    """
    pairs = development_pairs(folder)
    return choose_heads(translator, [one for one, _ in pairs], [other for _, other in pairs]) if pairs else all_heads(translator)


def development_pairs(folder: Path, *, count: int = SENTENCES) -> list[tuple[str, str]]:
    """The first pairs of a run's development set; none for a model folder."""
    source, target = folder / "data" / "dev.source", folder / "data" / "dev.target"
    if not (source.is_file() and target.is_file()):
        return []
    return [pair for pair, _ in zip(zip(lines(source), lines(target), strict=True), range(count), strict=False)]


def make_alignment_pair(translator: Translator, source: str, target: str, *, words: Words | None = None) -> AlignmentPair:
    """A sentence and its translation, given as text; `words` segments them."""
    vocabularies = translator.vocabularies
    ids, source_words = _cut(source, translator.read(source), vocabularies.source, words)
    target_ids, target_words = _cut(target, as_read(target), vocabularies.target, words)
    return AlignmentPair(ids, target_ids, source_words, target_words)


def _cut(text: str, read: str, vocabulary: Subwords, words: Words | None) -> tuple[list[int], list[list[int]]]:
    """The tokens of a text, and those of each word; no words for a text too long to align: finding them is quadratic."""
    ids = vocabulary.encode(read)
    if len(ids) > MOST_ALIGNED:
        return ids, []
    shown, spans = spell(ids, vocabulary, text=read)
    if words is None:
        return ids, group_spans(spans, text=shown)
    whole = plain(encodable(text))
    return ids, tokens_by_word(map_spans(spans, text=shown, whole=whole), text=whole, words=words)


def _predicting(weights: Weights, row: WeightRow) -> Weights:
    """The rows (..., T, S) of each predicted token; <eos> has no next row and keeps its own."""
    return weights if row == "predicted" else np.concatenate([weights[..., 1:, :], weights[..., -1:, :]], axis=-2)


def _by_head(weights: Weights, pair: AlignmentPair, row: WeightRow) -> WordMatrix:
    """(heads T S) -> (heads, words of the target, words of the source)."""
    return pool_by_word(_predicting(weights, row), sources=pair.source_words, targets=pair.target_words)


def _average(weights: Weights, known: Sequence[Head], chosen: ChosenHeads) -> WordMatrix:
    """(heads T S) -> (T S), rows being predicted tokens. Args: known: the heads of `weights`."""
    picked = [weights[known.index(head)] for head in chosen.heads]
    return np.asarray(_predicting(np.mean(picked, axis=0), chosen.row), dtype=np.float32)


def align(inspection: "Inspection", *, heads: ChosenHeads | Sequence[Head] | None = None, method: LinkMethod = "grow-diag") -> "Inspection":
    """The record with links between its words; see the module docstring for what is added.

    Args:   heads: as `choose_heads` found them, or (layer, head) pairs; None averages all.
    The Pharaoh line counts words in the text as it was given and in the whole translation; of one part it has the links of that part.
    Raises: UsageError for a record without cross-attention, and for a layer or head that does not exist.
    """
    layers = list(inspection.attentions("cross"))
    weights = inspection.weights("cross")
    known = [(layer, head) for layer in layers for head in range(weights.shape[1])]
    heads = known if heads is None else heads
    chosen = heads if isinstance(heads, ChosenHeads) else ChosenHeads(heads=tuple(heads))
    for layer, head in chosen.heads:
        inspection.weights("cross", layer=layer, head=head)
    if not chosen.heads:
        raise UsageError("no head to align with", expected="at least one (layer, head)")
    average = _average(weights.reshape(-1, *weights.shape[2:]), known, chosen)
    source, target = inspection.source, inspection.target
    sources, targets = positions_of(inspection)
    links = sorted(link(pool_by_word(average, sources=source.words, targets=target.words), method=method))
    extra = {
        "how": chosen.how,
        "pharaoh": to_pharaoh(links_between_spaces(links, sources=sources, targets=targets)),
        "layer_head_scores": [list(row) for row in chosen.scores],
    }
    arrays: Arrays = {
        "alignment.weights": average,
        "alignment.heads": np.array(chosen.heads, dtype=np.int64).reshape(-1, 2),
        "alignment.links": np.array(links, dtype=np.int64).reshape(-1, 2),
    }
    return inspection.with_arrays(arrays, alignment=extra)


def link_pairs(
    attention: Sequence[Weights], pairs: Sequence[AlignmentPair], *, known: Sequence[Head], heads: ChosenHeads, method: LinkMethod
) -> list[Links]:
    """The links of each pair, between its words, from the result of `attend_pairs` for the heads `known`."""
    matrices = (
        pool_by_word(_average(weights, known, heads), sources=pair.source_words, targets=pair.target_words)
        for weights, pair in zip(attention, pairs, strict=True)
    )
    return [link(matrix, method=method) for matrix in matrices]


class Aligner:
    """Aligns the space-separated words of texts and their translations.

    Args: heads: see `choose_heads`, `heads_for` and `all_heads`.
    """

    def __init__(self, translator: Translator, heads: ChosenHeads, *, method: LinkMethod = "grow-diag") -> None:
        self._translator, self._heads = translator, heads
        self._method: LinkMethod = method
        self._seen = 0
        self.too_long: list[int] = []
        """Indices, from 0, of the pairs so far with more than `MOST_ALIGNED` tokens on a side."""
        translator.engine.attention_heads()

    def align(self, pairs: Sequence[AlignmentPair]) -> list[Links]:
        """The links of given pairs, between the words of each pair; empty for a pair that is too long, see `too_long`."""
        fitting = [number for number, pair in enumerate(pairs) if _fits(pair)]
        kept = [pairs[number] for number in fitting]
        self.too_long += [self._seen + number for number, pair in enumerate(pairs) if not _fits(pair)]
        self._seen += len(pairs)
        known = self._heads.heads
        attention = attend_pairs(self._translator, kept, heads=known)
        found: list[Links] = [frozenset() for _ in pairs]
        for number, links in zip(fitting, link_pairs(attention, kept, known=known, heads=self._heads, method=self._method), strict=True):
            found[number] = links
        return found

    def align_texts(self, sources: Sequence[str], targets: Sequence[str]) -> list[Links]:
        """The links of texts and their given translations, between space-separated words."""
        vocabularies = self._translator.vocabularies
        read = self._translator.read
        pairs = [
            (_encode_side(source, vocabularies.source, read=read), _encode_side(target, vocabularies.target, read=as_read))
            for source, target in zip(sources, targets, strict=True)
        ]
        return self._between_spaces(pairs)

    def align_translations(self, translations: Sequence[Translation]) -> list[Links]:
        """The links of translated texts, with the parts of long ones joined; see `Translation.segments`."""
        parts: list[tuple[_PairSide, _PairSide]] = []
        numbers: list[int] = []
        vocabularies = self._translator.vocabularies
        for number, one in enumerate(translations):
            for part in one.segments:
                there, said = (part.source_start, part.source_end), (part.target_start, part.target_end)
                source = _cut_side(part.source_tokens, vocabularies.source, text=part.source_text, whole=one.source, where=there)
                target = _cut_side(part.target_tokens, vocabularies.target, text=None, whole=one.text, where=said)
                parts.append((source, target))
                numbers.append(number)
        found: list[set[Link]] = [set() for _ in translations]
        for number, links in zip(numbers, self._between_spaces(parts), strict=True):
            found[number] |= links
        return [frozenset(links) for links in found]

    def _between_spaces(self, pairs: Sequence[tuple["_PairSide", "_PairSide"]]) -> list[Links]:
        """Link words and marks separately, as in a record, then convert the links to space-separated words."""
        links = self.align([AlignmentPair(source.ids, target.ids, source.words, target.words) for source, target in pairs])
        return [
            links_between_spaces(one, sources=source.seats, targets=target.seats)
            for one, (source, target) in zip(links, pairs, strict=True)
        ]


class _PairSide(NamedTuple):
    """One side of a pair: its tokens, those of each word and mark, and the index of each among the space-separated words."""

    ids: Sequence[int]
    words: list[list[int]]
    seats: list[WordPosition | None]


def _encode_side(text: str, vocabulary: Subwords, *, read: Callable[[str], str]) -> _PairSide:
    made = read(text)
    ids = vocabulary.encode(made)
    if len(ids) > MOST_ALIGNED:  # see `_cut`
        return _PairSide(ids, [], [])
    return _cut_side(ids, vocabulary, text=made, whole=text, where=(0, len(text)))


def _cut_side(ids: Sequence[int], vocabulary: Subwords, *, text: str | None, whole: str, where: tuple[int, int]) -> _PairSide:
    """See `spell` and `positions_in`."""
    shown, spans = spell(ids, vocabulary, text=text)
    words = group_spans(spans, text=shown)
    return _PairSide(ids, words, positions_in(words, spans, text=shown, whole=whole, where=where))


def count_spaced_words(text: str) -> int:
    """Number of space-separated words of a text, as it is read for translation."""
    return len(between_spaces(plain(encodable(text))))
