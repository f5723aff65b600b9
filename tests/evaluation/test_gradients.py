"""Gradients by time step: against torch's cells in float64, against differences, and where they are known exactly."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vitrail.data.batches import Batch, collate
from vitrail.data.vocabularies.subwords import EOS, PAD, CharacterVocabulary, Vocabularies
from vitrail.errors import DataError, ModelError
from vitrail.evaluation.gradient_norms import PlaceNorms, from_last, longest_batches, measure_gradients, record_gradients, source_gradients
from vitrail.models.base import TranslationModel
from vitrail.models.build import build_model
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.nn.cells import Cell, CellKind, ElmanCell, make_cell
from vitrail.nn.probe import Probe

LETTERS = CharacterVocabulary(list("abcdefgh"))
BOTH = Vocabularies(LETTERS, LETTERS, joint=True)
SIZE = LETTERS.size
SENTENCES = ["abcdefgh", "hgfed", "abab", "cafe", "bad", "deaf", "fed", "gag"]


def transformer(**changes: object):
    plain = {"encoder_layers": 2, "decoder_layers": 2, "width": 8, "heads": 2, "feed_forward": 12, "dropout": 0.3}
    torch.manual_seed(0)
    return build_model(TransformerConfig.model_validate(plain | changes), BOTH).double()


def pairs(*lengths: int, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    sides = [[torch.randint(EOS + 1, SIZE, (length,), generator=draw).tolist() for length in lengths] for _ in range(2)]
    return collate(*sides)


def by_torch(kind: CellKind, cell: Cell, values: Tensor, weights: Tensor) -> Tensor:
    """||dL/dh_t|| of a loop over torch's own cell with the same weights."""
    reference = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[kind](values.shape[2], cell.width).double()
    names = {"weight_ih": "input_weight", "weight_hh": "hidden_weight", "bias_ih": "input_bias", "bias_hh": "hidden_bias"}
    with torch.no_grad():
        for theirs, ours in names.items():
            reference.get_parameter(theirs).copy_(cell.get_parameter(ours))
    zeros = torch.zeros(len(values), cell.width, dtype=torch.float64)
    state = (zeros, zeros) if kind == "lstm" else zeros
    hidden: list[Tensor] = []
    for column in values.unbind(1):
        state = reference(column, state)
        hidden.append(state[0] if isinstance(state, tuple) else state)
        hidden[-1].retain_grad()
    (torch.stack(hidden, 1) * weights).sin().sum().backward()
    return torch.stack([one.grad.norm(dim=1) for one in hidden if one.grad is not None], 1)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_norms_of_each_cell_are_those_of_torchs(kind: CellKind) -> None:
    torch.manual_seed(3)
    cell = make_cell(kind, 3, 5).double()
    values, weights = torch.randn(4, 7, 3, dtype=torch.float64), torch.randn(4, 7, 5, dtype=torch.float64)
    with record_gradients(cell, places=lambda name: name == "hidden") as record:
        outputs, _ = cell(values, torch.ones(4, 7, dtype=torch.bool))
        (outputs * weights).sin().sum().backward()
    assert set(record.norms()) == {"hidden"}
    torch.testing.assert_close(record.norms()["hidden"], by_torch(kind, cell, values, weights), rtol=1e-10, atol=0)


@given(gain=st.floats(0.3, 1.2), steps=st.integers(2, 40))
def test_a_linear_network_is_a_power_of_its_recurrent_weight(gain: float, steps: int) -> None:
    """h_t = tanh(a·h_{t-1}) from 0 stays where tanh is the identity, so dL/dh_{n-k} = a^k · dL/dh_n: vanishing and exploding themselves."""
    cell = ElmanCell(2, 3).double()
    with torch.no_grad():
        cell.hidden_weight.copy_(gain * torch.eye(3, dtype=torch.float64))
    with record_gradients(cell) as record:
        _, (last,) = cell(torch.zeros(1, steps, 2, dtype=torch.float64), torch.ones(1, steps, dtype=torch.bool))
        last.sum().backward()
    (norms,) = record.norms()["hidden"].flip(1) / 3**0.5
    torch.testing.assert_close(norms, gain ** torch.arange(steps).double(), rtol=1e-9, atol=0)


def test_norms_below_what_float32_can_square_are_not_zero() -> None:
    cell = ElmanCell(1, 2)
    with torch.no_grad():
        cell.hidden_weight.copy_(0.1 * torch.eye(2))
    with record_gradients(cell) as record:
        _, (last,) = cell(torch.zeros(1, 31, 1), torch.ones(1, 31, dtype=torch.bool))
        last.sum().backward()
    assert record.norms()["hidden"][0, 0].item() == pytest.approx(2**0.5 * 1e-30, rel=1e-4)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_nothing_flows_back_to_padding_and_it_changes_nothing(kind: CellKind) -> None:
    torch.manual_seed(5)
    cell = make_cell(kind, 3, 4).double()
    values, lengths = torch.randn(3, 6, 3, dtype=torch.float64), [6, 4, 1]
    keep = torch.arange(6) < torch.tensor(lengths)[:, None]

    def norms(values: Tensor, keep: Tensor) -> Tensor:
        with record_gradients(cell) as record:
            _, carry = cell(values, keep)
            torch.cat(carry, 1).sin().sum().backward()
        return record.norms()["hidden"]

    together = norms(values, keep)
    assert (together[~keep] == 0).all() and (together[keep] > 0).all()
    for row, length in enumerate(lengths):
        alone = norms(values[row : row + 1, :length], torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(together[row : row + 1, :length], alone, rtol=1e-10, atol=0)


class Twice(nn.Module):
    """h is used twice, and something that is computed from h is heard as well; a third Probe leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.aside = Probe(), Probe(), Probe()

    def forward(self, values: Tensor) -> Tensor:
        hidden = self.first(values * 1.0)
        self.aside(hidden * 5)
        return (3 * hidden + self.second(hidden**2)).sum()


def test_all_uses_are_summed_and_what_the_loss_does_not_see_is_zero() -> None:
    model, values = Twice(), torch.tensor([[1.0, 2.0]], requires_grad=True)
    with record_gradients(model) as record:
        model(values).backward()
    assert record.norms()["first"].tolist() == [[pytest.approx((5**2 + 7**2) ** 0.5)]]
    assert record.norms()["second"].tolist() == [[pytest.approx(2**0.5)]] and record.norms()["aside"].tolist() == [[0.0]]


def test_hooks_go_also_after_an_error_and_values_without_gradient_are_heard_as_zero() -> None:
    model = Twice()
    with pytest.raises(ZeroDivisionError), record_gradients(model):
        raise ZeroDivisionError
    assert not model.first.is_hooked
    with record_gradients(model, places=lambda name: name == "first") as record, torch.no_grad():
        assert model.first.is_hooked and not model.second.is_hooked
        model(torch.ones(2, 3))
    assert record.norms()["first"].tolist() == [[0.0], [0.0]]


def test_a_model_without_such_places_is_refused() -> None:
    with record_gradients(nn.Linear(2, 2)) as record, pytest.raises(ModelError, match="no gradient was recorded"):
        record.norms()


def recurrent(**changes: object):
    plain = {"embedding_width": 6, "width": 8, "dropout": 0.3}
    torch.manual_seed(0)
    return build_model(RecurrentConfig.model_validate(plain | changes), BOTH).double()


def nats_after_push(model: TranslationModel, batch: Batch, place: str, delta: Tensor) -> float:
    """The loss when `delta` is added to what passes a Probe, in one call or in one call a time step."""
    columns = iter(delta.unbind(1))

    def push(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return output + (delta if output.ndim == 3 else next(columns))

    handle = model.get_submodule(place).register_forward_hook(push)
    try:
        with torch.no_grad():
            return float(nats(model, batch))
    finally:
        handle.remove()


def nats(model: TranslationModel, batch: Batch) -> Tensor:
    """Summed in float64, which the models' own loss is not."""
    state, found = model.start(model.encode(batch.source)), torch.zeros((), dtype=torch.float64)
    for column, wanted in zip(batch.target_in.unbind(1), batch.target_out.unbind(1), strict=True):
        logits, state = model.step(column, state)
        found = found + nn.functional.cross_entropy(logits.double(), wanted, reduction="sum")
    return found


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("model", "place"),
    [
        (transformer(), "encoder.0.residual_2.sum"),
        (transformer(norm_position="post"), "encoder.1.residual_2.sum"),
        (recurrent(cell="rnn"), "encoder.0.forward_cell.hidden"),
        (recurrent(cell="gru", attention="bahdanau"), "encoder.0.forward_cell.hidden"),
        (recurrent(cell="lstm", encoder_layers=2, norm="layer"), "encoder.0.forward_cell.hidden"),
        (recurrent(cell="lstm", attention="luong-general", reverse_source=True), "encoder.0.forward_cell.hidden"),
        (recurrent(cell="lstm", attention="luong-dot", input_feeding=True), "decoder.0.hidden"),
    ],
)
def test_norms_are_differences_of_the_loss(model: TranslationModel, place: str) -> None:
    batch = Batch(*(part[:1] for part in pairs(5)))
    measured = {one.name: one for one in measure_gradients(model.eval(), [batch])}[place].norms
    # The decoder's steps are as many as the encoder's here, and each passes its Probe once.
    width, length = 4 if "forward_cell" in place else 8, batch.source.shape[1]
    differences = torch.zeros(length, width, dtype=torch.float64)
    for time in range(length):
        for feature in range(width):
            delta = torch.zeros(1, length, width, dtype=torch.float64)
            delta[0, time, feature] = 1e-5
            differences[time, feature] = nats_after_push(model, batch, place, delta) - nats_after_push(model, batch, place, -delta)
    found = differences.norm(dim=1).flip(0) / 2e-5
    torch.testing.assert_close(torch.tensor(measured, dtype=torch.float64), found, rtol=1e-5, atol=1e-7)


def test_places_are_the_layers_of_both_sides() -> None:
    names = [place.name for place in measure_gradients(transformer(), [pairs(3, 2)])]
    assert names == [f"encoder.{layer}.residual_2.sum" for layer in (0, 1)] + [f"decoder.{layer}.residual_3.sum" for layer in (0, 1)]


def test_places_of_a_recurrent_model_are_its_forward_cells() -> None:
    names = [place.name for place in measure_gradients(recurrent(encoder_layers=2), [pairs(3, 2)])]
    assert names == ["encoder.0.forward_cell.hidden", "encoder.1.forward_cell.hidden", "decoder.0.hidden"]


@pytest.mark.parametrize("model", [transformer(), recurrent(cell="lstm"), recurrent(cell="gru", attention="bahdanau", reverse_source=True)])
def test_a_batch_is_the_mean_of_its_sentences_counted_from_their_own_ends(model: TranslationModel) -> None:
    batch = pairs(7, 4, 5)
    single = [measure_gradients(model, [Batch(*(trim(part[row : row + 1]) for part in batch))]) for row in range(3)]
    for together in (
        measure_gradients(model, [batch]),
        measure_gradients(model, [Batch(*(part[:2] for part in batch)), Batch(*(part[2:] for part in batch))]),
    ):
        for place, found in enumerate(together):
            assert len(found.norms) == 5 and found.sentences == 3
            mean = torch.tensor([one[place].norms[:5] for one in single], dtype=torch.float64).mean(0)
            torch.testing.assert_close(torch.tensor(found.norms, dtype=torch.float64), mean, rtol=1e-5, atol=1e-8)


def trim(ids: Tensor) -> Tensor:
    return ids[:, : int(ids.ne(PAD).sum())]


def test_the_model_is_left_as_it_was() -> None:
    model = transformer().train()
    weight = model.get_parameter("target_embedding.weight")
    weight.grad = torch.full_like(weight, 7.0)
    first, second = measure_gradients(model, [pairs(4, 2)]), measure_gradients(model, [pairs(4, 2)])
    assert first == second, "dropout has no part"
    assert model.training and (weight.grad == 7).all()
    assert all(parameter.grad is None for parameter in model.parameters() if parameter is not weight)
    assert not any(module.is_hooked for module in model.modules() if isinstance(module, Probe))


def test_it_measures_inside_no_grad_too() -> None:
    with torch.no_grad():
        assert measure_gradients(transformer(), [pairs(4, 2)])[0].norms[0] > 0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_rows_are_turned_round_at_their_own_ends(lengths: list[int]) -> None:
    norms = torch.arange(1.0, 10).repeat(len(lengths), 1).double()
    turned = from_last(norms, torch.tensor(lengths))
    assert turned.tolist() == [[float(length - k) for k in range(min(lengths))] for length in lengths]


def test_a_curve_is_relative_to_the_last_step() -> None:
    curve = PlaceNorms("x", (4.0, 2.0, 1.0), 3, "source", "hidden").curve()
    assert curve.norms == (1.0, 0.5, 0.25) and (curve.name, curve.sentences) == ("x", 3)
    assert PlaceNorms("x", (0.0, 0.0), 3, "source", "hidden").curve().norms == (0.0, 0.0)


def test_attention_is_a_shorter_way_back() -> None:
    texts = ["abcdefgh" * 5] * 4
    plain, attending = (
        source_gradients(recurrent(cell="rnn", attention=kind), BOTH, texts, texts)[0] for kind in ("none", "luong-general")
    )
    assert plain.norms[40] < 1e-5 < 1e-2 < attending.norms[40]


def test_source_curves_are_of_the_longest_half() -> None:
    curves = source_gradients(transformer(), BOTH, SENTENCES, SENTENCES, sentences=64)
    assert [curve.name for curve in curves] == ["encoder.0.residual_2.sum", "encoder.1.residual_2.sum"]
    assert {curve.sentences for curve in curves} == {4} and {len(curve.norms) for curve in curves} == {5}
    assert all(curve.norms[0] == 1.0 and min(curve.norms) > 0 for curve in curves)
    assert {len(curve.norms) for curve in source_gradients(transformer(), BOTH, SENTENCES, SENTENCES, sentences=1)} == {9}


def test_the_longest_are_taken_in_portions() -> None:
    texts = ["ab" * (1 + index % 40) for index in range(80)]
    batches = longest_batches(BOTH, texts, texts, sentences=40)
    assert [len(batch.source) for batch in batches] == [16, 16, 8]
    assert min(int(batch.source.ne(PAD).sum(1).min()) for batch in batches) == 2 * 21 + 1
    too_long = longest_batches(BOTH, [*SENTENCES, "a" * 101], [*SENTENCES, "a"], sentences=1)
    assert too_long[0].source.shape[1] == 9


@pytest.mark.parametrize("texts", [[], ["", ""], ["a" * 101]])
def test_no_sentence_to_measure_is_an_error(texts: list[str]) -> None:
    with pytest.raises(DataError, match="sentence pairs"):
        source_gradients(transformer(), BOTH, texts, texts)


def test_the_gradient_of_a_compiled_model_is_not_silently_empty() -> None:
    compiled: Callable[[Tensor], Tensor] = torch.compile(Twice(), backend="eager")  # pyright: ignore
    with record_gradients(Twice()) as record, pytest.raises(ModelError, match="compile"):
        compiled(torch.ones(1, 2, requires_grad=True)).backward()
        record.norms()
