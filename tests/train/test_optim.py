"""Optimizers, clipping, schedules and averages, against torch's own and plain formulas."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from vitrail.data.batches import Batch, pad_rows
from vitrail.data.examples.labelled import LabelledBatch
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import EOS, CharacterVocabulary, Vocabularies
from vitrail.models.base import Model, unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.classifier import BagClassifierConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.classifier import BagClassifier
from vitrail.models.places import distances
from vitrail.nn.losses import LossSum
from vitrail.train.optim import Optimizer, OptimizerConfig, ScheduleConfig, Warmup, rate, update_moving_average

TINY = TransformerConfig(
    encoder_layers=1, decoder_layers=1, width=8, heads=2, feed_forward=8, dropout=0.0, positions="learned", max_positions=9
)


class Small(Model):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2, bias=False))

    def loss(self, batch: Batch, *, label_smoothing: float = 0.0) -> LossSum:
        raise NotImplementedError


def small_model(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small()


def give_gradients(model: nn.Module, *, size: float, seed: int = 1) -> None:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * size


def gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def plain(**changes: Any) -> OptimizerConfig:
    return OptimizerConfig(**{"kind": "sgd", "learning_rate": 0.1, "beta_1": 0.0, "clip_norm": 0.0, **changes})


def test_l2_to_the_start_is_the_gradient_of_the_penalty() -> None:
    """Of the loss plus l2 / 2 · Σ(w - w0)², by autograd in float64, in one step of plain gradient descent; the penalty is not clipped."""
    strength, model, other = 0.7, small_model().double(), small_model().double()
    start = {parameter.data_ptr(): parameter.detach() + torch.randn_like(parameter) for parameter in model.parameters()}
    optimizer = Optimizer(model, plain(l2_start=strength))
    optimizer.stay_near(start)
    read = torch.tensor([0, 3, 4])
    model.parts(read).square().sum().backward()
    moved = [(p - start[own.data_ptr()]).square().sum() for p, own in zip(other.parameters(), model.parameters(), strict=True)]
    penalty = 0.5 * strength * torch.stack(moved).sum()
    (other.parts(read).square().sum() + penalty).backward()
    optimizer.clip()
    for found, expected in zip(gradients(model), gradients(other), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert optimizer.weight_norms().l2_start_penalty == pytest.approx(float(penalty.detach()))
    torch.optim.SGD(other.parameters(), lr=0.1).step()
    optimizer.step(1.0)
    for found, expected in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


# ---- clipping --------------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(size=st.floats(1e-3, 1e3), limit=st.floats(1e-2, 10.0))
def test_clipping_by_norm_is_that_of_torch(size: float, limit: float) -> None:
    mine, reference = small_model(), small_model()
    give_gradients(mine, size=size)
    give_gradients(reference, size=size)
    norms = Optimizer(mine, plain(clip_norm=limit)).clip()
    before = nn.utils.clip_grad_norm_(reference.parameters(), limit)
    assert norms.before == float(before)
    assert norms.after == pytest.approx(float(nn.utils.get_total_norm(gradients(reference))), rel=1e-4)
    for one, other in zip(gradients(mine), gradients(reference), strict=True):
        assert torch.equal(one, other)


@settings(deadline=None)
@given(limit=st.floats(0.0625, 2.0, width=32))
def test_clipping_by_value_comes_after_that_by_norm(limit: float) -> None:
    mine, reference = small_model(), small_model()
    give_gradients(mine, size=2.0)
    give_gradients(reference, size=2.0)
    norms = Optimizer(mine, plain(clip_norm=3.0, clip_value=limit)).clip()
    nn.utils.clip_grad_norm_(reference.parameters(), 3.0)
    nn.utils.clip_grad_value_(reference.parameters(), limit)
    for one, other in zip(gradients(mine), gradients(reference), strict=True):
        assert torch.equal(one, other)
    assert max(float(gradient.abs().max()) for gradient in gradients(mine)) <= limit
    assert norms.after == pytest.approx(float(nn.utils.get_total_norm(gradients(reference))), rel=1e-6)


def test_nothing_is_clipped_when_both_are_off() -> None:
    model = small_model()
    give_gradients(model, size=100.0)
    before = [gradient.clone() for gradient in gradients(model)]
    norms = Optimizer(model, plain()).clip()
    assert norms.before == norms.after > 100
    assert all(torch.equal(one, other) for one, other in zip(gradients(model), before, strict=True))


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_left_for_the_loop_to_see(poison: float) -> None:
    model = small_model()
    give_gradients(model, size=1.0)
    gradients(model)[0][0, 0] = poison
    before = gradients(model)[1].clone()
    norms = Optimizer(model, plain(clip_norm=0.1, clip_value=0.1, l1=1.0)).clip()
    assert not math.isfinite(norms.before) and not math.isfinite(norms.after)
    assert torch.equal(gradients(model)[1], before)


# ---- penalties -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sgd", "adamw", "muon"])
def test_weight_decay_takes_from_matrices_alone(kind: str) -> None:
    model = small_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = Optimizer(model, plain(kind=kind, weight_decay=0.2))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.5)
    for name, parameter in model.named_parameters():
        kept = 1 - 0.1 * 0.5 * 0.2 if parameter.ndim >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * kept, msg=name)


def test_the_l1_penalty_pulls_matrices_towards_zero_after_clipping() -> None:
    mine, reference = small_model(), small_model()
    give_gradients(mine, size=1.0)
    give_gradients(reference, size=1.0)
    Optimizer(mine, plain(clip_norm=0.5, l1=0.25)).clip()
    nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
    for parameter, other in zip(mine.parameters(), reference.parameters(), strict=True):
        assert parameter.grad is not None and other.grad is not None
        expected = other.grad + 0.25 * parameter.detach().sign() if parameter.ndim >= 2 else other.grad
        torch.testing.assert_close(parameter.grad, expected)


# ---- steps -----------------------------------------------------------------------------------------------------------------------


def test_adamw_is_that_of_torch() -> None:
    mine, reference = small_model(), small_model()
    optimizer = Optimizer(mine, OptimizerConfig(learning_rate=0.02, beta_1=0.8, beta_2=0.95, epsilon=1e-6, clip_norm=0.0))
    theirs = torch.optim.AdamW(reference.parameters(), lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.0)
    for step in range(3):
        share = 1 / (step + 1)
        for model in (mine, reference):
            give_gradients(model, size=1.0, seed=step)
        theirs.param_groups[0]["lr"] = 0.02 * share
        optimizer.step(share)
        theirs.step()
    for one, other in zip(mine.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_sgd_has_momentum() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    optimizer = Optimizer(model, plain(beta_1=0.5))
    for _ in range(2):
        model.weight.grad = torch.ones_like(model.weight)
        optimizer.step(1.0)
    assert model.weight.item() == pytest.approx(-0.1 * 1 - 0.1 * 1.5)


def test_muon_takes_the_maps_inside_blocks_and_adamw_the_rest() -> None:
    letters = CharacterVocabulary(list("abcdef"))
    model = build_model(TINY, Vocabularies(letters, letters, joint=True))
    optimizer = Optimizer(model, OptimizerConfig(kind="muon"))
    adamw, muon = optimizer.optimizers
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    inside = {names[id(parameter)] for group in muon.param_groups for parameter in group["params"]}
    rest = {names[id(parameter)] for group in adamw.param_groups for parameter in group["params"]}
    assert inside | rest == set(names.values()) and not inside & rest
    assert inside and all("attention" in name or "feed_forward" in name for name in inside)
    assert all(dict(model.named_parameters())[name].ndim == 2 for name in inside)
    assert not any("position" in name or "embed" in name for name in inside)
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.0, 0.0]


def test_clearing_forgets_gradients() -> None:
    model = small_model()
    give_gradients(model, size=1.0)
    Optimizer(model, plain()).clear()
    assert not gradients(model)


# ---- schedules -------------------------------------------------------------------------------------------------------------------

KINDS = ["inverse_sqrt", "cosine", "linear", "constant", "plateau"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_warm_up_is_a_straight_line_from_nothing(kind: Any) -> None:
    config = ScheduleConfig(kind=kind, warmup=10, floor=0.2)
    shares = [rate(config, step=step, progress=0.0) for step in range(10)]
    assert shares == pytest.approx([(step + 1) / 10 for step in range(10)])


@pytest.mark.parametrize(
    ("kind", "step", "progress", "halvings", "share"),
    [
        ("inverse_sqrt", 399, 0.7, 0, 0.5),
        ("inverse_sqrt", 9_999, 0.9, 0, 0.1),
        ("cosine", 500, 0.5, 0, 0.1 + 0.9 * 0.5),
        ("cosine", 500, 0.25, 0, 0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5))),
        ("cosine", 500, 1.0, 0, 0.1),
        ("linear", 500, 0.5, 0, 0.1 + 0.9 * 0.5),
        ("linear", 500, 1.0, 0, 0.1),
        ("constant", 500, 1.0, 0, 1.0),
        ("plateau", 500, 0.5, 2, 0.25),
        ("plateau", 500, 0.5, 9, 0.1),
    ],
)
def test_schedules_after_the_warm_up(kind: Any, step: int, progress: float, halvings: int, share: float) -> None:
    config = ScheduleConfig(kind=kind, warmup=100, floor=0.1)
    assert rate(config, step=step, progress=progress, plateau_halvings=halvings) == pytest.approx(share)


@settings(deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    warmup=st.integers(1, 50),
    floor=st.floats(0, 1),
    total=st.integers(2, 200),
    halvings=st.integers(0, 20),
)
def test_after_the_warm_up_no_schedule_rises(kind: Any, warmup: int, floor: float, total: int, halvings: int) -> None:
    config = ScheduleConfig(kind=kind, warmup=warmup, floor=floor)
    shares = [rate(config, step=step, progress=step / total, plateau_halvings=halvings) for step in range(total)]
    assert all(0 <= share <= 1 for share in shares)
    assert all(later <= sooner + 1e-12 for sooner, later in zip(shares[warmup:], shares[warmup + 1 :], strict=False))
    assert shares == [rate(config, step=step, progress=step / total, plateau_halvings=halvings) for step in range(total)]


@pytest.mark.parametrize(
    ("written", "steps", "share", "kept"),
    [
        (600, 600, None, 600),
        ("600", 600, None, 600),
        (" 600 steps ", 600, None, 600),
        ("1 step", 1, None, 1),
        ("10%", None, 0.1, "10%"),
        ("2.5 %", None, 0.025, "2.5%"),
        ("600 steps, at most 10%", 600, 0.1, "600 steps, at most 10%"),
        ("600,at most 100 %", 600, 1.0, "600 steps, at most 100%"),
    ],
)
def test_a_warm_up_is_read_and_written(written: int | str, steps: int | None, share: float | None, kept: int | str) -> None:
    assert Warmup.parse(written) == pytest.approx((steps, share))
    assert ScheduleConfig(warmup=written).warmup == kept and Warmup.parse(kept) == Warmup.parse(written)


@pytest.mark.parametrize("text", [0, -3, "0", "0%", "101%", "ten", "10%, at most 5%", "600, at most 0%", "600, 10%", "3 epochs", ""])
def test_what_is_no_warm_up_is_refused(text: int | str) -> None:
    with pytest.raises(ValidationError, match=r"warm-up|share of the training"):
        ScheduleConfig(warmup=text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("warmup", "top"), [("10%", 20), ("50 steps, at most 10%", 20), ("8 steps, at most 10%", 8)])
def test_a_warm_up_that_is_a_share_ends_where_so_many_steps_would(kind: Any, warmup: str, top: int) -> None:
    """Of 200 steps, a tenth is 20: the same rates as with a warm-up of that many steps, and of as many minutes."""
    by_share, by_steps = ScheduleConfig(kind=kind, warmup=warmup), ScheduleConfig(kind=kind, warmup=top)
    for step in range(200):
        now, after = step / 200, (step + 1) / 200
        assert rate(by_share, step=step, progress=now, after=after) == pytest.approx(rate(by_steps, step=step, progress=now, after=after))
    warm = [rate(by_share, step=step, progress=step / 200) for step in range(200)]
    assert abs(warm.index(max(warm)) - (top - 1)) <= 1, "nobody knows in minutes how far the next step will lead"


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_up_in_steps_does_not_see_how_long_the_training_is(kind: Any) -> None:
    """To the bit: what was trained with plain steps goes on as it was."""
    config = ScheduleConfig(kind=kind, warmup=37)
    for step in range(120):
        decay = math.sqrt(37 / (step + 1)) if kind == "inverse_sqrt" else rate(ScheduleConfig(kind=kind, warmup=1), step=step, progress=0.4)
        warm = min(1.0, (step + 1) / 37)
        expected = min(warm, decay) if kind == "inverse_sqrt" else warm * decay
        assert rate(config, step=step, progress=0.4, after=0.7) == expected


# ---- the moving average ----------------------------------------------------------------------------------------------------------


def test_the_average_follows_its_formula() -> None:
    torch.manual_seed(0)
    values = [torch.randn(3, dtype=torch.float64) for _ in range(30)]
    mean, expected = [torch.zeros(3), torch.tensor(0)], torch.zeros(3, dtype=torch.float64)
    for step, value in enumerate(values):
        update_moving_average(mean, [value.float(), torch.tensor(step)], decay=0.9, step=step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(mean[0].double(), expected, rtol=1e-5, atol=1e-6)
    assert int(mean[1]) == 29, "what is no fraction is copied"


def test_a_young_average_follows_faster() -> None:
    mean = [torch.zeros(1)]
    update_moving_average(mean, [torch.ones(1)], decay=0.999, step=0)
    assert float(mean[0]) == pytest.approx(0.9)


# ---- rates by layer --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
def test_layers_further_from_the_output_take_smaller_steps(kind: str) -> None:
    """Each weight moves as one of a plain optimizer with its layer's rate: decay ** (layers to the end of its half)."""
    vocabulary = CharacterVocabulary(list("abc"))
    words = Vocabularies(vocabulary, vocabulary, joint=True)
    config = TINY.model_copy(update={"encoder_layers": 3, "decoder_layers": 2, "tie": "none"})

    def moved(rate: float, decay: float) -> dict[str, Tensor]:
        torch.manual_seed(3)
        model = build_model(config, words)
        optimizer = Optimizer(model, OptimizerConfig.model_validate({"kind": kind, "learning_rate": rate, "layer_decay": decay}))
        give_gradients(model, size=0.1)
        for share in (0.5, 1.0):
            optimizer.step(share)
        return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    found = moved(0.01, 0.5)
    away = {"source_embedding": 4, "source_positions": 4, "encoder.0": 3, "encoder.1": 2, "encoder.2": 1, "encoder_norm": 0}
    away |= {"target_embedding": 3, "target_positions": 3, "decoder.0": 2, "decoder.1": 1, "decoder_norm": 0, "output_weight": 0}
    by_distance = {distance: moved(0.01 * 0.5**distance, 1.0) for distance in set(away.values())}
    for name, weight in found.items():
        distance = next(distance for start, distance in away.items() if name == start or name.startswith(f"{start}."))
        torch.testing.assert_close(weight, by_distance[distance][name], rtol=1e-6, atol=1e-9)


def test_a_tied_table_is_before_the_layers_and_a_recurrent_language_model_has_layers_too() -> None:
    assert distances(["embedding.weight", "output_bias", "cells.0.input_weight", "cells.1.input_weight", "readout.weight"]) == {
        "embedding.weight": 3,
        "output_bias": 0,
        "cells.0.input_weight": 2,
        "cells.1.input_weight": 1,
        "readout.weight": 0,
    }
    assert distances(["target_embedding.weight", "encoder.4.a", "decoder.0.b"]) == {
        "target_embedding.weight": 2,
        "encoder.4.a": 1,
        "decoder.0.b": 1,
    }


def test_without_rates_by_layer_there_are_two_groups_and_one_rate() -> None:
    (optimizer,) = Optimizer(small_model(), OptimizerConfig()).optimizers
    assert len(optimizer.param_groups) == 2 and not any("layer_share" in group for group in optimizer.param_groups)


# ---- rows alone ------------------------------------------------------------------------------------------------------------------


def bag_batches() -> tuple[BagClassifier, list[LabelledBatch]]:
    words = CharacterVocabulary(list("abcdefgh"))
    torch.manual_seed(5)
    model = build_model(
        BagClassifierConfig(width=6, buckets=50), Vocabularies(words, LabelVocabulary(["x", "y"], separator=""), joint=False)
    )
    assert isinstance(model, BagClassifier)
    rows = [words.encode(text) for text in ("abba", "cab", "deaf", "a", "bed", "fade")]
    return model, [LabelledBatch(pad_rows(rows[first : first + 2]), torch.eye(2)) for first in range(0, 6, 2)]


@pytest.mark.parametrize(
    "changes",
    [{}, {"clip_norm": 0.01}, {"clip_value": 0.001}, {"clip_norm": 0.05, "clip_value": 0.004}, {"l1": 0.01}, {"weight_decay": 0.1}],
    ids=str,
)
def test_steps_of_rows_alone_are_those_of_the_whole_table(changes: dict[str, float]) -> None:
    """Held against torch's Adagrad and clipping on gradients written out in full."""
    config = OptimizerConfig.model_validate({"kind": "adagrad", "learning_rate": 0.1, "clip_norm": 0.0} | changes)
    (mine, batches), (other, _) = bag_batches(), bag_batches()
    optimizer, whole = Optimizer(mine, config), Optimizer(other, config)
    torchs = torch.optim.Adagrad(
        [
            {"params": [w for w in other.parameters() if w.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [other.head.linear.bias]},
        ],
        lr=0.1,
        eps=config.epsilon,
    )
    by_rows = not {"l1", "weight_decay"} & changes.keys()
    for batch in [*batches, *batches]:
        optimizer.clear()
        with optimizer.by_rows(wanted=True):
            mine.loss(batch).nats.backward()
        assert mine.source_embedding.weight.grad is not None
        assert mine.source_embedding.weight.grad.is_sparse == by_rows and not mine.source_embedding.sparse
        norms = optimizer.clip()
        other.zero_grad()
        other.loss(batch).nats.backward()
        assert norms.before == pytest.approx(float(nn.utils.get_total_norm(gradients(other))), rel=1e-5)
        assert whole.clip().after == pytest.approx(norms.after, rel=1e-5)
        optimizer.step(0.5)
        torchs.param_groups[0]["lr"] = torchs.param_groups[1]["lr"] = 0.05
        torchs.step()
    for name, value in unique_tensors(mine).items():
        torch.testing.assert_close(value, unique_tensors(other)[name], atol=1e-6, rtol=1e-5)


def test_only_rows_of_a_batch_move() -> None:
    model, batches = bag_batches()
    before = model.source_embedding.weight.detach().clone()
    optimizer = Optimizer(model, OptimizerConfig(kind="adagrad"))
    with optimizer.by_rows(wanted=True):
        model.loss(batches[0]).nats.backward()
    assert len(optimizer.gradients()[0]) == 5, "a, b, c, <eos>, and padding, whose gradient is zero"
    optimizer.step(1.0)
    moved = (model.source_embedding.weight != before).any(1).nonzero()[:, 0].tolist()
    assert moved == [EOS, *CharacterVocabulary(list("abcdefgh")).encode("abc")]
