"""Change what a model computes while it translates: switch parts off, hide positions of the source, put in values of another sentence."""

import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.inspection.record import PLACES, Kind
from vitrail.models.base import TranslationModel
from vitrail.nn.attention import MultiHeadAttention, StepAttention
from vitrail.nn.layers import FeedForward
from vitrail.nn.probe import Probe, refuse_compiled
from vitrail.nn.recurrent import Cell

if TYPE_CHECKING:
    from vitrail.inspection.record import Inspection

_Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]
_Hooked = tuple[nn.Module, _Hook]

_PART = re.compile(r"\s*([a-z_0-9.]+?)\s*(?::\s*([\d\s,-]+))?\s*")
_SOURCE_SIDE = re.compile(r"(?:encoder\.|source_|memory$).*")


class Part(NamedTuple):
    """A part of a model, written `encoder.0.self_attention:2`."""

    place: str
    """`encoder.0` (all sublayers of a layer), a sublayer such as `encoder.0.feed_forward`, a recurrent cell such as `decoder.0`,
    `attention`, or the name of any Probe."""
    units: tuple[int, ...] = ()
    """Heads of an attention, neurons of a feed-forward, hidden units of a cell, by number from 0; empty: all of the place."""

    def __str__(self) -> str:
        return f"{self.place}:{write_numbers(self.units)}" if self.units else self.place


class Head(NamedTuple):
    """One attention head. Recurrent attention has one, of kind cross, layer 0, number 0."""

    kind: Kind
    layer: int
    number: int
    place: str
    """The name of its attention in the model."""

    def __str__(self) -> str:
        return f"{self.place}:{self.number}"


@dataclass(frozen=True, eq=False)
class Patch:
    """Values that were computed for one sentence, to be put in their place in another: activation patching (Vig et al. 2020)."""

    name: str
    """Of a Probe, or `....output` of a feed-forward, `....projection` of an attention, as in a record."""
    values: npt.NDArray[np.generic] = field(repr=False)
    """As a record has them: (S D), (T D), (H T E), ..."""
    at: tuple[tuple[int, int], ...] = ()
    """(position where they come from, position where they go to); empty: all, each to its own position."""
    heads: tuple[int, ...] = ()
    """Only these, of values that are there for each head; empty: all."""
    origin: str = ""
    """The sentence that they come from."""

    @classmethod
    def take(
        cls, record: "Inspection", name: str, *, at: Mapping[int, int] | Iterable[int] | None = None, heads: Sequence[int] = ()
    ) -> "Patch":
        """From a record. Args: at: positions there -> here, or positions that are the same on both sides; None: all."""
        pairs = () if at is None else tuple(at.items()) if isinstance(at, Mapping) else tuple((one, one) for one in at)
        return cls(name, record[name], pairs, tuple(heads), record.source.text)

    def __str__(self) -> str:
        where = ",".join(f"{there}>{here}" if there != here else str(here) for there, here in self.at)
        heads = f":{','.join(map(str, self.heads))}" if self.heads else ""
        return f"{self.name}{heads}{'@' if where else ''}{where} of {self.origin!r}"


def parse_part(text: str) -> Part:
    """Read `encoder.0.self_attention:2`, `encoder.0.feed_forward:3,17-20` or `decoder.1`. Raises UsageError."""
    match = _PART.fullmatch(text)
    expected = "a part such as encoder.0.self_attention:2, encoder.0.feed_forward:3,17-20 or decoder.1"
    if match is None:
        raise UsageError(f"{text!r} names no part of a model", expected=expected)
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
    """What can be switched off, and how many units it has: heads, neurons, or hidden units."""
    return {name: units for name, part in model.named_modules() if (units := _units(part))}


def _units(part: nn.Module) -> int:
    match part:
        case MultiHeadAttention():
            return part.heads
        case StepAttention():
            return 1
        case FeedForward():
            return part.contract.in_features
        case Cell():
            return part.width
        case _:
            return 0


def heads_of(model: nn.Module, *kinds: Kind) -> list[Head]:
    """Every attention head of these kinds, or of all, layer by layer: those of the encoder first."""
    found: list[Head] = []
    for kind in kinds or PLACES:
        for place, heads in parts_of(model).items():
            match = PLACES[kind].fullmatch(place)
            if match is not None:
                found += [Head(kind, int(match[1] or 0), number, place) for number in range(heads)]
    return sorted(found, key=lambda head: (list(PLACES).index(head.kind), head.layer, head.number))


@contextmanager
def applied(
    model: TranslationModel, *, off: Iterable[str | Part | Head] = (), hidden: Sequence[int] = (), patches: Iterable[Patch] = ()
) -> Generator[None]:
    """Change what a model computes, for whatever it is asked while this is open: search of any kind, in any batch, or a given translation.

    An attention, feed-forward or layer that is off adds nothing to the residual stream; heads, neurons and hidden units that are off are 0.
    A hidden position of the source is read by nobody; recurrent encoders, which cannot skip it, read a zero vector there.
    Edits may be nested: the inner ones are made on top. Weights are not touched, and afterwards nothing is left behind, whatever happens.

    Args:
        hidden: positions of source tokens, the same in every sentence.
        patches: for one sentence at a time (all rows of a batch get them). Positions of the target are counted from the last `encode` on.
    Raises: UsageError for what the model does not have, at once where that can be told at once; ModelError for a compiled model.
    """
    refuse_compiled(model)
    hooks = [hook for one in off for hook in _switch_off(model, _as_part(one))]
    hooks += _hide(model, tuple(hidden)) if hidden else []
    patches = list(patches)
    if patches:
        clock = _Clock()
        hooks += clock.hooks(model)
        hooks += [(_place_of(model, patch.name), _patching(model, patch, clock)) for patch in patches]
    with ExitStack() as stack:
        for module, hook in hooks:
            stack.callback(module.register_forward_hook(hook).remove)
        yield


def _as_part(one: str | Part | Head) -> Part:
    match one:
        case Part():
            return one
        case Head():
            return Part(one.place, (one.number,))
        case _:
            return parse_part(one)


# Switching off


def _switch_off(model: nn.Module, part: Part) -> list[_Hooked]:
    """Where to listen, and what to answer with, so that a part is off."""
    module = dict(model.named_modules()).get(part.place)
    match module:
        case MultiHeadAttention() if not part.units:
            return [(module.output, _zero)]
        case MultiHeadAttention():
            return [(module.context, _zeroing(_existing(part, _units(module))))]
        case StepAttention():
            _existing(part, 1)
            return [(module.context, _zero)]
        case FeedForward() if not part.units:
            return [(module, _zero)]
        case FeedForward():
            return [(module.activation, _zeroing(_existing(part, _units(module))))]
        case Cell():
            return [(module.hidden, _zeroing(_existing(part, _units(module))))]
        case Probe() if not part.place.endswith("keep"):
            return [(module, _zeroing(part))]
        case nn.Module() if part.place and not part.units:
            inner = [name for name, child in module.named_children() if _units(child)]
            if inner:
                return [hook for name in inner for hook in _switch_off(model, Part(f"{part.place}.{name}"))]
        case _:
            pass
    raise _unknown(model, str(part))


def _existing(part: Part, units: int) -> Part:
    wrong = [unit for unit in part.units if not 0 <= unit < units]
    if wrong:
        raise UsageError(f"{part.place}: no number {', '.join(map(str, wrong))}", expected=f"0 to {units - 1}")
    return part


def _unknown(model: nn.Module, text: str) -> UsageError:
    return UsageError(f"{text!r}: this model has no such part", expected=summary_of_parts(model))


def summary_of_parts(model: nn.Module) -> str:
    """What can be switched off, layers of the same kind together: `encoder.0-3.self_attention (:0-3)`, ..."""
    layers: dict[tuple[str, int], list[int]] = {}
    for place, units in parts_of(model).items():
        match = re.search(r"\.(\d+)", place)
        pattern = place if match is None else f"{place[: match.start()]}.{{}}{place[match.end() :]}"
        layers.setdefault((pattern, units), []).append(int(match[1]) if match else 0)
    told: list[str] = []
    for (pattern, units), numbers in layers.items():
        shown = f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
        told.append(f"{pattern.format(shown)} (:0-{units - 1})" if units > 1 else pattern.format(shown))
    return ", ".join(told)


def _zero(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return torch.zeros_like(output)


def _zeroing(part: Part) -> _Hook:
    """Answer with the same values, but zeros for some units (none named: all), along the heads' axis where there is one, else the width."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        axis = 1 if output.ndim == 4 else output.ndim - 1
        units = _existing(part, output.shape[axis]).units
        return output.index_fill(axis, torch.tensor(units, device=output.device), 0.0) if units else torch.zeros_like(output)

    return hook


# Hiding positions of the source


def _hide(model: nn.Module, positions: tuple[int, ...]) -> list[_Hooked]:
    readers = {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, MultiHeadAttention | StepAttention) and (PLACES["encoder"].fullmatch(name) or PLACES["cross"].fullmatch(name))
    }
    hooks: list[_Hooked] = [(part.scores, _unread(positions)) for part in readers.values()]
    if not any(PLACES["encoder"].fullmatch(name) for name in readers):
        hooks.append((_place_of(model, "source_embedded"), _blank(positions)))
    return hooks


def _unread(positions: tuple[int, ...]) -> _Hook:
    """Give some keys the lowest score that there is, so that their weight is exactly 0."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        _check_positions(positions, output.shape[3])
        return output.index_fill(3, torch.tensor(positions, device=output.device), torch.finfo(output.dtype).min)

    return hook


def _blank(positions: tuple[int, ...]) -> _Hook:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        _check_positions(positions, output.shape[1])
        return output.index_fill(1, torch.tensor(positions, device=output.device), 0.0)

    return hook


def _check_positions(positions: Sequence[int], length: int) -> None:
    wrong = [str(one) for one in positions if not 0 <= one < length]
    if wrong:
        raise UsageError(f"source position {', '.join(wrong)}", expected=f"0 to {length - 1}, which is <eos>")
    if len(set(positions)) == length:
        raise UsageError("all positions of the source are hidden", expected="at least one that can be read")


# Patching


class _Clock:
    """Which positions of the target a model is at: every value of a step is at one position, of a given translation at all of them."""

    def __init__(self) -> None:
        self.first, self.length, self.calls, self.source_length = 0, 0, 0, 0
        """`calls` tells one pass over target positions from the next."""

    def hooks(self, model: nn.Module) -> list[_Hooked]:
        return [(_place_of(model, "source_embedded"), self._encode), (_place_of(model, "target_embedded"), self._advance)]

    def _encode(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.first, self.length, self.source_length = 0, 0, output.shape[1]
        self.calls += 1

    def _advance(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # Several positions at once are a whole given translation; one at a time they go on from each other.
        self.first = 0 if output.shape[1] > 1 else self.first + self.length
        self.length = output.shape[1]
        self.calls += 1


def _place_of(model: nn.Module, name: str) -> nn.Module:
    """The module whose output a record has under a name."""
    modules = dict(model.named_modules())
    owner, _, what = name.rpartition(".")
    match modules.get(name), what, modules.get(owner):
        case Probe() as found, _, _ if what != "keep":
            return found
        case _, "projection", MultiHeadAttention() as attention:
            return attention.output
        case _, "output", FeedForward() as feed_forward:
            return feed_forward
        case _:
            probes = [known for known, part in modules.items() if isinstance(part, Probe) and not known.endswith("keep")]
            shown = [known for known in probes if known.rpartition(".")[2] == what] or [known for known in probes if "." not in known]
            expected = ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "")
            raise UsageError(f"{name!r}: this model has no such value to replace", expected=expected)


def _patching(model: TranslationModel, patch: Patch, clock: _Clock) -> _Hook:
    """Answer with the patch's values at its positions."""
    values = torch.from_numpy(np.ascontiguousarray(patch.values))
    source_side = _SOURCE_SIDE.fullmatch(patch.name) is not None
    keys = patch.name.endswith((".k", ".v"))
    heard = {"pass": -1, "positions": 0}

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        size = 1 if output.ndim == 2 else output.shape[-2]
        if heard["pass"] != clock.calls:
            heard.update({"pass": clock.calls, "positions": 0})
        first = heard["positions"]
        heard["positions"] += size
        if keys or (source_side and output.ndim > 2):
            where = list(range(size))
        elif source_side:
            order = model.reading_order(patch.name, clock.source_length) or list(range(clock.source_length))
            where = [order.index(first)]
        elif clock.length == 1:  # a step: beams of one sentence stand where positions would
            where = [clock.first] * size
        else:
            where = [clock.first + first + column for column in range(size)]
        _check_patch(patch, values, output, sizes=(size, clock.source_length) if source_side else None)
        return _put(output, values.to(output), _pairs(patch, where, len(values) if values.ndim == 2 else values.shape[1]), patch.heads)

    return hook


def _check_patch(patch: Patch, values: Tensor, output: Tensor, sizes: tuple[int, int] | None) -> None:
    """Raises UsageError where the values do not fit, or have no such positions. Args: sizes: of the source, where the place is there."""
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
        _existing(Part(patch.name, patch.heads), values.shape[0] if values.ndim == 3 else 0)


def _pairs(patch: Patch, where: Sequence[int], length: int) -> tuple[list[int], list[int]]:
    """Rows of the values, and the columns of what was heard (which stand at the positions `where`) that they replace."""
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
