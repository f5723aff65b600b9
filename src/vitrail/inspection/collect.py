"""Collects every named value of a model for one sentence and one translation, or one text, as arrays without a batch axis."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vitrail.decode.forced import forced_decode, make_batch
from vitrail.evaluation.gradient_norms import record_gradients
from vitrail.models.base import AutoregressiveModel, Model
from vitrail.models.places import Place, find, gradient_places, probes_at
from vitrail.nn.attention import MultiHeadAttention
from vitrail.nn.cells import SSRU, Cell
from vitrail.nn.layers import FeedForward, MaskedBatchNorm, Residual, TokenNorm
from vitrail.nn.probe import Hook, listen, refuse_compiled, trace

Arrays = dict[str, npt.NDArray[np.generic]]

COLUMNS = 8
"""The number of output columns (of every head) of each weight matrix that are recorded under `parameters.`."""


@torch.inference_mode(mode=False)  # in every mode of the caller: gradients are needed
def collect(model: AutoregressiveModel, source: Sequence[int], target: Sequence[int], *, ended: bool = True) -> Arrays:
    """Run a model on a sentence and a given translation, and record every value that its equations name. See `contents.NAMES`.

    Args:   source, target: token ids without SOS and EOS; no source for a model that has none. ended: see `make_batch`.
            Precondition: the model is in evaluation mode.
    Raises: ModelError for a compiled model.
    Cost:   one pass on the explicit path, and one forward and backward pass for the gradients.
    """
    refuse_compiled(model)
    batch = make_batch(model, [source], [target], ended=ended)
    with torch.inference_mode(), trace(model) as seen, _listen(model) as heard:
        hidden = forced_decode(model, batch)
        logits = model.read_out(hidden)
    arrays = _named(model, {**seen, **heard})
    arrays |= {"decoder_output": _array(hidden[0]), "probabilities": _array(logits[0].double().softmax(-1).float())}
    gradients = _gradients(model, lambda: model.loss(batch).nats)
    return arrays | gradients | _parameters(model) | _output(model, hidden, batch.target_out)


@torch.inference_mode(mode=False)
def collect_read(model: Model, run: Callable[[], Tensor], *, loss: Callable[[], Tensor] | None) -> Arrays:
    """Record every value of a model that reads a text and writes none, as `collect` does.

    Args:   run: lets the model read the text. loss: what `gradients.` are of; None: nothing.
    Raises: ModelError for a compiled model.
    """
    refuse_compiled(model)
    with torch.inference_mode(), trace(model) as seen, _listen(model) as heard:
        run()
    return _named(model, {**seen, **heard}) | ({} if loss is None else _gradients(model, loss)) | _parameters(model)


def _named(model: Model, calls: Mapping[str, Sequence[Tensor]]) -> Arrays:
    """Recorded values by name, in the order of the text, with those that are derived from them."""
    places = {place.name: place for place in model.places()}
    arrays = {name: _in_text_order(places.get(name), _merge(own)) for name, own in calls.items()}
    return arrays | _derive(places, arrays)


@contextmanager
def _listen(model: nn.Module) -> Generator[dict[str, list[Tensor]]]:
    """Record outputs of ordinary modules (without Probes) by hooks; without hooks they cost nothing."""
    heard: dict[str, list[Tensor]] = {}

    def taking(inward: str | None, outward: str | None) -> Hook:
        def listener(output: Tensor, inputs: tuple[Tensor, ...]) -> None:
            if inward is not None:
                heard.setdefault(inward, []).append(inputs[0].detach())
            if outward is not None:
                heard.setdefault(outward, []).append(output.detach())

        return listener

    def starting(name: str) -> Hook:
        """Record the initial carry of a cell: that of a decoder, at its first step."""

        def listener(output: Any, inputs: tuple[Any, ...]) -> None:
            if len(inputs) == 3:
                for what, values in zip(("first_hidden", "first_cell"), inputs[2], strict=False):
                    heard.setdefault(f"{name}.{what}", [values.detach()])

        return listener

    hooks = [(path, taking(inward, outward)) for name, part in model.named_modules() for path, inward, outward in _places(name, part)]
    hooks += [(name, starting(name)) for name, part in model.named_modules() if isinstance(part, Cell)]
    with listen(model, hooks):
        yield heard


def _places(name: str, part: nn.Module) -> list[tuple[str, str | None, str | None]]:
    """Paths of modules, and the names under which their inputs and outputs are recorded."""
    match part:
        case MultiHeadAttention():
            return [(f"{name}.output", f"{name}.concatenation", f"{name}.projection")]
        case FeedForward():
            return [(name, None, f"{name}.output")]
        case Residual():
            return [(name, f"{name}.input", None)]
        case _:
            return []


def _merge(calls: Sequence[Tensor]) -> npt.NDArray[np.generic]:
    """The values of one sentence from the recorded calls of a Probe: one call, or one call per time step."""
    match calls[0].ndim:
        case 2:  # (B, D) at each time step
            return _array(torch.stack([call[0] for call in calls]))
        case 3:  # (B, T, D)
            return _array(torch.cat(list(calls), dim=1)[0])
        case _:  # (B, H, T, S)
            return _array(torch.cat(list(calls), dim=2)[0])


def _array(values: Tensor) -> npt.NDArray[np.generic]:
    values = values.detach().cpu()
    return values.float().numpy() if values.is_floating_point() else values.numpy()


def _in_text_order(place: Place | None, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Positions in the order of the text, in whatever order the model read them."""
    return values if place is None or place.order == "forward" else values[place.reading_order(len(values))]


def _derive(places: Mapping[str, Place], arrays: Mapping[str, npt.NDArray[np.generic]]) -> Arrays:
    """Values derived from the recorded ones: P, QKᵀ before the division, and masks with a row for every query."""
    found: Arrays = {}
    for place in (places[name] for name in arrays if name in places):
        values, beside = arrays[place.name], probes_at(places.values(), place.path)
        match place.role:
            case "mask":
                found[place.name] = np.broadcast_to(values[0], arrays[beside["attention"]].shape[1:]).copy()
            case "query":
                found[f"{place.path}.raw_scores"] = np.matmul(values, np.swapaxes(arrays[beside["key"]], 1, 2))
            case "position":
                embedded = find(places.values(), "embedded", place.side)
                assert embedded is not None
                found[f"{place.side}_positions"] = np.subtract(values, arrays[embedded.name])
            case _:
                pass
    return found


def _gradients(model: Model, loss: Callable[[], Tensor]) -> Arrays:
    """||d loss / dh_t|| at the output of each layer, one number per time step, under `gradients.` and the Probe's name.

    The loss of a translation is -log p(y | x).
    """
    places = {place.name: place for place in gradient_places(model.places())}
    with torch.enable_grad(), record_gradients(model, places=places.__contains__) as record:
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        torch.autograd.grad(loss(), weights, allow_unused=True)
    return {f"gradients.{name}": _in_text_order(places[name], _array(norms[0])) for name, norms in record.norms().items()}


def _output(model: AutoregressiveModel, hidden: Tensor, target: Tensor) -> Arrays:
    """The values from which the probability of each target token is computed: its output vector E_y and bias, and log Σ_v exp(logit_v).

    Logits are linear in the decoder's output whatever the architecture: d logit_y / dh is E_y.
    """
    with torch.enable_grad():
        values = hidden.clone().requires_grad_()
        logits = model.read_out(values)
        (rows,) = torch.autograd.grad(logits.gather(2, target[:, :, None]).sum(), values)
    with torch.no_grad():
        bias = model.read_out(torch.zeros_like(values[:, :1]))[0, 0, target[0]]
    return {
        "parameters.read_out.weight": _array(rows[0]),
        "parameters.read_out.bias": _array(bias),
        "log_normaliser": _array(logits[0].double().logsumexp(-1)),
    }


def _parameters(model: nn.Module) -> Arrays:
    """The parameters to check the equations by hand: `COLUMNS` output columns of each matrix, and the gains of the norms."""
    found: dict[str, Tensor] = {}
    for name, part in model.named_modules():
        match part:
            case MultiHeadAttention():
                for projection in (part.query, part.key, part.value):
                    which = next(own for own, child in part.named_children() if child is projection)
                    by_head = projection.weight.unflatten(0, (part.heads, part.head_width))
                    found[f"{name}.{which}.weight"] = by_head[:, :COLUMNS]
                    found[f"{name}.{which}.bias"] = projection.bias.unflatten(0, (part.heads, part.head_width))[:, :COLUMNS]
                found[f"{name}.output.weight"] = part.output.weight[:COLUMNS]
                found[f"{name}.output.bias"] = part.output.bias[:COLUMNS]
            case FeedForward():
                for which in ("expand", "gate", "contract"):
                    layer = getattr(part, which)
                    if layer is not None:
                        found[f"{name}.{which}.weight"], found[f"{name}.{which}.bias"] = layer.weight[:COLUMNS], layer.bias[:COLUMNS]
            case TokenNorm():
                found |= {f"{name}.{own}": values for own, values in part.norm.named_parameters()}
            case MaskedBatchNorm():
                found |= {f"{name}.{own}": values for own, values in (*part.named_parameters(), *part.named_buffers())}
            case SSRU():
                found |= {f"{name}.{own}": values[:COLUMNS] for own, values in part.named_parameters()}
            case Cell():
                weights = ((own, getattr(part, own)) for own in ("input_weight", "hidden_weight", "input_bias", "hidden_bias"))
                by_gate = {own: values.unflatten(0, (part.gates, part.width)) for own, values in weights if values is not None}
                found |= {f"{name}.{own}": values[:, :COLUMNS] for own, values in by_gate.items()}
                found |= {f"{name}.{own}": values for own, values in part.named_parameters() if own.startswith("cell_norm.")}
            case _:
                pass
    return {f"parameters.{name}": _array(values) for name, values in found.items()}
