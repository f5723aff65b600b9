"""Edits change what they say and nothing else, in search and in given translations, and leave no trace."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vitrail.data.batches import collate
from vitrail.data.vocabularies.subwords import CharacterVocabulary, Vocabularies
from vitrail.decode.forced import distributions
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.translate import TranslateConfig
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.causes.interventions import intervene
from vitrail.inspection.causes.parts import Head, Part, heads_of, parse_part, parts_of, write_numbers
from vitrail.inspection.causes.patching import Patch
from vitrail.inspection.collect import collect
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.architectures import ModelConfig
from vitrail.models.base import TranslationModel
from vitrail.models.build import build_model
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.nn.probe import Probe

LETTERS = CharacterVocabulary(list("abcdefghijklmnop"))
SHARED = Vocabularies(LETTERS, LETTERS, joint=True)
SOURCE, OTHER, TARGET = [4, 9, 6, 12, 7], [15, 5, 8, 6, 11], [8, 5, 11, 4]


def transformer(**changes: object) -> TransformerConfig:
    plain = {"encoder_layers": 2, "decoder_layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0}
    return TransformerConfig.model_validate(plain | changes)


def recurrent(**changes: object) -> RecurrentConfig:
    return RecurrentConfig.model_validate({"embedding_width": 16, "width": 32, "dropout": 0.0} | changes)


TRANSFORMERS: dict[str, ModelConfig] = {
    "pre": transformer(),
    "post-rotary-swiglu": transformer(norm_position="post", positions="rotary", activation="swiglu"),
    "learned-rms-wide": transformer(positions="learned", norm="rms", heads=3, head_width=4),
}
RECURRENT: dict[str, ModelConfig] = {
    "lstm": recurrent(cell="lstm"),
    "gru-one-way-reversed": recurrent(cell="gru", bidirectional=False, reverse_source=True),
    "lstm-luong-fed": recurrent(cell="lstm", attention="luong-dot", input_feeding=True, decoder_layers=2, encoder_layers=2),
    "gru-bahdanau": recurrent(cell="gru", attention="bahdanau"),
    "rnn-luong": recurrent(cell="rnn", attention="luong-general"),
}
ALL = TRANSFORMERS | RECURRENT
every_model = pytest.mark.parametrize("name", ALL)


def make(name: str) -> TranslationModel:
    torch.manual_seed(3)
    return build_model(ALL[name], SHARED).eval()


def translator(name: str, **config: object) -> InspectableTranslator:
    return InspectableTranslator(make(name), vocabularies=SHARED, config=TranslateConfig.model_validate(config))


def forced(model: TranslationModel, source: list[int] = SOURCE, target: list[int] = TARGET) -> Tensor:
    return distributions(model, source, target)


def stepped(model: TranslationModel, source: list[int] = SOURCE, target: list[int] = TARGET) -> Tensor:
    """The same by steps of three equal beams, as search takes them."""
    batch = collate([source], [target])
    found: list[Tensor] = []
    with torch.inference_mode():
        state = model.start(model.encode(batch.source)).repeat(3)
        for column in batch.target_in.unbind(1):
            logits, state = model.step(column.repeat(3), state)
            assert torch.allclose(logits[0], logits[2], atol=1e-6)
            found.append(logits[0].double().log_softmax(-1))
    return torch.stack(found)


# Parts and their names


def test_parts_are_read_and_written() -> None:
    assert parse_part("encoder.0.self_attention:2") == Part("encoder.0.self_attention", (2,))
    assert parse_part(" encoder.0.feed_forward : 3, 17-20 ") == Part("encoder.0.feed_forward", (3, 17, 18, 19, 20))
    assert str(parse_part("encoder.0.feed_forward:20,3,17-19")) == "encoder.0.feed_forward:3,17-20"
    assert parse_part("decoder.1") == Part("decoder.1")
    assert write_numbers([5, 1, 2, 3, 8, 9]) == "1-3,5,8-9"


@pytest.mark.parametrize("text", ["", ":", "encoder.0:", "encoder.0:x", "encoder.0:5-2", "encoder 0", "a:1;2", "x:1-99999999"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"not a part|expected"):
        parse_part(text)


def test_all_heads_are_found_encoder_first() -> None:
    assert [str(head) for head in heads_of(make("pre"), "cross")] == [
        f"decoder.{layer}.cross_attention:{head}" for layer in (0, 1) for head in (0, 1)
    ]
    kinds = [head.kind for head in heads_of(make("pre"))]
    assert kinds == ["encoder"] * 4 + ["decoder"] * 4 + ["cross"] * 4
    assert heads_of(make("gru-bahdanau")) == [Head("cross", 0, 0, "attention")]
    assert heads_of(make("lstm")) == []


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("pre", "encoder.2"),
        ("pre", "encoder.0.self_attention:2"),
        ("pre", "encoder.0.feed_forward:24"),
        ("pre", "encoder.0:1"),
        ("pre", "attention"),
        ("pre", "decoder.0.cross_attention.keep"),
        ("lstm", "attention"),
        ("lstm", "encoder.0.self_attention"),
        ("gru-bahdanau", "attention:1"),
        ("gru-bahdanau", "decoder.0:32"),
    ],
)
def test_a_part_that_is_not_there_is_refused_at_once(name: str, part: str) -> None:
    model = make(name)
    with pytest.raises(UsageError) as raised, intervene(model, off=[part]):
        pytest.fail("the edit was begun")
    assert "0 to " in raised.value.expected or "encoder.0" in raised.value.expected
    assert not any(module._forward_hooks for module in model.modules())


# Switching off


@pytest.mark.parametrize("name", ["pre", "post-rotary-swiglu", "lstm", "lstm-luong-fed", "gru-bahdanau"])
def test_every_part_matters_and_nothing_is_left_behind(name: str) -> None:
    model = make(name)
    before, by_step = forced(model), stepped(model)
    for place, units in parts_of(model).items():
        # Half of the neurons: a single one may be silent for so short a text.
        for part in (Part(place), Part(place, tuple(range(units // 2, units)))):
            with intervene(model, off=[part]):
                assert (forced(model) - before).abs().max() > 1e-7, part
                if part.units:
                    assert torch.allclose(forced(model), stepped(model), atol=1e-5), part
    assert torch.equal(forced(model), before) and torch.equal(stepped(model), by_step)
    assert not any(module._forward_hooks for module in model.modules())


def without_columns(linear: nn.Linear, columns: slice) -> None:
    with torch.no_grad():
        linear.weight[:, columns] = 0


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("place", ["encoder.1.self_attention", "decoder.0.self_attention", "decoder.1.cross_attention"])
def test_a_head_that_is_off_is_one_that_the_output_projection_ignores(name: str, place: str) -> None:
    model = make(name)
    by_hand = copy.deepcopy(model)
    attention = by_hand.get_submodule(place)
    width = attention.head_width
    without_columns(attention.output, slice(width, 2 * width))
    with intervene(model, off=[f"{place}:1"]):
        assert torch.allclose(forced(model), forced(by_hand), atol=1e-6)
    without_columns(attention.output, slice(None))
    every_head = ",".join(map(str, range(attention.heads)))
    with torch.no_grad():
        model.get_submodule(place).output.bias.normal_()
        attention.output.bias.copy_(model.get_submodule(place).output.bias)
    with intervene(model, off=[f"{place}:{every_head}"]):
        assert torch.allclose(forced(model), forced(by_hand), atol=1e-6), "all heads off: the bias alone is left"
    with torch.no_grad():
        attention.output.bias.zero_()
    with intervene(model, off=[place]):
        assert torch.allclose(forced(model), forced(by_hand), atol=1e-6), "the attention off: nothing is added"


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_neurons_and_whole_layers(name: str) -> None:
    model = make(name)
    by_hand = copy.deepcopy(model)
    without_columns(by_hand.get_submodule("encoder.0.feed_forward.contract"), slice(3, 7))
    with intervene(model, off=["encoder.0.feed_forward:3-6"]):
        assert torch.allclose(forced(model), forced(by_hand), atol=1e-6)
    by_hand = copy.deepcopy(model)
    for inner in ("self_attention.output", "cross_attention.output", "feed_forward.contract"):
        without_columns(by_hand.get_submodule(f"decoder.1.{inner}"), slice(None))
        by_hand.get_submodule(f"decoder.1.{inner}").bias.data.zero_()
    with intervene(model, off=["decoder.1"]):
        assert torch.allclose(forced(model), forced(by_hand), atol=1e-6)


def test_hidden_units_of_a_cell_are_zero_at_every_step() -> None:
    model = make("lstm-luong-fed")
    with intervene(model, off=["decoder.1:4-6", "encoder.0.backward_cell"]):
        arrays = collect(model, SOURCE, TARGET)
    assert (arrays["decoder.1.hidden"][:, 4:7] == 0).all() and (arrays["decoder.1.hidden"][:, 7:] != 0).all()
    assert (arrays["encoder.0.backward_cell.hidden"] == 0).all() and (arrays["encoder.0.forward_cell.hidden"] != 0).any()


def test_any_probe_can_be_switched_off() -> None:
    model = make("gru-bahdanau")
    with intervene(model, off=["decoder.0.update_gate:2", "attention.context"]):
        arrays = collect(model, SOURCE, TARGET)
    assert (arrays["decoder.0.update_gate"][:, 2] == 0).all() and (arrays["attention.context"] == 0).all()


# Search


@pytest.mark.parametrize("name", ["pre", "post-rotary-swiglu", "lstm-luong-fed", "gru-bahdanau"])
def test_search_of_every_kind_runs_on_the_edited_model(name: str) -> None:
    one = translator(name, batch_sentences=2)
    texts = ["abcde", "a", "fghij", "edcba"]
    searches = [SearchConfig(beams=1, max_length=4), SearchConfig(beams=3, n_best=2, max_length=4)]
    part = {"pre": "decoder.0.self_attention:1"}.get(name, next(place for place in parts_of(one.model) if place.startswith("decoder.0")))
    plain = [[found.tokens for found in one.translate(texts, search=search)] for search in searches]
    with one.edited(off=[part]) as edited:
        changed = [[found.tokens for found in edited.translate(texts, search=search)] for search in searches]
        alone = [[edited.translate(text, search=search).tokens for text in texts] for search in searches]
        found = edited.search_one(SOURCE, search=searches[0])[0]
        logs = forced(one.model, SOURCE, list(found.tokens))
        again = logs.gather(1, torch.tensor([*found.tokens, 3])[:, None])[:, 0]
        if not found.truncated:
            assert found.log_probability == pytest.approx(again.sum().item(), abs=1e-3)
    assert changed == alone
    assert changed != plain
    assert plain == [[found.tokens for found in one.translate(texts, search=search)] for search in searches]


def test_edits_nest_and_an_exception_leaves_nothing() -> None:
    model = make("pre")
    plain = forced(model)
    with intervene(model, off=["encoder.0"]):
        outer = forced(model)
        with intervene(model, off=["decoder.0.cross_attention"]):
            both = forced(model)
        assert torch.equal(forced(model), outer)
    with intervene(model, off=["encoder.0", "decoder.0.cross_attention"]):
        assert torch.equal(forced(model), both)
    with pytest.raises(RuntimeError, match="stop"), intervene(model, off=["encoder.0"], hidden=[1]):
        raise RuntimeError("stop")
    assert torch.equal(forced(model), plain)
    assert not any(part.is_hooked for part in model.modules() if isinstance(part, Probe))


def test_a_compiled_model_is_refused() -> None:
    model = make("pre")
    model.compile(backend="eager")
    with pytest.raises(ModelError, match="compiled"), intervene(model, off=["encoder.0"]):
        pass


# Hidden positions


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_hidden_position_is_as_good_as_padding(name: str) -> None:
    model = make(name)
    padded = [*SOURCE[:2], 0, *SOURCE[3:]]
    with intervene(model, hidden=[2]):
        assert torch.allclose(forced(model), forced(model, padded), atol=1e-6)
        assert torch.allclose(stepped(model), forced(model, padded), atol=1e-5)
        arrays = collect(model, SOURCE, TARGET)
    for place in ("encoder.0.self_attention", "encoder.1.self_attention", "decoder.0.cross_attention", "decoder.1.cross_attention"):
        assert (arrays[f"{place}.weights"][:, :, 2] == 0).all()
        assert arrays[f"{place}.weights"].sum(2) == pytest.approx(1, abs=1e-6)
    assert (arrays["decoder.0.self_attention.weights"][:, 2:, 2] > 0).all()


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_models_read_a_zero_vector_at_a_hidden_position(name: str) -> None:
    model = make(name)
    by_hand = copy.deepcopy(model)
    embedding = by_hand.get_submodule("source_embedding")
    assert isinstance(embedding, nn.Embedding)
    by_hand.source_embedding = nn.Embedding.from_pretrained(embedding.weight.detach().clone())
    by_hand.source_embedding.weight[SOURCE[2]] = 0
    with intervene(model, hidden=[2]):
        found = forced(model)
        weights = {name: value for name, value in collect(model, SOURCE, TARGET).items() if name.endswith(".weights")}
    if "attention.weights" in weights:
        assert (weights["attention.weights"][0, :, 2] == 0).all()
        with intervene(by_hand, hidden=[2]):
            assert torch.allclose(found, forced(by_hand), atol=1e-6)
    else:
        assert torch.allclose(found, forced(by_hand), atol=1e-6)


@pytest.mark.parametrize(("hidden", "fault"), [([6], "position 6"), ([-1], "position -1"), (range(6), "all positions")])
def test_positions_that_cannot_be_hidden(hidden: list[int], fault: str) -> None:
    for name in ("pre", "lstm"):
        model = make(name)
        with pytest.raises(UsageError, match=fault), intervene(model, hidden=list(hidden)):
            forced(model)
        assert not any(module._forward_hooks for module in model.modules())


# Patches


def patch(model: TranslationModel, name: str, **where: object) -> Patch:
    arrays = collect(model, OTHER, TARGET)
    return Patch(name, arrays[name], **where)  # pyright: ignore[reportArgumentType]


@every_model
def test_all_that_the_encoder_hands_on_taken_from_another_sentence_gives_its_output(name: str) -> None:
    model = make(name)
    wanted = forced(model, OTHER)
    with intervene(model, patches=[patch(model, "source_embedded")]):
        assert torch.allclose(forced(model), wanted, atol=1e-6)
        assert torch.allclose(stepped(model), wanted, atol=1e-5)
        assert torch.allclose(forced(model), wanted, atol=1e-6), "after steps, a given translation starts from the beginning again"


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("value", ["memory", "encoder.1.residual_2.sum", "source_input"])
def test_the_latent_representation_of_another_sentence_gives_its_output(name: str, value: str) -> None:
    model = make(name)
    if name.startswith("post") and value.endswith("sum"):
        value = value.replace("sum", "normed")
    with intervene(model, patches=[patch(model, value)]):
        assert torch.allclose(forced(model), forced(make(name), OTHER), atol=1e-6)
        assert torch.allclose(stepped(model), forced(make(name), OTHER), atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "post-rotary-swiglu",
        "gru-bahdanau",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("pre", "gru-one-way-reversed", "lstm-luong-fed")),
    ],
)
def test_a_value_patched_with_what_it_was_changes_nothing(name: str) -> None:
    """Every value of the record goes back to where it was heard: positions, heads, the order of reading and steps are right."""
    model = make(name)
    arrays = collect(model, SOURCE, TARGET)
    plain, by_step = forced(model), stepped(model)
    probes = [name for name, part in model.named_modules() if isinstance(part, Probe) and not name.endswith(".keep") and name in arrays]
    # One of every kind on either side: layers are alike.
    probes = list({(probe.partition(".")[0], *probe.split(".")[2:]): probe for probe in probes}.values())
    assert len(probes) > 8
    for probe in probes:
        with intervene(model, patches=[Patch(probe, arrays[probe])]):
            assert torch.allclose(forced(model), plain, atol=1e-5), probe
            if not probe.endswith(("self_attention.scores", "self_attention.weights")) or probe.startswith("encoder"):
                assert torch.allclose(stepped(model), by_step, atol=1e-5), probe
        if arrays[probe].ndim == 2:
            # Other values at one position alone tell a wrong place from a right one; what was computed before stays as it was.
            with intervene(model, patches=[Patch(probe, arrays[probe] + 1, at=((1, 1),))]):
                moved = abs(collect(model, SOURCE, TARGET)[probe] - arrays[probe]).max(1)
            order = next(place for place in model.places() if place.name == probe).reading_order(len(moved))
            assert moved[1] == pytest.approx(1, abs=1e-4), probe
            assert all(moved[place] < 1e-5 for place in range(len(moved)) if order[place] < order[1]), probe


def test_one_position_and_one_head() -> None:
    model = make("pre")
    plain = collect(model, SOURCE, TARGET)
    other = collect(model, OTHER, TARGET)
    with intervene(model, patches=[Patch("memory", other["memory"], at=((3, 1),))]):
        found = collect(model, SOURCE, TARGET)["memory"]
    assert (found[1] == other["memory"][3]).all() and (found[[0, 2, 3, 4, 5]] == plain["memory"][[0, 2, 3, 4, 5]]).all()
    name = "decoder.0.cross_attention.context"
    with intervene(model, patches=[Patch(name, other[name], heads=(1,))]):
        found = collect(model, SOURCE, TARGET)[name]
    assert (found[1] == other[name][1]).all() and abs(found[0] - plain[name][0]).max() < 1e-6


def test_parts_without_a_probe_can_be_patched_too() -> None:
    model = make("pre")
    for name in ("encoder.0.feed_forward.output", "decoder.0.self_attention.projection"):
        with intervene(model, patches=[patch(model, name)]):
            assert collect(model, SOURCE, TARGET)[name] == pytest.approx(patch(model, name).values, abs=0)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda values: Patch("nothing", values), "no such value"),
        (lambda values: Patch("decoder.0.cross_attention.keep", values), "no such value"),
        (lambda values: Patch("memory", values[:, :4]), "width 4"),
        (lambda values: Patch("memory", values[:3]), "3 positions"),
        (lambda values: Patch("memory", values, at=((9, 1),)), "position 9"),
        (lambda values: Patch("memory", values, at=((1, 9),)), "position 9"),
        (lambda values: Patch("memory", values, heads=(0,)), "no number 0"),
    ],
)
def test_patches_that_do_not_fit(change: Callable[..., Patch], fault: str) -> None:
    model = make("pre")
    wrong = change(collect(model, OTHER, TARGET)["memory"])
    with pytest.raises(UsageError, match=fault), intervene(model, patches=[wrong]):
        forced(model)
    assert not any(module._forward_hooks for module in model.modules())


def test_an_edit_is_seen_by_whoever_inspects() -> None:
    one = translator("pre")
    record = one.inspect("abcde")
    with one.edited(off=["encoder.1.self_attention:0"], patches=[Patch.take(record, "source_input")]):
        other = one.inspect("fghij")
    assert (other["encoder.1.self_attention.context"][0] == 0).all()
    assert (other["source_input"] == record["source_input"]).all()
