"""Optimizers, learning-rate schedules as pure functions, clipping by norm and by value, weight penalties, weight averages."""

import math
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from vitrail.config import Config, split_share
from vitrail.models.base import Model
from vitrail.models.places import distances

_TINY = 1e-6
"""Added to a norm that is divided by, as torch.nn.utils.clip_grads_with_norm_ does."""
LAYER_SHARE = "layer_share"
"""Of a group of parameters: its share of the learning rate."""


class OptimizerConfig(Config):
    """The optimizer: how gradients change weights."""

    kind: Literal["adamw", "sgd", "muon", "adagrad"] = "adamw"
    """adamw; sgd with momentum; muon for the matrices inside blocks, with adamw for everything else; or adagrad, whose steps take only the
    rows of large tables that a batch reads."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Rate at the top of the schedule."""
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the mean gradient (adamw), or momentum (sgd)."""
    beta_2: float = Field(default=0.98, ge=0, lt=1)
    """Decay of the mean squared gradient (adamw)."""
    epsilon: float = Field(default=1e-9, gt=0)
    """Added to the denominator of adamw and adagrad."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2: each step subtracts rate * weight_decay * w from every matrix w, apart from the gradient (decoupled; sgd and adagrad: added to
    the gradient)."""
    l1: float = Field(default=0.0, ge=0)
    """L1 penalty: l1 * sign(w) is added to every matrix's gradient, after clipping."""
    l2_start: float = Field(default=0.0, ge=0)
    """L2 to the weights that the training started from (`init`): l2_start * (w - w0) is added to the gradient of every trained weight w,
    after clipping, so that less is forgotten. 0: off."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Layers further from the output learn more slowly: a layer's rate is this share of the rate of the next one. 1: all learn alike."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Largest L2 norm of the whole gradient; a longer one is scaled down to it. 0: off."""
    clip_value: float = Field(default=0.0, ge=0)
    """Largest size of a single gradient element, cut after clipping by norm. 0: off."""


class Warmup(NamedTuple):
    """When a warm-up ends: after so many steps, or after a share of the training, whichever comes first."""

    steps: int | None
    share: float | None

    @classmethod
    @cache
    def parse(cls, value: int | str) -> "Warmup":
        """Read `600`, `"10%"` or `"600 steps, at most 10%"`. Raises ValueError for anything else."""
        if isinstance(value, int):
            value = str(value)
        length, share = split_share(value)
        match = re.fullmatch(r"\s*(?:(\d+)(?:\s*steps?)?|(\d+(?:\.\d+)?)\s*%)\s*", length)
        if match is None or (match[2] and share is not None):
            raise ValueError(f"{value!r} is not a warm-up; write for example 600, '10%' or '600 steps, at most 10%'")
        if match[2] and not 0 < float(match[2]) <= 100:
            raise ValueError(f"a warm-up of {match[2]}% of the training; it can be more than 0 and up to 100%")
        if match[1] and int(match[1]) < 1:
            raise ValueError("a warm-up of 0 steps; it has at least 1")
        return cls(None, float(match[2]) / 100) if match[2] else cls(int(match[1]), share)

    def written(self) -> int | str:
        """The inverse of `parse`: a plain number where there are only steps."""
        if self.share is None:
            return self.steps or 1
        share = f"{100 * self.share:g}%"
        return share if self.steps is None else f"{self.steps} steps, at most {share}"

    def within(self, steps: float) -> float:
        """Its length in a training of this many steps."""
        return min(math.inf if self.steps is None else self.steps, math.inf if self.share is None else self.share * steps)

    def gone(self, *, steps: int, progress: float) -> float:
        """The completed share of the warm-up after this many steps, which are this share of the training; 1 or more: all of it."""
        by_steps = 0.0 if self.steps is None else steps / self.steps
        return by_steps if self.share is None else max(by_steps, progress / self.share)

    def past(self, *, steps: int, progress: float) -> float:
        """1 / `gone`, as inverse_sqrt has it."""
        by_steps = math.inf if self.steps is None else self.steps / steps
        return by_steps if self.share is None or progress == 0 else min(by_steps, self.share / progress)


def _written(value: int | str) -> int | str:
    return Warmup.parse(value).written()


class ScheduleConfig(Config):
    """The learning-rate schedule, as a share of the optimizer's rate."""

    kind: Literal["inverse_sqrt", "cosine", "linear", "constant", "plateau"] = "linear"
    """After the warm-up: sqrt(warmup / step); cosine or straight line down to `floor` at the end of training; constant;
    or halved whenever the dev score (`train.select`) has not improved for `patience` validations (plateau)."""
    warmup: Annotated[int | str, AfterValidator(_written)] = "300 steps, at most 10%"
    """Length of the linear rise of the rate from 0: steps (600), a share of the training ("10%"), or the shorter of both
    ("600 steps, at most 10%")."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """Final share of the rate of cosine and linear, and the lowest of plateau."""
    patience: int = Field(default=3, ge=1)
    """Validations without improvement before plateau halves the rate."""


def rate(config: ScheduleConfig, *, step: int, progress: float, after: float | None = None, plateau_halvings: int = 0) -> float:
    """The share of the learning rate for update `step` (from 0), with `progress` (0 to 1) of the training done. A pure function.

    Source: warm-up and inverse square root: Vaswani et al. 2017, section 5.3; cosine: Loshchilov and Hutter 2017.
    Args:   after: the progress once this update is done, for a warm-up given as a share of the training; None where it is unknown, as in a
    training of minutes: `progress` is used.
    """
    warmup = Warmup.parse(config.warmup)
    reached = progress if after is None else after
    warm = min(1.0, warmup.gone(steps=step + 1, progress=reached))
    match config.kind:
        case "inverse_sqrt":
            return min(warm, math.sqrt(warmup.past(steps=step + 1, progress=reached)))
        case "cosine":
            return warm * (config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * progress)))
        case "linear":
            return warm * (config.floor + (1 - config.floor) * (1 - progress))
        case "constant":
            return warm
        case "plateau":
            return warm * max(config.floor, 0.5**plateau_halvings)


def rewarmed(config: ScheduleConfig, *, step: int, progress: float) -> float:
    """What the rate is multiplied by after a training was made longer: a schedule that had come down to its end warms up once more.

    Args: step: from 0, counted from there. progress: the share of the added part that is done after this update.
    """
    return min(1.0, Warmup.parse(config.warmup).gone(steps=step + 1, progress=progress)) if config.kind in ("cosine", "linear") else 1.0


class ClippedNorm(NamedTuple):
    """The L2 norm of the whole gradient, before and after clipping."""

    before: float
    after: float


class WeightNorms(NamedTuple):
    """The size of the penalised weights: every matrix."""

    norm: float
    """L2 norm of all matrices together."""
    l1_penalty: float
    """l1 · Σ|w|: the L1 penalty, in nats per token."""
    l2_penalty: float
    """weight_decay / 2 · Σw²: the L2 penalty; decoupled weight decay follows its gradient apart from the loss."""
    l2_start_penalty: float | None = None
    """l2_start / 2 · Σ(w - w0)²: the L2 penalty of the distance from the start, in nats per token; None: off."""


class Optimizer:
    """The optimizers of one training, behind one step. Frozen parameters are left out."""

    def __init__(self, model: Model, config: OptimizerConfig) -> None:
        self.config = config
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.matrices = [parameter for parameter in self.parameters if parameter.ndim >= 2]
        # Muon gives all directions of a matrix equal strength: right for maps between spaces, wrong for tables of word vectors.
        inner = model.inner_matrices() if config.kind == "muon" else []
        inner = [matrix for matrix in inner if matrix.requires_grad]
        away = distances(name for name, _ in model.named_parameters()) if config.layer_decay < 1 else {}
        shares = {id(p): config.layer_decay ** away.get(name, 0) for name, p in model.named_parameters()}
        self.optimizers = self._build(inner, shares)
        # What adds to every row at each step, or keeps moments of every row, needs the whole gradient.
        by_rows = config.kind == "adagrad" and config.weight_decay == config.l1 == config.l2_start == 0
        self._tables = model.lookup_tables() if by_rows else []
        self._start: list[Tensor] = []

    def stay_near(self, start: Mapping[int, Tensor]) -> None:
        """Penalise the distance of each weight from where it started (`l2_start`). Args: start: by the memory of each parameter."""
        self._start = [start[parameter.data_ptr()] for parameter in self.parameters]

    def _build(self, inner: Sequence[Tensor], shares: Mapping[int, float]) -> list[torch.optim.Optimizer]:
        config = self.config
        chosen = {id(p) for p in inner}
        decayed = [p for p in self.matrices if id(p) not in chosen]
        plain = [p for p in self.parameters if id(p) not in chosen and p.ndim < 2]
        groups = [*self._groups(decayed, shares, decay=config.weight_decay), *self._groups(plain, shares, decay=0.0)]
        if config.kind == "sgd":
            return [torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.beta_1)]
        if config.kind == "adagrad":
            return [torch.optim.Adagrad(groups, lr=config.learning_rate, eps=config.epsilon)]
        betas = (config.beta_1, config.beta_2)
        adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, eps=config.epsilon, fused=True)
        if not inner:
            return [adamw]
        # match_rms_adamw scales its steps to the size of adamw's, so that one learning rate serves both.
        groups, decay = self._groups(inner, shares, decay=config.weight_decay), config.weight_decay
        return [adamw, torch.optim.Muon(groups, lr=config.learning_rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")]

    def _groups(self, parameters: Sequence[Tensor], shares: Mapping[int, float], *, decay: float) -> list[dict[str, Any]]:
        """Parameters in groups, each with its weight decay and, where layers learn at different rates, its share of the rate."""
        if self.config.layer_decay == 1:
            return [{"params": list(parameters), "weight_decay": decay}]
        by_share: dict[float, list[Tensor]] = {}
        for parameter in parameters:
            by_share.setdefault(shares[id(parameter)], []).append(parameter)
        return [{"params": by_share[share], "weight_decay": decay, LAYER_SHARE: share} for share in sorted(by_share, reverse=True)]

    @contextmanager
    def by_rows(self, *, wanted: bool) -> Generator[None]:
        """Let large tables have gradients of the rows alone that are read inside, where the optimizer takes these. Args: wanted: or not."""
        tables = self._tables if wanted else []
        for table in tables:
            table.sparse = True
        try:
            yield
        finally:
            for table in tables:
                table.sparse = False

    def gradients(self) -> list[Tensor]:
        """The numbers of all gradients, to be changed in place: those of rows alone are first added up by row."""
        for parameter in self.parameters:
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
        found = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        return [gradient.values() if gradient.is_sparse else gradient for gradient in found]

    def clip(self) -> ClippedNorm:
        """Scale the gradient down to the largest allowed norm, then cut its elements, then add the penalties: L1, and L2 to the start.

        grad <- grad · threshold / ||grad||_2 where ||grad||_2 > threshold (Pascanu et al. 2013). A norm that is not finite is left alone.
        L2 to the start is L2-SP (Li et al. 2018): l2_start / 2 · Σ(w - w0)², whose gradient is l2_start · (w - w0).
        """
        gradients = self.gradients()
        norm = torch.nn.utils.get_total_norm(gradients)
        before = float(norm)
        after = before
        if math.isfinite(before):
            if 0 < self.config.clip_norm < before:
                torch._foreach_mul_(gradients, (self.config.clip_norm / (norm + _TINY)).clamp(max=1.0))  # pyright: ignore[reportPrivateUsage]
                after = self.config.clip_norm
            if self.config.clip_value > 0:
                torch._foreach_clamp_min_(gradients, -self.config.clip_value)  # pyright: ignore[reportPrivateUsage]
                torch._foreach_clamp_max_(gradients, self.config.clip_value)  # pyright: ignore[reportPrivateUsage]
                after = float(torch.nn.utils.get_total_norm(gradients))
            if self.config.l1 > 0:
                for weight in self.matrices:
                    if weight.grad is not None:
                        weight.grad.add_(weight.detach().sign(), alpha=self.config.l1)
            for weight, start in zip(self.parameters, self._start, strict=False):
                if weight.grad is not None:
                    weight.grad.add_(weight.detach() - start, alpha=self.config.l2_start)
        return ClippedNorm(before, after)

    def weight_norms(self) -> WeightNorms:
        """The weights as they are now. Cost: a pass over all matrices, 1 ms for 1.6 million parameters."""
        matrices = [weight.detach() for weight in self.matrices]
        norm = float(torch.nn.utils.get_total_norm(matrices))
        absolute = float(torch.nn.utils.get_total_norm(matrices, norm_type=1.0)) if self.config.l1 else 0.0
        penalties = self.config.l1 * absolute, 0.5 * self.config.weight_decay * norm**2
        if not self._start:
            return WeightNorms(norm, *penalties)
        moved = torch.nn.utils.get_total_norm([p.detach() - start for p, start in zip(self.parameters, self._start, strict=True)])
        return WeightNorms(norm, *penalties, 0.5 * self.config.l2_start * float(moved) ** 2)

    def step(self, share: float) -> None:
        """One update at this share of the learning rate."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * share * group.get(LAYER_SHARE, 1.0)
            with torch.sparse.check_sparse_tensor_invariants(False):  # what torch makes itself; unsaid, it warns
                optimizer.step()

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None


def update_moving_average(average: Iterable[Tensor], values: Iterable[Tensor], *, decay: float, step: int) -> None:
    """Move an exponential moving average of the weights one step: avg <- d·avg + (1 - d)·w, with a smaller d in the first steps.

    d = min(decay, (1 + step) / (10 + step)), as TensorFlow's ExponentialMovingAverage: an early average adapts faster.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average, values, strict=True):
        if mean.data_ptr() == value.data_ptr():  # of a frozen weight
            continue
        if mean.is_floating_point():
            mean.lerp_(value, weight)
        else:
            mean.copy_(value)
