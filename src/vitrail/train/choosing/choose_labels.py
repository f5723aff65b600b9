"""Zero configuration for classifiers: from facts about labelled texts to settings, each with its reason and the option that changes it."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from vitrail.data.labels_config import Examples
from vitrail.data.vocabularies.subwords import count_characters, needed_characters, roomy_size
from vitrail.errors import UsageError
from vitrail.train.choosing.choose import (
    LETTERS_PER_WORD,
    PRESET,
    TOKENS_PER_WORD,
    VALIDATION_SHARE,
    WARMUP_SHARE,
    Choice,
    tokens_a_step,
    unspaced_letters,
    validate_every,
)


class LabelFacts(NamedTuple):
    """The facts behind the choices."""

    examples: int
    words: float
    """Words of a text, on average; in scripts without spaces, from letters."""
    longest: int
    """Words of the longest text of those that were looked at."""
    characters: int
    """The characters that make up nearly all of the text."""


class LabelDefaults(NamedTuple):
    """Settings for up to `examples` examples."""

    examples: float
    vocabulary: int
    dropout: float
    epochs: int


TABLE = (
    LabelDefaults(2_000, 2_000, 0.4, 15),
    LabelDefaults(20_000, 4_000, 0.3, 6),
    LabelDefaults(200_000, 8_000, 0.2, 4),
    LabelDefaults(math.inf, 16_000, 0.1, 2),
)
"""Few epochs: on 6,200 sentences the dev loss is lowest in the second epoch and macro F1 highest in the third, however long it trains."""
LEARNING_RATES = {"classifier-mini": 1e-3, "classifier-small": 5e-4, "classifier-lstm": 2e-3, "classifier-gru": 2e-3, "fasttext": 0.05}
_PRESET = "classifier-mini"
_LEAST_STEPS = 300
_BATCH_TOKENS, _WARMUP = 1_024, 100
_BAG = "fasttext"
_BAG_EPOCHS = ((2_000, 15), (math.inf, 5))
_BAG_WORDS, _FEWEST_BUCKETS, _MOST_BUCKETS = 200_000, 1_024, 2_000_000
"""Words that have vectors, and rows for their n-grams: at most 2 million, as the fastText program has."""
_NGRAMS = 2
_CONTEXTS = (128, 256, 512)
_SAMPLE = 10_000


def choose_for_labels(facts: LabelFacts, *, preset: str | None = None, asked: Mapping[str, Any] | None = None) -> list[Choice]:
    """Choose vocabulary, model, dropout, batches and length. A pure function; choices for the data depend on the text alone.

    Args:   preset: the model, if the user chose it. asked: the user's settings, a nested table.
    Raises: UsageError for a preset that is no classifier.
    """
    if preset is not None and preset not in LEARNING_RATES:
        raise UsageError(f"preset {preset!r} with labels", expected=" ".join(LEARNING_RATES))
    if preset == _BAG:
        return _choose_bag(facts, asked or {})
    row = next(row for row in TABLE if facts.examples <= row.examples)
    text, model = f"{facts.examples:,} examples", preset or _PRESET
    a_step = tokens_a_step(asked or {}, _BATCH_TOKENS)
    steps_per_epoch = max(1, math.ceil(facts.examples * facts.words * TOKENS_PER_WORD / a_step))
    epochs = max(row.epochs, math.ceil(_LEAST_STEPS / steps_per_epoch))
    size = roomy_size(row.vocabulary, facts.characters)
    wanted = facts.longest * TOKENS_PER_WORD + 2
    context = next((context for context in _CONTEXTS if wanted <= context), _CONTEXTS[-1])
    return [
        Choice("data.subwords.size", size, f"{text}: few enough subwords to see each often"),
        *([] if preset else [Choice(PRESET, model, "texts with labels: a classifier")]),
        *_choose_several(asked or {}),
        Choice("model.context", context, f"texts of up to {facts.longest:,} words"),
        Choice("model.dropout", row.dropout, f"{text}: small corpora overfit sooner"),
        Choice("model.head_dropout", row.dropout, "the same at the vector of the whole text"),
        Choice("train.batch_tokens", _BATCH_TOKENS, f"{text} make about {steps_per_epoch:,} steps an epoch so"),
        Choice("train.label_smoothing", 0.0, "so that probabilities are those of the examples"),
        Choice("optimizer.learning_rate", LEARNING_RATES[model], f"for the {model} model"),
        Choice("schedule.warmup", f"{_WARMUP} steps, at most {WARMUP_SHARE}", "a short training needs time to learn after it"),
        Choice("train.average_decay", _average(epochs * steps_per_epoch), "the average of weights spans about a tenth of the training"),
        Choice("train.duration", f"{epochs} epochs", f"{text}: about {epochs * steps_per_epoch:,} steps"),
        Choice("train.validate_every", validate_every(steps_per_epoch), f"at least four times in a training ({VALIDATION_SHARE})"),
    ]


def _choose_several(asked: Mapping[str, Any]) -> list[Choice]:
    if not asked.get("data", {}).get("several", False):
        return []
    return [Choice("model.several", True, "data.several: labels may hold together, so each has a sigmoid of its own")]


def _choose_bag(facts: LabelFacts, asked: Mapping[str, Any]) -> list[Choice]:
    """The same for a bag of words: all words, and few epochs of steps that touch only the rows of a batch."""
    text, a_step = f"{facts.examples:,} examples", tokens_a_step(asked, _BATCH_TOKENS)
    steps_per_epoch = max(1, math.ceil(facts.examples * (facts.words + 1) / a_step))
    epochs = max(next(epochs for most, epochs in _BAG_EPOCHS if facts.examples <= most), math.ceil(_LEAST_STEPS / steps_per_epoch))
    return [
        *_choose_words(facts, asked.get("data", {}).get("subwords", {})),
        *_choose_several(asked),
        *_choose_buckets(facts, asked),
        Choice("train.batch_tokens", _BATCH_TOKENS, f"{text} make about {steps_per_epoch:,} steps an epoch so"),
        Choice("train.label_smoothing", 0.0, "so that probabilities are those of the examples"),
        Choice(
            "optimizer.kind", "adagrad", "rare words take as large steps as frequent ones, and words that a batch does not have take none"
        ),
        Choice("optimizer.learning_rate", LEARNING_RATES[_BAG], f"for the {_BAG} model"),
        Choice("optimizer.clip_norm", 0.0, "adagrad divides by the size of the gradients"),
        Choice("schedule.warmup", f"{_WARMUP} steps, at most {WARMUP_SHARE}", "a short training needs time to learn after it"),
        Choice("train.average_decay", 0.0, "an average would pass over all rows at every step"),
        Choice("train.precision", "fp32", "it hardly multiplies matrices"),
        Choice("train.duration", f"{epochs} epochs", f"{text}: about {epochs * steps_per_epoch:,} steps"),
        Choice("train.validate_every", validate_every(steps_per_epoch), f"at least four times in a training ({VALIDATION_SHARE})"),
    ]


def _choose_words(facts: LabelFacts, asked: Mapping[str, Any]) -> list[Choice]:
    """A vocabulary of words, unless the user has another."""
    if not {"taken_from", "source_from"}.isdisjoint(asked):
        return []
    if asked.get("kind", "word") in ("word", "character"):
        kind = Choice("data.subwords.kind", "word", "a bag of words")
        return [kind, Choice("data.subwords.size", _BAG_WORDS, "all words: their vectors cost nothing where they do not occur")]
    row = next(row for row in TABLE if facts.examples <= row.examples)
    size = roomy_size(row.vocabulary, facts.characters)
    return [Choice("data.subwords.size", size, f"{facts.examples:,} examples: few enough subwords to see each often")]


def _choose_buckets(facts: LabelFacts, asked: Mapping[str, Any]) -> list[Choice]:
    table: Any = asked.get("model")  # a setting that cannot be is refused later, with all others
    longest = table.get("word_ngrams", _NGRAMS) if isinstance(table, Mapping) else _NGRAMS  # pyright: ignore[reportUnknownVariableType]
    ngrams = facts.examples * facts.words * (longest - 1 if isinstance(longest, int) else 1)
    if ngrams <= 0:
        return []
    rows = min(_MOST_BUCKETS, max(_FEWEST_BUCKETS, 2 ** math.ceil(math.log2(max(1.0, ngrams / 2)))))
    return [Choice("model.buckets", rows, f"{ngrams:,.0f} n-grams in {facts.examples:,} examples, many of them the same")]


def _average(steps: int) -> float:
    return round(min(0.999, max(0.9, 1 - 20 / steps)), 3)


def gather_label_facts(texts: Sequence[Examples]) -> LabelFacts:
    """Count the examples of all files, and examine the first of each. Raises DataError, UsageError where one cannot be read."""
    examples = sum(text.count() for text in texts)
    looked = [pair.source for text in texts for pair in islice(text.pairs(), _SAMPLE)]
    letters = unspaced_letters(looked)
    words = [len(line.split()) if letters is None else math.ceil(sum(map(str.isalpha, line)) / LETTERS_PER_WORD) for line in looked]
    ranked = sorted(Counter(words).items())
    # The longest but for the longest hundredth, which may be cut.
    longest, seen = 1, 0
    for length, number in ranked:
        longest, seen = length, seen + number
        if seen >= 0.99 * len(words):
            break
    mean = sum(words) / max(1, len(words))
    return LabelFacts(examples, max(1.0, mean), max(1, longest), needed_characters(count_characters(looked)))
