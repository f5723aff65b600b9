"""Attributions are what their equations say: by finite differences, by models made so that the answer is known, and by hand."""

import re

import numpy as np
import pytest
import torch
from builders import TRANSLATING, settled
from recorded import ATTENTIVE, RECURRENT, SOURCE, TARGET, TRANSFORMERS, S, T, arrays, batch, exact, model, record, translator

from vitrail.data.vocabularies.subwords import CharacterVocabulary, Vocabularies
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.attributing import methods
from vitrail.inspection.causes import attribution
from vitrail.inspection.causes.attribution import (
    DESCRIPTIONS,
    METHODS,
    attribute,
    completeness_gap,
    gradient_x_input,
    integrated_gradients,
    occlusion,
    value_zeroing,
)
from vitrail.models.base import TranslationModel
from vitrail.models.build import build_model

pytestmark = pytest.mark.sampled(7)

every_kind = pytest.mark.parametrize("name", TRANSLATING)
every_attention = pytest.mark.parametrize("name", ATTENTIVE)


@torch.no_grad()
def log_p(asked: TranslationModel, embedded: torch.Tensor) -> np.ndarray:
    """log p(y_t | y_<t, x) for given source embeddings, without what is tested: the model's own embedding lookup is replaced."""
    table, pairs = asked.get_submodule("source_embedding"), batch()
    forward, width = table.forward, embedded.shape[1]

    def look_up(tokens: torch.Tensor) -> torch.Tensor:
        is_source = tokens.shape[1] == S and bool((tokens == pairs.source).all())
        return (embedded / width**0.5).expand(len(tokens), -1, -1) if is_source else forward(tokens)

    table.forward = look_up
    try:
        logits = asked.read_out(asked.decode(pairs.target_in, asked.encode(pairs.source)))[0]
    finally:
        table.forward = forward
    return logits.double().log_softmax(1)[torch.arange(T), pairs.target_out[0]].numpy()


def embeddings(asked: TranslationModel) -> tuple[torch.Tensor, torch.Tensor]:
    """x, and the mean embedding b."""
    table = asked.get_submodule("source_embedding").get_parameter("weight").detach()
    return table[batch().source[0]] * table.shape[1] ** 0.5, table.mean(0) * table.shape[1] ** 0.5


@every_kind
def test_gradient_x_input_is_a_finite_difference(name: str) -> None:
    """log p at x_s·(1 + h) less that at x_s·(1 - h), over 2·h, in float64."""
    asked = settled(TRANSLATING[name]).double()
    found = gradient_x_input(asked, SOURCE, TARGET)
    embedded, _ = embeddings(asked)
    expected = np.zeros((T, S))
    for place in range(S):
        step = torch.zeros_like(embedded)
        step[place] = 1e-5 * embedded[place]
        expected[:, place] = (log_p(asked, embedded + step) - log_p(asked, embedded - step)) / 2e-5
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4)


@every_kind
def test_occlusion_is_a_difference_of_log_probabilities(name: str) -> None:
    embedded, absent = embeddings(model(name))
    expected = np.zeros((T, S))
    for place in range(S):
        changed = embedded.clone()
        changed[place] = absent
        expected[:, place] = log_p(model(name), embedded) - log_p(model(name), changed)
    np.testing.assert_allclose(occlusion(model(name), SOURCE, TARGET), expected, atol=2e-5)


@every_kind
def test_integrated_gradients_sum_to_what_the_source_adds(name: str) -> None:
    embedded, absent = embeddings(model(name))
    expected = log_p(model(name), embedded) - log_p(model(name), absent.expand_as(embedded))
    found = integrated_gradients(model(name), SOURCE, TARGET, points=48)
    kinked = name in TRANSFORMERS and TRANSFORMERS[name].activation == "relu"
    np.testing.assert_allclose(found.sum(axis=1), expected, atol=0.3 if kinked else 2e-3)
    gap = completeness_gap(model(name), SOURCE, TARGET, found)
    assert gap == pytest.approx(np.abs(found.sum(axis=1) - expected).max(), abs=1e-5)
    assert completeness_gap(model(name), SOURCE, TARGET, found + np.eye(T, S, dtype=np.float32)) > 0.9


def test_more_points_come_nearer() -> None:
    gaps = [
        completeness_gap(model("lstm"), SOURCE, TARGET, integrated_gradients(model("lstm"), SOURCE, TARGET, points=points))
        for points in (1, 3, 12)
    ]
    assert gaps[0] > 10 * gaps[1] > 10 * gaps[2]


@pytest.mark.parametrize("name", ["post-rms-learned-gelu", "gru-bahdanau"])
def test_small_batches_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {method: attribution._FUNCTIONS[method](model(name), SOURCE, TARGET) for method in METHODS}
    monkeypatch.setattr(methods, "_TOKENS", 2 * (S + T))
    for method, values in whole.items():
        np.testing.assert_allclose(attribution._FUNCTIONS[method](model(name), SOURCE, TARGET), values, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_value_zeroing_is_what_zero_values_do(name: str) -> None:
    """With value vectors of 0, where above weights of 0 are meant to be the same; a hook on the Probes `v`, one position at a time."""
    asked, pairs = model(name), batch()
    found = value_zeroing(asked, SOURCE, TARGET)
    of_source = re.compile(r"encoder\.\d+\.self_attention\.v|decoder\.\d+\.cross_attention\.v")
    readers = [part for probe, part in asked.named_modules() if of_source.fullmatch(probe)]
    assert len(readers) == TRANSFORMERS[name].encoder_layers + TRANSFORMERS[name].decoder_layers
    for place in range(S):

        def silence(module: torch.nn.Module, inputs: object, output: torch.Tensor, place: int = place) -> torch.Tensor:
            output = output.clone()
            output[:, :, place] = 0
            return output

        handles = [part.register_forward_hook(silence) for part in readers]
        with torch.no_grad():
            hidden = asked.decode(pairs.target_in, asked.encode(pairs.source))[0].double()
        for handle in handles:
            handle.remove()
        whole = torch.from_numpy(exact(arrays(name)["decoder_output"]))
        expected = 1 - (hidden * whole).sum(1) / hidden.norm(dim=1) / whole.norm(dim=1)
        np.testing.assert_allclose(found[:, place], expected, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in ATTENTIVE if name in RECURRENT])
def test_value_zeroing_of_a_recurrent_model_takes_a_position_out_of_the_context(name: str) -> None:
    found = value_zeroing(model(name), SOURCE, TARGET)
    assert found.shape == (T, S) and (found >= 0).all() and (found > 1e-9).any()
    if RECURRENT[name].attention == "bahdanau" or RECURRENT[name].feeds:
        return
    # h~ = tanh(W·[s; c]) where no step reads what attention found at another.
    seen, readout = arrays(name), model(name).get_submodule("readout")
    weight, bias = (readout.get_parameter(which).detach().double().numpy() for which in ("weight", "bias"))
    top, memory, weights = (exact(seen[what]) for what in ("decoder.0.hidden", "memory", "attention.weights"))
    for place in range(S):
        kept = weights[0] * (np.arange(S) != place)
        hidden, whole = np.tanh(np.concatenate([top, kept @ memory], axis=1) @ weight.T + bias), exact(seen["decoder_output"])
        cosine = (hidden * whole).sum(1) / np.linalg.norm(hidden, axis=1) / np.linalg.norm(whole, axis=1)
        np.testing.assert_allclose(found[:, place], 1 - cosine, atol=1e-5)


@every_attention
def test_attention_is_the_mean_of_layers_and_heads(name: str) -> None:
    found = attribute(record(name), model(name), methods=["attention"])
    expected = record(name).weights("cross").mean(axis=(0, 1))
    np.testing.assert_allclose(found["attribution.attention"], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["pre-layer-sinusoidal", "unequal-depths-wide-heads", "gru-one-way-reversed", "lstm-luong-dot-fed"])
def test_a_record_gains_all_that_its_model_can_be_asked_by(name: str) -> None:
    before = record(name)
    with torch.inference_mode():  # as a caller may be
        after = attribute(before, model(name))
    possible = [method for method in METHODS if name in ATTENTIVE or method not in ("attention", "value_zeroing")]
    assert [one for one in after.arrays if one not in before.arrays] == [f"attribution.{method}" for method in possible]
    for method in possible:
        values = after[f"attribution.{method}"]
        assert values.dtype == np.float32 and values.shape == (len(after.predicted_tokens), len(after.source_tokens))
        assert np.isfinite(values).all() and np.abs(values).max() > 0
    extra = after.facts.extras["attribution"]
    assert extra["methods"] == {method: DESCRIPTIONS[method].model_dump() for method in possible}
    values = np.asarray(after["attribution.integrated_gradients"], dtype=np.float32)
    gap = completeness_gap(model(name), after.source.ids, after.target.ids, values, ended=not after.facts.truncated)
    assert extra["integrated_gradients_gap"] == gap
    assert not any(part._forward_hooks for part in model(name).modules()) and "attribution" not in before.facts.extras


def test_only_what_is_asked_for() -> None:
    found = attribute(record("lstm"), model("lstm"), methods=["occlusion"])
    assert "attribution.occlusion" in found.arrays and "attribution.gradient_x_input" not in found.arrays
    assert list(found.facts.extras["attribution"]) == ["methods"]


def test_the_token_that_decides_is_found() -> None:
    """Every source position is made to read itself alone, and every target position that of one token: nothing hangs on the others."""
    asked, place = model("pre-layer-sinusoidal"), 4

    def reading(wanted: torch.Tensor):
        return lambda module, inputs, weights: wanted.to(weights).expand_as(weights)

    handles = [
        part.register_forward_hook(reading(torch.eye(S) if probe.startswith("encoder") else torch.eye(S)[[place] * T]))
        for probe, part in asked.named_modules()
        if probe.endswith("attention.weights") and not probe.startswith("decoder.0.self") and not probe.startswith("decoder.1.self")
    ]
    for method in (gradient_x_input, integrated_gradients, occlusion):
        values = np.abs(method(asked, SOURCE, TARGET))
        assert (values[:, place] > 1e-4).all(), method.__name__
        assert (np.delete(values, place, axis=1) < 1e-6).all(), method.__name__
    for handle in handles:
        handle.remove()


def test_truncated_training_does_not_truncate_attribution() -> None:
    for method in (gradient_x_input, integrated_gradients):
        found = []
        for truncate in (None, 1):
            torch.manual_seed(0)
            config = RECURRENT["lstm-luong-dot-fed"].model_copy(update={"truncate": truncate})
            found.append(method(build_model(config, TRANSLATING["lstm-luong-dot-fed"].vocabularies).eval(), SOURCE, TARGET))
        np.testing.assert_allclose(found[0], found[1], atol=1e-6)


@pytest.mark.parametrize(("source", "target"), [([4], []), ([4], [5, 6]), ([5] * 30, [6] * 2)])
def test_short_and_unequal_sentences(source: list[int], target: list[int]) -> None:
    for name in ("pre-layer-sinusoidal", "lstm-luong-general"):
        for method in METHODS:
            values = attribution._FUNCTIONS[method](model(name), source, target)
            assert values.shape == (len(target) + 1, len(source) + 1) and np.isfinite(values).all()


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'value_zeroing': this model has no attention[\s\S]*occlusion"):
        attribute(record("lstm"), model("lstm"), methods=["occlusion", "value_zeroing"])
    with pytest.raises(UsageError, match=r"'saliency': no such method[\s\S]*attention"):
        attribute(record("pre-batch"), model("pre-batch"), methods=["saliency"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ModelError, match="made by another model"):
        attribute(record("lstm"), model("rnn"))
    with pytest.raises(ModelError, match="made by another model"):
        attribute(record("lstm"), settled(TRANSLATING["lstm"]))
    with pytest.raises(ModelError, match="compiled"):
        attribute(record("lstm"), torch.compile(model("lstm"), backend="eager"))  # pyright: ignore[reportArgumentType]
    few = CharacterVocabulary(list("abcd"))
    with pytest.raises(ModelError, match="made by another model"):
        other = build_model(TRANSLATING["lstm"].config, Vocabularies(few, few, joint=True)).eval()
        attribute(translator("lstm").inspect("ponm", "p"), other)
