"""Zero configuration for language models: from facts about a text to settings, each with its reason and the option that changes it."""

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from vitrail.data.text_config import TextFile
from vitrail.data.vocabularies.subwords import count_characters, needed_characters, roomy_size
from vitrail.errors import UsageError
from vitrail.train.choosing.choose import (
    LEAST_STEPS,
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


class TextFacts(NamedTuple):
    """The facts behind the choices."""

    lines: int
    words: int
    """Estimated from a sample of lines; in scripts without spaces, from letters."""
    characters: int
    """The characters that make up nearly all of the text."""


class TextDefaults(NamedTuple):
    """Settings for texts of up to `words` words."""

    words: float
    vocabulary: int
    dropout: float
    epochs: int


TABLE = (
    TextDefaults(300_000, 2_000, 0.4, 40),
    TextDefaults(2_000_000, 8_000, 0.3, 20),
    TextDefaults(20_000_000, 16_000, 0.2, 8),
    TextDefaults(math.inf, 32_000, 0.1, 3),
)
LEARNING_RATES = {
    "rnn-lm": 1e-3,
    "gru-lm": 2e-3,
    "lstm-lm": 2e-3,
    "gpt-mini": 2e-3,
    "gpt-small": 1e-3,
    "bert-mini": 2e-3,
    "bert-small": 1e-3,
    "autoencoder-mini": 2e-3,
    "autoencoder-lstm": 2e-3,
}
_LINES_DROPOUT, _LINES_EPOCHS = 0.1, 2
"""Of a masked language model, only a part of the tokens is guessed, other ones in each epoch: it overfits later, and needs more of them.
An autoencoder sees what it must write, and learns slowly to pass it through one vector."""
_BATCH_TOKENS, _BLOCK, _WARMUP = 2_048, 64, 200
_SAMPLE = 10_000


def choose_for_text(facts: TextFacts, *, preset: str | None = None, asked: Mapping[str, Any] | None = None) -> list[Choice]:
    """Choose vocabulary, model, dropout, blocks and length. A pure function; choices for the data depend on the text alone.

    Args:   preset: the model, if the user chose it. asked: the user's settings, a nested table.
    Raises: UsageError for a preset that is no language model.
    """
    if preset is not None and preset not in LEARNING_RATES:
        raise UsageError(
            f"preset {preset!r} with --text", expected=" ".join(LEARNING_RATES), remedy="a classifier needs labels, too: --labels FILE"
        )
    row = next(row for row in TABLE if facts.words <= row.words)
    text, model = f"about {facts.words:,} words", preset or "lstm-lm"
    a_step = tokens_a_step(asked or {}, _BATCH_TOKENS)
    steps_per_epoch = max(1, math.ceil(facts.words * TOKENS_PER_WORD / a_step))
    by_line = _task(model) in ("masked", "autoencoding")
    epochs = max(row.epochs * (_LINES_EPOCHS if by_line else 1), math.ceil(LEAST_STEPS / steps_per_epoch))
    size = roomy_size(row.vocabulary, facts.characters)
    return [
        Choice("data.subwords.size", size, f"{text}: few enough subwords to see each often"),
        *([] if preset else [Choice(PRESET, model, "plain text: a language model")]),
        Choice("model.dropout", _LINES_DROPOUT if by_line else row.dropout, f"{text}: small texts overfit sooner"),
        *_block(model),
        Choice("train.label_smoothing", 0.0, "perplexity is measured without"),
        Choice("optimizer.learning_rate", LEARNING_RATES[model], f"the highest stable rate for the {model} model"),
        Choice("schedule.warmup", f"{_WARMUP} steps, at most {WARMUP_SHARE}", "a short training needs time to learn after it"),
        Choice("train.duration", f"{epochs} epochs", f"{text}: about {epochs * steps_per_epoch:,} steps"),
        Choice("train.validate_every", validate_every(steps_per_epoch), f"at least four times in a training ({VALIDATION_SHARE})"),
    ]


def _block(model: str) -> list[Choice]:
    """How much text is read at once."""
    from vitrail.models.architectures import preset

    if _task(model) in ("masked", "autoencoding"):
        return [
            Choice("train.batch_tokens", _BATCH_TOKENS, "lines of about the same length are read together"),
            Choice("data.documents", "line", "each line is read by itself"),
        ]
    if (window := preset(model, task="language").window) is not None:
        return [Choice("train.batch_tokens", _BATCH_TOKENS, f"{_BATCH_TOKENS // window} windows of {window} tokens")]
    return [
        Choice("model.truncate", _BLOCK, "tokens before each update; the state is carried on, its gradient is not"),
        Choice("train.batch_tokens", _BATCH_TOKENS, f"{_BATCH_TOKENS // _BLOCK} places of the text are read at once"),
    ]


def _task(name: str) -> str:
    """The task of a preset."""
    from vitrail.models.architectures import PRESETS, task_of

    return task_of(PRESETS[name])


def gather_text_facts(texts: Sequence[TextFile]) -> TextFacts:
    """Count the lines of all texts, and examine the first of each. Raises DataError, UsageError where one cannot be read."""
    lines = sum(text.count() for text in texts)
    looked = [line for text in texts for line in islice(text.lines(), _SAMPLE)]
    letters = unspaced_letters(looked)
    words = sum(len(line.split()) for line in looked) / len(looked) if letters is None else letters / LETTERS_PER_WORD
    return TextFacts(lines, round(lines * words), needed_characters(count_characters(looked)))
