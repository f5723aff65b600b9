"""Activation patching: replace activations of one sentence by those of another."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.inspection.causes.parts import Part, existing
from vitrail.models.base import Model
from vitrail.models.places import find, side_of
from vitrail.nn.attention import MultiHeadAttention
from vitrail.nn.layers import FeedForward
from vitrail.nn.probe import Hook

if TYPE_CHECKING:
    from vitrail.inspection.record import Inspection


@dataclass(frozen=True, eq=False)
class Patch:
    """Activations of one sentence, to replace those of another: activation patching (Vig et al. 2020)."""

    name: str
    """Of a Probe, or `....output` of a feed-forward, `....projection` of an attention, as in a record."""
    values: npt.NDArray[np.generic] = field(repr=False)
    """As a record has them: (S D), (T D), (H T E), ..."""
    at: tuple[tuple[int, int], ...] = ()
    """(position of origin, position of destination); empty: all, each to the same position."""
    heads: tuple[int, ...] = ()
    """Only these heads, for values with a heads' axis; empty: all."""
    origin: str = ""
    """The sentence of origin."""

    @classmethod
    def take(
        cls, record: "Inspection", name: str, *, at: Mapping[int, int] | Iterable[int] | None = None, heads: Sequence[int] = ()
    ) -> "Patch":
        """From a record. Args: at: positions there -> here, or positions that are the same on both sides; None: all."""
        pairs = () if at is None else tuple(at.items()) if isinstance(at, Mapping) else tuple((one, one) for one in at)
        return cls(name, record[name], pairs, tuple(heads), record.texts[0])

    def __str__(self) -> str:
        where = ",".join(f"{there}>{here}" if there != here else str(here) for there, here in self.at)
        heads = f":{','.join(map(str, self.heads))}" if self.heads else ""
        return f"{self.name}{heads}{'@' if where else ''}{where} of {self.origin!r}"


def patch_hooks(model: Model, patches: Sequence[Patch]) -> list[tuple[str, Hook]]:
    """The hooks of the patches: paths and functions. Raises UsageError for a value that the model does not have."""
    if not patches:
        return []
    clock = PositionTracker()
    return clock.hooks(model) + [(place_of(model, patch.name), _patching(model, patch, clock)) for patch in patches]


class PositionTracker:
    """Tracks the current target positions: one position in a step of decoding, all of them for a given translation or a prompt."""

    def __init__(self) -> None:
        self.first, self.length, self.calls, self.source_length = 0, 0, 0, 0
        """`calls` distinguishes one pass over target positions from the next."""

    def hooks(self, model: Model) -> list[tuple[str, Hook]]:
        source, target = (find(model.places(), "embedded", side) for side in ("source", "target"))
        return [(place.name, hook) for place, hook in ((source, self._encode), (target, self._advance)) if place is not None]

    def _encode(self, output: Tensor, inputs: tuple[Tensor, ...]) -> None:
        self.first, self.length, self.source_length = 0, 0, output.shape[1]
        self.calls += 1

    def _advance(self, output: Tensor, inputs: tuple[Tensor, ...]) -> None:
        # Several positions at once are a whole given translation; single positions follow each other.
        self.first = 0 if output.shape[1] > 1 else self.first + self.length
        self.length = output.shape[1]
        self.calls += 1


def place_of(model: Model, name: str) -> str:
    """The path of the module whose output has this name in a record."""
    probes = [place.name for place in model.places() if place.role != "mask"]
    if name in probes:
        return name
    owner, _, what = name.rpartition(".")
    modules: dict[str, nn.Module] = dict(model.named_modules())
    match what, modules.get(owner):
        case "projection", MultiHeadAttention():
            return f"{owner}.output"
        case "output", FeedForward():
            return owner
        case _:
            shown = [known for known in probes if known.rpartition(".")[2] == what] or [known for known in probes if "." not in known]
            expected = ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "")
            raise UsageError(f"{name!r}: this model has no such value to replace", expected=expected)


def _patching(model: Model, patch: Patch, clock: PositionTracker) -> Hook:
    """Replace the output by the patch's values at its positions."""
    values = torch.from_numpy(np.ascontiguousarray(patch.values))
    source_side = side_of(patch.name) == "source"
    place = next((one for one in model.places() if one.name == patch.name), None)
    keys = place is not None and place.role in ("key", "value")
    heard = {"pass": -1, "positions": 0}

    def hook(output: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        size = 1 if output.ndim == 2 else output.shape[-2]
        if heard["pass"] != clock.calls:
            heard.update({"pass": clock.calls, "positions": 0})
        first = heard["positions"]
        heard["positions"] += size
        if keys:
            where = list(range(size))
        elif source_side:
            order = list(range(clock.source_length)) if place is None else place.reading_order(clock.source_length)
            where = [order.index(time) for time in range(first, first + size)]
        elif clock.length == 1:  # a step: the axis of positions holds the beams of one sentence
            where = [clock.first] * size
        else:
            where = [clock.first + first + column for column in range(size)]
        _check_patch(patch, values, output, sizes=(size, clock.source_length) if source_side else None)
        return _put(output, values.to(output), _pairs(patch, where, len(values) if values.ndim == 2 else values.shape[1]), patch.heads)

    return hook


def _check_patch(patch: Patch, values: Tensor, output: Tensor, sizes: tuple[int, int] | None) -> None:
    """Raises UsageError where the values do not fit, or have no such positions. Args: sizes: of the source, for a place on its side."""
    width = values.shape[-1] if values.ndim == 2 else (values.shape[0], values.shape[-1])
    wanted = output.shape[-1] if output.ndim < 4 else (output.shape[1], output.shape[-1])
    if width != wanted:
        raise UsageError(f"{patch.name}: values of width {width}", expected=f"{wanted}", remedy="take them from a record of the same model")
    length = values.shape[-2]
    if sizes is not None and not patch.at and length != sizes[1]:
        raise UsageError(f"{patch.name}: {length} positions of {patch.origin!r}", expected=f"{sizes[1]}, or a choice of positions")
    there = [str(one) for one, _ in patch.at if not 0 <= one < length]
    here = [str(one) for _, one in patch.at if one < 0 or (sizes is not None and one >= sizes[1])]
    if there or here:
        longest = length if there else sizes[1] if sizes is not None else 0
        raise UsageError(f"{patch.name}: position {', '.join(there or here)}", expected=f"0 to {longest - 1}" if longest else "0 or more")
    if patch.heads:
        existing(Part(patch.name, patch.heads), values.shape[0] if values.ndim == 3 else 0)


def _pairs(patch: Patch, where: Sequence[int], length: int) -> tuple[list[int], list[int]]:
    """Rows of the values, and the columns of the output (at the positions `where`) that they replace."""
    goes = {here: there for there, here in patch.at} if patch.at else {one: one for one in range(length)}
    columns = [column for column, position in enumerate(where) if position in goes]
    return [goes[where[column]] for column in columns], columns


def _put(output: Tensor, values: Tensor, pairs: tuple[list[int], list[int]], heads: tuple[int, ...]) -> Tensor:
    rows, columns = pairs
    if not columns:
        return output
    if output.ndim == 2:
        return values[rows].expand_as(output).clone()
    changed = output.clone()
    if output.ndim == 4:
        chosen = list(heads) or list(range(output.shape[1]))
        for head in chosen:
            changed[:, head, columns] = values[head, rows]
    else:
        changed[:, columns] = values[rows]
    return changed
