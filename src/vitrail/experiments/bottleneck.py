"""What the one vector of a sentence contains: linear probes predict its length, its first and its last word.

A recurrent translator without attention gets only the encoder's last states of its source. What a linear probe predicts is in them; what it
cannot predict may be in them, but is hard to use. Source: Adi et al. 2017; Conneau et al. 2018.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitrail.data.batches import pad_rows
from vitrail.data.preparing.prepared import Prepared, open_prepared
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.errors import DataError
from vitrail.evaluation.slices import LENGTH_EDGES, Share, challenge, words
from vitrail.models.base import TranslationModel
from vitrail.models.model_folder import load_model

CLASSES = 50
"""The number of classes of a word probe, the most frequent words; sentences with other words there are left out."""
LEAST = 50
"""Minimal number of sentences in each of the two sets."""
FITTING = 3000
"""Training sentences of a run to fit the probes on."""
LONGEST = 250
"""Maximal length of a sentence in subwords."""
STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Penalties to choose from, by a fifth of the fitting sentences: lambda of `mean loss + lambda/2 · |W|²`, features of variance 1."""
_ROWS = 64
_ITERATIONS = 60


@dataclass(frozen=True)
class LengthBand:
    """Errors of the length probe, in words, on test sentences of `first` to `last` words (None: no upper bound)."""

    first: int
    last: int | None
    sentences: int
    mean_error: float | None
    """Mean absolute error; None where there are no sentences."""
    baseline_error: float | None
    """Baseline: the error of always answering the median length of the fitting sentences."""


@dataclass(frozen=True)
class WordBand:
    """Accuracy of a word probe on test sentences of `first` to `last` words, and of the most frequent word as a baseline."""

    first: int
    last: int | None
    probe: Share
    majority: Share


@dataclass(frozen=True)
class LengthProbe:
    """Predicts the number of source words by ridge regression."""

    r_squared: float
    """1 - squared error / variance, on the test sentences; 0: no better than their mean; it may be below 0."""
    strength: float
    bands: tuple[LengthBand, ...]
    """All test sentences first, then by length."""


@dataclass(frozen=True)
class WordProbe:
    """Predicts a word of the source by multinomial logistic regression."""

    name: str
    """first word, or last word."""
    classes: int
    fitted: int
    """Fitting sentences with one of these words in that place."""
    strength: float
    bands: tuple[WordBand, ...]
    """All test sentences first, then by length."""


@dataclass(frozen=True)
class Bottleneck:
    """What the sentence vectors of one model contain."""

    name: str
    vector: str
    """Which vector: the encoder's last states, or the mean over its memory where there are none."""
    width: int
    fitted: int
    tested: int
    length: LengthProbe
    words: tuple[WordProbe, ...]

    def to_text(self) -> str:
        """Tables for people: the probe's result, and the baseline's in brackets."""
        lines = [f"{self.name}: {self.vector}, {self.width} numbers; {self.fitted:,} sentences fitted on, {self.tested:,} tested on"]
        lines.append(f"length: R² {self.length.r_squared:.3f}")
        header = ["source words", "sentences", "error in words", *(f"{probe.name} predicted" for probe in self.words)]
        rows = [header]
        for place, band in enumerate(self.length.bands):
            if not band.sentences:
                continue
            span = "all" if place == 0 else f"{band.first}+" if band.last is None else f"{band.first}-{band.last}"
            error = "" if band.mean_error is None else f"{band.mean_error:.2f} ({band.baseline_error:.2f})"
            rows.append([span, f"{band.sentences:,}", error, *(_shares(probe.bands[place]) for probe in self.words)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(lines) + "\n"

    def to_record(self) -> dict[str, Any]:
        """The fields by name, as plain values that JSON holds."""
        return asdict(self)


def _shares(band: WordBand) -> str:
    return "" if band.probe.share is None or band.majority.share is None else f"{band.probe.share:.1%} ({band.majority.share:.1%})"


def probe_run(folder: Path) -> Bottleneck:
    """Probe a run's model: probes are fitted on its training sentences and tested on its dev and test sets.

    Raises ModelError where the folder is not a run, DataError where its sets are too small.
    """
    loaded = load_model(folder)
    prepared = open_prepared(folder / "data")
    return probe_vectors(
        loaded.model, loaded.vocabularies, training_texts(prepared), prepared.dev.source + prepared.test.source, name=str(folder)
    )


def training_texts(prepared: Prepared) -> list[str]:
    """`FITTING` source sentences of a run's training data, evenly spread over each corpus."""
    texts: list[str] = []
    for store in prepared.stores:
        places = np.linspace(0, len(store) - 1, min(len(store), FITTING // len(prepared.stores))).astype(int)
        texts += [prepared.vocabularies.source.written(store.source(int(place)).tolist()) for place in places]
    return texts


def probe_vectors(
    model: TranslationModel, vocabularies: Vocabularies, fitting: Sequence[str], test: Sequence[str], *, name: str = "model"
) -> Bottleneck:
    """Fit linear probes (length, first word, last word) on the vectors of some sentences and test them on those of others.

    The vector is `Encoded.summary`, or where a model has none (a Transformer) the mean of its memory over the real positions. Words are
    `slices.words`: lowercased, without punctuation; the classes of the probe are the `CLASSES` most frequent ones. A test sentence that is
    also among the fitting ones is left out. Deterministic: closed form for the length, L-BFGS from zero for the words.

    Raises DataError where a set has fewer than `LEAST` sentences.
    Cost:   one encoding of every sentence; half a minute of fitting at 3,000 sentences and 512 numbers on one core.
    """
    known = set(fitting)
    inside = _usable(vocabularies, fitting, purpose="to fit probes on")
    outside = _usable(vocabularies, [text for text in test if text not in known], purpose="to test probes on")
    vectors = [sentence_vectors(model, vocabularies, texts) for texts in (inside, outside)]
    data = _standardised(*(part.values for part in vectors))
    said, asked = [words(text) for text in inside], [words(text) for text in outside]
    lengths = torch.tensor(list(map(len, asked)))
    probes = (
        _read_word("first word", data, [one[0] for one in said], [one[0] for one in asked], lengths=lengths),
        _read_word("last word", data, [one[-1] for one in said], [one[-1] for one in asked], lengths=lengths),
    )
    length = _read_length(data, torch.tensor(list(map(len, said))), lengths)
    return Bottleneck(name, vectors[0].kind, data.inside.shape[1], len(inside), len(outside), length, probes)


def _usable(vocabularies: Vocabularies, texts: Sequence[str], *, purpose: str) -> list[str]:
    """The sentences that have a word and are short enough to read, each once."""
    worded = [text for text in dict.fromkeys(texts) if words(text)]
    kept = [text for text, ids in zip(worded, vocabularies.source.encode_batch(worded), strict=True) if len(ids) <= LONGEST]
    if len(kept) < LEAST:
        raise DataError(
            f"{len(kept)} different sentences {purpose}", expected=f"at least {LEAST}, of words and of up to {LONGEST} subwords"
        )
    return kept


class Vectors(NamedTuple):
    """One vector a sentence, and which one it is."""

    values: Float[Tensor, "B R"]
    kind: str


def sentence_vectors(model: TranslationModel, vocabularies: Vocabularies, texts: Sequence[str]) -> Vectors:
    """The encoder's vector of each sentence, in float64 on the CPU, in the order of the texts."""
    ids = vocabularies.source.encode_batch(texts)
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    device = next(model.parameters()).device
    parts: list[Tensor] = []
    kind = "mean of the encoder's memory"
    training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), _ROWS):
            encoded = model.encode(pad_rows([ids[place] for place in order[start : start + _ROWS]]).to(device))
            if encoded.summary is not None:
                kind = "last states of the encoder"
            vector = mean_over_real(encoded.memory, encoded.keep) if encoded.summary is None else encoded.summary
            parts.append(vector.double().cpu())
    model.train(training)
    back = torch.tensor(order).argsort()
    return Vectors(torch.cat(parts)[back], kind)


def mean_over_real(memory: Float[Tensor, "B S D"], keep: Bool[Tensor, "B S"]) -> Float[Tensor, "B D"]:
    """The mean over each sentence's real positions."""
    return memory.where(keep[:, :, None], 0).sum(1) / keep.sum(1, keepdim=True)


class _Data(NamedTuple):
    """Features of the fitting and of the test sentences, of mean 0 and variance 1 in the former."""

    inside: Float[Tensor, "B R"]
    outside: Float[Tensor, "B R"]


def _standardised(inside: Tensor, outside: Tensor) -> _Data:
    """Standardise both; a constant feature becomes 0 in both."""
    mean, spread = inside.mean(0), inside.std(0)
    scale = torch.where(spread > 1e-9 * (1 + mean.abs()), 1 / spread, 0)
    return _Data((inside - mean) * scale, (outside - mean) * scale)


def _halves(count: int) -> tuple[Bool[Tensor, " B"], Bool[Tensor, " B"]]:
    """Hold out every fifth fitting sentence to choose the penalty."""
    aside = torch.arange(count) % 5 == 4
    return ~aside, aside


def ridge(features: Float[Tensor, "B R"], wanted: Float[Tensor, " B"], strength: float) -> Float[Tensor, " R+1"]:
    """Weights, and last the intercept, that minimise mean (f·w + b - y)² / 2 + strength/2 · |w|²; the intercept is not penalised."""
    mean, centre = features.mean(0), wanted.mean()
    centred = features - mean
    gram = centred.t() @ centred / len(features) + strength * torch.eye(features.shape[1], dtype=features.dtype)
    weights = torch.linalg.solve(gram, centred.t() @ (wanted - centre) / len(features))
    return torch.cat([weights, (centre - mean @ weights)[None]])


def _read_length(data: _Data, inside: Int[Tensor, " B"], outside: Int[Tensor, " B"]) -> LengthProbe:
    wanted = inside.double()
    fit, aside = _halves(len(wanted))

    def error(strength: float) -> float:
        weights = ridge(data.inside[fit], wanted[fit], strength)
        return float((_apply(data.inside[aside], weights) - wanted[aside]).square().mean())

    strength = min(STRENGTHS, key=error)
    off = _apply(data.outside, ridge(data.inside, wanted, strength)) - outside
    baseline = (wanted.median() - outside).abs()
    variance = float(outside.double().var(unbiased=False))
    bands = [
        LengthBand(first, last, len(rows), *((float(off[rows].abs().mean()), float(baseline[rows].mean())) if len(rows) else (None, None)))
        for first, last, rows in _bands(outside)
    ]
    return LengthProbe(1 - float(off.square().mean()) / variance if variance else 0.0, strength, tuple(bands))


def _apply(features: Float[Tensor, "B R"], weights: Float[Tensor, " R+1"]) -> Float[Tensor, " B"]:
    return features @ weights[:-1] + weights[-1]


def logistic(features: Float[Tensor, "B R"], wanted: Int[Tensor, " B"], *, classes: int, strength: float) -> Float[Tensor, "C R+1"]:
    """Weights, and last the intercepts, that minimise mean -log softmax(W·f + b)[y] + strength/2 · |W|²; a row a class.

    L-BFGS from zero with a strong Wolfe line search: no random numbers, a convex loss, so one answer.
    """
    weights = torch.zeros(classes, features.shape[1] + 1, dtype=features.dtype, requires_grad=True)
    search = torch.optim.LBFGS([weights], max_iter=_ITERATIONS, tolerance_grad=1e-5, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = F.cross_entropy(F.linear(features, weights[:, :-1], weights[:, -1]), wanted)
        value = value + strength / 2 * weights[:, :-1].square().sum()
        value.backward()  # pyright: ignore[reportUnknownMemberType]
        return value

    with torch.enable_grad():
        search.step(loss)  # pyright: ignore[reportArgumentType]
    return weights.detach()


def _read_word(name: str, data: _Data, inside: Sequence[str], outside: Sequence[str], *, lengths: Int[Tensor, " B"]) -> WordProbe:
    """Fit and test on the sentences that have one of the most frequent words there; ties: the first one."""
    known = [word for word, _ in Counter(inside).most_common(CLASSES)]
    number = {word: place for place, word in enumerate(known)}
    fit_rows = torch.tensor([row for row, word in enumerate(inside) if word in number])
    test_rows = torch.tensor([row for row, word in enumerate(outside) if word in number], dtype=torch.long)
    features, wanted = data.inside[fit_rows].float(), torch.tensor([number[inside[int(row)]] for row in fit_rows])
    fit, aside = _halves(len(wanted))

    def correct(strength: float) -> int:
        weights = logistic(features[fit], wanted[fit], classes=len(known), strength=strength)
        return int((_chosen(features[aside], weights) == wanted[aside]).sum())

    # Of equals, the stronger penalty: max takes the first.
    strength = max(reversed(STRENGTHS), key=correct)
    weights = logistic(features, wanted, classes=len(known), strength=strength)
    truths = [outside[int(row)] for row in test_rows]
    answers = [known[place] for place in _chosen(data.outside[test_rows].float(), weights).tolist()]
    bands = [
        WordBand(
            first,
            last,
            challenge("probe", [truths[row] for row in rows], [answers[row] for row in rows], passes=str.__eq__),
            challenge("most frequent word", [truths[row] for row in rows], [known[0]] * len(rows), passes=str.__eq__),
        )
        for first, last, rows in _bands(lengths[test_rows])
    ]
    return WordProbe(name, len(known), len(fit_rows), strength, tuple(bands))


def _chosen(features: Float[Tensor, "B R"], weights: Float[Tensor, "C R+1"]) -> Int[Tensor, " B"]:
    return F.linear(features, weights[:, :-1], weights[:, -1]).argmax(1)


def _bands(lengths: Int[Tensor, " B"]) -> list[tuple[int, int | None, list[int]]]:
    """All rows, then those of each band of lengths, with the band's ends."""
    found: list[tuple[int, int | None, list[int]]] = [(0, None, list(range(len(lengths))))]
    for first, last in zip([0, *(edge + 1 for edge in LENGTH_EDGES)], [*LENGTH_EDGES, None], strict=True):
        inside = lengths >= first if last is None else (lengths >= first) & (lengths <= last)
        found.append((first, last, inside.nonzero().flatten().tolist()))
    return found
