"""Records the training film: probe sentences are chosen once, and a frame is recorded at every validation."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.inspection.film.frames import ATTENTION, Entropies, Frame, ProbeSentence
from vitrail.inspection.film.looks import LONGEST, Answers, AutoencodingLook, LanguageLook, Look, TranslationLook
from vitrail.inspection.film.readings import ClassificationLook, MaskedLook
from vitrail.inspection.maps.norm_statistics import record_norms, short
from vitrail.models.base import LanguageModel, Model, TranslationModel
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.models.kinds.classifier import ClassifierModel
from vitrail.models.kinds.masked import MaskedLanguageModel
from vitrail.models.places import ATTENTION_SIDES, Attention, attentions, group_of, rank
from vitrail.nn.probe import trace
from vitrail.train.tasks.validate import Validated

ATTENDED = 2
"""Number of probe sentences, the first ones, whose attention is kept."""
_CELLS = 6400
"""Weights of all layers of a probe's attention, at most: a page holds those of 40 frames."""


class Recorder:
    """Takes a frame at every validation: give it to `train` as `watch`.

    It records the validated model, a copy in evaluation mode, so the training is not affected.
    Cost: what the model says of a few sentences, and one forward and backward pass over `ROWS` on the explicit path.
    """

    def __init__(self) -> None:
        self._look: Look | None = None

    def __call__(self, seen: Validated) -> dict[str, Any]:
        """Take one frame, without its step. Precondition: the dev set has sentences."""
        if self._look is None:
            self._look = look_for(seen)
        return take(seen.model, self._look).line()


def look_for(seen: Validated) -> Look:
    """What is looked at in a model: the sentences that were asked for, or else some of the dev set."""
    words, dev, given = seen.vocabularies, seen.dev, seen.probes
    match seen.model:
        case AutoencoderModel() as model:
            return AutoencodingLook(model, words, dev, given)
        case TranslationModel():
            return TranslationLook(words, dev, given, search=seen.search)
        case LanguageModel() as model:
            return LanguageLook(model, words.target, dev, given)
        case MaskedLanguageModel() as model:
            return MaskedLook(model, words.target, dev, given)
        case ClassifierModel() as model:
            return ClassificationLook(model, words, dev, given)
        case model:
            raise AssertionError(f"{type(model).__name__} is of no kind")


def take(model: Model, look: Look, *, step: int = 0) -> Frame:
    """Record one frame of a model. Precondition: it is in evaluation mode; its weights, their `grad` and its mode stay as they are."""
    readers = attentions(model.places(), *ATTENTION_SIDES)
    wanted = {one.probes[role] for one in readers for role in ("attention", "mask")}
    with torch.enable_grad(), trace(model, only=wanted.__contains__) as seen, record_norms(model) as norms:
        answers = look.ask(model)
    counted = answers.counted
    nats = torch.where(counted, answers.nats, 0.0)
    gradients = _gradients(model, nats.sum() / counted.sum())
    each, counts = nats.detach().sum(dim=1), counted.sum(dim=1)
    shown = len(look.probes)
    losses = [short(total / count) if count else None for total, count in zip(each.tolist()[:shown], counts.tolist(), strict=False)]
    said = look.say(model, answers)
    return Frame(
        format=1 if look.task == "translation" else 2,
        task=look.task,
        step=step,
        probes=look.probes,
        translations=said.texts,
        losses=tuple(losses),
        attention=_attention(seen, [one for one in readers if one.kind == ATTENTION[look.task]], look.probes),
        entropies=_entropies(seen, readers, answers),
        gradients=gradients,
        norms=norms.statistics(answers.source, answers.target),
        choices=said.choices,
        latents=said.latents,
    )


def _gradients(model: nn.Module, loss: Tensor) -> dict[str, float | None]:
    """||dL/dW|| of each group of weights, in the order of `rank`; tied weights are one, by the first of their names in that order."""
    groups: dict[Tensor, str] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        groups[weight] = min(group_of(name), groups.get(weight, group_of(name)), key=rank)
    # Not backward(): that would add to `.grad`.
    found = cast("Sequence[Tensor | None]", torch.autograd.grad(loss, list(groups), allow_unused=True))
    squares: dict[str, float] = {}
    for group, gradient in zip(groups.values(), found, strict=True):
        squares[group] = squares.get(group, 0.0) + (0.0 if gradient is None else float(gradient.double().square().sum()))
    return {group: short(squares[group] ** 0.5) for group in sorted(squares, key=rank)}


def _attention(
    seen: Mapping[str, Sequence[Tensor]], readers: Sequence[Attention], probes: Sequence[ProbeSentence]
) -> tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]:
    """Mean of the heads of each layer's attention, for the first probes that are not too long."""
    layers = [torch.cat(list(seen[one.weights]), dim=2)[:ATTENDED].mean(dim=1) for one in readers]
    crossed = bool(readers) and readers[0].kind == "cross"
    found: list[tuple[tuple[tuple[int, ...], ...], ...]] = []
    for row, probe in enumerate(probes):
        columns = len(probe.source_tokens)
        rows = len(probe.target_tokens) if crossed else columns
        fits = row < ATTENDED and (max(rows, columns) <= LONGEST + 1 or len(layers) * rows * columns <= _CELLS)
        cut = [layer[row, :rows, :columns].mul(100).nan_to_num(0).round().int().tolist() for layer in layers] if fits else []
        found.append(tuple(tuple(tuple(line) for line in layer) for layer in cut))
    return tuple(found)


def _entropies(seen: Mapping[str, Sequence[Tensor]], readers: Sequence[Attention], answers: Answers) -> Entropies:
    found: Entropies = {}
    for one in readers:
        weights = torch.cat(list(seen[one.weights]), dim=2)
        keep = seen[one.probes["mask"]][0]  # recorded at every time step of a recurrent decoder, and always the same
        shares = attention_entropy(weights, keep, answers.source if one.kind == "encoder" else answers.target)
        found[one.kind] = (*found.get(one.kind, ()), tuple(short(value) for value in shares.tolist()))
    return found


def attention_entropy(weights: Float[Tensor, "B H T S"], keep: Bool[Tensor, "B 1 #T S"], real: Bool[Tensor, "B T"]) -> Float[Tensor, " H"]:
    """Normalised entropy of each head: entropy / log(positions that may be read), 0 to 1, the mean over rows that may read at least two.

    Args: real: rows that are not padding. nan where there is no such row.
    """
    choices = keep.sum(dim=3).expand(-1, -1, weights.shape[2])[:, 0].double()
    entropy = torch.special.entr(weights.double()).sum(dim=3)
    counted = real & (choices > 1)
    shares = entropy / choices.clamp(min=2).log()[:, None]
    return (shares * counted[:, None]).sum(dim=(0, 2)) / counted.sum()
