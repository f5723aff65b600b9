"""BLEU, chrF and TER with their signature and interval, and the paired tests between two systems.

All numbers come from sacreBLEU's own counts of each sentence; here they are only summed and resampled (a corpus score is a function of the
sum over its sentences), all metrics in one pass. Values, intervals and signatures are therefore sacreBLEU's and can be published.

Input is detokenised text. For scores published on tokenised text see `published.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import DataError, UsageError
from vitrail.evaluation.ter_cost import require_countable

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

Table: TypeAlias = NDArray[np.float64]

METRICS = ("bleu", "chrf", "chrf++", "ter")
USUAL_METRICS = ("bleu", "chrf", "ter")
"""The default metrics."""
# sacreBLEU's default seed: our intervals equal those of its command line.
SEED = 12345
# Those of sacreBLEU's tokenizers that need no download. The `spm` and `flores` ones fetch a model from the network.
TOKENIZERS = ("13a", "intl", "char", "zh", "none", "ja-mecab", "ko-mecab")
# Two scores that differ by less than this come from the same counts, summed in another order.
_SAME = 1e-9


@dataclass(frozen=True)
class Recipe:
    """How to score; settings that change a number are in the signature."""

    metrics: tuple[str, ...] = USUAL_METRICS
    """Some of METRICS, in output order."""
    bootstrap: int = 1000
    """Resamples for the 95 % interval and for the paired bootstrap test; 0 = no interval."""
    trials: int = 10_000
    """Shuffles of the approximate randomisation test."""
    seed: int = SEED
    lowercase: bool = False
    """Ignore case in BLEU and chrF. TER always ignores it, as sacreBLEU and Tercom do by default."""
    tokenize: str = "13a"
    """How BLEU finds words (`vitrail.scoring.bleu_settings_for` chooses). TER splits at spaces; chrF reads characters."""
    effective_order: bool = False
    """Whether BLEU leaves out n-gram orders for which no translation is long enough; otherwise it would be 0.00."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            raise UsageError(f"metrics: {', '.join(unknown) or 'none'}", expected="one or more of " + ", ".join(METRICS))
        if self.bootstrap < 0 or self.bootstrap == 1:
            raise UsageError(f"bootstrap: {self.bootstrap} resamples", expected="0 (no interval) or at least 2", remedy="bootstrap 1000")
        if self.trials < 1 or self.seed < 0:
            raise UsageError(f"trials: {self.trials}, seed: {self.seed}", expected="at least 1 trial and a seed of 0 or more")
        if self.tokenize not in TOKENIZERS:
            raise UsageError(
                f"tokenize: {self.tokenize!r}", expected="one of " + ", ".join(TOKENIZERS), remedy="13a, or char without spaces"
            )


@dataclass(frozen=True)
class Score:
    """One metric over one set of sentences.

    `low` and `high` bound the middle 95 % of the bootstrap resamples (None without bootstrap); half their distance is the ± that
    sacreBLEU prints. `counts` are the sums that the value comes from.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    sentences: int
    counts: Mapping[str, float]
    signature: str


@dataclass(frozen=True)
class Comparison:
    """One metric for two systems on the same sentences, with p-values of their difference.

    `difference` is system - baseline, `low` and `high` bound the middle 95 % of its paired resamples. For TER, lower is better.
    """

    name: str
    baseline: float
    system: float
    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_randomisation: float
    sentences: int
    signature: str


@dataclass(frozen=True)
class Statistics:
    """The counts of each sentence for each metric: row i is sentence i, the columns `spans[k]` belong to `metrics[k]`."""

    recipe: Recipe
    metrics: tuple["Metric", ...]
    spans: tuple[slice, ...]
    table: Table

    def rows(self, indices: Sequence[int]) -> "Statistics":
        """The statistics of some of the sentences, without counting again."""
        return Statistics(self.recipe, self.metrics, self.spans, self.table[np.asarray(indices, dtype=np.int64)])


def evaluate(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str] = USUAL_METRICS,
    bootstrap: int = 1000,
    seed: int = SEED,
    lowercase: bool = False,
    tokenize: str = "13a",
) -> list[Score]:
    """Score translations against one or more reference sets (each as long as the hypotheses).

    Raises: DataError where counts differ or nothing is given; UsageError for an unknown metric or tokenizer.
    Cost:   counting is linear in the text for BLEU and chrF (0.1 to 0.2 ms a sentence). TER's grows fast with length and distance:
            0.2 ms for 13 words, 75 ms for 50 words that do not match, seconds for 200 (`ter_cost` estimates it); each sentence is
            counted once. 1,000 resamples of 1,000 sentences add about 0.1 s (measured on one core).
    """
    recipe = Recipe(tuple(metrics), bootstrap=bootstrap, seed=seed, lowercase=lowercase, tokenize=tokenize)
    return score(collect_statistics(hypotheses, references, recipe=recipe))


def tokenized_bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, bootstrap: int = 1000, seed: int = SEED) -> Score:
    """BLEU over text that is already tokenised, words being separated by spaces (`tok:none` in the signature).

    For tables of papers that report BLEU on tokenised, often lowercased, text. Both sides must have gone through the same tokeniser;
    where only the references have, use `published.published_style`.
    """
    recipe = Recipe(("bleu",), bootstrap=bootstrap, seed=seed, tokenize="none")
    return score(collect_statistics(hypotheses, references, recipe=recipe))[0]


def collect_statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, recipe: Recipe) -> Statistics:
    """Count the sentences once, for `score` and `compare_statistics`."""
    _check(hypotheses, references)
    if "ter" in recipe.metrics:
        require_countable(hypotheses, references)
    metrics = tuple(_metric(name, recipe) for name in recipe.metrics)
    tables = [
        # sacreBLEU has no public name for its counts per sentence. tests/evaluation/test_scores.py detects changes.
        np.asarray(metric._extract_corpus_statistics(hypotheses, references), dtype=np.float64)  # pyright: ignore[reportPrivateUsage]
        for metric in metrics
    ]
    ends = np.cumsum([table.shape[1] for table in tables]).tolist()
    spans = tuple(slice(end - table.shape[1], end) for end, table in zip(ends, tables, strict=True))
    return Statistics(recipe, metrics, spans, np.concatenate(tables, axis=1))


def score(statistics: Statistics) -> list[Score]:
    """One score per metric over all sentences of the statistics, which must be at least one."""
    recipe, total = statistics.recipe, statistics.table.sum(axis=0)
    resampled = np.stack(list(_resamples(statistics.table, recipe))) if recipe.bootstrap else None
    scores: list[Score] = []
    for metric, span in zip(statistics.metrics, statistics.spans, strict=True):
        name, value = _value(metric, total[span])
        low = high = None
        if resampled is not None:
            low, high = _middle([_value(metric, row)[1] for row in resampled[:, span]])
        signature = _signature(metric, {"bs": recipe.bootstrap, "seed": recipe.seed} if recipe.bootstrap else {})
        scores.append(Score(name, value, low, high, len(statistics.table), _counts(name, total[span]), signature))
    return scores


def compare(
    baseline: Sequence[str], system: Sequence[str], references: Sequence[Sequence[str]], *, recipe: Recipe | None = None
) -> list[Comparison]:
    """Test, per metric, whether a system differs from a baseline on the same sentences (two-sided); see `compare_statistics`."""
    recipe = recipe or Recipe()
    return compare_statistics(
        collect_statistics(baseline, references, recipe=recipe), collect_statistics(system, references, recipe=recipe)
    )


def compare_statistics(baseline: Statistics, system: Statistics) -> list[Comparison]:
    """Compare two systems whose sentences were counted with the same recipe against the same references.

    `p_bootstrap`: paired bootstrap (Koehn 2004), the share of resamples whose difference, centred on the mean one, reaches the
    observed one. `p_randomisation`: approximate randomisation (Noreen 1989; Riezler and Maxwell 2005), the share of random swaps of
    the two outputs, sentence by sentence, whose difference does. Both are (c + 1) / (samples + 1).

    Differs from sacreBLEU in ties only: it counts strictly larger differences, so a system against itself has p = 1/(samples + 1)
    there; a tie is as extreme as the observed difference, so it counts here and p = 1. Otherwise the draws and p are sacreBLEU's.
    """
    recipe = system.recipe
    if recipe != baseline.recipe:
        raise UsageError("the two systems were scored differently", expected="one recipe for both")
    if len(system.table) != len(baseline.table):
        raise DataError(f"baseline has {len(baseline.table)} sentences, the system {len(system.table)}", expected="the same sentences")
    if not recipe.bootstrap:
        raise UsageError("bootstrap: 0 resamples", expected="at least 2 to compare two systems", remedy="bootstrap 1000")
    both = np.concatenate([baseline.table, system.table], axis=1)
    width = baseline.table.shape[1]
    drawn = np.stack(list(_resamples(both, recipe)))
    swapped = np.concatenate(list(_swaps(baseline.table, system.table, recipe)))
    total = both.sum(axis=0)
    comparisons: list[Comparison] = []
    for metric, span in zip(system.metrics, system.spans, strict=True):
        other = slice(span.start + width, span.stop + width)
        name, before = _value(metric, total[span])
        after = _value(metric, total[other])[1]
        drawn_gaps = _gaps(metric, drawn, span, other)
        low, high = _middle(drawn_gaps.tolist())
        centred = np.abs(drawn_gaps) - np.abs(drawn_gaps).mean()
        swapped_gaps = np.abs(_gaps(metric, swapped, span, other))
        observed = abs(after - before)
        signature = _signature(metric, {"bs": recipe.bootstrap, "ar": recipe.trials, "seed": recipe.seed})
        comparisons.append(
            Comparison(
                *(name, before, after, after - before, low, high),
                p_bootstrap=_p_value(centred, observed),
                p_randomisation=_p_value(swapped_gaps, observed),
                sentences=len(system.table),
                signature=signature,
            )
        )
    return comparisons


def _check(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not references:
        raise DataError("no references", expected="at least one reference set", remedy="name a file of human translations")
    if not hypotheses:
        raise DataError("no hypotheses", expected="at least one sentence")
    for number, lines in enumerate(references, start=1):
        if isinstance(lines, str):
            raise DataError(f"reference set {number} is one text", expected="a list of sentences", remedy="references=[sentences]")
        if len(lines) != len(hypotheses):
            raise DataError(
                f"reference set {number} has {len(lines)} sentences, the hypotheses {len(hypotheses)}",
                expected="one line for each line, in the same order",
                remedy="translate the source file of these references again, keeping its empty lines",
            )


def _metric(name: str, recipe: Recipe) -> "Metric":
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    makers: dict[str, Callable[[], Metric]] = {
        # force: sacreBLEU would log a warning on tokenised text; the caller of `report.evaluate_files` gets it as a note instead.
        "bleu": lambda: BLEU(lowercase=recipe.lowercase, tokenize=recipe.tokenize, effective_order=recipe.effective_order, force=True),
        "chrf": lambda: CHRF(lowercase=recipe.lowercase),
        "chrf++": lambda: CHRF(lowercase=recipe.lowercase, word_order=2),
        "ter": TER,
    }
    try:
        return makers[name]()
    except RuntimeError as missing:  # what sacreBLEU raises where MeCab is not installed
        language = recipe.tokenize[:2]
        raise UsageError(
            f"tokenize: {recipe.tokenize} needs packages that are not installed", remedy=f"pip install 'sacrebleu[{language}]', or char"
        ) from missing


def _value(metric: "Metric", summed: Table) -> tuple[str, float]:
    # The other private name of sacreBLEU: from summed counts to the score.
    result: Any = metric._compute_score_from_stats(summed.tolist())  # pyright: ignore[reportPrivateUsage]
    return result.name, float(result.score)


def _signature(metric: "Metric", extra: Mapping[str, int]) -> str:
    signature = metric.get_signature()
    for key, value in extra.items():
        signature.update(key, value)
    return signature.format()


def _counts(name: str, summed: Table) -> dict[str, float]:
    values: list[float] = summed.tolist()
    if name == "BLEU":
        orders = range(1, 5)
        names = ["hypothesis_words", "reference_words", *(f"matched_{n}grams" for n in orders), *(f"possible_{n}grams" for n in orders)]
        return dict(zip(names, values, strict=True))
    if name == "TER":
        return dict(zip(("edits", "reference_words"), values, strict=True))
    return dict(zip(("hypothesis_characters", "reference_characters", "matched_characters"), values[:3], strict=True))


def _resamples(table: Table, recipe: Recipe) -> Iterator[Table]:
    """Sums over sentences drawn with replacement; the draws are those of sacreBLEU, which makes them all at once."""
    generator, size = np.random.default_rng(recipe.seed), len(table)
    for _ in range(recipe.bootstrap):
        yield np.bincount(generator.integers(size, size=size), minlength=size).astype(np.float64) @ table


def _swaps(baseline: Table, system: Table, recipe: Recipe) -> Iterator[Table]:
    """Sums of two pseudo-systems, side by side, per trial: each sentence's two outputs are swapped or not."""
    generator, size = np.random.default_rng(recipe.seed), len(baseline)
    total = baseline.sum(axis=0) + system.sum(axis=0)
    # numpy takes 32 booleans from one draw, so that blocks of 32 rows keep sacreBLEU's sequence at any size, in bounded memory.
    block = max(32, 4_000_000 // size // 32 * 32)
    for start in range(0, recipe.trials, block):
        rows = min(block, recipe.trials - start)
        taken = generator.integers(2, size=(rows, size), dtype=np.bool_).astype(np.float64)
        first = taken @ (baseline - system) + system.sum(axis=0)
        yield np.concatenate([first, total - first], axis=1)


def _gaps(metric: "Metric", sums: Table, baseline: slice, system: slice) -> Table:
    return np.array([_value(metric, row[system])[1] - _value(metric, row[baseline])[1] for row in sums])


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """The bounds of the middle 95 %: like sacreBLEU, leave out a 40th at each end."""
    ordered = sorted(values)
    cut = len(ordered) // 40
    return ordered[cut], ordered[len(ordered) - cut - 1]


def _p_value(gaps: Table, observed: float) -> float:
    return (int(np.count_nonzero(gaps >= observed - _SAME)) + 1) / (len(gaps) + 1)
