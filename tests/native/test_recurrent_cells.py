"""One compiled step of each recurrent cell against torch's own cells, and layer norm against torch's."""

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from vitrail.native.arrays import Floats
from vitrail.native.compiled import compiled
from vitrail.native.recurrent.architecture import GRU, LSTM, RNN
from vitrail.native.recurrent.cells import Norm, Row, advance, normalise
from vitrail.native.recurrent.memory import Carry, Gates
from vitrail.native.references import refer

WIDTH = 48
CELLS = {RNN: torch.nn.RNNCell, GRU: torch.nn.GRUCell, LSTM: torch.nn.LSTMCell}
NO_NORM, NOTHING = Norm(0, 0, 0), np.zeros(0, np.float32)


@compiled
def _advance(kind: int, norms: Floats, norm: Norm, gates: Gates, row: Row, carry: Carry) -> None:
    advance(kind, norms, norm, refer(gates), row, refer(carry))


@compiled
def _normalise(norms: Floats, norm: Norm, x: Floats, begin: int) -> None:
    normalise(norms, norm, x, begin)


@pytest.mark.parametrize("scale", [1, 30])
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_is_that_of_torch(kind: int, scale: float) -> None:
    """Also where gates are quite open or closed. The row stands among others, which do not change."""
    torch.manual_seed(kind)
    cell, x, hidden, state = CELLS[kind](20, WIDTH), scale * torch.randn(1, 20), torch.rand(1, WIDTH) - 0.5, torch.randn(1, WIDTH)
    with torch.no_grad():
        found = cell(x, (hidden, state)) if kind == LSTM else (cell(x, hidden), state)
        inputs, recurrent = x @ cell.weight_ih.T + cell.bias_ih, hidden @ cell.weight_hh.T + cell.bias_hh

    def third_row(values: torch.Tensor) -> Floats:
        rows = np.full((3, values.shape[1]), 7, np.float32)
        rows[2] = values.numpy()
        return rows.reshape(-1)

    gates, carry = Gates(third_row(inputs), third_row(recurrent)), Carry(third_row(hidden), third_row(state))
    _advance(kind, NOTHING, NO_NORM, gates, Row(2 * inputs.shape[1], 2 * inputs.shape[1], 2 * WIDTH, WIDTH), carry)
    for ours, theirs in zip(carry, found, strict=True):
        np.testing.assert_allclose(ours[2 * WIDTH :], theirs.numpy()[0], atol=2e-6)
        assert (ours[: 2 * WIDTH] == 7).all()


def test_the_norm_is_that_of_torch() -> None:
    """Over the numbers that are not padding, wherever padding is."""
    torch.manual_seed(0)
    marks = np.ones(64, np.float32)
    marks[25:32] = marks[57:] = 0
    norm = torch.nn.LayerNorm(50)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(50) * 3 + 1
    wide = np.zeros((3, 64), np.float32)
    wide[0, marks == 1], wide[1, marks == 1], wide[2, marks == 1] = norm.weight.detach(), norm.bias.detach(), x
    row = wide[2].copy()
    _normalise(np.concatenate([wide[0], wide[1], marks]), Norm(0, 64, 50), row, 0)
    np.testing.assert_allclose(row[marks == 1], norm(x).detach().numpy(), atol=2e-6)
    assert (row[marks == 0] == 0).all()
