"""Attention against a float64 reference, torch's fused kernel and torch's own layer."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.attention import (
    AdditiveAttention,
    DotAttention,
    GeneralAttention,
    Mask,
    MultiHeadAttention,
    StepAttention,
    causal_mask,
    make_mask,
    padding_mask,
)
from vitrail.nn.probe import trace

KEEP = torch.tensor([[True, True, True, True, True], [True, True, True, False, False]])


def reference(query: Tensor, key: Tensor, value: Tensor, keep: Tensor) -> Tensor:
    """softmax(QKᵀ/sqrt(E))·V in float64, one head and one query at a time; positions that may not be read are left out of the sum."""
    query, key, value = query.double(), key.double(), value.double()
    result = torch.zeros(*query.shape[:3], value.shape[3], dtype=torch.float64)
    for b, h, t in torch.cartesian_prod(*(torch.arange(n) for n in query.shape[:3])).tolist():
        read = [s for s in range(key.shape[2]) if keep[b, 0, min(t, keep.shape[2] - 1), s]]
        scores = [sum(x * y for x, y in zip(query[b, h, t].tolist(), key[b, h, s].tolist(), strict=True)) for s in read]
        weights = [math.exp(score / math.sqrt(query.shape[3])) for score in scores]
        for s, weight in zip(read, weights, strict=True):
            result[b, h, t] += weight / sum(weights) * value[b, h, s]
    return result


def heads(length: int, *, seed: int) -> Tensor:
    return torch.randn(2, 3, length, 4, generator=torch.Generator().manual_seed(seed))


def masks() -> dict[str, Mask]:
    return {"padding": padding_mask(KEEP, torch.float32), "causal": causal_mask(KEEP, torch.float32)}


@pytest.mark.parametrize("name", ["padding", "causal"])
def test_explicit_is_fused_is_the_float64_reference(name: str) -> None:
    mask = masks()[name]
    attention = MultiHeadAttention(12, 3, 4, dropout=0.0)
    query, key, value = heads(5, seed=1), heads(5, seed=2), heads(5, seed=3)
    explicit = attention._explicit(query, key, value, mask)
    fused = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.bias)
    expected = reference(query, key, value, mask.keep)
    torch.testing.assert_close(explicit, fused, atol=1e-6, rtol=0)
    torch.testing.assert_close(explicit.double(), expected, atol=1e-6, rtol=0)


def test_without_a_mask_all_is_read() -> None:
    attention = MultiHeadAttention(12, 3, 4, dropout=0.0)
    query, key, value = heads(2, seed=1), heads(5, seed=2), heads(5, seed=3)
    all_of_it = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    torch.testing.assert_close(
        attention._explicit(query, key, value, None).double(), reference(query, key, value, all_of_it), atol=1e-6, rtol=0
    )


def copied_from(theirs: nn.MultiheadAttention, *, width: int, heads: int) -> MultiHeadAttention:
    ours = MultiHeadAttention(width, heads, width // heads, dropout=0.0)
    with torch.no_grad():
        for layer, weight, bias in zip(
            (ours.query, ours.key, ours.value), theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3), strict=True
        ):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    ours.output.load_state_dict(theirs.out_proj.state_dict())
    return ours


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["padding", "causal"])
def test_the_layer_is_torchs(name: str, training: bool) -> None:
    torch.manual_seed(5)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    ours = copied_from(theirs, width=12, heads=3).train(training)
    values, memory = torch.randn(2, 5, 12), torch.randn(2, 5, 12)
    blocked = torch.ones(5, 5, dtype=torch.bool).triu(1) if name == "causal" else None
    expected, expected_weights = theirs(
        values, memory, memory, key_padding_mask=~KEEP, attn_mask=blocked, need_weights=True, average_attn_weights=False
    )
    with trace(ours) as seen:
        heard = ours(values, memory, masks()[name])
    torch.testing.assert_close(ours(values, memory, masks()[name]), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(heard, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(seen["weights"][0], expected_weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["padding", "causal"])
def test_rows_of_weights_sum_to_one_and_masked_cells_are_zero(name: str, dtype: torch.dtype) -> None:
    mask = masks()[name]
    attention = MultiHeadAttention(12, 3, 4, dropout=0.0).eval()
    values = 20 * torch.randn(2, 5, 12)
    with trace(attention) as seen, torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        attention(values, values, mask)
    weights = seen["weights"][0]
    torch.testing.assert_close(weights.float().sum(3), torch.ones(2, 3, 5), atol=1e-6 if dtype == torch.float32 else 1e-2, rtol=0)
    masked = ~mask.keep.expand_as(weights)
    assert masked.any() and weights[masked].eq(0).all()


def test_masks_keep_the_cells_they_should() -> None:
    assert padding_mask(KEEP, torch.float32).keep[1, 0].tolist() == [[True, True, True, False, False]]
    expected = [[s <= t and s < 3 for s in range(5)] for t in range(5)]
    assert causal_mask(KEEP, torch.float32).keep[1, 0].tolist() == expected
    bias = make_mask(KEEP[:, None, None, :], torch.float16).bias
    assert bias.dtype == torch.float16 and bias[0].eq(0).all() and bias[1, 0, 0, 4] == torch.finfo(torch.float16).min


def test_gradients_of_the_explicit_path_are_the_numerical_ones() -> None:
    attention = MultiHeadAttention(4, 2, 2, dropout=0.0, rotary=True).double().train()
    mask = causal_mask(torch.tensor([[True, True, False]]), torch.float64)
    values = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: attention(x, x, mask), (values,))


def test_keys_read_once_and_asked_in_parts_are_the_whole() -> None:
    attention = MultiHeadAttention(12, 3, 4, dropout=0.0, rotary=True).eval()
    values = torch.randn(2, 5, 12)
    whole = attention(values, values, None)
    key, value = attention.read(values)
    parts = [attention.attend(values[:, t : t + 1], key, value, None, t) for t in range(5)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-6, rtol=0)


def test_dropped_weights_are_off_in_evaluation() -> None:
    attention = MultiHeadAttention(12, 3, 4, dropout=0.5)
    values = torch.randn(2, 5, 12)
    assert not torch.equal(attention(values, values, None), attention(values, values, None))
    attention.eval()
    assert torch.equal(attention(values, values, None), attention(values, values, None))


def _dense(length: int, *, rows: int = 2, width: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(rows, length, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _step_attentions() -> dict[str, tuple[StepAttention, Callable[[Tensor, Tensor], Tensor]]]:
    """Each kind of attention of a recurrent decoder, and its score for one query and one memory vector, written out."""
    torch.manual_seed(7)
    additive, general = AdditiveAttention(6, 6, 5).double(), GeneralAttention(6, 6).double()
    w, b, u, v = additive.query.weight, additive.query.bias, additive.key.weight, additive.vector
    return {
        "bahdanau": (
            additive,
            lambda q, m: sum((v[a] * torch.tanh(w[a] @ q + b[a] + u[a] @ m) for a in range(5)), torch.zeros((), dtype=torch.float64)),
        ),
        "luong-dot": (DotAttention(), lambda q, m: q @ m),
        "luong-general": (general, lambda q, m: q @ general.key.weight @ m),
    }


@pytest.mark.parametrize("kind", ["bahdanau", "luong-dot", "luong-general"])
@torch.no_grad()
def test_step_attention_is_its_equation(kind: str) -> None:
    """Scores, weights and context, one number at a time in float64; padding weighs exactly nothing."""
    attention, score = _step_attentions()[kind]
    query, memory = _dense(3, seed=1), _dense(5, seed=2)
    keep = torch.tensor([[True] * 5, [True, True, True, False, False]])
    with trace(attention) as seen:
        found = attention.attend(query, attention.read(memory), memory, padding_mask(keep, torch.float64))
    (weights,) = seen["weights"]
    assert weights.shape == (2, 1, 3, 5)
    for row in range(2):
        real = int(keep[row].sum())
        for time in range(3):
            scores = [float(score(query[row, time], memory[row, position])) for position in range(real)]
            total = sum(math.exp(one) for one in scores)
            expected = [math.exp(one) / total for one in scores]
            assert weights[row, 0, time].tolist() == pytest.approx(expected + [0.0] * (5 - real), abs=1e-12)
            assert (weights[row, 0, time, real:] == 0).all()
            context = sum((share * memory[row, position] for position, share in enumerate(expected)), torch.zeros(6, dtype=torch.float64))
            torch.testing.assert_close(found[row, time], context, atol=1e-12, rtol=1e-12)
