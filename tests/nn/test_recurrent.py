"""Recurrent cells against torch's own and against their equations in float64; padding, carries, norms and Probes."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vitrail.nn.cells import Carry, Cell, CellKind, CellNorm, LSTMCell, make_cell
from vitrail.nn.probe import trace

KINDS: tuple[CellKind, ...] = ("rnn", "gru", "lstm")
NORMS: tuple[CellNorm, ...] = ("none", "layer", "batch")
_TORCHS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
every_kind = pytest.mark.parametrize("kind", KINDS)
ROWS, TIMES, INPUT, WIDTH = 4, 7, 5, 6


def cell_and_torchs(kind: CellKind, *, dtype: torch.dtype = torch.float64) -> tuple[Cell, nn.RNNBase]:
    torch.manual_seed(1)
    ours = make_cell(kind, INPUT, WIDTH).to(dtype)
    theirs = _TORCHS[kind](INPUT, WIDTH, batch_first=True).to(dtype)
    with torch.no_grad():
        for mine, name in zip(weights(ours), ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"), strict=True):
            mine.copy_(getattr(theirs, name))
    return ours, theirs


def weights(cell: Cell) -> list[Tensor]:
    assert cell.input_bias is not None and cell.hidden_bias is not None
    return [cell.input_weight, cell.hidden_weight, cell.input_bias, cell.hidden_bias]


def sequence(*, lengths: list[int] | None = None, dtype: torch.dtype = torch.float64, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Values, at padding too, and which of them are real."""
    values = torch.randn(ROWS, TIMES, INPUT, generator=torch.Generator().manual_seed(seed)).to(dtype)
    lengths = lengths or [TIMES] * ROWS
    return values, torch.arange(TIMES) < torch.tensor(lengths)[:, None]


def by_steps(cell: Cell, values: Tensor, keep: Tensor, carry: Carry | None = None) -> tuple[Tensor, Carry]:
    """The explicit path: it is taken while a Probe is heard."""
    with trace(cell):
        return cell(values, keep, carry)


@every_kind
@pytest.mark.parametrize("run", [by_steps, Cell.__call__], ids=["steps", "fused"])
def test_forward_and_gradient_are_torchs(kind: CellKind, run: Callable[[Cell, Tensor, Tensor], tuple[Tensor, Carry]]) -> None:
    ours, theirs = cell_and_torchs(kind)
    values, keep = sequence()
    mine, other = (values.clone().requires_grad_() for _ in range(2))
    found, carry = run(ours, mine, keep)
    expected, last = theirs(other)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    for ours_last, theirs_last in zip(carry, last if isinstance(last, tuple) else (last,), strict=True):
        torch.testing.assert_close(ours_last, theirs_last[0], atol=1e-12, rtol=1e-12)
    pull = torch.randn_like(expected)
    (found * pull).sum().backward()
    (expected * pull).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, atol=1e-10, rtol=1e-10)
    for weight, name in zip(weights(ours), ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"), strict=True):
        torch.testing.assert_close(weight.grad, getattr(theirs, name).grad, atol=1e-10, rtol=1e-10)


@every_kind
def test_in_float32_too(kind: CellKind) -> None:
    """Where the fused kernel of an LSTM is oneDNN's."""
    ours, theirs = cell_and_torchs(kind, dtype=torch.float32)
    values, keep = sequence(dtype=torch.float32)
    for run in (by_steps, Cell.__call__):
        torch.testing.assert_close(run(ours, values, keep)[0], theirs(values)[0], atol=1e-6, rtol=1e-6)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@settings(max_examples=15)
@given(lengths=st.lists(st.integers(0, TIMES), min_size=ROWS, max_size=ROWS), started=st.booleans())
def test_padding_is_as_if_it_were_not_there(kind: CellKind, dtype: torch.dtype, lengths: list[int], started: bool) -> None:
    """Each row of a padded batch, by either path, is what it is alone; a row without a real position keeps its carry."""
    cell, _ = cell_and_torchs(kind, dtype=dtype)
    values, keep = sequence(lengths=lengths, dtype=dtype)
    first = tuple(torch.randn(ROWS, WIDTH, dtype=dtype) if started else torch.zeros(ROWS, WIDTH, dtype=dtype) for _ in range(cell.parts))
    atol = 1e-6 if dtype is torch.float32 else 1e-12
    for run in (by_steps, Cell.__call__):
        outputs, carry = run(cell, values, keep, first)
        for row, length in enumerate(lengths):
            mine = tuple(part[row : row + 1] for part in first)
            if length:
                alone, mine = by_steps(cell, values[row : row + 1, :length], keep[row : row + 1, :length], mine)
                torch.testing.assert_close(outputs[row : row + 1, :length], alone, atol=atol, rtol=1e-6)
            for part, expected in zip(carry, mine, strict=True):
                torch.testing.assert_close(part[row : row + 1], expected, atol=atol, rtol=1e-6)


@every_kind
def test_gradients_through_padding_are_those_without_it(kind: CellKind) -> None:
    """The last carry of a padded batch pulls at the weights as the rows by themselves do, through the LSTM's shut gates as well."""
    lengths = [7, 3, 1, 5]
    found: list[list[Tensor]] = []
    for padded in (True, False):
        cell, _ = cell_and_torchs(kind)
        values, keep = sequence(lengths=lengths)
        if padded:
            sum(part.sin().sum() for part in cell(values, keep)[1]).backward()  # pyright: ignore[reportAttributeAccessIssue]
        else:
            for row, length in enumerate(lengths):
                alone = cell(values[row : row + 1, :length], keep[row : row + 1, :length])[1]
                sum(part.sin().sum() for part in alone).backward()  # pyright: ignore[reportAttributeAccessIssue]
        found.append([weight.grad for weight in weights(cell) if weight.grad is not None])
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-10, rtol=1e-10)


@every_kind
@pytest.mark.parametrize("norm", NORMS)
def test_a_sequence_in_two_parts_is_the_whole(kind: CellKind, norm: CellNorm) -> None:
    cell = make_cell(kind, INPUT, WIDTH, norm=norm).double().eval()
    values, keep = sequence()
    whole, last = cell(values, keep)
    first, carry = cell(values[:, :3], keep[:, :3])
    second, carry = cell(values[:, 3:], keep[:, 3:], carry)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, atol=1e-12, rtol=1e-12)
    for part, expected in zip(carry, last, strict=True):
        torch.testing.assert_close(part, expected, atol=1e-12, rtol=1e-12)


def test_the_forget_gate_begins_open() -> None:
    plain, biased = (LSTMCell(INPUT, WIDTH, forget_bias=bias) for bias in (0.0, 1.0))
    assert plain.hidden_bias is not None and biased.hidden_bias is not None
    added = (biased.hidden_bias - plain.hidden_bias).tolist()
    assert added == [0.0] * WIDTH + [1.0] * WIDTH + [0.0] * (2 * WIDTH)
    normalised = LSTMCell(INPUT, WIDTH, norm="layer", forget_bias=2.0)
    values, keep = sequence(dtype=torch.float32)
    with torch.no_grad(), trace(normalised) as seen:
        normalised(values, keep)
    assert seen["forget_gate"][0].mean() > 0.7


def test_layer_normalised_lstm_is_its_equations() -> None:
    """Ba et al. 2016, equations 20 to 22, in float64, term by term."""
    torch.manual_seed(4)
    cell = LSTMCell(INPUT, WIDTH, norm="layer").double()
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    values, keep = sequence()
    assert cell.layer_norms is not None and cell.cell_norm is not None

    def normal(values: Tensor, norm: nn.Module) -> Tensor:
        centred = values - values.mean(1, keepdim=True)
        return centred / (centred.pow(2).mean(1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias  # pyright: ignore

    hidden = cells = torch.zeros(ROWS, WIDTH, dtype=torch.float64)
    for time in range(TIMES):
        summed = normal(values[:, time] @ cell.input_weight.T, cell.layer_norms[0])
        summed = summed + normal(hidden @ cell.hidden_weight.T, cell.layer_norms[1])
        i, f, g, o = summed.chunk(4, dim=1)
        cells = torch.sigmoid(f) * cells + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(normal(cells, cell.cell_norm))
    found, carry = cell(values, keep)
    torch.testing.assert_close(found[:, -1], hidden, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(carry[1], cells, atol=1e-12, rtol=1e-12)


@every_kind
def test_batch_norm_leaves_padding_out(kind: CellKind) -> None:
    """What stands at padding changes neither the outputs nor the running statistics."""
    found: list[tuple[Tensor, Tensor]] = []
    for filler in (0.0, 100.0):
        torch.manual_seed(5)
        cell = make_cell(kind, INPUT, WIDTH, norm="batch").train()
        values, keep = sequence(lengths=[7, 2, 4, 6], dtype=torch.float32)
        outputs, _ = cell(values.masked_fill(~keep[:, :, None], filler), keep)
        assert cell.batch_norm is not None
        found.append((outputs[keep], cell.batch_norm.running_mean.clone()))
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-6)


@every_kind
def test_probes_hear_every_step_and_change_nothing(kind: CellKind) -> None:
    names = {
        "rnn": {"hidden"},
        "gru": {"reset_gate", "update_gate", "candidate", "hidden"},
        "lstm": {"input_gate", "forget_gate", "output_gate", "candidate", "cell", "hidden"},
    }
    cell, _ = cell_and_torchs(kind)
    values, keep = sequence(lengths=[7, 3, 1, 5])
    silent, _ = cell(values, keep)
    with trace(cell) as seen:
        heard, _ = cell(values, keep)
    assert seen.keys() == names[kind] and all(len(steps) == TIMES for steps in seen.values())
    torch.testing.assert_close(heard[keep], silent[keep], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(torch.stack(seen["hidden"], dim=1)[keep], heard[keep], atol=0, rtol=0)
    for name in seen.keys() & {"reset_gate", "update_gate", "input_gate", "forget_gate", "output_gate"}:
        assert all(((gate > 0) & (gate < 1)).all() for gate in seen[name])


@every_kind
def test_a_stack_is_torchs_stack(kind: CellKind) -> None:
    torch.manual_seed(6)
    theirs = _TORCHS[kind](INPUT, WIDTH, num_layers=3, batch_first=True).double()
    ours = [make_cell(kind, WIDTH if layer else INPUT, WIDTH).double() for layer in range(3)]
    with torch.no_grad():
        for layer, cell in enumerate(ours):
            for mine, name in zip(weights(cell), ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), strict=True):
                mine.copy_(getattr(theirs, f"{name}_l{layer}"))
    values, keep = sequence()
    expected, last = theirs(values)
    found, carries = values, list[Carry]()
    for cell in ours:
        found, carry = cell(found, keep)
        carries.append(carry)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    hidden = last[0] if isinstance(last, tuple) else last
    for layer, carry in enumerate(carries):
        torch.testing.assert_close(carry[0], hidden[layer], atol=1e-12, rtol=1e-12)


@every_kind
def test_recurrent_matrices_begin_orthogonal(kind: CellKind) -> None:
    cell = make_cell(kind, INPUT, WIDTH)
    for block in cell.hidden_weight.detach().chunk(cell.gates):
        torch.testing.assert_close(block @ block.T, torch.eye(WIDTH), atol=1e-5, rtol=0)
