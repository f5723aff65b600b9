"""Low-rank adapters against W + (alpha / r)·B·A in float64, in linear layers and in cells; nothing is lost by merging."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitrail.nn.attention import MultiHeadAttention, causal_mask
from vitrail.nn.cells import CellKind, make_cell
from vitrail.nn.lora import adapt, adapters_in, base_of, is_adapter, merged, plain_name
from vitrail.nn.probe import Probe, trace


def draw(model: nn.Module) -> None:
    """An adapter begins as nothing: let it be something."""
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            nn.init.normal_(parameter)


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("rank", "alpha"), [(1, 16.0), (4, 4.0), (7, 1.5)])
def test_a_linear_layer_computes_the_sum_of_two_products(rank: int, alpha: float) -> None:
    torch.manual_seed(0)
    holder = nn.ModuleDict({"a": nn.Linear(6, 9)})
    adapt(holder, "a.weight", rank=rank, alpha=alpha, dropout=0.0)
    draw(holder)
    values = torch.randn(5, 6)
    found = tensors(holder)
    weight, bias = found["a.parametrizations.weight.original"].double(), found["a.bias"].double()
    ((up, down),) = adapters_in(found).values()
    x = values.double()
    expected = x @ weight.t() + bias + (alpha / rank) * (x @ down.double().t()) @ up.double().t()
    torch.testing.assert_close(holder["a"](values).double(), expected, rtol=1e-5, atol=1e-5)


def test_at_first_nothing_changes_and_only_the_adapter_learns() -> None:
    torch.manual_seed(0)
    holder = nn.ModuleDict({"a": nn.Linear(6, 9)})
    values = torch.randn(5, 6)
    before = holder["a"](values)
    adapt(holder, "a.weight", rank=2, alpha=16.0, dropout=0.0)
    assert torch.equal(holder["a"](values), before)
    holder["a"](values).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in holder.named_parameters()}
    assert gradients["a.parametrizations.weight.original"] is None
    assert gradients["a.parametrizations.weight.0.up"] is not None and gradients["a.bias"] is not None
    assert [plain_name(name) for name in gradients] == ["a.bias", "a.weight", "a.weight", "a.weight"]


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "step-by-step"])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_a_cell_with_adapters_is_one_with_the_merged_matrices(kind: CellKind, fused: bool) -> None:
    torch.manual_seed(0)
    holder, plain = (nn.ModuleDict({"cell": make_cell(kind, 5, 8)}) for _ in range(2))
    for name in ("input_weight", "hidden_weight"):
        adapt(holder, f"cell.{name}", rank=3, alpha=6.0, dropout=0.0)
    draw(holder)
    plain.load_state_dict(merged(tensors(holder), scale=2.0))
    values, keep = torch.randn(3, 7, 5), torch.ones(3, 7, dtype=torch.bool)
    if fused:
        pairs = [(holder["cell"](values, keep), plain["cell"](values, keep))]
    else:
        with trace(holder), trace(plain):
            pairs = [(holder["cell"](values, keep), plain["cell"](values, keep))]
    for (outputs, carry), (expected, last) in pairs:
        assert torch.equal(outputs, expected) and all(map(torch.equal, carry, last))


@pytest.mark.parametrize("autocast", [False, True])
def test_merged_weights_compute_the_same_bits(autocast: bool) -> None:
    torch.manual_seed(0)
    holder, plain = (nn.ModuleDict({"a": MultiHeadAttention(8, 2, 4, dropout=0.0, rotary=True)}) for _ in range(2))
    for name in ("query", "value", "output"):
        adapt(holder, f"a.{name}.weight", rank=2, alpha=1.0, dropout=0.5)
    draw(holder)
    base = base_of(tensors(holder))
    whole = merged(tensors(holder), scale=0.5)
    plain.load_state_dict(whole)
    changed = {name for name in whole if not torch.equal(whole[name], base[name])}
    assert changed == {"a.query.weight", "a.value.weight", "a.output.weight"}
    values = torch.randn(2, 5, 8)
    mask = causal_mask(torch.ones(2, 5, dtype=torch.bool), torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.no_grad():
        assert torch.equal(holder.eval()["a"](values, values, mask), plain.eval()["a"](values, values, mask))


def test_probes_hear_a_model_with_adapters() -> None:
    holder: Any = nn.ModuleDict({"a": MultiHeadAttention(8, 2, 4, dropout=0.0)})
    adapt(holder, "a.query.weight", rank=2, alpha=1.0, dropout=0.0)
    draw(holder)
    assert all(isinstance(part, Probe) for name, part in holder.named_modules() if name.endswith(".q"))
    values = torch.randn(2, 5, 8)
    with trace(holder) as seen:
        holder["a"](values, values, None)
    (query,), (weights,) = seen["a.q"], seen["a.weights"]
    weight = merged(tensors(holder), scale=0.5)["a.query.weight"]
    expected = (values @ weight.t() + holder["a"].query.bias).unflatten(2, (2, 4)).transpose(1, 2)
    torch.testing.assert_close(query, expected)
    torch.testing.assert_close(weights.sum(3), torch.ones(2, 2, 5))


def test_dropout_leaves_out_features_of_the_input_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    holder = nn.ModuleDict({"a": nn.Linear(6, 4, bias=False)})
    adapt(holder, "a.weight", rank=2, alpha=2.0, dropout=0.5)
    draw(holder)
    whole, base = merged(tensors(holder), scale=1.0)["a.weight"], base_of(tensors(holder))["a.weight"]
    holder.train()
    drawn = torch.stack([holder["a"].weight.detach() - base for _ in range(4000)])
    dropped = (drawn == 0).all(1)
    assert 0.45 < dropped.float().mean() < 0.55
    torch.testing.assert_close(drawn.mean(0), whole - base, rtol=0.1, atol=0.1)
    torch.testing.assert_close(drawn[0][:, ~dropped[0]], 2 * (whole - base)[:, ~dropped[0]])
    holder.eval()
    assert torch.equal(holder["a"].weight, whole)
