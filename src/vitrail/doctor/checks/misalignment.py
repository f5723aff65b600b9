"""Check of misaligned lines: from which pair on a target belongs to a neighbouring source, by lengths and by a trained model's loss."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.data.batches import IdRow
from vitrail.data.preparing.store import Store
from vitrail.decode.forced import losses
from vitrail.doctor.findings import Finding
from vitrail.doctor.run_under_test import RunUnderTest
from vitrail.evaluation.learned import LONGEST, spread, word_entropy
from vitrail.models.base import AutoregressiveModel

_Floats = npt.NDArray[np.float64]

WINDOW = 200
"""Pairs in a window whose lengths are compared: chance gives a correlation of 0 with a standard deviation of 1 / sqrt(200) = 0.07."""
SHIFTS = (1, -1, 2, -2)
"""Neighbours whose target is tried: one or two lines missing or added."""
CHANCE = 6.0
"""Standard deviations by which a neighbour's lengths must correlate better. Windows of a corpus of 10 million pairs, and four shifts, are
200,000 trials: 6 makes one false alarm in 5,000 such corpora."""
UNRELATED = 3.0
"""Standard deviations from 0 within which the lengths of a window are unrelated."""
WIDER = 1.3
"""A window of unrelated lengths is suspicious if the spread of their ratios is also so many times that of the median window. In Multi30k
and the phrasebook, ratios of unrelated lengths spread 2.3 to 2.7 times as much, and those of no window 1.3 times."""
RELATED = 0.2
"""Correlation of lengths over a whole corpus below which its two sides seem to be unrelated. Multi30k 0.87, the phrasebook 0.82."""
MUCH = 0.1
"""Share of a corpus with unrelated sides from which it is a fault."""

_FAR = 101
"""Distance in pairs of the source whose loss is the baseline: beyond any shift and most paragraphs."""
PROBES = 24
"""Windows in which the model's loss is measured, evenly spread."""
PROBE_PAIRS = 12
"""Pairs of such a window; each source is also scored with the target of the pair after it and before it."""
_DEV_PAIRS = 64
NATS = 0.3
"""Nats per token by which neighbours' targets must be better, in the mean of a window, for it to be shifted."""
LEAST_LEAD_NATS = 0.4
"""Nats per token by which right targets must be better than their neighbours in a quarter of the windows; otherwise the model is too weak.
Healthy models: 3 to 6."""


class Shift(NamedTuple):
    """A range of pairs whose targets are at other pairs."""

    first: int
    """The first affected pair, counted from 0, exact to the width of a window."""
    last: int
    """The last one."""
    by: int
    """The target of pair i is at pair i + by; 0: nowhere near."""


def by_lengths(source: npt.ArrayLike, target: npt.ArrayLike) -> list[Shift]:
    """Runs of windows in which target lengths fit a neighbour's source (by != 0), or no source nearby (by == 0).

    In each window the Pearson correlation r of log lengths is compared with those of shifted lengths by Fisher's z = atanh(r)·sqrt(n - 3),
    which has a standard deviation of 1. Source: Fisher 1915; lengths as evidence of alignment: Gale and Church 1993. In text without
    misalignment, a window's lengths may still be unrelated where all its sentences are about as long (sorted text): misaligned windows also
    have a larger spread of the length ratio than elsewhere.
    Cost: a few passes over the lengths: 1 s for 10 million pairs.
    """
    left, right = log_lengths(source), log_lengths(target)
    windows = _windows(len(left))
    spreads = [float(np.std(right[first:last] - left[first:last])) for first, last in windows]
    wide = WIDER * float(np.median(spreads))
    verdicts = [_verdict(left, right, window, wide=spread > wide) for window, spread in zip(windows, spreads, strict=True)]
    return [run._replace(first=first_affected(left, right, run) if run.by else run.first) for run in _runs(verdicts, windows)]


def log_lengths(lengths: npt.ArrayLike) -> _Floats:
    """log(1 + length), in which the lengths of both sides differ by about a constant."""
    return np.log1p(np.asarray(lengths, dtype=np.float64))


def _windows(pairs: int) -> list[tuple[int, int]]:
    """The first and last pair of each window; a short rest is added to the last window."""
    count = max(1, pairs // WINDOW)
    return [(number * WINDOW, pairs if number == count - 1 else (number + 1) * WINDOW) for number in range(count)]


def _verdict(source: _Floats, target: _Floats, window: tuple[int, int], *, wide: bool) -> int | None:
    """The shift that explains a window; 0: its lengths are unrelated; None: nothing is wrong."""
    first, last = window
    straight = _fisher(source[first:last], target[first:last])
    best = max(SHIFTS, key=lambda by: _shifted(source, target, first, last, by))
    if _shifted(source, target, first, last, best) - straight > CHANCE:
        return best
    return 0 if wide and straight < UNRELATED and last - first >= WINDOW else None


def _shifted(source: _Floats, target: _Floats, first: int, last: int, by: int) -> float:
    first, last = max(first, -by), min(last, len(source) - max(by, 0))
    return _fisher(source[first:last], target[first + by : last + by])


def _fisher(source: _Floats, target: _Floats) -> float:
    """Fisher's z of the correlation, in standard deviations."""
    if len(source) < 20:
        return 0.0
    return float(np.arctanh(np.clip(_correlation(source, target), -0.999999, 0.999999)) * np.sqrt(len(source) - 3))


def _correlation(source: _Floats, target: _Floats) -> float:
    """Pearson's r; 0 where a side does not vary."""
    left, right = source - source.mean(), target - target.mean()
    scale = np.sqrt((left @ left) * (right @ right))
    return float(left @ right / scale) if scale > 0 else 0.0


def _runs(verdicts: Sequence[int | None], windows: Sequence[tuple[int, int]]) -> list[Shift]:
    """Neighbouring windows of the same verdict as one."""
    found: list[Shift] = []
    for verdict, (first, last) in zip(verdicts, windows, strict=True):
        if verdict is None:
            continue
        if found and found[-1].last == first - 1 and found[-1].by == verdict:
            found[-1] = found[-1]._replace(last=last - 1)
        else:
            found.append(Shift(first, last - 1, verdict))
    return found


def first_affected(source: _Floats, target: _Floats, shift: Shift) -> int:
    """Where a shift begins: the best change point within a window before and after the first window.

    For each pair, the evidence is how much better the neighbour's length fits the source's, by the line that fits both sides' logs;
    the sum of it over all pairs after a place is largest where the shift begins (CUSUM, Page 1954).
    Measured at 400 random places: 1.4 pairs away in the mean in the phrasebook (worst: 20), 1.0 in Multi30k (worst: 7).
    """
    begin, end = max(0, shift.first - WINDOW, -shift.by), min(len(source) - max(shift.by, 0), shift.first + WINDOW)
    here, there = target[begin:end], target[begin + shift.by : end + shift.by]
    level = there.mean() - source[begin:end].mean()
    gain = (here - source[begin:end] - level) ** 2 - (there - source[begin:end] - level) ** 2
    after = np.cumsum(gain[::-1])[::-1]
    return begin + int(after.argmax())


def by_loss(leads: _Floats) -> dict[int, int]:
    """Which windows are shifted, and by how much, from the lead of right targets over neighbours' targets in nats per token.

    Args: leads: (windows, 2): the mean of `lead_over_neighbours`.
    """
    return {int(place): (1, -1)[int(row.argmin())] for place, row in enumerate(leads) if row.min() < -NATS}


def misalignment(run: RunUnderTest) -> list[Finding]:
    """Check every corpus of the training text: all pairs by lengths, a sample by the model's loss."""
    knows = run.loaded is not None and run.vocabularies.digest == run.pairs.vocabularies.digest
    model = run.writer if knows and _beats_frequencies(run) else None
    return [_examine(run, store, name, model) for store, name in zip(run.pairs.stores, corpus_names(run), strict=True)]


def _beats_frequencies(run: RunUnderTest) -> bool:
    """Whether the model's dev loss is below the unigram entropy: the losses of a diverged model are noise."""
    pairs = run.dev_pairs
    source, target = pairs.source[:_DEV_PAIRS], pairs.target[:_DEV_PAIRS]
    nats, tokens = losses(run.writer, source, target)
    return len(source) == 0 or float(nats.sum() / tokens.sum()) < word_entropy(run.pairs)


def corpus_names(run: RunUnderTest) -> list[str]:
    """The name of each corpus in the report of the preparation."""
    parts = run.pairs.report.details["corpora"]
    return [str(parts[place]["name"]) if place < len(parts) else store.folder.name for place, store in enumerate(run.pairs.stores)]


def _examine(run: RunUnderTest, store: Store, name: str, model: AutoregressiveModel | None) -> Finding:
    shifts = by_lengths(store.source_lengths, store.target_lengths)
    certain, evidence = [shift for shift in shifts if shift.by], "the lengths of sentences"
    probed = probe_loss(model, store) if model is not None and not certain else None
    if probed:
        certain, evidence = probed, "the model's loss"
    if certain:
        shift = certain[0]
        if model is not None:
            shift, evidence = (
                shift._replace(first=_nearer(model, store, shift)),
                evidence + ", the place by its loss" * (evidence[4] == "l"),
            )
        return _misaligned(run, store, name, shift, evidence=evidence, runs=len(certain))
    return _judge_unrelated(store, name, [shift for shift in shifts if not shift.by], helped=None if model is None else probed is not None)


def probe_loss(model: AutoregressiveModel, store: Store) -> list[Shift] | None:
    """Measure the model's loss in windows spread over a corpus; neighbouring windows with the same shift become one run.

    None where the model does not prefer right targets even in its best windows, or the corpus is too short for a window.
    """
    starts = spread(max(0, len(store) - PROBE_PAIRS - 2), PROBES)
    places = [start + 1 + place for start in starts for place in range(PROBE_PAIRS)]
    rows = lead_over_neighbours(model, store, places).reshape(len(starts), PROBE_PAIRS, 2).mean(axis=1) if starts else np.zeros((0, 2))
    if not starts or float(np.quantile(np.abs(rows).max(axis=1), 0.75)) < LEAST_LEAD_NATS:
        return None
    verdicts = by_loss(rows)
    windows = list(zip(starts, [*starts[1:], len(store)], strict=True))
    runs = _runs([verdicts.get(place) for place in range(len(starts))], windows)
    return [run._replace(first=_bisected(model, store, run, step=windows[0][1] - windows[0][0])) for run in runs]


def lead_over_neighbours(model: AutoregressiveModel, store: Store, places: Sequence[int]) -> _Floats:
    """By how many nats per token a pair's own target fits its source better than those of the pair after and the pair before.

    The fit of a target y to a source x is log p(y | x) - log p(y | another source): a target that is likely for every source does not
    count, and for a model that ignores the source all fits are equal.
    Returns: a row for each place; 0 where a side has more than `LONGEST` tokens. Precondition: every place has a pair before and after it.
    """
    needed = sorted({place + by for place in places for by in (-1, 0, 1)})
    target = {place: store.target(place) for place in needed}
    anyhow = dict(
        zip(needed, _per_token(model, [store.source((place + _FAR) % len(store)) for place in needed], [*target.values()]), strict=True)
    )
    source = [store.source(place) for place in places]
    suits: list[_Floats] = []
    for by in (0, 1, -1):
        baseline = np.array([anyhow[place + by] for place in places])
        suits.append(baseline - _per_token(model, source, [target[place + by] for place in places]))
    fits = np.array(
        [max(len(row), *(len(target[place + by]) for by in (-1, 0, 1))) <= LONGEST for place, row in zip(places, source, strict=True)]
    )
    return np.stack([suits[0] - suits[1], suits[0] - suits[2]], axis=1) * fits[:, None]


def _per_token(model: AutoregressiveModel, source: Sequence[IdRow], target: Sequence[IdRow]) -> _Floats:
    """Nats per token of each pair, sides cut to `LONGEST` tokens."""
    return losses(model, [row[:LONGEST] for row in source], [row[:LONGEST] for row in target]).per_token


def _bisected(model: AutoregressiveModel, store: Store, run: Shift, *, step: int) -> int:
    """Where a run of shifted windows begins, to within a window: between the last aligned window and the first shifted one."""
    good, bad, column = max(1, run.first - step), run.first + 1, 0 if run.by > 0 else 1
    while bad - good > PROBE_PAIRS:
        middle = (good + bad) // 2
        shifted = lead_over_neighbours(model, store, range(middle, min(middle + PROBE_PAIRS, len(store) - 1))).mean(axis=0)[column] < -NATS
        good, bad = (good, middle) if shifted else (middle, bad)
    return bad


def _nearer(model: AutoregressiveModel, store: Store, shift: Shift) -> int:
    """The first pair of a shift by one, by the model's loss on the pairs around the estimated place: see `first_affected`."""
    if abs(shift.by) != 1:
        return shift.first
    begin = max(1, shift.first - PROBE_PAIRS * 3)
    gain = -lead_over_neighbours(model, store, range(begin, min(begin + PROBE_PAIRS * 6, len(store) - 1)))[:, 0 if shift.by > 0 else 1]
    return begin + int(np.cumsum(gain[::-1])[::-1].argmax())


def _misaligned(run: RunUnderTest, store: Store, name: str, shift: Shift, *, evidence: str, runs: int) -> Finding:
    vocabularies, pairs = run.pairs.vocabularies, len(store)
    source = vocabularies.source.written(store.source(shift.first).tolist())
    target = vocabularies.target.written(store.target(shift.first).tolist())
    where = "to the end" if shift.last >= pairs - 1 else f"to about pair {shift.last + 1:,}"
    side = "target" if shift.by > 0 else "source"
    more = f"; {runs - 1} more such ranges" if runs > 1 else ""
    return Finding(
        check="misaligned lines",
        severity="fault",
        found=f"{name}: from pair {shift.first + 1:,} of {pairs:,} {where}, the translation of a source is {abs(shift.by)} pair"
        f"{'s' * (abs(shift.by) > 1)} {'later' if shift.by > 0 else 'earlier'} (by {evidence}){more}; there {source!r} is paired "
        f"with {target!r}",
        expected="line n of one side translates line n of the other",
        remedy=f"the {side} file has an extra line just before these, or the other file lacks one: find it, fix the "
        "files, then prepare and train again (pairs are counted after cleaning, so line numbers are higher)",
        numbers={"first_pair": shift.first + 1, "last_pair": shift.last + 1, "shift": shift.by, "pairs": pairs, "stretches": runs},
    )


def _judge_unrelated(store: Store, name: str, shifts: Sequence[Shift], *, helped: bool | None) -> Finding:
    """The finding where nothing is shifted: ranges, or a whole text, whose sides are unrelated.

    Args: helped: whether the model was good enough to check by its loss; None without a model.
    """
    check, pairs = "misaligned lines", len(store)
    related = _correlation(log_lengths(store.source_lengths), log_lengths(store.target_lengths))
    lost = sum(shift.last - shift.first + 1 for shift in shifts)
    numbers = {"pairs": pairs, "length_correlation": related, "unrelated_pairs": lost}
    told = f"{name}: lengths of the two sides correlate by {related:.2f} over {pairs:,} pairs"
    remedy = "check these lines; remove or fix those that do not translate each other, then prepare and train again"
    if lost:
        first = shifts[0]
        return Finding(
            check=check,
            severity="fault" if lost >= MUCH * pairs else "warning",
            found=f"{told}, but not at all in {lost:,} of them, the first around pairs {first.first + 1:,} to {first.last + 1:,}",
            expected="sentences and translations of similar length everywhere",
            remedy=remedy,
            numbers=numbers,
        )
    varied = min(float(np.std(log_lengths(side))) for side in (store.source_lengths, store.target_lengths)) > 0.1
    if pairs >= WINDOW and varied and related < RELATED:
        return Finding(check=check, severity="warning", found=told, expected=f"{RELATED} or more", remedy=remedy, numbers=numbers)
    windows = min(PROBES, max(0, pairs - PROBE_PAIRS - 2))
    by_model = {
        None: "",
        False: "; the model is too weak to check this by its loss",
        True: f"; the model's loss agrees in {windows} windows of {PROBE_PAIRS} pairs",
    }[helped]
    return Finding(check=check, severity="ok", found=f"{told}, in every window of {WINDOW}{by_model}", numbers=numbers)
