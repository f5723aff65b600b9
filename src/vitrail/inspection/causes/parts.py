"""The parts of a model that can be switched off, and their notation: `encoder.0.self_attention:2`."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from vitrail.errors import UsageError
from vitrail.models.base import Model
from vitrail.models.places import ATTENTION_SIDES, AttentionType, attentions, numbered
from vitrail.nn.attention import MultiHeadAttention, StepAttention
from vitrail.nn.cells import SSRU, Cell
from vitrail.nn.layers import FeedForward

_PART = re.compile(r"\s*([a-z_0-9.]+?)\s*(?::\s*([\d\s,-]+))?\s*")


class Part(NamedTuple):
    """A part of a model, written `encoder.0.self_attention:2`."""

    place: str
    """`encoder.0` (all sublayers of a layer), a sublayer such as `encoder.0.feed_forward`, a recurrent cell such as `decoder.0`,
    `attention`, or the name of any Probe."""
    units: tuple[int, ...] = ()
    """Heads of an attention, neurons of a feed-forward, hidden units of a cell or an SSRU, by number from 0; empty: all of the place."""

    def __str__(self) -> str:
        return f"{self.place}:{write_numbers(self.units)}" if self.units else self.place


class Head(NamedTuple):
    """One attention head. Recurrent attention has one, of kind cross, layer 0, number 0."""

    kind: AttentionType
    layer: int
    number: int
    place: str
    """The name of its attention in the model."""

    def __str__(self) -> str:
        return f"{self.place}:{self.number}"


def parse_part(text: str) -> Part:
    """Read `encoder.0.self_attention:2`, `encoder.0.feed_forward:3,17-20` or `decoder.1`. Raises UsageError."""
    match = _PART.fullmatch(text)
    expected = "a part such as encoder.0.self_attention:2, encoder.0.feed_forward:3,17-20 or decoder.1"
    if match is None:
        raise UsageError(f"{text!r} is not a part of a model", expected=expected)
    return Part(match[1], () if match[2] is None else parse_numbers(match[2]))


def parse_numbers(text: str) -> tuple[int, ...]:
    """Read `3,17-20`. Raises UsageError."""
    found: list[int] = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", piece)
        if match is None or int(match[2] or match[1]) - int(match[1]) not in range(100_000):
            raise UsageError(f"{text!r}", expected="numbers from 0 on, such as 2 or 3,17-20")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(dict.fromkeys(found))


def write_numbers(numbers: Iterable[int]) -> str:
    """Write `3,17-20`, in rising order."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def parts_of(model: nn.Module) -> dict[str, int]:
    """The parts that can be switched off, and their numbers of units: heads, neurons, or hidden units."""
    return {name: units for name, part in model.named_modules() if (units := units_of(part))}


def units_of(part: nn.Module) -> int:
    """How many heads, neurons or hidden units a module has; 0 for what cannot be switched off in parts."""
    match part:
        case MultiHeadAttention():
            return part.heads
        case StepAttention():
            return 1
        case FeedForward():
            return part.contract.in_features
        case Cell() | SSRU():
            return part.width
        case _:
            return 0


def heads_of(model: Model, *kinds: AttentionType) -> list[Head]:
    """Every attention head of these kinds, or of all, layer by layer: those of the encoder first."""
    wanted: list[AttentionType] = [kind for kind in ATTENTION_SIDES if not kinds or kind in kinds]
    found = attentions(model.places(), *wanted)
    return [Head(one.kind, one.layer, number, one.path) for one in found for number in range(one.heads)]


def as_part(one: str | Part | Head) -> Part:
    """A part, however it was given."""
    match one:
        case Part():
            return one
        case Head():
            return Part(one.place, (one.number,))
        case _:
            return parse_part(one)


def existing(part: Part, units: int) -> Part:
    """The same part. Raises UsageError where a unit does not exist."""
    wrong = [unit for unit in part.units if not 0 <= unit < units]
    if wrong:
        raise UsageError(f"{part.place}: no number {', '.join(map(str, wrong))}", expected=f"0 to {units - 1}")
    return part


def summary_of_parts(model: nn.Module) -> str:
    """The parts that can be switched off, layers of the same kind together: `encoder.0-3.self_attention (:0-3)`, ..."""
    layers: dict[tuple[str, int], list[int]] = {}
    for place, units in parts_of(model).items():
        pattern, number = numbered(place)
        layers.setdefault((pattern, units), []).append(number)
    told: list[str] = []
    for (pattern, units), numbers in layers.items():
        shown = f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
        told.append(f"{pattern.format(shown)} (:0-{units - 1})" if units > 1 else pattern.format(shown))
    return ", ".join(told)
