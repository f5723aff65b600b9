"""One step of a search: the selected continuations and the ended ones. Tensors in, tensors out."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.search.constraints import BeamCandidate, Constraints, forced_progress, share_beams
from vitrail.decode.search_config import SamplingConfig


class Selection(NamedTuple):
    """The best continuations, best first: column c extends beam parents[b, c] by tokens[b, c]."""

    parents: Int[Tensor, "B W"]
    tokens: Int[Tensor, "B W"]
    log_probs: Float[Tensor, "B W"]
    totals: Float[Tensor, "B W"]
    ended: Bool[Tensor, "B W"]
    """Columns that become finished hypotheses."""
    live: Int[Tensor, "B K"]
    """Columns that become the next beams. A column whose total is -inf, or whose token is EOS, is only a filler."""


def top_tokens(scores: Float[Tensor, "N V"], count: int) -> tuple[Float[Tensor, "N W"], Int[Tensor, "N W"]]:
    """The `count` largest of each row, largest first; among equals the lowest index, which torch.topk does not guarantee."""
    if count >= scores.shape[1]:
        full = scores.sort(dim=1, descending=True, stable=True)
        return full.values, full.indices
    values, indices = _largest(scores, count + 1)
    equal = values.diff(dim=1) == 0  # not of -inf and -inf, whose difference is no number
    if equal.any():
        tied = equal.any(1).nonzero().flatten()
        # float32 ordered as integers, with the index below it: all keys differ. The addition turns -0.0 into 0.0.
        bits = (scores[tied] + 0.0).view(torch.int32).long()
        ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        keys = (ordered << 32) - torch.arange(scores.shape[1], device=scores.device)
        indices[tied] = keys.topk(count + 1).indices
        values[tied] = scores[tied].gather(1, indices[tied])
    return values[:, :count], indices[:, :count]


_BLOCK = 64
"""Scores of which only the largest is looked at first."""


def _largest(scores: Float[Tensor, "N V"], count: int) -> tuple[Float[Tensor, "N W"], Int[Tensor, "N W"]]:
    """What torch.topk finds, several times as fast: the `count` largest are in the blocks with the `count` largest maxima."""
    rows, width = scores.shape
    blocks = width // _BLOCK
    if blocks < 8 * count:
        return torch.topk(scores, count)
    whole = blocks * _BLOCK
    by_block = scores[:, :whole].view(rows, blocks, _BLOCK)
    best = by_block.amax(2).topk(count).indices
    found = by_block.gather(1, best[:, :, None].expand(-1, -1, _BLOCK)).flatten(1)
    if whole < width:  # what is left is one more block
        found = torch.cat([found, scores[:, whole:]], 1)
        best = torch.nn.functional.pad(best, (0, 1), value=blocks)
    values, columns = found.topk(count)
    return values, best.gather(1, columns // _BLOCK) * _BLOCK + columns % _BLOCK


def select_best(log_probs: Float[Tensor, "B K V"], totals: Float[Tensor, "B K"], beams: int) -> Selection:
    """Beam search: the 2K best of all continuations. Each beam has one EOS, so K of the 2K at least do not end."""
    count = min(2 * beams, log_probs.shape[2])
    values, tokens = (found.view(*totals.shape, count) for found in top_tokens(log_probs.flatten(0, 1), count))
    all_totals = (totals[:, :, None] + values).flatten(1)
    if beams == 1:
        return _best_of_one(tokens[:, 0], values[:, 0], all_totals)
    best = all_totals.sort(dim=1, descending=True, stable=True)
    columns = best.indices[:, : 2 * beams]
    parts = columns // count, tokens.flatten(1).gather(1, columns), values.flatten(1).gather(1, columns), best.values[:, : 2 * beams]
    if missing := 2 * beams - parts[1].shape[1]:
        fillers = (0, EOS, -torch.inf, -torch.inf)
        parts = tuple(torch.nn.functional.pad(part, (0, missing), value=filler) for part, filler in zip(parts, fillers, strict=True))
    parents, tokens, log_probs, totals = parts
    possible, is_end = totals > -torch.inf, tokens == EOS
    live = (is_end | ~possible).to(torch.uint8).sort(dim=1, stable=True).indices[:, :beams]
    ended = is_end & possible
    ended[:, beams:] = False
    return Selection(parents, tokens, log_probs, totals, ended, live)


def _best_of_one(tokens: Int[Tensor, "B W"], log_probs: Float[Tensor, "B W"], totals: Float[Tensor, "B W"]) -> Selection:
    """The same for one beam, whose best continuations are in order already: it goes on with the first, or with the second behind an end."""
    first_ends = tokens[:, :1] == EOS
    ended = torch.cat([first_ends & (totals[:, :1] > -torch.inf), torch.zeros_like(first_ends)], 1)
    return Selection(torch.zeros_like(tokens), tokens, log_probs, totals, ended, first_ends.long())


def sample(
    log_probs: Float[Tensor, "B K V"],
    totals: Float[Tensor, "B K"],
    uniform: Float[Tensor, "B W"],
    how: SamplingConfig,
    *,
    penalised: Float[Tensor, "B K V"] | None = None,
) -> Selection:
    """Sampling by inversion: one number in [0, 1) for each row. At the first step one row serves all samples of its sentence.

    Args: penalised: logits to draw by in place of the log-probabilities, which are counted all the same; -inf where those are.
    """
    sentences, samples = uniform.shape
    own = log_probs.expand(sentences, samples, -1).flatten(0, 1)
    rows = own if penalised is None else penalised.expand(sentences, samples, -1).flatten(0, 1)
    if how.top_k or how.top_p < 1:
        values, tokens = top_tokens(rows, how.top_k or rows.shape[1])
    else:
        values, tokens = rows, None
    weights = (values.double() / how.temperature).softmax(1).nan_to_num(0.0)  # a row that has ended is all -inf: NaN
    if how.top_p < 1:
        weights = weights.masked_fill(weights.cumsum(1) - weights >= how.top_p, 0.0)
    if how.min_p:
        weights = weights.masked_fill(weights < how.min_p * weights.amax(1, keepdim=True), 0.0)
    cumulative = weights.cumsum(1)
    total = cumulative[:, -1:]
    wanted = torch.minimum(uniform.flatten()[:, None] * total, total.nextafter(torch.zeros_like(total)))
    drawn = torch.searchsorted(cumulative, wanted, right=True).clamp(max=values.shape[1] - 1)
    places = drawn if tokens is None else tokens.gather(1, drawn)
    chosen, chosen_log_probs = places.view(sentences, samples), own.gather(1, places).view(sentences, samples)
    columns = torch.arange(samples, device=rows.device).expand(sentences, -1)
    new_totals = totals.expand(sentences, samples) + chosen_log_probs
    ended = (chosen == EOS) & (new_totals > -torch.inf)
    return Selection(columns.clamp(max=totals.shape[1] - 1), chosen, chosen_log_probs, new_totals, ended, columns)


def force_words(
    selection: Selection,
    row: int,
    log_probs: Float[Tensor, "K V"],
    totals: Float[Tensor, " K"],
    tokens: Int[Tensor, "K T"],
    constraints: Constraints,
) -> None:
    """Replace one sentence's columns by those chosen for its forced words."""
    beams = selection.live.shape[1]
    histories: list[list[int]] = tokens.tolist()
    pairs = set(zip(selection.parents[row].tolist(), selection.tokens[row].tolist(), strict=True))
    for parent, best in enumerate(log_probs.topk(min(2, log_probs.shape[1])).indices.tolist()):
        pairs.update((parent, token) for token in (*best, EOS, *forced_progress(histories[parent], constraints).wanted))
    ordered = sorted(pairs)
    parents, ids = (torch.tensor(part, device=totals.device) for part in zip(*ordered, strict=True))
    sums: list[float] = (totals[parents] + log_probs[parents, ids]).tolist()
    candidates = [BeamCandidate(*pair, total) for pair, total in zip(ordered, sums, strict=True) if total > -torch.inf]
    chosen = share_beams(candidates, histories, constraints, beams=beams)
    selection.totals[row], selection.log_probs[row], selection.ended[row] = -torch.inf, -torch.inf, False
    selection.parents[row], selection.tokens[row] = 0, EOS
    selection.live[row] = torch.arange(beams, device=totals.device)
    going_on = [item for item in chosen if item.token != EOS]
    ending = [item for item in chosen if item.token == EOS]
    for column, item in [*enumerate(going_on), *enumerate(ending, start=beams)]:
        selection.parents[row, column], selection.tokens[row, column], selection.totals[row, column] = item.parent, item.token, item.total
        selection.log_probs[row, column] = log_probs[item.parent, item.token]
        selection.ended[row, column] = item.token == EOS
