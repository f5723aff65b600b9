"""The order of words: without positions the encoder makes the same vectors of any; with them, and in recurrent models, it does not."""

import pytest
from builders import KINDS, settled

from vitrail.decode.translate import TranslateConfig
from vitrail.errors import UsageError
from vitrail.inspection.permutation import permute
from vitrail.inspection.translator import InspectableTranslator


def translator(kind: str) -> InspectableTranslator:
    chosen = KINDS[kind]
    return InspectableTranslator(settled(chosen), vocabularies=chosen.vocabularies, config=TranslateConfig())


@pytest.mark.parametrize(
    "kind", ["pre-layer-sinusoidal", "pre-rms-rotary-swiglu", "post-rms-learned-gelu", "post-batch-rotary", "no-positions-target-tied"]
)
def test_without_positions_every_order_gives_the_same_vectors(kind: str) -> None:
    model = translator(kind)
    before = model.inspect("abcdef")["memory"]
    found = permute(model, "abcdef")
    assert found.without_positions is not None and found.without_positions.same
    assert found.without_positions.largest < 1e-5
    assert found.with_positions.same == (kind == "no-positions-target-tied")
    assert sorted(found.text) == sorted(found.permuted) and found.text != found.permuted
    assert (model.inspect("abcdef")["memory"] == before).all(), "the model is as it was"
    assert "same set of vectors" in found.to_text() and found.to_record()["permuted"] == found.permuted


@pytest.mark.parametrize("kind", ["gru-bahdanau", "lstm"])
def test_recurrent_models_have_no_positions_to_take_away(kind: str) -> None:
    found = permute(translator(kind), "abcdef")
    assert found.without_positions is None and not found.with_positions.same
    assert found.with_positions.largest > 0.01 and "one word after the other" in found.to_text()


def test_an_order_depends_on_its_seed_alone() -> None:
    model = translator("pre-layer-sinusoidal")
    assert permute(model, "abcdef", seed=3) == permute(model, "abcdef", seed=3)
    assert len({permute(model, "abcdef", seed=seed).permuted for seed in range(6)}) > 1


@pytest.mark.parametrize("text", ["", "a", "aaaa"])
def test_a_text_without_another_order_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        permute(translator("pre-layer-sinusoidal"), text)
