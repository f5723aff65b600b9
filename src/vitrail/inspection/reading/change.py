"""The effect of an edit on what a model says of a text that it reads: the guesses at masks, the probabilities of labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.config import Config
from vitrail.data.vocabularies.subwords import Subwords
from vitrail.errors import UsageError
from vitrail.inspection.decoding import piece_of
from vitrail.inspection.reading.facts import GuessAt, Labels, guesses_of, labels_of
from vitrail.inspection.record import Inspection

_SHOWN = 3
"""Guesses that are told of each mask: the likeliest without the edit, and with it."""
_ZERO = 1e-30


class Chance(Config):
    """The probability of a token or a label, without the edit and with it."""

    name: str
    before: float
    after: float


class Answer(Config):
    """What a model says at one mask, or of the whole text."""

    position: int | None
    """Of the mask in the edited text; None: labels of the text."""
    before: str
    """The likeliest token, or the labels that the model gives."""
    after: str
    chances: tuple[Chance, ...]
    """Of the likeliest tokens without the edit and with it, or of every label."""
    divergence: float
    """KL(p before || p after) in nats; of labels that may hold together, the sum of each one's."""


class ReadingChange(Config):
    """The effect of an edit on a text that is read."""

    text: str
    edited_text: str
    """The same as `text` unless words were changed."""
    edits: tuple[str, ...]
    answers: tuple[Answer, ...]

    @property
    def changed(self) -> bool:
        """Whether any answer changed."""
        return any(one.before != one.after for one in self.answers)

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        return {**self.model_dump(mode="json"), "changed": self.changed}

    def to_text(self) -> str:
        """To read in a terminal."""
        lines = [self.text, *self.edits, *([f"-> {self.edited_text}"] if self.edited_text != self.text else [])]
        for one in self.answers:
            where = "" if one.position is None else f" at position {one.position}"
            told = f"{one.before or 'no label'} -> {one.after or 'no label'}" if one.before != one.after else f"as before: {one.before}"
            wide = max(len("label"), *(len(chance.name) for chance in one.chances))
            lines += ["", f"{told}{where}  (KL {one.divergence:.3f} nats)"]
            lines.append(f"{'label' if one.position is None else 'token':<{wide}}  p before  p after")
            lines += [f"{chance.name:<{wide}}  {chance.before:8.3f}  {chance.after:7.3f}" for chance in one.chances]
        return "\n".join(lines)


def compare_readings(before: Inspection, after: Inspection, vocabulary: Subwords) -> ReadingChange:
    """The difference between a record without an edit and one with it.

    Raises UsageError where nothing is asked in the text, or the edit adds or removes masks.
    """
    labels, edited = labels_of(before), labels_of(after)
    if labels is not None and edited is not None:
        answers = [_compare_labels(labels, edited)]
    else:
        guesses, others = guesses_of(before), guesses_of(after)
        if len(guesses) != len(others):
            raise UsageError(
                f"an edit that changes the number of masks: {len(guesses)}, and then {len(others)}",
                expected="the same number",
                remedy="inspect the other text by itself",
            )
        if not guesses:
            raise UsageError("a text without [MASK]: nothing is guessed that an edit could change", expected="a [MASK], or --of POSITION")
        shares = before["probabilities"], after["probabilities"]
        answers = [_compare_guesses(one, other, shares, vocabulary) for one, other in zip(guesses, others, strict=True)]
    texts = before.source.text, after.source.text
    return ReadingChange(text=texts[0], edited_text=texts[1], edits=after.facts.extras["edits"], answers=tuple(answers))


def _compare_labels(before: Labels, after: Labels) -> Answer:
    rows = [(one, other) for one, other in zip(before.labels, after.labels, strict=True)]
    order = sorted(rows, key=lambda row: -row[0].probability)
    shares, others = (np.array([row[which].probability for row in rows]) for which in (0, 1))
    if before.several:
        shares, others = np.concatenate([shares, 1 - shares]), np.concatenate([others, 1 - others])
    return Answer(
        position=None,
        before=", ".join(one.label for one, _ in order if one.chosen),
        after=", ".join(other.label for _, other in order if other.chosen),
        chances=tuple(Chance(name=one.label, before=one.probability, after=other.probability) for one, other in order),
        divergence=_divergence(shares, others),
    )


def _compare_guesses(before: GuessAt, after: GuessAt, shares: tuple[Any, Any], vocabulary: Subwords) -> Answer:
    first, second = (np.asarray(rows[one.position], dtype=np.float64) for rows, one in zip(shares, (before, after), strict=True))
    tokens = list(dict.fromkeys([*_likeliest(first), *_likeliest(second)]))
    return Answer(
        position=after.position,
        before=piece_of(int(first.argmax()), vocabulary),
        after=piece_of(int(second.argmax()), vocabulary),
        chances=tuple(Chance(name=piece_of(one, vocabulary), before=float(first[one]), after=float(second[one])) for one in tokens),
        divergence=_divergence(first, second),
    )


def _likeliest(shares: npt.NDArray[np.float64]) -> Sequence[int]:
    return np.argsort(-shares, kind="stable")[:_SHOWN].tolist()


def _divergence(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> float:
    """KL of two distributions; what has no probability before does not count."""
    some = before > 0
    return max(0.0, float((before[some] * np.log(before[some] / np.maximum(after[some], _ZERO))).sum()))
