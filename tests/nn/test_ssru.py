"""The SSRU against its equations in double precision, written without torch."""

import numpy as np
import pytest
import torch

from vitrail.nn.cells import SSRU
from vitrail.nn.probe import listen, trace


def reference(cell: SSRU, values: torch.Tensor, before: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    weight, gate, bias = (one.detach().double().numpy() for one in (cell.candidate.weight, cell.forget.weight, cell.forget.bias))
    state, hidden = before.double().numpy(), []
    for x in np.swapaxes(values.double().numpy(), 0, 1):
        forget = 1 / (1 + np.exp(-(x @ gate.T + bias)))
        state = forget * state + (1 - forget) * (x @ weight.T)
        hidden.append(np.maximum(state, 0))
    return np.stack(hidden, axis=1), state


def made(width: int = 12) -> SSRU:
    torch.manual_seed(4)
    cell = SSRU(width)
    with torch.no_grad():
        for one in cell.parameters():
            one.copy_(torch.randn_like(one))
    return cell


@torch.no_grad()
def test_it_is_its_equations() -> None:
    cell = made()
    values, before = torch.randn(3, 9, 12), torch.randn(3, 12)
    hidden, last = cell(values, before)
    expected = reference(cell, values, before)
    np.testing.assert_allclose(hidden.numpy(), expected[0], atol=2e-6)
    np.testing.assert_allclose(last.numpy(), expected[1], atol=2e-6)
    np.testing.assert_allclose(cell(values)[0].numpy(), reference(cell, values, torch.zeros(3, 12))[0], atol=2e-6)


@torch.no_grad()
def test_step_by_step_it_computes_the_same_bits() -> None:
    cell = made()
    values, state = torch.randn(3, 9, 12), torch.zeros(3, 12)
    whole = cell(values)[0]
    for time in range(9):
        hidden, state = cell(values[:, time : time + 1], state)
        torch.testing.assert_close(hidden[:, 0], whole[:, time], atol=1e-6, rtol=0)


def test_gradients_are_those_of_the_equations() -> None:
    cell = made(5).double()
    values = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cell(x)[0], (values,))


@torch.no_grad()
def test_what_it_remembers_is_seen_and_can_be_changed() -> None:
    cell = made()
    values = torch.randn(2, 5, 12)
    with trace(cell) as seen:
        hidden, last = cell(values)
    assert len(seen["cell"]) == 5 and torch.equal(seen["cell"][-1], last)
    assert torch.equal(seen["hidden"][0], hidden) and seen["forget_gate"][0].shape == values.shape
    with listen(cell, [("cell", lambda output, inputs: torch.zeros_like(output))]):
        emptied = cell(values)[0]
    assert not emptied.any()
    with listen(cell, [("forget_gate", lambda output, inputs: torch.zeros_like(output))]):
        forgetful = cell(values)[0]
    assert forgetful.numpy() == pytest.approx(cell.candidate(values).relu().numpy(), abs=1e-6)
