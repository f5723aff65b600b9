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
LEARNING_RATES = {"classifier-mini": 1e-3, "classifier-small": 5e-4, "classifier-lstm": 2e-3, "classifier-gru": 2e-3}
_PRESET = "classifier-mini"
_LEAST_STEPS = 300
_BATCH_TOKENS, _WARMUP = 1_024, 100
_CONTEXTS = (128, 256, 512)
_SAMPLE = 10_000


def choose_for_labels(facts: LabelFacts, *, preset: str | None = None, asked: Mapping[str, Any] | None = None) -> list[Choice]:
    """Choose vocabulary, model, dropout, batches and length. A pure function; choices for the data depend on the text alone.

    Args:   preset: the model, if the user chose it. asked: the user's settings, a nested table.
    Raises: UsageError for a preset that is no classifier.
    """
    if preset is not None and preset not in LEARNING_RATES:
        raise UsageError(f"preset {preset!r} with labels", expected=" ".join(LEARNING_RATES))
    row = next(row for row in TABLE if facts.examples <= row.examples)
    text, model = f"{facts.examples:,} examples", preset or _PRESET
    a_step = tokens_a_step(asked or {}, _BATCH_TOKENS)
    steps_per_epoch = max(1, math.ceil(facts.examples * facts.words * TOKENS_PER_WORD / a_step))
    epochs = max(row.epochs, math.ceil(_LEAST_STEPS / steps_per_epoch))
    size = roomy_size(row.vocabulary, facts.characters)
    wanted = facts.longest * TOKENS_PER_WORD + 2
    context = next((context for context in _CONTEXTS if wanted <= context), _CONTEXTS[-1])
    several = (asked or {}).get("data", {}).get("several", False)
    return [
        Choice("data.subwords.size", size, f"{text}: few enough subwords to see each often"),
        *([] if preset else [Choice(PRESET, model, "texts with labels: a classifier")]),
        *([Choice("model.several", True, "data.several: labels may hold together, so each has a sigmoid of its own")] if several else []),
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
