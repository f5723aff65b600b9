"""Interventions on a model while it translates or writes: ablate parts, mask positions, patch activations of another sentence."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.inspection.causes.parts import Head, Part, as_part, existing, summary_of_parts, units_of
from vitrail.inspection.causes.patching import Patch, PositionTracker, patch_hooks
from vitrail.models.base import Model
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.models.kinds.classifier import BagClassifier, ClassifierModel
from vitrail.models.places import AttentionType, attentions, find, probes_at
from vitrail.nn.attention import MultiHeadAttention, StepAttention
from vitrail.nn.cells import SSRU, Cell
from vitrail.nn.layers import FeedForward
from vitrail.nn.probe import Hook, listen


@contextmanager
def intervene(
    model: Model, *, off: Iterable[str | Part | Head] = (), hidden: Sequence[int] = (), patches: Iterable[Patch] = ()
) -> Generator[None]:
    """Change what a model computes, for every call from this thread inside the `with` block: any search, in any batch, or a given
    translation. Other threads get the unchanged model, see `listen`.

    An attention, feed-forward or layer that is off adds nothing to the residual stream; heads, neurons and hidden units that are off are 0.
    A hidden position of the source is masked in every attention; recurrent encoders, which cannot skip it, read a zero vector there.
    Where the vectors of a text are pooled to their mean, its own is left out; of a bag of n-grams also those that the token is in.
    Without a source it is a position of the text, 0 being the token before it: the others cannot read it, it reads itself.
    Edits may be nested: the inner ones are applied last. Weights are not changed, and the hooks are always removed.

    Args:
        hidden: positions of source tokens (without a source, of the text), the same in every sentence.
        patches: for one sentence at a time (all rows of a batch get them). Positions of the target are counted from the last `encode` on.
    Raises: UsageError for parts that the model does not have, immediately where possible; ModelError for a compiled model.
    """
    hooks = [hook for one in off for hook in _switch_off(model, as_part(one))]
    hooks += _hide(model, tuple(hidden)) if hidden else []
    hooks += patch_hooks(model, list(patches))
    with listen(model, hooks):
        yield


# Switching off


def _switch_off(model: Model, part: Part) -> list[tuple[str, Hook]]:
    """The hooks that switch a part off: paths and functions."""
    modules: dict[str, nn.Module] = dict(model.named_modules())
    module, probes = modules.get(part.place), probes_at(model.places(), part.place)
    if any(place.name == part.place and place.role != "mask" for place in model.places()):
        return [(part.place, _zeroing(part))]
    match module:
        case MultiHeadAttention() if not part.units:
            return [(f"{part.place}.output", _zero)]
        case MultiHeadAttention():
            return [(probes["context"], _zeroing(existing(part, units_of(module))))]
        case StepAttention():
            existing(part, 1)
            return [(probes["context"], _zero)]
        case FeedForward() if not part.units:
            return [(part.place, _zero)]
        case FeedForward():
            return [(probes["feed_forward"], _zeroing(existing(part, units_of(module))))]
        case Cell() | SSRU():
            return [(probes["hidden"], _zeroing(existing(part, units_of(module))))]
        case nn.Module() if part.place and not part.units:
            inner = [name for name, child in module.named_children() if units_of(child)]
            if inner:
                return [hook for name in inner for hook in _switch_off(model, Part(f"{part.place}.{name}"))]
        case _:
            pass
    raise _unknown(model, str(part))


def _unknown(model: nn.Module, text: str) -> UsageError:
    return UsageError(f"{text!r}: this model has no such part", expected=summary_of_parts(model))


def _zero(output: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    return torch.zeros_like(output)


def _zeroing(part: Part) -> Hook:
    """Set some units to zero (none named: all), along the heads' axis where there is one, else along the width."""

    def hook(output: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        axis = 1 if output.ndim == 4 else output.ndim - 1
        units = existing(part, output.shape[axis]).units
        return output.index_fill(axis, torch.tensor(units, device=output.device), 0.0) if units else torch.zeros_like(output)

    return hook


# Hiding positions


def _hide(model: Model, positions: tuple[int, ...]) -> list[tuple[str, Hook]]:
    if isinstance(model, BagClassifier):
        return [("known", _left_out(positions))]
    if find(model.places(), "embedded", "source") is None:
        return _hide_text(model, positions)
    # An autoencoder's decoder attends to no token of the sentence.
    kinds: tuple[AttentionType, ...] = ("encoder",) if isinstance(model, AutoencoderModel) else ("encoder", "cross")
    readers = attentions(model.places(), *kinds)
    embedded, memory = find(model.places(), "embedded", "source"), find(model.places(), "memory", "source")
    hooks: list[tuple[str, Hook]] = [(one.probes["score"], _unread(positions)) for one in readers]
    if not any(one.kind == "encoder" for one in readers) and embedded is not None:
        hooks.append((embedded.name, _blank(positions)))
    if isinstance(model, ClassifierModel | AutoencoderModel) and getattr(model.config, "pooling", "") == "mean" and memory is not None:
        hooks.append((memory.name, _unpooled(positions)))
    return hooks


def _unread(positions: tuple[int, ...]) -> Hook:
    """Mask some keys with the lowest score, so that their weight is exactly 0."""

    def hook(output: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        _check_positions(positions, output.shape[3])
        return output.index_fill(3, torch.tensor(positions, device=output.device), torch.finfo(output.dtype).min)

    return hook


def _unpooled(positions: tuple[int, ...]) -> Hook:
    """Put the mean of the other positions in place of some, so that they do not count in the mean of all. Rows have no padding."""

    def hook(output: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        _check_positions(positions, output.shape[1])
        others = [place for place in range(output.shape[1]) if place not in positions]
        changed = output.clone()
        changed[:, list(positions)] = output[:, others].mean(1, keepdim=True)
        return changed

    return hook


def _left_out(positions: tuple[int, ...]) -> Hook:
    def hook(output: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        _check_positions(positions, output.shape[1])
        return output.index_fill(1, torch.tensor(positions, device=output.device), False)

    return hook


def _blank(positions: tuple[int, ...]) -> Hook:
    def hook(output: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        _check_positions(positions, output.shape[1])
        return output.index_fill(1, torch.tensor(positions, device=output.device), 0.0)

    return hook


def _hide_text(model: Model, positions: tuple[int, ...]) -> list[tuple[str, Hook]]:
    """Hide positions of the text itself, where there is no source."""
    if any(one < 0 for one in positions):
        raise UsageError(f"position {min(positions)} of the text", expected="0, which is the token before it, or more")
    readers, embedded = attentions(model.places(), "decoder"), find(model.places(), "embedded", "target")
    assert embedded is not None, "a language model embeds its text"
    if readers:
        return [(one.probes["score"], _unread_by_others(positions)) for one in readers]
    clock = PositionTracker()
    return [*clock.hooks(model), (embedded.name, _blank_text(positions, clock))]


def _unread_by_others(positions: tuple[int, ...]) -> Hook:
    """Mask some keys for every query but their own: the last query has the position of the last key."""

    def hook(output: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        rows, columns = output.shape[2:]
        own = torch.arange(columns - rows, columns, device=output.device)
        keys = torch.tensor([one for one in positions if one < columns], device=output.device, dtype=torch.long)
        masked = torch.zeros(rows, columns, dtype=torch.bool, device=output.device)
        masked[:, keys] = own[:, None] != keys
        return output.masked_fill(masked, torch.finfo(output.dtype).min)

    return hook


def _blank_text(positions: tuple[int, ...], clock: PositionTracker) -> Hook:
    def hook(output: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        columns = [one - clock.first for one in positions if 0 <= one - clock.first < output.shape[1]]
        return output.index_fill(1, torch.tensor(columns, device=output.device, dtype=torch.long), 0.0)

    return hook


def _check_positions(positions: Sequence[int], length: int) -> None:
    wrong = [str(one) for one in positions if not 0 <= one < length]
    if wrong:
        raise UsageError(f"source position {', '.join(wrong)}", expected=f"0 to {length - 1}, which is <eos>")
    if len(set(positions)) == length:
        raise UsageError("all positions of the source are hidden", expected="at least one that can be read")
