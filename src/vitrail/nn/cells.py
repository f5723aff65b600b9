"""Recurrent cells written as their equations. Whole sequences run on torch's fused kernels where these are faster and no hook is set."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.nn.layers import MaskedBatchNorm
from vitrail.nn.options import CELL_SIZES, CellKind, CellNorm
from vitrail.nn.probe import Probe

Carry = tuple[Float[Tensor, "B D"], ...]
"""The state that a cell passes to the next time step: (h,) of an Elman network or GRU, (h, c) of an LSTM."""

_CLOSED = 1e4
"""Subtracted from a gate's input to close it, added to open it: sigmoid(±1e4) is 0 or 1 exactly."""


class Cell(nn.Module, ABC):
    """One recurrent layer in one direction.

    A time step gets the input's part of every gate, W·x + b, and the carry, to which it applies U·h + b'. The weights have the layout and
    the order of gates of torch's cells, so that its fused kernels can use them.

    Args:
        norm: "layer" normalises W·x and U·h by themselves, and the cell state of an LSTM before its output (Ba et al. 2016, section 3.1;
            over all gates at once). "batch" normalises W·x alone, over the real positions of the batch (Laurent et al. 2016, eq. 7).
    """

    gates: ClassVar[int]
    """G: the number of vectors of width D to which the input is projected."""
    parts: ClassVar[int]
    """Tensors in its carry."""

    def __init__(self, input_width: int, width: int, *, norm: CellNorm = "none") -> None:
        super().__init__()
        self.width = width
        rows = self.gates * width
        self.input_weight = nn.Parameter(torch.empty(rows, input_width))
        self.hidden_weight = nn.Parameter(torch.empty(rows, width))
        # A norm has its own bias.
        self.input_bias = nn.Parameter(torch.zeros(rows)) if norm == "none" else None
        self.hidden_bias = nn.Parameter(torch.zeros(rows)) if norm != "layer" else None
        self.layer_norms = nn.ModuleList(nn.LayerNorm(rows) for _ in range(2)) if norm == "layer" else None
        self.batch_norm = MaskedBatchNorm(rows) if norm == "batch" else None
        self.hidden = Probe()
        self._initialise()

    def _initialise(self) -> None:
        """Xavier-uniform W and orthogonal U, gate by gate (Saxe et al. 2014); zero biases."""
        for weight in self.input_weight.chunk(self.gates):
            nn.init.xavier_uniform_(weight)
        for weight in self.hidden_weight.chunk(self.gates):
            nn.init.orthogonal_(weight)

    @abstractmethod
    def step(self, projected: Float[Tensor, "B GD"], carry: Carry) -> Carry:
        """One time step: the equations of the cell."""

    def project(self, values: Float[Tensor, "B T I"], keep: Bool[Tensor, "B T"]) -> Float[Tensor, "B T GD"]:
        """The input's part of every gate, for all time steps at once; `keep` is False at padding."""
        projected = F.linear(values, self.input_weight, self.input_bias)
        if self.layer_norms is not None:
            return self.layer_norms[0](projected)
        return projected if self.batch_norm is None else self.batch_norm(projected, keep)

    def recur(self, hidden: Float[Tensor, "B D"]) -> Float[Tensor, "B GD"]:
        """The last hidden state's part of every gate."""
        projected = F.linear(hidden, self.hidden_weight, self.hidden_bias)
        return projected if self.layer_norms is None else self.layer_norms[1](projected)

    def start(self, rows: int, like: Tensor) -> Carry:
        """The carry before the first step: zeros."""
        return tuple(like.new_zeros(rows, self.width) for _ in range(self.parts))

    def forward(
        self, values: Float[Tensor, "B T I"], keep: Bool[Tensor, "B T"], carry: Carry | None = None
    ) -> tuple[Float[Tensor, "B T D"], Carry]:
        """Run over a sequence. Padding must come last in a row and does not change the carry.

        Returns: the hidden state after every step (values at padding have no meaning), and the carry after each row's last real step.
        """
        carry = self.start(len(values), values) if carry is None else carry
        if self._fused_is_faster(values):
            return self._run_fused(values, keep, carry)
        steps: list[Tensor] = []
        unpadded: list[bool] = keep.all(0).tolist()
        for time, projected in enumerate(self.project(values, keep).unbind(1)):
            after = self.step(projected, carry)
            carry = after if unpadded[time] else tuple(map(torch.where, (keep[:, time, None],) * self.parts, after, carry))
            steps.append(carry[0])
        return torch.stack(steps, dim=1), carry

    def _fused_is_faster(self, values: Tensor) -> bool:
        """Measured (decision 006): on a CPU torch's LSTM is, but neither its GRU nor its Elman network; on a GPU all are."""
        plain = self.input_bias is not None and values.shape[1] > 1 and not self._is_hooked()
        return plain and (values.device.type != "cpu" or self._fused_on_cpu)

    _fused_on_cpu: ClassVar[bool] = False

    def _is_hooked(self) -> bool:
        return any(part.is_hooked for part in self.children() if isinstance(part, Probe))

    def _run_fused(self, values: Tensor, keep: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """The same by one kernel, which ignores padding; the last real state of each row is selected afterwards."""
        outputs, _ = self._kernel(values, self.input_weight, carry)
        return outputs, (self._last(outputs, keep, carry[0]),)

    def _last(self, outputs: Tensor, keep: Tensor, before: Tensor) -> Tensor:
        """The hidden state after each row's last real position; the initial one where a row has none."""
        lengths = keep.sum(1)[:, None]
        at = (lengths - 1).clamp(min=0)[:, :, None].expand(-1, 1, outputs.shape[2])
        return torch.where(lengths > 0, outputs.gather(1, at).squeeze(1), before.to(outputs.dtype))

    @abstractmethod
    def _kernel(self, values: Tensor, input_weight: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """torch's kernel for this cell."""

    def _weights(self, input_weight: Tensor) -> tuple[Tensor, ...]:
        assert self.input_bias is not None and self.hidden_bias is not None
        return input_weight, self.hidden_weight, self.input_bias, self.hidden_bias


# Of torch.lstm, torch.gru, torch.rnn_tanh: has biases, layers, dropout between them, training, bidirectional, batch first.
_ONE_LAYER = (True, 1, 0.0, True, False, True)


class ElmanCell(Cell):
    """h' = tanh(W·x + b + U·h + b'). Source: Elman 1990; tanh as is usual."""

    gates, parts = CELL_SIZES["rnn"]

    def step(self, projected: Float[Tensor, "B GD"], carry: Carry) -> Carry:
        """One time step."""
        (hidden,) = carry
        return (self.hidden((projected + self.recur(hidden)).tanh()),)

    def _kernel(self, values: Tensor, input_weight: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        outputs, last = torch.rnn_tanh(values, carry[0][None], self._weights(input_weight), *_ONE_LAYER)
        return outputs, (last[0],)


class GRUCell(Cell):
    """Gated recurrent unit: gate z mixes the old state with a candidate; gate r scales the old state in the candidate.

    r = σ(W_r·x + U_r·h);  z = σ(W_z·x + U_z·h);  n = tanh(W_n·x + r * (U_n·h + b'_n));  h' = (1 - z) * n + z * h   (biases not shown)

    Source: Cho et al. 2014. Differs from it: r is applied after U_n, as in torch and cuDNN, and z keeps the old state rather than the new.
    """

    gates, parts = CELL_SIZES["gru"]

    def __init__(self, input_width: int, width: int, *, norm: CellNorm = "none") -> None:
        super().__init__(input_width, width, norm=norm)
        self.reset_gate, self.update_gate, self.candidate = Probe(), Probe(), Probe()

    def step(self, projected: Float[Tensor, "B GD"], carry: Carry) -> Carry:
        """One time step."""
        (hidden,) = carry
        input_r, input_z, input_n = projected.chunk(3, 1)
        hidden_r, hidden_z, hidden_n = self.recur(hidden).chunk(3, 1)
        reset = self.reset_gate((input_r + hidden_r).sigmoid())
        update = self.update_gate((input_z + hidden_z).sigmoid())
        candidate = self.candidate((input_n + reset * hidden_n).tanh())
        return (self.hidden(candidate + update * (hidden - candidate)),)

    def _kernel(self, values: Tensor, input_weight: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        outputs, last = torch.gru(values, carry[0][None], self._weights(input_weight), *_ONE_LAYER)
        return outputs, (last[0],)


class LSTMCell(Cell):
    """Long short-term memory: gates write, erase and read a cell state c; gradients flow through time by its sum.

    i, f, o = σ(W·x + U·h);  g = tanh(W_g·x + U_g·h);  c' = f * c + i * g;  h' = o * tanh(c')   (biases not shown)

    Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000, whose bias starts at `forget_bias`
    (1: Jozefowicz et al. 2015), so that a new cell keeps its state.
    """

    gates, parts = CELL_SIZES["lstm"]
    _fused_on_cpu = True

    def __init__(self, input_width: int, width: int, *, norm: CellNorm = "none", forget_bias: float = 1.0) -> None:
        super().__init__(input_width, width, norm=norm)
        self.cell_norm = nn.LayerNorm(width) if norm == "layer" else None
        self.input_gate, self.forget_gate, self.output_gate = Probe(), Probe(), Probe()
        self.candidate, self.cell = Probe(), Probe()
        bias = self.hidden_bias if self.layer_norms is None else self.layer_norms[1].get_parameter("bias")
        assert bias is not None
        with torch.no_grad():
            bias[width : 2 * width] = forget_bias

    def step(self, projected: Float[Tensor, "B GD"], carry: Carry) -> Carry:
        """One time step."""
        hidden, cell = carry
        input_gate, forget_gate, candidate, output_gate = (projected + self.recur(hidden)).chunk(4, 1)
        kept = self.forget_gate(forget_gate.sigmoid()) * cell
        cell = self.cell(kept + self.input_gate(input_gate.sigmoid()) * self.candidate(candidate.tanh()))
        shown = cell if self.cell_norm is None else self.cell_norm(cell)
        return self.hidden(self.output_gate(output_gate.sigmoid()) * shown.tanh()), cell

    def _kernel(self, values: Tensor, input_weight: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        before = (carry[0][None], carry[1][None])
        outputs, hidden, cell = torch.lstm(values, before, self._weights(input_weight), *_ONE_LAYER)
        return outputs, (hidden[0], cell[0])

    def _run_fused(self, values: Tensor, keep: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """The kernel returns only the cell state after the last column, so padding must not change it: one more input, 1 at padding, closes
        the input gate and opens the forget gate. It has no measurable cost; packed sequences cost x1.6."""
        shut = torch.zeros_like(self.input_weight[:, :1])
        shut[: self.width] = -_CLOSED
        shut[self.width : 2 * self.width] = _CLOSED
        padding = (~keep).to(values.dtype)[:, :, None]
        outputs, after = self._kernel(torch.cat([values, padding], dim=2), torch.cat([self.input_weight, shut], dim=1), carry)
        return outputs, (self._last(outputs, keep, carry[0]), after[1])


class SSRU(nn.Module):
    """Simpler simple recurrent unit, in place of a decoder's self-attention: what it remembers has one size, however long the text is.

    f_t = σ(W_f·x_t + b_f);  c_t = f_t * c_{t-1} + (1 - f_t) * W·x_t;  h_t = ReLU(c_t)

    Source: Kim et al. 2019, From Research to Production and Back. No product reads the state, so that those of all time steps are one; what
    is left of the recurrence is one operation a step.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.candidate = nn.Linear(width, width, bias=False)
        self.forget = nn.Linear(width, width)
        self.forget_gate, self.cell, self.hidden = Probe(), Probe(), Probe()

    def start(self, rows: int, like: Tensor) -> Float[Tensor, "B D"]:
        """c before the first step: zeros."""
        return like.new_zeros(rows, self.width)

    def forward(
        self, values: Float[Tensor, "B T D"], cell: Float[Tensor, "B D"] | None = None
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B D"]]:
        """Run over a sequence, in which padding comes last. Returns: h after every step, and the last c.

        Args: cell: c before; None: zeros.
        """
        candidate, gate = self.candidate(values), self.forget_gate(self.forget(values).sigmoid())
        cell = self.start(len(values), candidate) if cell is None else cell.to(candidate.dtype)
        cells: list[Tensor] = []
        for new, kept in zip(candidate.unbind(1), gate.unbind(1), strict=True):
            cell = self.cell(torch.lerp(new, cell, kept))
            cells.append(cell)
        return self.hidden(torch.stack(cells, dim=1).relu()), cell


CELLS: dict[CellKind, type[Cell]] = {"rnn": ElmanCell, "gru": GRUCell, "lstm": LSTMCell}
"""The class of each kind of cell."""


def make_cell(kind: CellKind, input_width: int, width: int, *, norm: CellNorm = "none", forget_bias: float = 1.0) -> Cell:
    """The cell that a configuration names."""
    match kind:
        case "rnn":
            return ElmanCell(input_width, width, norm=norm)
        case "gru":
            return GRUCell(input_width, width, norm=norm)
        case "lstm":
            return LSTMCell(input_width, width, norm=norm, forget_bias=forget_bias)
