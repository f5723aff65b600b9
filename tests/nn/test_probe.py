"""Probes: what is heard, and that nothing stays behind."""

import copy
from collections import Counter

import pytest
import torch
from torch import nn

from vitrail.errors import ModelError
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.transformer import Transformer
from vitrail.nn.attention import MultiHeadAttention
from vitrail.nn.lora import adapt
from vitrail.nn.probe import Probe, listen, shorten_lookups, trace, without_bookkeeping


class Pair(nn.Module):
    """Two probes, the second of which is passed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Probe(), Probe()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.second(self.second(self.first(values) + 1) * 2)


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_names_counts_order_and_values() -> None:
    model, values = Pair(), torch.randn(3, requires_grad=True)
    with trace(model) as seen:
        model(values)
        model(values)
    assert {name: len(tensors) for name, tensors in seen.items()} == {"first": 2, "second": 4}
    torch.testing.assert_close(seen["second"][1], (values + 1) * 2)
    assert not any(tensor.requires_grad for tensors in seen.values() for tensor in tensors)


def test_nothing_is_recorded_after_the_end() -> None:
    model = Pair()
    with trace(model) as seen:
        model(torch.zeros(1))
    before = {name: list(tensors) for name, tensors in seen.items()}
    model(torch.ones(1))
    assert seen == before and hooks(model) == 0 and not model.first.is_hooked


def test_no_hooks_stay_after_an_error() -> None:
    model = Pair()
    with pytest.raises(ZeroDivisionError), trace(model):
        assert hooks(model) == 2 and model.first.is_hooked
        raise ZeroDivisionError
    assert hooks(model) == 0


def test_two_traces_do_not_disturb_each_other() -> None:
    model = Pair()
    with trace(model) as outer:
        with trace(model) as inner:
            model(torch.zeros(1))
        model(torch.zeros(1))
    assert len(inner["first"]) == 1 and len(outer["first"]) == 2


def test_a_compiled_model_is_refused() -> None:
    with pytest.raises(ModelError, match="compiled"), trace(torch.compile(Pair(), backend="eager")):  # pyright: ignore[reportArgumentType]
        pass


def test_a_model_with_a_compiled_part_is_refused() -> None:
    inside, in_place = nn.Sequential(torch.compile(Pair(), backend="eager")), nn.Sequential(Pair())  # pyright: ignore[reportArgumentType]
    in_place[0].compile(backend="eager")
    for model in (inside, in_place):
        with pytest.raises(ModelError, match="compiled"), trace(model):
            pass
        assert hooks(model) == 0


def test_the_explicit_path_is_taken_only_while_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: Counter[str] = Counter()
    explicit = MultiHeadAttention._explicit

    def counted(*arguments: object) -> torch.Tensor:
        taken["explicit"] += 1
        return explicit(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(MultiHeadAttention, "_explicit", counted)
    attention, values = MultiHeadAttention(4, 2, 2, dropout=0.0).eval(), torch.randn(1, 3, 4)
    silent = attention(values, values, None)
    assert taken["explicit"] == 0
    with trace(attention) as seen:
        heard = attention(values, values, None)
    assert taken["explicit"] == 1 and set(seen) == {"q", "k", "v", "scores", "weights", "context"}
    attention(values, values, None)
    assert taken["explicit"] == 1
    torch.testing.assert_close(silent, heard, atol=1e-6, rtol=0)


# Short lookups.


def shortened() -> Pair:
    model = Pair()
    shorten_lookups(model)
    return model


def test_silent_probes_are_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the slow way of nn.Module to its submodules, once for every pass."""
    looked_up: list[str] = []
    look_up = nn.Module.__getattr__

    def noted(module: nn.Module, name: str) -> object:
        looked_up.append(name)
        return look_up(module, name)

    monkeypatch.setattr(nn.Module, "__getattr__", noted)
    plain, short = Pair(), shortened()
    looked_up.clear()
    plain(torch.zeros(1))
    assert sorted(looked_up) == ["first", "second", "second"]
    looked_up.clear()
    short(torch.zeros(1))
    assert not short.first.is_hooked and looked_up == []


def test_shortened_probes_are_submodules_and_heard() -> None:
    model = shortened()
    assert [name for name, _ in model.named_modules()] == ["", "first", "second"]
    assert model.first is model.get_submodule("first") is vars(model)["first"]
    with trace(model) as seen:
        assert model.first.is_hooked and model.second.is_hooked
        model(torch.zeros(1))
    assert {name: len(tensors) for name, tensors in seen.items()} == {"first": 1, "second": 2}
    assert not model.first.is_hooked


def test_a_copy_has_probes_of_its_own() -> None:
    model = shortened()
    twin = copy.deepcopy(model)
    assert vars(twin)["first"] is twin.get_submodule("first") is not model.first
    with trace(twin) as seen:
        model(torch.zeros(1))
        assert not seen and not model.first.is_hooked
        twin(torch.zeros(1))
    assert set(seen) == {"first", "second"}


def test_what_replaces_a_shortened_probe_is_found() -> None:
    model = shortened()
    other = nn.ReLU()
    setattr(model, "first", other)  # noqa: B010  (the type checker knows it as a Probe)
    assert model.first is model.get_submodule("first") is other
    torch.testing.assert_close(model(-torch.ones(1)), torch.full((1,), 2.0))


def test_a_shortened_model_compiles_whole() -> None:
    model, values = shortened(), torch.randn(3)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(values), model(values))


# Without nn.Module's bookkeeping.


def small_transformer(**changes: object) -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig.model_validate({"encoder_layers": 1, "decoder_layers": 1, "width": 16, "heads": 2} | changes)
    return Transformer(config, source_vocabulary=12, target_vocabulary=12).eval()


@pytest.mark.parametrize("how", [{}, {"norm": "rms", "positions": "rotary", "activation": "swiglu"}, {"norm": "batch"}])
def test_without_bookkeeping_it_is_the_same_model(how: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_transformer(**how)
    source, target = torch.tensor([[4, 5, 6, 3]]), torch.tensor([[2, 7, 8]])
    expected = model.decode(target, model.encode(source))
    plain = without_bookkeeping(model)
    monkeypatch.setattr(nn.Module, "__getattr__", None)  # neither looked up
    monkeypatch.setattr(nn.Module, "_call_impl", None)  # nor called
    found = plain.decode(target, plain.encode(source))
    assert torch.equal(found, expected) and isinstance(plain, Transformer)


def test_without_bookkeeping_hooks_still_run() -> None:
    model = small_transformer()
    source = torch.tensor([[4, 5, 6, 3]])
    for name in ("encoder.0.feed_forward.expand", "encoder.0.residual_1", "encoder.0.self_attention.weights"):
        heard: list[str] = []
        with listen(model, [(name, lambda output, inputs, heard=heard, name=name: heard.append(name))]):
            without_bookkeeping(model).encode(source)
        assert heard == [name]


def test_without_bookkeeping_what_grows_grows_in_the_model() -> None:
    model = small_transformer()
    longest = model.source_positions.table.shape[0] + 10
    plain = without_bookkeeping(model)
    source = torch.full((1, longest), 5)
    torch.testing.assert_close(plain.encode(source).memory, model.encode(source).memory, atol=0, rtol=0)
    assert model.source_positions.table is plain.source_positions.table and len(model.source_positions.table) > longest


def test_without_bookkeeping_what_is_exchanged_is_left_alone() -> None:
    """Adapters, compiled parts, and modules that are not known."""
    model = small_transformer()
    adapt(model, "encoder.0.feed_forward.expand.weight", rank=2, alpha=2.0, dropout=0.0)
    model.decoder[0].feed_forward.compile(backend="eager")
    plain = without_bookkeeping(model)
    assert plain.encoder[0].feed_forward.expand is model.encoder[0].feed_forward.expand
    assert plain.decoder[0].feed_forward is model.decoder[0].feed_forward
    assert plain.encoder[0].feed_forward.contract is not model.encoder[0].feed_forward.contract
    assert plain.encoder[0].feed_forward.contract.weight is model.encoder[0].feed_forward.contract.weight
    outside = nn.Sequential(nn.Linear(2, 2))
    assert without_bookkeeping(outside) is outside
