"""What a model says of its places, against what its probes record when words, targets and weights change."""

from collections import Counter
from functools import cache

import pytest
import torch
from builders import TRANSLATING, settled
from torch import Tensor, nn

from vitrail.data.batches import collate
from vitrail.decode.forced import forced_decode
from vitrail.models.base import TranslationModel
from vitrail.models.configs.language import LanguageConfig
from vitrail.models.kinds.language import RecurrentLanguageModel
from vitrail.models.places import ATTENTION_SIDES as ATTENTIONS
from vitrail.models.places import Place, attentions, find, gradient_places, group_of, layer_of, layer_outputs, rank, side_of
from vitrail.nn.attention import MultiHeadAttention
from vitrail.nn.cells import SSRU, Cell
from vitrail.nn.layers import MaskedBatchNorm
from vitrail.nn.probe import listen, probes_of, trace

SOURCE, TARGET = [4, 9, 6, 12, 7, 5], [8, 5, 11]
S, T = len(SOURCE) + 1, len(TARGET) + 1
every_kind = pytest.mark.parametrize("name", TRANSLATING)
Values = dict[str, Tensor]


@cache
def model(name: str) -> TranslationModel:
    """With biases and gains that are not 0 and 1, which would prove nothing."""
    made = settled(TRANSLATING[name])
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def seen_by(one: TranslationModel, source: list[int] = SOURCE, target: list[int] = TARGET) -> Values:
    """Name -> the values of one sentence, positions on the axis before the last."""
    batch = collate([source], [target])
    with torch.inference_mode(), trace(one) as seen:
        one.read_out(forced_decode(one, batch))
    return {name: merge(calls) for name, calls in seen.items()}


def merge(calls: list[Tensor]) -> Tensor:
    """From one call, or from one a time step; rows that were added for speed are left out."""
    if calls[0].ndim == 2:
        return torch.stack([call[0] for call in calls])
    return torch.cat([call[:1] for call in calls], dim=calls[0].ndim - 2)[0]


@cache
def seen(name: str) -> Values:
    return seen_by(model(name))


def of_role(name: str, *roles: str) -> list[Place]:
    return [place for place in model(name).places() if place.role in roles]


@every_kind
def test_every_probe_that_fires_has_one_place(name: str) -> None:
    names = [place.name for place in model(name).places()]
    assert Counter(names) == Counter(seen(name).keys()) and sorted(names) == sorted(probes_of(model(name)))


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_language_model_has_places_too(cell: str) -> None:
    one = RecurrentLanguageModel(LanguageConfig.model_validate({"cell": cell, "layers": 2, "width": 8, "embedding_width": 6}), vocabulary=9)
    with torch.inference_mode(), trace(one.eval()) as heard:
        one.step(torch.tensor([4]), one.start(1))
    assert Counter(place.name for place in one.places()) == Counter(heard.keys())
    assert [place.layer for place in layer_outputs(one.places(), "target")] == [0, 1]
    assert [layer_of(place.name) for place in layer_outputs(one.places(), "target")] == ["cells.0", "cells.1"]


@every_kind
def test_a_side_is_what_depends_on_the_target_or_not(name: str) -> None:
    other = seen_by(model(name), target=[11, 8, 5])
    for place in model(name).places():
        if place.role == "mask" or (place.reads == "source" and place.role in ("key", "value")):
            continue  # the mask is the same for all; keys and values of cross-attention belong to the decoder and read the source
        assert torch.equal(seen(name)[place.name], other[place.name]) == (place.side == "source"), place


@every_kind
def test_positions_are_those_of_the_side(name: str) -> None:
    lengths = {"source": S, "target": T}
    for place in model(name).places():
        values = seen(name)[place.name]
        if place.role == "mask":
            assert values.dtype == torch.bool and values.shape[-1] == lengths[place.reads or "source"]
        else:
            positions = place.reads if place.role in ("key", "value") else place.side
            assert positions is not None and values.shape[-2] == lengths[positions], place
        if place.role in ("query", "key", "value", "score", "attention"):
            assert values.shape[0] == place.heads, place


@every_kind
def test_attention_is_what_its_roles_say(name: str) -> None:
    """The weights are the softmax of the scores, rows sum to 1; of several heads, scores are QKᵀ/√E, and the context is weights·V."""
    one, values = model(name), seen(name)
    modules = dict(one.named_modules())
    found = attentions(one.places())
    for attention in found:
        weights, scores = values[attention.weights], values[attention.probes["score"]]
        keep = values[attention.probes["mask"]][0]
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        torch.testing.assert_close(weights, scores.masked_fill(~keep, -torch.inf).softmax(-1))
        side, reads = ATTENTIONS[attention.kind]
        assert weights.shape == (attention.heads, S if side == "source" else T, S if reads == "source" else T)
        module = modules[attention.path]
        if isinstance(module, MultiHeadAttention):
            query, key, value = (values[attention.probes[role]] for role in ("query", "key", "value"))
            assert attention.heads == module.heads
            torch.testing.assert_close(scores, query @ key.transpose(1, 2) / module.head_width**0.5)
            torch.testing.assert_close(values[attention.probes["context"]], weights @ value)
    assert {attention.path for attention in found} == {path for path, part in modules.items() if path.endswith("attention")}
    assert [attention.layer for attention in attentions(one.places(), "cross")] == list(range(len(attentions(one.places(), "cross"))))


@every_kind
def test_a_layer_changes_with_its_own_weights_and_not_with_those_above(name: str) -> None:
    one = settled(TRANSLATING[name])
    before = seen_by(one)
    for place in layer_outputs(one.places(), "source") + layer_outputs(one.places(), "target"):
        path = layer_of(place.name)
        assert path is not None and place.layer is not None and rank(path)[1] == place.layer
        weights = [parameter for own, parameter in one.named_parameters() if group_of(own) == path]
        kept = [parameter.detach().clone() for parameter in weights]
        with torch.no_grad():
            for parameter in weights:
                parameter += 0.3 * torch.randn_like(parameter)
        after = seen_by(one)
        with torch.no_grad():
            for parameter, old in zip(weights, kept, strict=True):
                parameter.copy_(old)
        assert not torch.equal(before[place.name], after[place.name])
        for other in one.places():
            below = other.side == place.side and layer_of(other.name) is not None and other.layer is not None and other.layer < place.layer
            # Of a decoder that is fed what attention found, the first step alone knows nothing of the layers above.
            first = slice(1) if place.side == "target" else slice(None)
            assert not below or torch.equal(before[other.name][..., first, :], after[other.name][..., first, :]), other


@every_kind
def test_what_a_layer_hands_on_is_what_the_next_one_reads(name: str) -> None:
    one = model(name)
    outputs = [*layer_outputs(one.places(), "source"), *layer_outputs(one.places(), "target")]
    read: dict[str, list[Tensor]] = {}

    def reader(path: str):
        return lambda output, inputs: read.setdefault(path, []).append(inputs[0])

    paths = [path for place in outputs if (path := layer_of(place.name)) is not None]
    with torch.inference_mode(), listen(one, [(path, reader(path)) for path in paths]):
        values = seen_by(one)
    for place, following, path in zip(outputs, outputs[1:], paths[1:], strict=False):
        # A recurrent decoder adds what went into a layer to what it hands on, where it is residual: nothing records that sum.
        adds = isinstance(one.get_submodule(path), Cell) and place.layer != 0
        if following.side == place.side and not adds:
            torch.testing.assert_close(merge(read[path]), values[place.name])
    for part, side in (("encoder", "source"), ("decoder", "target")):
        layers = len(list(one.get_submodule(part).children()))
        assert [place.layer for place in outputs if place.side == side] == list(range(layers))


@every_kind
def test_embeddings_memory_and_logits_are_what_they_are_called(name: str) -> None:
    one, values = model(name), seen(name)
    for side, ids in (("source", [*SOURCE, 3]), ("target", collate([SOURCE], [TARGET]).target_in[0].tolist())):
        table = one.get_parameter(f"{side}_embedding.weight")
        place = find(one.places(), "embedded", side)  # type: ignore[arg-type]
        assert place is not None
        expected = table[ids].detach() * table.shape[1] ** 0.5
        if side == "target" and one.config.model_dump().get("decoder_start") == "zeros":
            expected[0] = 0
        torch.testing.assert_close(values[place.name], expected)
    with torch.inference_mode():
        batch = collate([SOURCE], [TARGET])
        encoded = one.encode(batch.source)
        hidden = one.decode(batch.target_in, encoded)
        torch.testing.assert_close(values[of_role(name, "memory")[0].name], encoded.memory[0])
        torch.testing.assert_close(values[of_role(name, "logits")[0].name], one.read_out(hidden)[0])
    assert [len(of_role(name, role)) for role in ("memory", "logits")] == [1, 1]


@every_kind
def test_states_of_cells_are_where_the_word_they_read_is(name: str) -> None:
    """The first step at which a cell's state changes is the one that reads the changed word."""
    if not of_role(name, "hidden"):
        assert not any(isinstance(part, Cell) for part in model(name).modules())
        return
    for position in range(S - 1):
        changed = [*SOURCE[:position], 15, *SOURCE[position + 1 :]]
        other = seen_by(model(name), source=changed)
        for place in of_role(name, "hidden", "gate", "cell"):
            if place.side == "source" and place.layer == 0:
                differs = (seen(name)[place.name] != other[place.name]).any(-1).nonzero().flatten().tolist()
                assert differs and differs[0] == place.reading_order(S)[position], place


@every_kind
def test_gates_and_states_have_the_range_of_their_function(name: str) -> None:
    recurs = any(isinstance(part, SSRU) for part in model(name).modules())
    for place in of_role(name, "gate", "hidden"):
        values = seen(name)[place.name]
        if recurs and place.role == "hidden":
            torch.testing.assert_close(values, seen(name)[place.name.replace("hidden", "cell")].clamp(min=0))
        else:
            assert float(values.abs().max()) <= 1
    gated = recurs or any(isinstance(part, Cell) and part.gates > 1 for part in model(name).modules())
    assert bool(of_role(name, "gate")) == gated
    for place in of_role(name, "feed_forward"):
        assert seen(name)[place.name].shape[-1] == TRANSLATING[name].config.model_dump()["feed_forward"]


@every_kind
def test_norms_and_residual_sums(name: str) -> None:
    """A norm's values come from a norm module, a sum from the connection around it."""
    one = model(name)
    given: dict[str, Tensor] = {}

    def keeper(path: str):
        return lambda output, inputs: given.update({path: output})

    with torch.inference_mode(), listen(one, [(f"{place.path}.norm", keeper(place.path)) for place in of_role(name, "norm")]):
        values = seen_by(one)
    assert len(of_role(name, "norm")) == len(of_role(name, "residual")) == len(given)
    for place in of_role(name, "norm"):
        torch.testing.assert_close(values[place.name], given[place.path][0])


@every_kind
def test_gradients_are_compared_at_one_place_of_each_layer(name: str) -> None:
    one = model(name)
    found = [(place.side, place.layer) for place in gradient_places(one.places())]
    expected = [(place.side, place.layer) for side in ("source", "target") for place in layer_outputs(one.places(), side)]  # type: ignore[arg-type]
    assert sorted(found) == sorted(expected)


@every_kind
def test_the_side_of_a_norm_is_the_side_whose_length_it_sees(name: str) -> None:
    one, lengths = model(name), dict[str, int]()
    norms = [path for path, part in one.named_modules() if isinstance(part, nn.LayerNorm | nn.RMSNorm | MaskedBatchNorm)]

    def counter(path: str):
        def hook(output: Tensor, inputs: tuple[Tensor, ...]) -> None:
            lengths[path] = lengths.get(path, 0) + (output.shape[1] if output.ndim == 3 else 1)

        return hook

    with listen(one, [(path, counter(path)) for path in norms]):
        seen_by(one)
    assert all(lengths[path] == (S if side_of(path) == "source" else T) for path in norms)


def test_reading_orders_of_a_sentence() -> None:
    orders = {order: Place("x", "hidden", "source", 0, order=order).reading_order(4) for order in ("forward", "backward")}
    assert orders == {"forward": [0, 1, 2, 3], "backward": [3, 2, 1, 0]}
    assert Place("x", "hidden", "source", order="reversed").reading_order(4) == [2, 1, 0, 3]
    assert Place("x", "hidden", "source", order="reversed_backward").reading_order(4) == [1, 2, 3, 0]
    assert Place("x", "hidden", "source", order="reversed").reading_order(1) == [0]
