"""Heads and neurons in crafted values."""

import math

import pytest
import torch

from vitrail.doctor.checks.activations import HeadStatistics, dead_share, describe_heads, find_duplicate_heads, judge_heads, judge_neurons


def attention(sentences: int = 3, heads: int = 3, length: int = 6, width: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights, contexts and a keep mask without padding."""
    draw = torch.Generator().manual_seed(0)
    weights = (3 * torch.randn(sentences, heads, length, length, generator=draw)).softmax(3)
    context = torch.randn(sentences, heads, length, width, generator=draw)
    return weights, context, torch.ones(sentences, 1, length, length, dtype=torch.bool)


def test_entropy_and_strength_of_a_head_against_their_definitions() -> None:
    weights, context, keep = attention()
    output = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    queries = torch.ones(3, 6, dtype=torch.bool)
    found = describe_heads("encoder.0.self_attention", weights, context, output=output, keep=keep, queries=queries)
    strengths = []
    for head in range(3):
        entropies = [-(row * row.log()).sum() / math.log(6) for row in weights[:, head].flatten(0, 1)]
        assert found[head].entropy == pytest.approx(float(torch.stack(entropies).mean()), rel=1e-5)
        strengths.append(float((context[:, head] @ output[:, 4 * head : 4 * head + 4].T).norm(dim=2).mean()))
    middle = sorted(strengths)[1]
    assert [head.norm for head in found] == pytest.approx([strength / middle for strength in strengths], rel=1e-5)


def test_heads_that_look_everywhere_alike_or_say_nothing_are_told() -> None:
    weights, context, keep = attention()
    weights[:, 0] = 1 / 6
    context[:, 2] = 0
    queries = torch.ones(3, 6, dtype=torch.bool)
    heads = describe_heads("decoder.0.cross_attention", weights, context, output=torch.eye(12), keep=keep, queries=queries)
    found = judge_heads(heads, [])
    assert found.severity == "fault" and found.numbers["uniform"] == 1 and found.numbers["silent"] == 1


def test_masked_positions_and_padding_do_not_make_a_head_look_uniform() -> None:
    """A causal head that looks at all it may is uniform, whatever the length; queries at padding do not count."""
    length = 6
    keep = torch.ones(1, 1, length, length, dtype=torch.bool).tril_()
    weights = keep.float() / keep.float().sum(3, keepdim=True)
    queries = torch.tensor([[True] * 5 + [False]])
    heads = describe_heads(
        "decoder.0.self_attention", weights, torch.ones(1, 1, length, 4), output=torch.eye(4), keep=keep, queries=queries
    )
    assert heads[0].entropy == pytest.approx(1.0, abs=1e-5)


def test_heads_with_equal_weights_are_twins_only_where_they_find_the_same() -> None:
    weights, context, _ = attention()
    queries = torch.ones(3, 6, dtype=torch.bool)
    assert find_duplicate_heads("p", weights, context, queries=queries) == []
    weights[:, 2] = weights[:, 0]
    assert find_duplicate_heads("p", weights, context, queries=queries) == []
    context[:, 2] = 2 * context[:, 0]
    (pair,) = find_duplicate_heads("p", weights, context, queries=queries)
    assert (pair.first, pair.second, pair.distance) == (0, 2, 0)


def test_one_idle_head_of_many_is_a_warning() -> None:
    heads = [HeadStatistics("p", number, 0.5, 0.0 if number == 3 else 1.0) for number in range(16)]
    assert judge_heads(heads, []).severity == "warning"
    assert judge_heads(heads[4:], []).severity == "ok"


def test_neurons_that_are_never_active() -> None:
    activations = torch.rand(200, 10)
    assert dead_share(activations) == 0
    activations[:, 3:] = 0
    assert dead_share(activations) == pytest.approx(0.7)
    assert dead_share(torch.zeros(5, 4)) == 1
    verdicts = [judge_neurons({"a": share, "b": 0.0}).severity for share in (0.4, 0.7, 0.95)]
    assert verdicts == ["ok", "warning", "fault"]
