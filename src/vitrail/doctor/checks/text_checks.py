"""Checks of a run's text: dev and test sentences in the training text, and vocabularies or sides that do not match."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.data.preparing.holdout import sentence_key
from vitrail.data.preparing.prepare_text import SAME_FROM
from vitrail.data.preparing.prepared import PreparedData, PreparedLabels, PreparedText, Texts
from vitrail.data.vocabularies.subwords import EOS, UNK, Subwords, WordVocabulary
from vitrail.doctor.findings import Finding
from vitrail.doctor.run_under_test import RunUnderTest
from vitrail.evaluation.learned import spread

LEAK_PAIRS = 30_000
"""Training pairs whose sentences are compared with dev and test, evenly spread over all: 2 s."""
LEAKED = 0.01
"""Share of dev or test pairs in the training text from which scores are worth little. Vitrail's own preparation leaves none: it removes
each pair that shares a sentence with dev or test."""

SAMPLE = 2_000
"""Sentences a side whose tokens are counted."""
UNKNOWN = 0.05
"""Share of unknown and byte tokens on dev that is a fault where train has far fewer: every 20th token is then not a subword."""
UNKNOWN_WORDS = 0.25
"""The same of whole words, all of which a vocabulary has from the training text: of 6,000 English sentences, 6 % of other text are new."""
UNKNOWN_TIMES = 3.0
"""The ratio of dev to train that makes it a fault."""
SHORTER = 0.6
"""Characters per token on dev, as a share of those on train, below which dev is not in the language that the vocabulary was made for.
Measured: see docs/doctor.md."""
SWAPPED = 0.1
"""By how much the words of a dev side must be more like the other side's of train than like its own (cosine of token counts)."""

Unit = Literal["pairs", "lines", "texts"]

_FIRST_BYTE, _BYTES = EOS + 1, 256


def leakage(run: RunUnderTest) -> list[Finding]:
    """Whether dev or test sentences, compared without case, final marks and spacing, also occur in the training text."""
    if isinstance(run.data, PreparedText):
        texts = {"dev": run.data.dev, "test": run.data.test}
        return text_leakage(run.data, {name: [line for line in lines if len(line.split()) >= SAME_FROM] for name, lines in texts.items()})
    if isinstance(run.data, PreparedLabels):
        return text_leakage(run.data, {"dev": run.data.dev.source, "test": run.data.test.source})
    data = run.pairs
    places = [(store, place) for store in data.stores for place in spread(len(store), max(1, LEAK_PAIRS * len(store) // _total(data)))]
    source = {sentence_key(data.vocabularies.source.written(store.source(place).tolist())) for store, place in places}
    target = {sentence_key(data.vocabularies.target.written(store.target(place).tolist())) for store, place in places}
    found: list[Finding] = []
    for name, texts in (("dev", data.dev), ("test", data.test)):
        if not texts.source:
            found.append(Finding(check="leakage", severity="unchecked", found=f"there is no {name} text"))
            continue
        found.append(judge_leak(name, count_shared(texts, source, target), seen=len(places), pairs=_total(data)))
    return found


def text_leakage(data: PreparedText | PreparedLabels, held: Mapping[str, Sequence[str]]) -> list[Finding]:
    """The same for texts by themselves. Args: held: dev and test. Lines of few words may occur anywhere, see `SAME_FROM`."""
    role, subwords = ("text", data.vocabularies.target) if isinstance(data, PreparedText) else ("source", data.vocabularies.source)
    places = [(store, place) for store in data.stores for place in spread(len(store), max(1, LEAK_PAIRS * len(store) // _total(data)))]
    known = {sentence_key(subwords.written(store.row(role, place).tolist())) for store, place in places}
    what: Unit = "lines" if isinstance(data, PreparedText) else "texts"
    found: list[Finding] = []
    for name, texts in held.items():
        if not texts:
            lacking = f"there is no {name} line of {SAME_FROM} words or more" if what == "lines" else f"there is no {name} text"
            found.append(Finding(check="leakage", severity="unchecked", found=lacking))
            continue
        hits = [text for text in texts if sentence_key(text) in known]
        shared = Shared(len(hits), 0, len(texts), hits[0] if hits else "")
        found.append(judge_leak(name, shared, seen=len(places), pairs=_total(data), unit=what))
    return found


def _total(data: PreparedData) -> int:
    return sum(map(len, data.stores))


class Shared(NamedTuple):
    """How many sentences of a text also occur in another one, and the first of them."""

    both: int
    """Pairs of which both sides occur there (not necessarily in one pair)."""
    one: int
    """Pairs of which only one side does."""
    sentences: int
    example: str


def count_shared(texts: Texts, sources: set[int], targets: set[int]) -> Shared:
    """Compare a text with the keys (`sentence_key`) of another one's sentences. Empty sentences match nothing."""
    hits = [
        (source, bool(source) and sentence_key(source) in sources, bool(target) and sentence_key(target) in targets)
        for source, target in zip(texts.source, texts.target, strict=True)
    ]
    both, one = sum(left and right for _, left, right in hits), sum(left != right for _, left, right in hits)
    example = next((text for text, left, right in hits if left and right), next((text for text, left, right in hits if left or right), ""))
    return Shared(both, one, len(hits), example)


def judge_leak(name: str, shared: Shared, *, seen: int, pairs: int, unit: Unit = "pairs") -> Finding:
    """Judge by the share of pairs that training has seen. Args: unit: lines and texts are counted by `both`."""
    sample = "" if seen >= pairs else f" (of which {seen:,} were compared)"
    told = f"{shared.both:,} of {shared.sentences:,} {name} {unit} also occur in the {pairs:,} training "
    told += f"{unit}{sample}" + (f", {shared.one:,} by one side" if unit == "pairs" else "")
    numbers = {"pairs": shared.both, "one_side": shared.one, "sentences": shared.sentences, "training_pairs_seen": seen}
    if not shared.both and not shared.one:
        return Finding(check="leakage", severity="ok", found=told, numbers=numbers)
    return Finding(
        check="leakage",
        severity="fault" if shared.both >= LEAKED * shared.sentences else "warning",
        found=f"{told}, such as {shared.example!r}",
        expected="none: scores on training sentences are too high",
        remedy=f"use {name} text that is not in the training text, or let it be held out (data.holdout), and train in a new folder",
        numbers=numbers,
    )


class TokenStatistics(NamedTuple):
    """Statistics of the tokens of a text."""

    unknown: float
    """Share of unknown tokens and of bytes."""
    characters: float
    """Per token."""
    counts: npt.NDArray[np.float64]
    """How often each id occurs."""


def token_statistics(texts: Sequence[str], rows: Iterable[Sequence[int]], vocabulary: Subwords) -> TokenStatistics:
    """Count tokens; `rows` are the ids of the texts."""
    ids = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows] or [np.zeros(0, dtype=np.int64)])
    counts = np.bincount(ids, minlength=vocabulary.size).astype(np.float64)
    has_bytes = vocabulary.size > _FIRST_BYTE + _BYTES and vocabulary.pieces([_FIRST_BYTE])[0] == "<0x00>"
    strange = counts[UNK] + (counts[_FIRST_BYTE : _FIRST_BYTE + _BYTES].sum() if has_bytes else 0.0)
    total = max(1, len(ids))
    return TokenStatistics(float(strange) / total, sum(map(len, texts)) / total, counts)


def vocabulary(run: RunUnderTest) -> list[Finding]:
    """Whether model, data and dev text match."""
    data = run.data
    if run.loaded is not None and run.vocabularies.digest != data.vocabularies.digest:
        return [_other_vocabulary(run)]
    if "dev" in run.missing:
        return [Finding(check="vocabulary", severity="unchecked", found="there is no dev text to compare with the training text")]
    store = max(data.stores, key=len)
    places = spread(len(store), SAMPLE)
    found: list[Finding] = []
    sides: list[tuple[TokenStatistics, TokenStatistics]] = []
    for side, texts in run.dev_texts.items():
        subwords = data.vocabularies.of(side)
        train = [store.row(side, place).tolist() for place in places]
        dev = [texts[place] for place in spread(len(texts), SAMPLE)]
        known = token_statistics([subwords.written(row) for row in train], train, subwords)
        met = token_statistics(dev, subwords.encode_batch(dev), subwords)
        sides.append((known, met))
        found.append(judge_tokens(side, known, met, most=UNKNOWN_WORDS if isinstance(subwords, WordVocabulary) else UNKNOWN))
    if data.vocabularies.joint and len(sides) == 2:
        found.append(judge_sides(sides[0], sides[1]))
    wrong = [finding for finding in found if finding.severity != "ok"]
    return wrong or [Finding(check="vocabulary", severity="ok", found=_well(run.dev_texts, sides), numbers=_joined(found))]


def _well(names: Iterable[str], sides: Sequence[tuple[TokenStatistics, TokenStatistics]]) -> str:
    """The text of the finding where nothing is wrong."""
    shares = " and ".join(f"{dev.unknown:.1%} of the {side}" for side, (_, dev) in zip(names, sides, strict=True))
    return f"of dev's tokens, {shares} are unknown or bytes; model, data and dev text use the same vocabulary"


def _joined(found: Sequence[Finding]) -> dict[str, float]:
    return {name: value for finding in found for name, value in finding.numbers.items()}


def _other_vocabulary(run: RunUnderTest) -> Finding:
    model, data = run.vocabularies, run.data.vocabularies
    return Finding(
        check="vocabulary",
        severity="fault",
        found=f"the model's vocabulary ({model.digest[:12]}, {model.source.size:,} and {model.target.size:,} ids) is not the data's "
        f"({data.digest[:12]}, {data.source.size:,} and {data.target.size:,} ids): model/ and data/ are from different runs",
        expected="one vocabulary for both",
        remedy="restore the matching model/ or data/, or train in a new folder",
        numbers={"model_ids": model.source.size, "data_ids": data.source.size},
    )


def judge_tokens(side: str, train: TokenStatistics, dev: TokenStatistics, *, most: float = UNKNOWN) -> Finding:
    """Compare the tokens of a side on dev and on train. Args: most: the share of unknown ones above which they are too many."""
    told = f"{side}: {dev.unknown:.1%} unknown or byte tokens on dev, {train.unknown:.1%} on train; {dev.characters:.1f} and "
    told += f"{train.characters:.1f} characters a token"
    numbers = {f"{side}_unknown_dev": dev.unknown, f"{side}_unknown_train": train.unknown}
    numbers |= {f"{side}_characters_dev": dev.characters, f"{side}_characters_train": train.characters}
    strange = dev.unknown > most and dev.unknown > UNKNOWN_TIMES * train.unknown
    if not strange and dev.characters >= SHORTER * train.characters:
        return Finding(check="vocabulary", severity="ok", found=told, numbers=numbers)
    return Finding(
        check="vocabulary",
        severity="fault",
        found=told,
        expected="dev text of the language, script and spelling of the training text",
        remedy=f"check that the dev {side} is the right file, in the right language and encoding (UTF-8), tokenised as the training text",
        numbers=numbers,
    )


def judge_sides(source: tuple[TokenStatistics, TokenStatistics], target: tuple[TokenStatistics, TokenStatistics]) -> Finding:
    """Whether the sides of dev are exchanged: (train, dev) of each side, in one vocabulary."""
    straight = _cosine(source[0], source[1]) + _cosine(target[0], target[1])
    crossed = _cosine(source[0], target[1]) + _cosine(target[0], source[1])
    numbers = {"own_side": straight / 2, "other_side": crossed / 2}
    told = f"words of dev are like those of their own side of train by {straight / 2:.2f}, of the other side by {crossed / 2:.2f} (cosine)"
    if crossed - straight <= 2 * SWAPPED:
        return Finding(check="vocabulary", severity="ok", found=told, numbers=numbers)
    return Finding(
        check="vocabulary",
        severity="fault",
        found=told,
        expected="each side in its own language",
        remedy="the source and target of the dev text are exchanged: swap them",
        numbers=numbers,
    )


def _cosine(one: TokenStatistics, other: TokenStatistics) -> float:
    scale = float(np.linalg.norm(one.counts) * np.linalg.norm(other.counts))
    return float(one.counts @ other.counts) / scale if scale else 0.0
