"""Checks of a model's components: heads with near-zero output, uniform attention or a duplicate, and neurons that are never active."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitrail.doctor.findings import Finding
from vitrail.doctor.run_under_test import RunUnderTest
from vitrail.errors import DataError
from vitrail.evaluation.gradient_norms import real_positions
from vitrail.models.places import Side, attentions
from vitrail.nn.attention import MultiHeadAttention
from vitrail.nn.probe import trace

_Floats = npt.NDArray[np.float64]

SENTENCES = 64
"""Dev sentences on which heads and neurons are measured: 700 positions or more."""
UNIFORM = 0.99
"""Mean entropy of a head's weights as a share of the greatest possible above which its attention is uniform. Of 48 heads each, the
highest of the demo has 0.75, of the Transformer on Multi30k 0.90."""
SILENT = 0.02
"""Norm of what a head adds to its layer, as a share of the median head's, below which its output is near zero. The quietest head of the
demo has 0.78, of the Transformer on Multi30k 0.83."""
SAME_WEIGHTS = 0.02
"""Total variation between the weights of two heads, a mean over queries, below which their attention is the same."""
SAME_CONTEXT = 0.98
"""Cosine of the outputs of two such heads above which they are duplicates. Two heads that attend to <eos> have the same weights but
different outputs."""
MANY = 0.25
"""Share of idle heads that is a fault; fewer cost little, and are a warning."""
INACTIVE = 1e-3
"""Largest activation of a neuron, as a share of the root mean square of its layer, below which it was never active."""
DEAD_MANY, DEAD_SOME = 0.9, 0.5
"""Share of a layer's neurons that were never active: a fault, a warning. The demo, and the Transformer on Multi30k, have none."""


class HeadStatistics(NamedTuple):
    """Statistics of a head on a sample."""

    place: str
    number: int
    entropy: float
    """Mean over queries with three keys or more, as a share of the greatest possible."""
    norm: float
    """Of what it adds to its layer's output, as a share of the median head there; a mean over queries."""


class DuplicateHeads(NamedTuple):
    """Two heads of one layer that compute the same."""

    place: str
    first: int
    second: int
    distance: float
    """Total variation between their weights."""


def heads(run: RunUnderTest) -> list[Finding]:
    """Whether heads have uniform attention, near-zero output, or are duplicates."""
    seen, real = _record_activations(run)
    found: list[HeadStatistics] = []
    twins: list[DuplicateHeads] = []
    for attention in attentions(run.model.places()):
        module = run.model.get_submodule(attention.path)
        if not isinstance(module, MultiHeadAttention):
            continue
        queries = real["source" if attention.kind == "encoder" else "target"]
        weights, context = seen[attention.weights], seen[attention.probes["context"]]
        keep = seen[attention.probes["mask"]].expand(-1, 1, weights.shape[2], -1)
        found += describe_heads(attention.path, weights, context, output=module.output.weight.detach(), keep=keep, queries=queries)
        twins += find_duplicate_heads(attention.path, weights, context, queries=queries)
    if not found:
        return [Finding(check="heads", severity="ok", found="this model has no attention with several heads")]
    return [judge_heads(found, twins)]


def describe_heads(place: str, weights: Tensor, context: Tensor, *, output: Tensor, keep: Tensor, queries: Tensor) -> list[HeadStatistics]:
    """Entropy and strength of each head of an attention.

    Args: weights (B H T S), context (B H T E), keep (B 1 T S); output: the matrix W_O (D, HE); queries: real positions (B T).
    """
    keys = keep.squeeze(1).sum(2)
    plain = -(weights * weights.clamp(min=1e-30).log()).sum(3) / keys.clamp(min=2).log()[:, None]
    chosen = queries & (keys >= 3)
    parts = output.unflatten(1, (weights.shape[1], -1))  # D H E: the columns of W_O that multiply each head
    added = torch.einsum("bhte,dhe->bhtd", context, parts).norm(dim=3)
    strength = [float(added[:, head][queries].mean()) for head in range(weights.shape[1])]
    middle = max(float(np.median(strength)), max(strength) / 10, 1e-30)  # if most heads are near zero, so is their median
    return [
        HeadStatistics(place, head, float(plain[:, head][chosen].mean()) if bool(chosen.any()) else 0.0, strength[head] / middle)
        for head in range(weights.shape[1])
    ]


def find_duplicate_heads(place: str, weights: Tensor, context: Tensor, *, queries: Tensor) -> list[DuplicateHeads]:
    """Pairs of heads with nearly equal weights and nearly equal outputs: see `SAME_WEIGHTS`, `SAME_CONTEXT`."""
    found: list[DuplicateHeads] = []
    for first, second in itertools.combinations(range(weights.shape[1]), 2):
        apart = 0.5 * (weights[:, first] - weights[:, second]).abs().sum(2)[queries].mean()
        if float(apart) < SAME_WEIGHTS:
            likeness = torch.cosine_similarity(context[:, first][queries], context[:, second][queries], dim=1).mean()
            if float(likeness) > SAME_CONTEXT:
                found.append(DuplicateHeads(place, first, second, float(apart)))
    return found


def judge_heads(found: Sequence[HeadStatistics], twins: Sequence[DuplicateHeads]) -> Finding:
    """Judge by the share of heads that add nothing or duplicate another one."""
    silent = [head for head in found if head.norm < SILENT]
    uniform = [head for head in found if head.entropy > UNIFORM and head not in silent]
    idle = {(head.place, head.number) for head in [*silent, *uniform]} | {(pair.place, pair.second) for pair in twins}
    told = f"{len(found)} heads: {len(silent)} with near-zero output (smallest norm {min(head.norm for head in found):.2g} of the median"
    told += f" head's), {len(uniform)} with uniform attention (highest entropy {max(head.entropy for head in found):.2f} of the maximum"
    told += f"), {len(twins)} duplicates of another"
    numbers = {"heads": len(found), "silent": len(silent), "uniform": len(uniform), "twins": len(twins)}
    if not idle:
        return Finding(check="heads", severity="ok", found=told, numbers=numbers)
    shown = [f"{head.place} head {head.number} has near-zero output" for head in silent] + [
        f"{head.place} head {head.number} has uniform attention" for head in uniform
    ]
    shown += [f"{pair.place} heads {pair.first} and {pair.second} are duplicates" for pair in twins]
    return Finding(
        check="heads",
        severity="fault" if len(idle) >= MANY * len(found) else "warning",
        found=f"{told}: {'; '.join(shown[:6])}{'; ...' if len(shown) > 6 else ''}",
        expected="heads with different attention patterns",
        remedy="use fewer model.heads or layers; if it is most of them, train longer, with a lower optimizer.learning_rate, and check "
        "whether weights were copied or set to 0",
        numbers=numbers,
    )


def neurons(run: RunUnderTest) -> list[Finding]:
    """Whether neurons of feed-forward layers are ever active."""
    seen, real = _record_activations(run)
    shares: dict[str, float] = {}
    for place in run.model.places():
        if place.role == "feed_forward":
            shares[place.path] = dead_share(seen[place.name][real[place.side]])
    return [judge_neurons(shares)]


def dead_share(activations: Tensor) -> float:
    """Share of neurons (columns) that no position (row) activates: |a| is at most `INACTIVE` of the layer's root mean square."""
    size = float(activations.square().mean().sqrt())
    return float((activations.abs().amax(0) <= INACTIVE * size).float().mean())


def judge_neurons(shares: Mapping[str, float]) -> Finding:
    """Judge by the layer with the largest share of neurons that were never active."""
    if not shares:
        return Finding(check="neurons", severity="ok", found="this model has no feed-forward layers")
    worst = max(shares, key=lambda name: shares[name])
    told = f"at most {shares[worst]:.0%} of a feed-forward layer's neurons were never active ({worst}; {len(shares)} layers)"
    numbers = {f"dead {name}": share for name, share in shares.items()}
    if shares[worst] < DEAD_SOME:
        return Finding(check="neurons", severity="ok", found=told, numbers=numbers)
    return Finding(
        check="neurons",
        severity="fault" if shares[worst] >= DEAD_MANY else "warning",
        found=told,
        expected=f"less than {DEAD_SOME:.0%}",
        remedy="a lower optimizer.learning_rate or a longer schedule.warmup, or model.activation = gelu or swiglu, which cannot die",
        numbers=numbers,
    )


@torch.no_grad()
def _record_activations(run: RunUnderTest) -> tuple[dict[str, Tensor], dict[Side, Tensor]]:
    """Record the probes on one batch of `SENTENCES` dev sentences; also which positions of each side are real."""
    places = range(min(len(run.dev_pairs), SENTENCES))
    if not places:
        raise DataError(f"no dev sentence has 1 to {run.longest_line} tokens a side")
    model, batch = run.model, run.batch(places)
    with trace(model) as seen:
        model.loss(batch)
    heard = {name: calls[0] for name, calls in seen.items() if len(calls) == 1}
    return heard, real_positions(model, batch)
