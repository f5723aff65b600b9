"""A language model's text is inspected by itself: what the record holds is what the model computes token by token."""

from pathlib import Path

import numpy as np
import pytest
import torch
from language_models import CAUSAL, CORPUS, LANGUAGE, RECURRENT, TEXTS, VOCABULARIES, generator, hsic

from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.errors import UsageError
from vitrail.inspection.causes.attribution import METHODS, attribute, completeness_gap, integrated_gradients
from vitrail.inspection.causes.change import Edit
from vitrail.inspection.causes.lens import apply_lens
from vitrail.inspection.causes.patching import Patch
from vitrail.inspection.drawing.terminal import to_text
from vitrail.inspection.generator import InspectableGenerator
from vitrail.inspection.maps.model_map import map_text
from vitrail.inspection.record import Inspection


@torch.inference_mode()
def stepwise(one: InspectableGenerator, ids: tuple[int, ...]) -> np.ndarray:
    """The distribution after each token, one token at a time through `step`: another way than the one that records."""
    state, rows = one.model.start(1), list[torch.Tensor]()
    for token in (EOS, *ids):
        logits, state = one.model.step(torch.tensor([token]), state)
        rows.append(logits[0].double().softmax(-1))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("kind", VOCABULARIES)
@pytest.mark.parametrize("name", LANGUAGE)
def test_what_is_recorded_is_what_the_model_says_step_by_step(name: str, kind: str) -> None:
    one = generator(name, kind)
    for text in TEXTS:
        record = one.inspect(text)
        expected = stepwise(one, record.target.ids)
        assert record["probabilities"].shape == expected.shape == (len(record.predicted_tokens), one.vocabulary.size)
        np.testing.assert_allclose(record["probabilities"], expected, atol=2e-6)
        assert record.sides == ("target",) and record.texts == (record.target.text,) == (text,)
        assert record.target_tokens == ("<eos>", *record.target.pieces) and record.predicted_tokens == (*record.target.pieces, "<eos>")
        for step, row, token in zip(record.facts.decoding.steps, expected, record.predicted_ids, strict=True):
            assert step.chosen.probability == pytest.approx(row[token], abs=2e-6) and step.rank == 1 + (row > row[token] + 1e-9).sum()
            best = [candidate.probability for candidate in step.candidates]
            assert best == sorted(best, reverse=True) and best[0] == pytest.approx(row.max(), abs=2e-6)
        nats = -sum(np.log(step.chosen.probability) for step in record.facts.decoding.steps)
        assert nats == pytest.approx(one.measure([text]).nats, abs=1e-3)


@pytest.mark.parametrize("name", LANGUAGE)
def test_every_place_of_the_model_is_in_the_record_and_the_future_changes_nothing(name: str) -> None:
    one = generator(name)
    first, second = one.inspect("the dog saw"), one.inspect("the dog ate")
    size = len("the dog ") + 1
    for place in one.model.places():
        values, others = first[place.name], second[place.name]
        axis = values.ndim - 2
        if place.role in ("attention", "score", "mask"):
            assert values.shape[-2:] == (len(first.target_tokens),) * 2
        else:
            assert values.shape[axis] == len(first.target_tokens)
        cut = (..., slice(size), slice(size)) if place.role in ("attention", "score", "mask") else (..., slice(size), slice(None))
        np.testing.assert_allclose(values[cut], others[cut], atol=1e-5, err_msg=place.name)
    assert not np.allclose(first["probabilities"][size + 1], second["probabilities"][size + 1])
    gradients = [values for label, values in first.arrays.items() if label.startswith("gradients.")]
    assert gradients and all(len(values) == len(first.predicted_tokens) for values in gradients)


@pytest.mark.parametrize("name", CAUSAL)
def test_attention_looks_back_alone_and_each_row_sums_to_one(name: str) -> None:
    one = generator(name)
    record = one.inspect("الكلب يأكل الطعام .")
    weights = record.weights("decoder")
    assert weights.shape[:2] == (2, 2) and record.main_attention == "decoder"
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert (np.triu(weights, 1) == 0).all() and (weights[..., 0] > 0).all()
    for kind in ("encoder", "cross"):
        with pytest.raises(UsageError, match="this model has none"):
            record.weights(kind)
    given = record.to_bertviz()
    assert (
        set(given) == {"attention", "tokens"} and len(given["attention"]) == 2 and given["attention"][0].shape[-1] == len(given["tokens"])
    )
    assert "Decoder self-attention" in to_text(record) and "Beam search" not in to_text(record)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_model_has_gates_and_says_that_it_has_no_attention(name: str) -> None:
    record = generator(name).inspect("猫は犬を見た。")
    assert record.main_attention is None and "This model has no attention." in to_text(record)
    for place in record.places:
        if place.role == "gate" and not place.name.endswith("candidate"):
            assert (record[place.name] > 0).all() and (record[place.name] < 1).all()


@pytest.mark.parametrize("kind", VOCABULARIES)
def test_a_text_of_several_lines_is_read_with_their_ends(kind: str) -> None:
    one = generator("causal", kind)
    record = one.inspect("the dog ate .\r\n\n  猫は犬を見た。 \n")
    lines = ["the dog ate .", "猫は犬を見た。"]
    first, second = (tuple(one.vocabulary.encode(line)) for line in lines)
    assert record.target.ids == (*first, EOS, *second) and record.target.text == "\n".join(lines)
    assert record.target.pieces[len(first)] == "<eos>" and record.target.text[slice(*record.target.spans[len(first)])] == "\n"
    said = "".join(record.target.text[first:last] for first, last in record.target.spans)
    assert said == record.target.text
    words = [record.target.word(number) for number in range(len(record.target.words))]
    assert words[:4] == ["the", "dog", "ate", "."] and "\n" not in words
    np.testing.assert_allclose(record["probabilities"], stepwise(one, record.target.ids), atol=2e-6)


@pytest.mark.parametrize("name", LANGUAGE)
@pytest.mark.parametrize("search", [None, SearchConfig(beams=3, n_best=2), SearchConfig(sampling=SamplingConfig(temperature=2.0))])
def test_the_model_writes_on(name: str, search: SearchConfig | None) -> None:
    one = generator(name)
    record = one.inspect("the cat", more=5, search=search, seed=3)
    before = tuple(one.vocabulary.encode("the cat"))
    facts = record.facts
    assert record.target.ids[: len(before)] == before and not facts.given and facts.decoding.prefix == len(before)
    written = len(record.predicted_ids) - len(before)
    assert 1 <= written <= 5 and facts.truncated == (EOS not in record.predicted_ids)
    found = facts.decoding.finished[0]
    own = [np.log(step.chosen.probability) for step in facts.decoding.steps[len(before) :]]
    assert found.length == written and found.log_probability == pytest.approx(sum(own), abs=1e-4)
    if search is None:
        assert all(step.rank == 1 for step in facts.decoding.steps[len(before) :] if step.candidates[0].token > EOS - 1)
    np.testing.assert_allclose(record["probabilities"], stepwise(one, record.target.ids)[: len(record.predicted_ids)], atol=2e-6)


@pytest.mark.parametrize("name", LANGUAGE)
def test_attributions_reach_back_alone_and_integrated_gradients_add_up(name: str) -> None:
    one = generator(name)
    record = attribute(one.inspect("बिल्ली ने खाना"), one.model)
    size = len(record.predicted_tokens)
    methods = [method for method in METHODS if name in CAUSAL or method not in ("attention", "value_zeroing")]
    assert list(record.facts.extras["attribution"]["methods"]) == methods
    for method in methods:
        values = record[f"attribution.{method}"]
        assert values.shape == (size, size) and np.abs(np.tril(values)).sum() > 0
        np.testing.assert_allclose(np.triu(values, 1), 0, atol=1e-5, err_msg=method)
    assert record.facts.extras["attribution"]["integrated_gradients_gap"] < 0.1
    ids = record.target.ids[:4]
    assert completeness_gap(one.model, (), ids, integrated_gradients(one.model, (), ids, points=128)) < 0.02
    assert "source" not in str(record.facts.extras["attribution"])


@pytest.mark.parametrize("name", LANGUAGE)
def test_occlusion_is_what_a_model_without_the_embedding_says(name: str) -> None:
    """By changing the table of a copy, in which the letter occurs once."""
    one = generator(name)
    text = "the dog"
    record = attribute(one.inspect(text), one.model, methods=["occlusion"])
    at = 1 + text.index("g")
    assert record.target_tokens[at] == "g"
    embedding = next(part for part in one.model.modules() if isinstance(part, torch.nn.Embedding))
    old = embedding.weight.detach().clone()
    output = one.model.output_weight.detach().clone()
    before = np.log(record["probabilities"].astype(np.float64))
    try:
        with torch.no_grad():
            embedding.weight[record.target.ids[at - 1]] = old.mean(0)
            ids = torch.tensor([[EOS, *record.target.ids]])
            hidden = one.model.read(ids, one.model.start(1))[0][0]
            bias = getattr(one.model, "output_bias", torch.zeros(()))
            after = (hidden @ output.t() + bias).double().log_softmax(-1).numpy()
    finally:
        with torch.no_grad():
            embedding.weight.copy_(old)
    expected = [before[row, token] - after[row, token] for row, token in enumerate(record.predicted_ids)]
    np.testing.assert_allclose(record["attribution.occlusion"][:, at], expected, atol=1e-4)


@pytest.mark.parametrize("name", LANGUAGE)
def test_the_lens_ends_in_the_models_own_distribution_or_says_that_there_is_none(name: str) -> None:
    one = generator(name)
    record = one.inspect("the dog ate")
    if name in RECURRENT:
        with pytest.raises(UsageError, match="no residual stream"):
            apply_lens(record, one.model, one.vocabulary)
        return
    seen = apply_lens(record, one.model, one.vocabulary)
    np.testing.assert_array_equal(seen["logit_lens.rank"][-1], [step.rank for step in record.facts.decoding.steps])
    right = [step.chosen.probability for step in record.facts.decoding.steps]
    np.testing.assert_allclose(seen["logit_lens.right"][-1], right, atol=1e-5)
    assert np.abs(seen["logit_lens.divergence"][-1]).max() < 1e-6 < seen["logit_lens.divergence"][0].max()


def edits(name: str, record: Inspection) -> list[Edit]:
    """One of each kind, and all together."""
    patched = "decoder.0.residual_1.sum" if name in CAUSAL else "cells.0.hidden"
    off = "decoder.0.self_attention:1" if name in CAUSAL else "cells.1:2,3"
    made = [Edit(off=(off,)), Edit(hidden=(1, 3)), Edit(hidden=("dog",)), Edit(patches=(Patch.take(record, patched, at={1: 2}),))]
    return [*made, Edit(off=(off,), hidden=(2,), patches=made[3].patches)]


@pytest.mark.parametrize("name", LANGUAGE)
def test_an_edit_changes_the_search_and_the_given_text_alike(name: str) -> None:
    """With keys and values kept from step to step, what the search says of its tokens is what one pass over all of them says."""
    one = generator(name)
    text = "a dog"
    plain = one.inspect(text, more=4)
    for edit in edits(name, one.inspect("the cat saw")):
        change = one.edit(text, edit)
        assert not change.changed and change.old.log_probability_after != pytest.approx(change.old.log_probability_before, abs=1e-4)
        assert change.edits == tuple(edit.to_lines()) and max(change.divergence) > 0 and text in change.to_text()
        record = one.inspect(text, more=4, edit=edit)
        own = [np.log(step.chosen.probability) for step in record.facts.decoding.steps[len(text) :]]
        assert record.facts.decoding.finished[0].log_probability == pytest.approx(sum(own), abs=1e-4)
        assert record.facts.extras["edits"] == edit.to_lines() and not np.allclose(record["probabilities"][-1], plain["probabilities"][-1])
        written = one.edit(text, edit, more=4)
        assert written.new.tokens == record.target.ids and written.old.tokens == plain.target.ids
    np.testing.assert_array_equal(one.inspect(text)["probabilities"], one.inspect(text)["probabilities"])


@pytest.mark.parametrize("name", CAUSAL)
def test_a_hidden_token_is_read_by_itself_alone(name: str) -> None:
    one = generator(name)
    weights = one.inspect("the dog", edit=Edit(hidden=(2,))).weights("decoder")
    assert (weights[:, :, 3:, 2] == 0).all() and (weights[:, :, 2, 2] > 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"text": "  \n "}, "nothing to inspect"),
        ({"text": "the dog ate the food . " * 8}, "at most 63; the model looks back over 64"),
        ({"text": "the dog", "more": 60}, "a text and what is written on of 67 tokens"),
        ({"text": "the dog", "more": -1}, "-1 more tokens"),
        ({"text": "the dog", "edit": Edit(words=(("dog", "cat"),))}, "an edit with other words, for a language model"),
        ({"text": "the dog", "edit": Edit(prefix="a")}, "an edit with a prefix, for a language model"),
        ({"text": "the dog", "edit": Edit(hidden=("cat",))}, "word 'cat' does not occur"),
        ({"text": "the dog", "edit": Edit(hidden=(-2,))}, "position -2 of the text"),
        ({"text": "the dog", "edit": Edit(off=("encoder.0",))}, "this model has no such part"),
    ],
)
def test_what_cannot_be_inspected_says_why(asked: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        generator("causal").inspect(**asked)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["causal", "gru-residual"])
def test_maps_are_of_what_is_recorded_line_by_line(name: str) -> None:
    one = generator(name)
    found = map_text(one, [*CORPUS, CORPUS[0], "  "])
    assert [line.text for line in found.sentences] == CORPUS and found.retrieval == () and "retrieval" not in found.to_text()
    first = one.inspect(CORPUS[0])
    size = len(first.target_tokens)
    assert found.points.piece[:size] == first.target_tokens and found.points.sentence[:size] == (0,) * size
    records = [one.inspect(line) for line in CORPUS]
    means = [np.stack([record[place].mean(0) for record in records]).astype(np.float64) for place in found.cka.places]
    for row, x in enumerate(means):
        for column, y in enumerate(means):
            expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
            assert found.cka.values[row][column] == pytest.approx(expected, abs=1e-3)
    table = found.embeddings[0]
    assert table.side == "text" and len(table.pieces) == len(set("".join(CORPUS).replace(" ", "▁")) | {"▁"})
    with pytest.raises(UsageError, match="3 different lines of 1 to"):
        map_text(one, CORPUS[:3])


@pytest.mark.parametrize("name", ["causal", "lstm-untied-truncated"])
def test_a_record_is_saved_and_read_again(name: str, tmp_path: Path) -> None:
    record = generator(name).inspect("القطة ترى الكلب .", more=3, search=SearchConfig(beams=2))
    record.save(tmp_path / "text.npz")
    again = Inspection.load(tmp_path / "text.npz")
    assert again.facts == record.facts and again.sides == ("target",) and set(again.arrays) == set(record.arrays)
    assert again.to_npz() == record.to_npz()
    with pytest.raises(UsageError, match="this record has no source"):
        _ = again.source
