"""Records the training film: probe sentences are chosen once, and a frame is recorded at every validation."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vitrail.data.batches import Batch, collate
from vitrail.data.vocabularies.subwords import PAD, Vocabularies
from vitrail.decode.forced import forced_decode
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.translate import TranslateConfig, Translator
from vitrail.inspection.decoding import piece_of
from vitrail.inspection.film.frames import Entropies, Frame, ProbeSentence
from vitrail.inspection.maps.norm_statistics import record_norms, short
from vitrail.models.base import TranslationModel
from vitrail.models.places import ATTENTION_SIDES, Attention, attentions, group_of, rank
from vitrail.nn.probe import trace
from vitrail.train.tasks.validate import DevSet, Validated

PROBES = 4
"""Sentences whose translations are kept."""
ATTENDED = 2
"""Number of probe sentences, the first ones, whose attention is kept."""
LONGEST = 20
"""Maximal length in tokens of a probe sentence and of its reference, without <eos>, if the dev set has such."""
ROWS = 32
"""Sentence pairs that entropies, gradients and norms are measured on; the probes are the first."""
_TOKENS = 1024
"""Positions a side of those, padding counted, at most."""


class Recorder:
    """Takes a frame at every validation: give it to `train` as `watch`.

    It records the validated model, a copy in evaluation mode, so the training is not affected.
    Cost: translations of `PROBES` sentences, and one forward and backward pass over `ROWS` on the explicit path.
    """

    def __init__(self) -> None:
        self._chosen: tuple[DevSet, Batch] | None = None

    def __call__(self, seen: Validated) -> dict[str, Any]:
        """Take one frame, without its step. Precondition: the dev set has sentences."""
        if self._chosen is None:
            self._chosen = choose_probes(seen.dev, seen.vocabularies)
        frame = take(seen.model, seen.vocabularies, *self._chosen)
        return frame.model_dump(mode="json", exclude={"step"})


def choose_probes(dev: DevSet, vocabularies: Vocabularies) -> tuple[DevSet, Batch]:
    """The probes, and the batch of which they are the first rows: short sentences first, in the order of the dev set."""
    source, target = vocabularies.source.encode_batch(dev.source), vocabularies.target.encode_batch(dev.target)
    usable = [number for number in range(len(source)) if source[number] and target[number]] or [0]

    def is_short(number: int) -> bool:
        return len(source[number]) <= LONGEST and len(target[number]) <= LONGEST

    order = sorted(usable, key=lambda number: not is_short(number))
    rows = order[:1]
    for number in order[1:ROWS]:
        longest = 1 + max(max(len(source[one]), len(target[one])) for one in (*rows, number))
        if (len(rows) + 1) * longest > _TOKENS:
            break
        rows.append(number)
    probes = rows[:PROBES]
    return (
        DevSet([dev.source[number] for number in probes], [dev.target[number] for number in probes]),
        collate([source[number] for number in rows], [target[number] for number in rows]),
    )


def take(model: TranslationModel, vocabularies: Vocabularies, probes: DevSet, batch: Batch, *, step: int = 0) -> Frame:
    """Record one frame of a model. Precondition: it is in evaluation mode; its weights, their `grad` and its mode stay as they are."""
    device = next(model.parameters()).device
    batch = Batch(*(part.to(device) for part in batch))
    readers = attentions(model.places(), *ATTENTION_SIDES)
    wanted = {one.probes[role] for one in readers for role in ("attention", "mask")}
    with torch.enable_grad(), trace(model, only=wanted.__contains__) as seen, record_norms(model) as norms:
        hidden = forced_decode(model, batch)
    logits = model.read_out(hidden).float()
    nats = F.cross_entropy(logits.transpose(1, 2), batch.target_out, ignore_index=PAD, reduction="none")
    real_source, real_target = batch.source.ne(PAD), batch.target_out.ne(PAD)
    gradients = _gradients(model, nats.sum() / real_target.sum())
    each = nats.detach().sum(dim=1) / real_target.sum(dim=1)
    config = TranslateConfig(search=SearchConfig(beams=1), exact=False)
    found = Translator(model, vocabularies=vocabularies, config=config, device=device).translate(list(probes.source))
    shown = [_show(batch, row, probes, vocabularies) for row in range(len(probes.source))]
    return Frame(
        step=step,
        probes=tuple(shown),
        translations=tuple(one.text for one in found),
        losses=tuple(short(value) for value in each[: len(shown)].tolist()),
        attention=_attention(seen, readers, shown),
        entropies=_entropies(seen, readers, real_source, real_target),
        gradients=gradients,
        norms=norms.statistics(real_source, real_target),
    )


def _show(batch: Batch, row: int, probes: DevSet, vocabularies: Vocabularies) -> ProbeSentence:
    def pieces(ids: Tensor, side: str) -> tuple[str, ...]:
        vocabulary = vocabularies.source if side == "source" else vocabularies.target
        return tuple(piece_of(token, vocabulary) for token in ids.tolist() if token != PAD)

    return ProbeSentence(
        source=probes.source[row],
        reference=probes.target[row],
        source_tokens=pieces(batch.source[row], "source"),
        target_tokens=pieces(batch.target_out[row], "target"),
    )


def _gradients(model: TranslationModel, loss: Tensor) -> dict[str, float | None]:
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
    """Mean of the heads of each layer's cross-attention, for the first probes that are not too long."""
    layers = [torch.cat(list(seen[one.weights]), dim=2)[:ATTENDED].mean(dim=1) for one in readers if one.kind == "cross"]
    found: list[tuple[tuple[tuple[int, ...], ...], ...]] = []
    for row, probe in enumerate(probes):
        sizes = len(probe.target_tokens), len(probe.source_tokens)
        fits = row < ATTENDED and max(sizes) <= LONGEST + 1
        cut = [layer[row, : sizes[0], : sizes[1]].mul(100).nan_to_num(0).round().int().tolist() for layer in layers] if fits else []
        found.append(tuple(tuple(tuple(line) for line in layer) for layer in cut))
    return tuple(found)


def _entropies(
    seen: Mapping[str, Sequence[Tensor]], readers: Sequence[Attention], source: Bool[Tensor, "B S"], target: Bool[Tensor, "B T"]
) -> Entropies:
    found: Entropies = {}
    for one in readers:
        weights = torch.cat(list(seen[one.weights]), dim=2)
        keep = seen[one.probes["mask"]][0]  # recorded at every time step of a recurrent decoder, and always the same
        shares = attention_entropy(weights, keep, source if one.kind == "encoder" else target)
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
