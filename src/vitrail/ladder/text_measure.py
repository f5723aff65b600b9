"""Measure a finished run of a language model as a rung: perplexities with intervals, speed, and the paired test of two rungs."""

import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.data.preparing.prepared import PreparedText
from vitrail.data.vocabularies.subwords import SOS
from vitrail.decode.generate import Generator
from vitrail.decode.perplexity import TextPerplexity, measure_text
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.errors import ModelError
from vitrail.evaluation.curves import LearningCheck
from vitrail.evaluation.learned import estimate_training
from vitrail.evaluation.scores import SEED, Comparison, Score
from vitrail.ladder.flops import step_cost
from vitrail.ladder.measure import MeasuredRung, Run, RungLabel, read_training
from vitrail.ladder.rung_worker import read_process
from vitrail.ladder.rungs import BITS, Rung, RungComparison
from vitrail.models.build import count_parameters
from vitrail.runtime.device import set_threads
from vitrail.train.log.metrics import perplexity

_PIECE_LINES = 20
"""Neighbouring lines are resampled together, since what is hard in one is hard in the next; held-out text is in blocks as long."""
_RESAMPLES = 1000
_TRIALS = 10_000
_LITTLE = 0.9
"""Dev loss, as a share of the unigram entropy, above which nothing is learned but the frequencies of tokens. No source says what comes
next, so that a good language model has a larger share of it than a translator."""
_ROWS, _TOKENS = 16, 64
"""Texts that are written side by side to measure the speed, and their length."""


def measure_text_rung(runs: Sequence[Run], named: RungLabel, *, test: Sequence[str]) -> MeasuredRung:
    """Measure a rung of language models: all fields from the run of the first seed, only bits per byte from the other seeds.

    Raises: ModelError where a run has no model, no log, or no dev text.
    """
    first = runs[0]
    data = first.data
    assert isinstance(data, PreparedText)
    if not data.dev:
        raise ModelError(f"{first.folder}: has no dev text", expected="a run with dev text, held out or given")
    set_threads(first.config.train.threads)
    generator = Generator.load(first.folder, device=first.config.train.device)
    trained, cost = read_training(first), step_cost(first.config, data)
    dev = measure_text(generator.model, generator.vocabulary, data.dev).figures()
    tested = [generator.measure(test)] if test else []
    tested += [Generator.load(run.folder, device=run.config.train.device).measure(test) for run in runs[1:] if test]
    parts = [list(test[at : at + _PIECE_LINES]) for at in range(0, len(test), _PIECE_LINES)]
    pieces = [generator.measure(part) for part in parts if any(part)]
    learned = _check(dev["loss_nats_per_token"], data)
    rung = Rung(
        **named._asdict(),
        seeds=tuple(run.config.seed for run in runs),
        parameters=count_parameters(generator.model)["total"],
        steps=trained.steps,
        epochs=trained.epochs,
        minutes=trained.minutes,
        training_flops=cost.flops * trained.steps,
        tokens_per_second=trained.tokens_per_second,
        peak_memory_bytes=read_process(first.folder).get("peak_memory_bytes"),
        dev_loss=dev["loss_nats_per_token"],
        dev_perplexity=perplexity(dev["loss_nats_per_token"]),
        test_loss=tested[0].nats / tested[0].tokens if tested else None,
        test_perplexity=tested[0].figures()["perplexity"] if tested else None,
        scores=tuple(text_scores(tested[0], pieces, lines=len(test))) if tested else (),
        seed_scores=tuple(one.figures()["bits_per_byte"] for one in tested),
        bands=(),
        shares=(),
        sentences_per_second=None,
        gradients=(),
        curve=trained.curve,
        learned=learned,
        enough=estimate_training(trained.curve, entropy=learned.word_entropy, steps=trained.steps, minutes=trained.minutes)
        if learned.doubts
        else None,
        written_tokens_per_second=_speed(generator),
    )
    return MeasuredRung(rung, [], pieces)


def _check(dev_loss: float, data: PreparedText) -> LearningCheck:
    """Whether the dev loss is well below the entropy of the tokens: below that of a model which knows their frequencies alone."""
    counts = np.bincount(np.concatenate([store.ids("text") for store in data.stores]), minlength=SOS + 2).astype(np.float64)
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    told = f"its dev loss of {dev_loss:.2f} nats per token is {dev_loss / max(entropy, 1e-9):.0%} of the unigram entropy ({entropy:.2f})"
    return LearningCheck(entropy, None, None, None, doubts=() if dev_loss < _LITTLE * entropy else (told,))


def _speed(generator: Generator) -> float:
    """Tokens a second, drawn in several texts side by side."""
    search = SearchConfig(sampling=SamplingConfig(), min_length=_TOKENS - 1, max_extra=_TOKENS)
    started = time.perf_counter()
    found = generator.generate([""] * _ROWS, search=search)
    return sum(len(one.tokens) for (one,) in found) / (time.perf_counter() - started)


# Intervals and paired tests: pieces of the text are resampled. A piece is measured by itself, the figures are of the whole text, where
# each piece is read after those before it; so the pieces tell only how far a resample is from the whole.


def _table(pieces: Sequence[TextPerplexity]) -> NDArray[np.float64]:
    return np.array([[one.nats, one.tokens, one.words, one.bytes] for one in pieces], dtype=np.float64).reshape(-1, 4)


def _resampled(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums of each resample, one a row."""
    drawn = np.random.default_rng(SEED).integers(len(table), size=(_RESAMPLES, len(table)))
    return table[drawn].sum(axis=1)


def text_scores(whole: TextPerplexity, pieces: Sequence[TextPerplexity], *, lines: int) -> list[Score]:
    """The figures of a text that can be compared, with 95 % intervals; no intervals for a text of one piece."""
    table = _table(pieces)
    table[:, 0] *= whole.nats / max(table[:, 0].sum(), 1e-9)
    sums = _resampled(table) if len(table) > 1 else np.empty((0, 4))
    counts = {"nats": whole.nats, "tokens": float(whole.tokens), "words": float(whole.words), "bytes": float(whole.bytes)}
    units = {BITS: (whole.bytes, 3), "perplexity a word": (whole.words, 2), "perplexity a token": (whole.tokens, 1)}
    found: list[Score] = []
    for name, (number, column) in units.items():
        if not number:
            continue  # words that no spaces part
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            rates = sums[:, 0] / sums[:, column]
        rates = rates[np.isfinite(rates)]
        ends = np.quantile(rates, (0.025, 0.975)).tolist() if len(rates) else (None, None)
        value, low, high = (None if rate is None else _figure(name, rate) for rate in (whole.nats / number, *ends))
        assert value is not None
        found.append(Score(name, value, low, high, lines, counts, _signature()))
    return found


def _figure(name: str, nats: float) -> float:
    """A score from nats a unit."""
    return nats / math.log(2) if name == BITS else perplexity(nats)


def _signature() -> str:
    return f"bootstrap:{_RESAMPLES}|seed:{SEED}|pieces:{_PIECE_LINES} lines|ends of lines counted"


def compare_text_rungs(baseline: MeasuredRung, system: MeasuredRung) -> RungComparison | None:
    """Compare two rungs on the same pieces of text by bits per byte, paired; None where there are fewer than two."""
    before, after = (_table(one.pieces) for one in (baseline, system))
    if len(before) < 2 or len(before) != len(after):
        return None
    first, second = (next(one.value for one in rung.rung.scores if one.name == BITS) for rung in (baseline, system))
    difference = second - first
    apart = np.stack([after[:, 0] - before[:, 0], before[:, 3]], axis=1)
    apart[:, 0] += (difference * math.log(2) - apart[:, 0].sum() / apart[:, 1].sum()) * apart[:, 1]
    drawn = np.random.default_rng(SEED).integers(len(apart), size=(_RESAMPLES, len(apart)))
    sums = apart[drawn].sum(axis=1)
    resampled = sums[:, 0] / sums[:, 1] / math.log(2)
    low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
    by_chance = np.abs(resampled - resampled.mean())
    signs = np.random.default_rng(SEED).choice((-1.0, 1.0), size=(_TRIALS, len(apart)))
    shuffled = np.abs(signs @ apart[:, 0]) / apart[:, 1].sum() / math.log(2)
    p_bootstrap, p_randomisation = (float((1 + (one >= abs(difference) - 1e-12).sum()) / (1 + len(one))) for one in (by_chance, shuffled))
    lines = system.rung.scores[0].sentences
    comparison = Comparison(BITS, first, second, difference, low, high, p_bootstrap, p_randomisation, lines, _signature())
    return RungComparison(baseline.rung.name, system.rung.name, (comparison,))
