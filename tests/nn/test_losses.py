"""The chunked cross-entropy against torch's in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.nn import losses
from vitrail.nn.losses import token_cross_entropy

ROWS, WIDTH, VOCABULARY = 50, 6, 11


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(4)
    hidden, weight = torch.randn(ROWS, WIDTH, generator=draw), torch.randn(VOCABULARY, WIDTH, generator=draw)
    return hidden, weight, torch.randn(VOCABULARY, generator=draw), torch.randint(0, VOCABULARY, (ROWS,), generator=draw)


@pytest.mark.parametrize("elements", [8_000_000, VOCABULARY * 20], ids=["one chunk", "three chunks"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("biased", [True, False])
def test_value_and_gradients_are_torchs(elements: int, smoothing: float, biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_CHUNK_ELEMENTS", elements)
    hidden, weight, bias, targets = inputs()
    ours = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
    theirs = [tensor.double().requires_grad_() for tensor in (hidden, weight, bias)]
    found = token_cross_entropy(ours[0], targets, weight=ours[1], bias=ours[2] if biased else None, label_smoothing=smoothing)
    logits = F.linear(theirs[0], theirs[1], theirs[2] if biased else None)
    expected = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(found.nats.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.plain_nats.double(), F.cross_entropy(logits, targets, reduction="sum"), rtol=1e-6, atol=0)
    assert found.tokens == ROWS and not found.plain_nats.requires_grad
    (found.nats * 3).backward()
    (expected * 3).backward()
    for mine, reference in list(zip(ours, theirs, strict=True))[: 3 if biased else 2]:
        assert mine.grad is not None and reference.grad is not None
        torch.testing.assert_close(mine.grad.double(), reference.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_gradients_it_is_the_same(smoothing: float) -> None:
    hidden, weight, bias, targets = inputs()
    with torch.no_grad():
        plain = token_cross_entropy(hidden, targets, weight=weight, bias=bias, label_smoothing=smoothing)
    other = token_cross_entropy(hidden, targets, weight=weight, bias=bias, label_smoothing=smoothing)
    for one, two in zip(plain, other, strict=True):
        torch.testing.assert_close(one, two)


def test_bfloat16_is_near() -> None:
    hidden, weight, _, targets = inputs()
    low = [tensor.clone().requires_grad_() for tensor in (hidden, weight)]
    high = [tensor.clone().requires_grad_() for tensor in (hidden, weight)]
    with torch.autocast("cpu", torch.bfloat16):
        near = token_cross_entropy(low[0], targets, weight=low[1], label_smoothing=0.1)
    exact = token_cross_entropy(high[0], targets, weight=high[1], label_smoothing=0.1)
    near.nats.backward()
    exact.nats.backward()
    assert near.nats.dtype == torch.float32
    torch.testing.assert_close(near.nats, exact.nats, rtol=1e-2, atol=0)
    for mine, reference in zip(low, high, strict=True):
        assert mine.grad is not None and reference.grad is not None and mine.grad.dtype == torch.float32
        assert (mine.grad - reference.grad).norm() < 0.02 * reference.grad.norm()


def test_sums_of_parts_are_the_sum_of_the_whole() -> None:
    hidden, weight, bias, targets = inputs()
    whole = token_cross_entropy(hidden, targets, weight=weight, bias=bias, label_smoothing=0.1)
    cut = [slice(0, 7), slice(7, ROWS)]
    parts = [token_cross_entropy(hidden[p], targets[p], weight=weight, bias=bias, label_smoothing=0.1) for p in cut]
    for name in ("nats", "plain_nats", "tokens"):
        torch.testing.assert_close(sum(getattr(part, name) for part in parts), getattr(whole, name))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_class_that_is_switched_off(smoothing: float) -> None:
    """Without smoothing it has no part; with it, nothing but an infinite loss would be true."""
    hidden, weight, bias, targets = inputs()
    bias[0], targets = -torch.inf, targets.clamp(min=1)
    found = token_cross_entropy(hidden.requires_grad_(), targets, weight=weight, bias=bias, label_smoothing=smoothing)
    expected = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(found.nats, expected)


def test_no_rows_are_no_loss() -> None:
    hidden, weight, bias, targets = inputs()
    weight.requires_grad_()
    found = token_cross_entropy(hidden[:0], targets[:0], weight=weight, bias=bias)
    found.nats.backward()
    assert found.nats == 0 and found.tokens == 0 and weight.grad is not None and weight.grad.eq(0).all()
