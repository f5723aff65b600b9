"""How often chosen pairs of words stand near each other in a text: what GloVe counts of all pairs, without a table of them all."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from vitrail.errors import UsageError
from vitrail.vectors.training.config import TokensConfig
from vitrail.vectors.training.corpus import prepared_texts, read_texts, require_readable, splitter
from vitrail.vectors.word_vectors import WordVectors

_UNIT = 1 << 30
"""1 / distance is rounded to whole parts of this, as in `training.cooccurrence`."""


class NearCounts(NamedTuple):
    """What a text says of some pairs."""

    x: tuple[float, ...]
    """For each pair the sum of 1 / d over all places where one stands d words beside the other."""
    words: int
    """Words of the text that are in the vocabulary."""


def near_counts(files: Sequence[Path], vectors: WordVectors, pairs: Sequence[tuple[str, str]], *, say: Callable[[str], None]) -> NearCounts:
    """Count pairs in a text, read as the training read it: the same tokens, window and vocabulary.

    Raises: UsageError for vectors that no GloVe training of ours made, DataError.
    """
    training = vectors.facts.get("training", {})
    if training.get("method") != "glove":
        raise UsageError("a text to count pairs in", expected="vectors of GloVe trained here: other objectives need no counts of pairs")
    try:
        config, window = TokensConfig.model_validate(training["tokens"]), int(training["window"])
    except (KeyError, ValueError, ValidationError):
        raise UsageError("these vectors do not say how their text was read", remedy="explain them without --text") from None
    require_readable(files)
    texts = partial(read_texts, files, splitter(config))
    if config.phrases:
        texts = prepared_texts(texts, config, say=say).texts
    known = set(vectors.words)
    asked: dict[str, list[tuple[str, int]]] = {}
    for number, (word, other) in enumerate(pairs):
        asked.setdefault(word, []).append((other, number))
    sums, total = [0] * len(pairs), 0
    for line in texts():
        words = [word for word in line if word in known]  # others are left out before windows are drawn
        total += len(words)
        for place, word in enumerate(words):
            for other, number in asked.get(word, ()):
                near = range(max(0, place - window), min(len(words), place + window + 1))
                sums[number] += sum(round(_UNIT / abs(beside - place)) for beside in near if beside != place and words[beside] == other)
    return NearCounts(tuple(one / _UNIT for one in sums), total)
