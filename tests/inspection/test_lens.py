"""The logit lens shows what a model cut off after each layer would say."""

import numpy as np
import pytest
import torch
from builders import TRANSLATING, settled
from recorded import RECURRENT, TRANSFORMERS, exact, model, record, translator

from vitrail.decode.forced import make_batch
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.causes.lens import apply_lens, layer_names
from vitrail.inspection.decoding import piece_of
from vitrail.inspection.record import Inspection
from vitrail.models.build import build_model

pytestmark = pytest.mark.sampled(7)

every_transformer = pytest.mark.parametrize("name", TRANSFORMERS)


def seen_through(name: str) -> Inspection:
    return apply_lens(record(name), model(name), TRANSLATING[name].vocabularies.target)


@torch.no_grad()
def cut_off(name: str, layers: int) -> np.ndarray:
    """The distribution of a model that has only the first decoder layers, its weights being those of the whole one."""
    short = build_model(TRANSFORMERS[name].model_copy(update={"decoder_layers": layers}), TRANSLATING[name].vocabularies).eval()
    short.load_state_dict({key: value for key, value in model(name).state_dict().items() if key in short.state_dict()})
    pairs = make_batch(short, [record(name).source.ids], [record(name).target.ids], ended=not record(name).facts.truncated)
    return short.read_out(short.decode(pairs.target_in, short.encode(pairs.source)))[0].double().softmax(1).numpy()


@every_transformer
def test_each_layer_says_what_a_model_cut_off_there_would(name: str) -> None:
    found, layers = seen_through(name), TRANSFORMERS[name].decoder_layers
    predicted = np.array(found.predicted_ids)
    last = cut_off(name, layers)
    for layer in range(1, layers + 1):
        expected = cut_off(name, layer)
        right = expected[np.arange(len(predicted)), predicted]
        top = found["logit_lens.top_ids"][layer].astype(int)
        np.testing.assert_allclose(found["logit_lens.right"][layer], right, atol=1e-5)
        np.testing.assert_allclose(found["logit_lens.top_probabilities"][layer], np.sort(expected)[:, :-6:-1], atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(expected, top, axis=1), np.sort(expected)[:, :-6:-1], atol=1e-5)
        np.testing.assert_allclose(found["logit_lens.entropy"][layer], -(expected * np.log(expected)).sum(1), atol=1e-4)
        np.testing.assert_allclose(found["logit_lens.divergence"][layer], (last * np.log(last / expected)).sum(1), atol=1e-4)
        assert found["logit_lens.rank"][layer].tolist() == (1 + (expected > right[:, None] * (1 + 1e-5)).sum(1)).tolist()


@every_transformer
def test_the_first_layer_is_what_the_decoder_reads_and_the_last_what_it_says(name: str) -> None:
    found = seen_through(name)
    stream, asked = torch.from_numpy(found["target_input"])[None], model(name)
    ends = dict(asked.named_children())
    with torch.no_grad():
        normed = ends["decoder_norm"](stream, torch.ones(stream.shape[:2], dtype=torch.bool)) if "decoder_norm" in ends else stream
        expected = asked.read_out(normed)[0].softmax(1).numpy()
    best = expected.argmax(axis=1)
    assert found["logit_lens.top_ids"][0, :, 0].tolist() == best.tolist()
    np.testing.assert_allclose(found["logit_lens.top_probabilities"][0, :, 0], expected.max(axis=1), atol=1e-5)
    assert [step.rank for step in found.facts.decoding.steps] == found["logit_lens.rank"][-1].tolist()
    np.testing.assert_allclose([step.entropy for step in found.facts.decoding.steps], found["logit_lens.entropy"][-1], atol=1e-4)
    np.testing.assert_allclose(found["logit_lens.divergence"][-1], 0, atol=1e-9)
    chosen = [step.chosen.probability for step in found.facts.decoding.steps]
    np.testing.assert_allclose(found["logit_lens.right"][-1], chosen, atol=1e-5)


@every_transformer
def test_shapes_names_and_pieces(name: str) -> None:
    found, layers, length = seen_through(name), TRANSFORMERS[name].decoder_layers, len(record(name).predicted_tokens)
    assert [one for one in found.arrays if one not in record(name).arrays] == [
        f"logit_lens.{what}" for what in ("top_ids", "top_probabilities", "rank", "right", "entropy", "divergence")
    ]
    for what, depth, kind in (("top_ids", (5,), np.int32), ("top_probabilities", (5,), np.float32), ("rank", (), np.int32)):
        assert found[f"logit_lens.{what}"].shape == (layers + 1, length, *depth) and found[f"logit_lens.{what}"].dtype == kind
    for what in ("right", "entropy", "divergence"):
        assert found[f"logit_lens.{what}"].shape == (layers + 1, length) and found[f"logit_lens.{what}"].dtype == np.float32
    told = found.facts.extras["logit_lens"]
    assert told["layers"] == layer_names(record(name)) and all(exact(found[one]).shape[0] == length for one in told["layers"])
    vocabulary = TRANSLATING[name].vocabularies.target
    assert told["pieces"] == [[[piece_of(int(one), vocabulary) for one in row] for row in layer] for layer in found["logit_lens.top_ids"]]


def test_what_has_no_lens_is_refused() -> None:
    for name in RECURRENT:
        with pytest.raises(UsageError, match="no residual stream"):
            apply_lens(record(name), model(name), TRANSLATING[name].vocabularies.target)
    name = "pre-layer-sinusoidal"
    with pytest.raises(ModelError, match="made by another model"):
        apply_lens(record(name), settled(TRANSLATING[name]), TRANSLATING[name].vocabularies.target)


def test_a_translation_of_nothing_has_one_position() -> None:
    name = "post-layer-untied"
    found = apply_lens(translator(name).inspect("a", ""), model(name), TRANSLATING[name].vocabularies.target)
    assert found["logit_lens.rank"].shape == (TRANSFORMERS[name].decoder_layers + 1, 1)
