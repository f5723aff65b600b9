"""Norms, dropout, feed-forward and residuals against torch's own layers and float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.layers import Activation, Dropout, FeedForward, MaskedBatchNorm, NormPosition, Residual, TokenNorm, make_norm

KEEP = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] * 5 + [False]])


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_token_norms_are_torchs_in_float64(kind: str) -> None:
    ours = make_norm(kind, 7)  # pyright: ignore[reportArgumentType]
    assert isinstance(ours, TokenNorm)
    values = 3 * torch.randn(3, 6, 7) + 1
    exact = values.double()
    if kind == "layer":
        expected = (exact - exact.mean(2, keepdim=True)) / (exact.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    else:
        expected = exact / (exact.square().mean(2, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(ours(values, KEEP).double(), expected, atol=1e-5, rtol=0)
    theirs = nn.LayerNorm(7) if kind == "layer" else nn.RMSNorm(7, eps=1e-5)
    torch.testing.assert_close(ours(values, KEEP).double(), theirs.double()(exact), atol=1e-5, rtol=0)


def test_batch_norm_is_torchs_over_the_real_tokens() -> None:
    torch.manual_seed(2)
    ours, theirs = MaskedBatchNorm(7), nn.BatchNorm1d(7)
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    theirs.load_state_dict({"weight": ours.weight, "bias": ours.bias}, strict=False)
    for _ in range(3):
        values = 2 * torch.randn(3, 6, 7) + 5
        mine = values.clone().requires_grad_()
        real = values[KEEP].clone().requires_grad_()
        found, expected = ours(mine, KEEP), theirs(real)
        torch.testing.assert_close(found[KEEP], expected, atol=1e-5, rtol=0)
        found[KEEP].square().sum().backward()
        expected.square().sum().backward()
        assert mine.grad is not None and real.grad is not None
        torch.testing.assert_close(mine.grad[KEEP], real.grad, atol=1e-4, rtol=1e-4)
        assert mine.grad[~KEEP].eq(0).all()
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_variance, theirs.running_var)
    ours.eval()
    theirs.eval()
    torch.testing.assert_close(ours(values, KEEP)[KEEP], theirs(values[KEEP]), atol=1e-5, rtol=0)


def test_padding_is_no_part_of_batch_statistics() -> None:
    values = torch.randn(3, 6, 7)
    spoilt = values.masked_fill(~KEEP[:, :, None], 1e6)
    one, other = MaskedBatchNorm(7), MaskedBatchNorm(7)
    assert torch.equal(one(values, KEEP)[KEEP], other(spoilt, KEEP)[KEEP])
    assert torch.equal(one.running_variance, other.running_variance)


def test_a_single_token_leaves_batch_statistics_finite() -> None:
    norm = MaskedBatchNorm(7)
    assert norm(torch.randn(1, 1, 7), torch.ones(1, 1, dtype=torch.bool)).isfinite().all()
    assert norm.running_variance.isfinite().all()


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.9])
def test_dropout_keeps_the_mean_at_every_place(rate: float) -> None:
    torch.manual_seed(3)
    dropped = round(256 * rate)
    values = Dropout(rate)(torch.ones(100_003))
    assert set(values.unique().tolist()) == {0.0, torch.tensor(256 / (256 - dropped)).item()}
    spread = (dropped / 256 * (1 - dropped / 256)) ** 0.5
    # Random bytes come eight to a word: each of the eight must be dropped as often.
    for place in range(8):
        share = values[place::8].eq(0).float()
        assert share.mean().item() == pytest.approx(dropped / 256, abs=5 * spread / len(share) ** 0.5)
    assert values.mean().item() == pytest.approx(1, abs=5 * spread * 256 / (256 - dropped) / len(values) ** 0.5)


def test_what_is_dropped_is_independent_between_neighbours() -> None:
    torch.manual_seed(4)
    zero = Dropout(0.5)(torch.ones(80_000)).eq(0).double() - 0.5
    for distance in (1, 2, 7, 8, 9):
        assert abs((zero[:-distance] * zero[distance:]).mean().item()) < 5 * 0.25 / 80_000**0.5


def test_dropout_is_a_function_of_the_seed() -> None:
    dropout, values = Dropout(0.3), torch.randn(5, 7)
    torch.manual_seed(9)
    first, second = dropout(values), dropout(values)
    torch.manual_seed(9)
    assert torch.equal(dropout(values), first) and not torch.equal(first, second)


def test_dropout_is_off_in_evaluation_and_at_rate_zero() -> None:
    values = torch.randn(5, 7)
    assert Dropout(0.3).eval()(values) is values
    assert Dropout(0.0)(values) is values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dropout_passes_gradient_where_it_passes_values(dtype: torch.dtype) -> None:
    values = torch.ones(11, 13, dtype=dtype, requires_grad=True)
    found = Dropout(0.4)(values)
    found.sum().backward()
    assert found.dtype == dtype and values.grad is not None
    assert torch.equal(values.grad, found.detach())


def test_rates_below_a_512th_still_drop() -> None:
    torch.manual_seed(5)
    share = Dropout(0.001)(torch.ones(200_000)).eq(0).float().mean().item()
    assert share == pytest.approx(0.001, abs=5e-4)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "swiglu"])
def test_feed_forward_is_its_equation(activation: Activation) -> None:
    layer = FeedForward(5, 9, activation, 0.0).eval()
    values = torch.randn(2, 3, 5)

    def affine(linear: nn.Linear, x: Tensor) -> Tensor:
        return x @ linear.weight.double().T + linear.bias.double()

    hidden = affine(layer.expand, values.double())
    match activation:
        case "relu":
            hidden = hidden.clamp_min(0)
        case "gelu":
            hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        case "silu":
            hidden = hidden / (1 + torch.exp(-hidden))
        case "swiglu":
            assert layer.gate is not None
            hidden = hidden / (1 + torch.exp(-hidden)) * affine(layer.gate, values.double())
    torch.testing.assert_close(layer(values).double(), affine(layer.contract, hidden), atol=1e-6, rtol=0)


@pytest.mark.parametrize("position", ["pre", "post"])
def test_residual_is_its_equation(position: NormPosition) -> None:
    residual = Residual(7, norm="layer", position=position, dropout=0.0)
    linear, norm, values = nn.Linear(7, 7), nn.LayerNorm(7), torch.randn(3, 6, 7)
    expected = values + linear(norm(values)) if position == "pre" else norm(values + linear(values))
    torch.testing.assert_close(residual(values, KEEP, linear), expected)


@pytest.mark.parametrize("activation", ["silu", "swiglu", "gelu", "relu"])
@pytest.mark.parametrize("hidden", [16, 24, 64])
def test_a_row_of_feed_forward_does_not_depend_on_the_others(hidden: int, activation: Activation) -> None:
    torch.manual_seed(0)
    layer, values = FeedForward(16, hidden, activation, 0.0).eval(), torch.randn(40, 1, 16)
    with torch.no_grad():
        whole = layer(values)
        for rows in range(4, 40):
            assert torch.equal(layer(values[:rows]), whole[:rows]), rows
    expected = {"silu": F.silu, "swiglu": F.silu, "gelu": F.gelu, "relu": F.relu}[activation](layer.expand(values))
    expected = layer.contract(expected if layer.gate is None else expected * layer.gate(values))
    torch.testing.assert_close(whole, expected)
