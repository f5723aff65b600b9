"""A masked language model's and a classifier's text is inspected: what the record holds is what the model says by itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from language_models import CORPUS, TEXTS, VOCABULARIES, hsic
from readers import CLASSIFIERS, LABELS, MASKED, classifier, filler

from vitrail.data.batches import pad_rows
from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.sentences.masked import MASK
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.causes.ablation import ablate_guesses, ablate_labels
from vitrail.inspection.drawing.pen import columns_of
from vitrail.inspection.drawing.terminal import to_text
from vitrail.inspection.maps.model_map import map_text
from vitrail.inspection.maps.projector import export_text_embeddings
from vitrail.inspection.reading.attribution import words_of
from vitrail.inspection.reading.facts import guesses_of, labels_of
from vitrail.inspection.reading.reader import InspectableClassifier, InspectableFiller
from vitrail.inspection.record import Inspection

HIDDEN = ["the dog saw the [MASK] .", "[MASK]は猫を[MASK][MASK]た。", "الكلب [MASK] القطة .", "बिल्ली ने खाना [MASK] ।"]


def reader(name: str) -> InspectableFiller | InspectableClassifier:
    return filler(name) if name in MASKED else classifier(name)


def attributed(name: str, text: str) -> Inspection:
    if name in MASKED:
        return filler(name).attribute(filler(name).inspect(text))
    return classifier(name).attribute(classifier(name).inspect(text))


@pytest.mark.parametrize("kind", VOCABULARIES)
@pytest.mark.parametrize("name", MASKED)
def test_guesses_are_those_that_fill_the_masks(name: str, kind: str) -> None:
    one = filler(name, kind)
    for text in HIDDEN:
        record = one.inspect(text)
        guesses, filled = guesses_of(record), one.fill(text, top=10)
        assert record.texts == (text,) and record.sides == ("source",) and len(guesses) == text.count(MASK) == len(filled)
        assert record.source_tokens == ("<sos>", *record.source.pieces, "<eos>")
        for guess, expected in zip(guesses, filled, strict=True):
            assert guess.hidden and record.source_tokens[guess.position] == MASK and guess.chosen == guess.candidates[0]
            assert [found.piece for found in guess.candidates] == [found.token for found in expected]
            np.testing.assert_allclose([c.probability for c in guess.candidates], [e.probability for e in expected], rtol=1e-4)
        masks = [text[slice(*span)].strip() for span, piece in zip(record.source.spans, record.source.pieces, strict=True) if piece == MASK]
        assert all(MASK in spelled for spelled in masks)


def test_any_position_is_guessed_at_where_it_is_asked_for() -> None:
    one = filler("masked")
    record = one.inspect("the [MASK]og", at=[1, 4], top=3)
    first, second, hidden = sorted(guesses_of(record), key=lambda guess: guess.hidden)
    assert (first.position, second.position, hidden.hidden) == (1, 4, True) and len(first.candidates) == 3
    assert first.chosen.piece == record.source_tokens[1] and first.rank >= 1
    assert first.chosen.probability == pytest.approx(record["probabilities"][1, record.source.ids[0]], abs=1e-6)
    for wrong in ([0], [99]):
        with pytest.raises(UsageError, match="position"):
            one.inspect("the dog", at=wrong)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_labels_are_those_that_the_classifier_gives(name: str) -> None:
    one = classifier(name)
    for text in TEXTS:
        record, said = one.inspect(text), one.classify(text)
        told = labels_of(record)
        assert told is not None and record.texts == (text,)
        assert [label.label for label in told.labels] == list(one.labels) == LABELS[: len(told.labels)]
        for label in told.labels:
            assert label.probability == pytest.approx(said.probabilities[label.label], abs=1e-6)
            assert label.chosen == (label.label in said.labels)
        logits = torch.tensor([label.logit for label in told.labels])
        expected = logits.softmax(0) if told.output == "softmax" else logits.sigmoid()
        np.testing.assert_allclose(record["probabilities"][0], expected, atol=1e-6)


@pytest.mark.parametrize("name", [*MASKED, *CLASSIFIERS])
def test_every_place_of_the_model_is_in_the_record(name: str) -> None:
    record = reader(name).inspect(TEXTS[3])
    length = len(record.source_tokens)
    for place in reader(name).model.places():
        values = record[place.name]
        if place.role in ("attention", "score", "mask"):
            assert values.shape[-2:] == (length, length), place.name
        elif place.role != "logits":
            assert values.shape[-2] == length, place.name
    for layer in record.attentions("encoder"):
        np.testing.assert_allclose(record.weights("encoder", layer=layer).sum(-1), 1, atol=1e-5)
    gradients = [values for label, values in record.arrays.items() if label.startswith("gradients.")]
    assert all(len(values) == length for values in gradients) and bool(gradients) == (name in CLASSIFIERS)


@pytest.mark.parametrize("name", [*MASKED, *CLASSIFIERS])
def test_the_vector_of_the_text_is_made_of_the_tokens_that_are_named(name: str) -> None:
    one = reader(name)
    record = one.inspect(TEXTS[0])
    how, tokens, memory = record.facts.extras["pooling"]["how"], record.facts.extras["pooling"]["tokens"], record["memory"]
    assert record["pooling"].sum() == pytest.approx(1) and np.flatnonzero(record["pooling"]).tolist() == tokens
    if how == "last":
        states = [record[place.name] for place in one.model.places() if place.role == "hidden" and place.layer == 1]
        expected = np.concatenate([state[at] for state, at in zip(states, tokens[::-1], strict=True)])
    else:
        expected = (record["pooling"][:, None] * memory).sum(0)
    np.testing.assert_allclose(record["sentence_vector"], expected, atol=1e-5)
    with torch.inference_mode():
        source = pad_rows([record.source.ids], start=one.model.marks_start)
        np.testing.assert_allclose(record["sentence_vector"], one.model.embed(source)[0], atol=1e-6)


@pytest.mark.parametrize("name", [*MASKED, *CLASSIFIERS])
def test_integrated_gradients_sum_to_what_the_text_adds(name: str) -> None:
    """Held against the scores themselves, read twice: as they are, and with an embedding layer that gives the mean to every token.

    N-grams are a part of what their tokens add: there is then none.
    """
    record = attributed(name, HIDDEN[0] if name in MASKED else TEXTS[0])
    model = reader(name).model
    layer = model.get_submodule("source_embedding")
    mean = model.get_parameter("source_embedding.weight").detach().mean(0)
    whole = scores(name, record)
    blinded = [layer.register_forward_hook(lambda module, inputs, output: mean.expand_as(output))]
    if name == "bag":
        ngrams = model.get_submodule("source_ngrams")
        blinded.append(ngrams.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output)))
    try:
        without = scores(name, record)
    finally:
        for one in blinded:
            one.remove()
    assert len(whole) == len(record["attribution.integrated_gradients"])
    np.testing.assert_allclose(record["attribution.integrated_gradients"].sum(1), np.subtract(whole, without), atol=0.05)
    assert record.facts.extras["attribution"]["integrated_gradients_gap"] < 0.05


@torch.inference_mode()
def scores(name: str, record: Inspection) -> list[float]:
    """log p of each guess, or the logit of each label that the model gives, straight from the model."""
    source = pad_rows([record.source.ids], start=reader(name).model.marks_start)
    if name in MASKED:
        model = filler(name).model
        logits = model.read_out(model.encode(source).memory)[0].double()[:, EOS + 1 : -1]
        return [float(logits.log_softmax(1)[guess.position, guess.chosen.token - EOS - 1]) for guess in guesses_of(record)]
    told, logit = labels_of(record), classifier(name).model.classify(source)[0].double()
    assert told is not None
    signed = torch.stack([-logit[0], logit[0]]) if len(logit) < len(told.labels) else logit
    chosen = [place for place, label in enumerate(told.labels) if label.chosen]
    likeliest = max(range(len(told.labels)), key=lambda place: told.labels[place].probability)
    return [float(signed[place]) for place in chosen or [likeliest]]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_and_ngrams_of_a_bag_sum_to_the_logit(text: str) -> None:
    """A part that is left out is missing by exactly what it is said to add, where the number of parts stays the same."""
    one, record = classifier("bag"), attributed("bag", text)
    features, told = record.facts.extras["features"], labels_of(record)
    assert told is not None
    names = [row["name"] for row in record.facts.extras["attribution"]["rows"]]
    for row, name in enumerate(names):
        (logit,) = [label.logit for label in told.labels if label.label == name]
        assert sum(feature["logits"][row] for feature in features) == pytest.approx(logit, abs=1e-5)
        # What tokens get by gradient x input is their own part and their share of the n-grams.
        shares = np.zeros(len(record.source_tokens))
        for feature in features:
            if feature["size"]:
                shares[feature["first"] : feature["first"] + feature["size"]] += feature["logits"][row] / feature["size"]
        np.testing.assert_allclose(record["attribution.gradient_x_input"][row], shares, atol=1e-5)
    assert one.model.source_ngrams is not None
    row = one.model.source_ngrams.weight
    kept = row.detach().clone()
    with torch.no_grad():
        row.zero_()
    try:
        without = labels_of(one.inspect(text))
    finally:
        with torch.no_grad():
            row.copy_(kept)
    assert without is not None
    for place, name in enumerate(names):
        runs = sum(feature["logits"][place] for feature in features if feature["size"] > 1)
        before, after = (next(label.logit for label in labels.labels if label.label == name) for labels in (told, without))
        assert before - after == pytest.approx(runs, abs=1e-5)
    drawn = to_text(record)
    assert f"Tokens and n-grams in the logit of “{names[0]}”" in drawn and "and their n-grams" in drawn


@pytest.mark.parametrize("name", ["masked", "several", "gru-mean"])
def test_words_get_what_their_tokens_get_together(name: str) -> None:
    text = HIDDEN[3] if name in MASKED else TEXTS[3]
    record = attributed(name, text)
    words = words_of(record)
    assert [record.source.word(number) for number in range(len(words))] == text.split()
    for method in ("gradient_x_input", "integrated_gradients"):
        tokens = record[f"attribution.{method}"]
        by_hand = [[row[list(word)].sum() for word in words] for row in tokens]
        np.testing.assert_allclose(record[f"word_attribution.{method}"], by_hand, atol=1e-6)
    single = [number for number, word in enumerate(words) if len(word) == 1]
    alone = record["attribution.occlusion"][:, [words[number][0] for number in single]]
    np.testing.assert_allclose(record["word_attribution.occlusion"][:, single], alone, atol=1e-5)


@pytest.mark.parametrize("name", ["masked", "masked-post-learned-untied-first", "softmax-first", "lstm-last", "bag"])
def test_a_record_is_saved_read_and_drawn(name: str, tmp_path: Path) -> None:
    for text in HIDDEN if name in MASKED else TEXTS:
        record = attributed(name, text)
        record.save(tmp_path / "one.npz")
        again = Inspection.load(tmp_path / "one.npz")
        assert again.facts == record.facts and again.facts.format == 2 and again.facts.target is None
        assert all(np.array_equal(again[label], values, equal_nan=True) for label, values in record.arrays.items())
        drawn = to_text(record)
        assert text in drawn and all(columns_of(line) <= 100 for line in drawn.splitlines())
        assert ("Guesses: position" in drawn) == (name in MASKED) and ("Labels: probability" in drawn) == (name in CLASSIFIERS)
        assert "What each word adds to" in drawn and ("Encoder self-attention: each token" in drawn) == (name not in ("lstm-last", "bag"))
        assert to_text(record, ascii=True).isascii()
    with pytest.raises(UsageError, match="no target"):
        _ = record.target


def test_texts_that_cannot_be_read_say_so() -> None:
    for one in (filler("masked"), classifier("several")):
        with pytest.raises(UsageError, match="nothing to inspect"):
            one.inspect("  ")
    with pytest.raises(UsageError, match="a text of 100 tokens") as told:
        filler("masked").inspect("a" * 100)
    assert "62" in told.value.expected and told.value.remedy
    record = classifier("several").inspect("a" * 100)
    assert record.notes == ("cut inside a sentence that was too long",) and len(record.source_tokens) == 64
    assert guesses_of(filler("masked").inspect("the dog")) == [] and "nothing is guessed" in to_text(filler("masked").inspect("the dog"))
    with pytest.raises(UsageError, match="nothing to explain"):
        filler("masked").attribute(filler("masked").inspect("the dog"))
    with pytest.raises(UsageError, match="the label 'x'"):
        classifier("several").attribute(record, labels=["x"])
    chosen = classifier("several").attribute(record, labels=["पशु"])
    assert chosen.facts.extras["attribution"]["rows"] == [{"name": "पशु", "position": None}]
    for other in (filler("masked-rms-swiglu"), classifier("gru-mean")):
        with pytest.raises(ModelError, match="another model"):
            other.attribute(record)


def test_heads_that_are_switched_off_change_what_is_said() -> None:
    """The whole model's figures are those of `measure`, and switching off every head of a layer is what zero weights there do."""
    masked, labelled = filler("masked"), classifier("several")
    whole = ablate_guesses(masked, TEXTS)
    score = masked.measure(TEXTS)
    assert whole.value == pytest.approx(100 * score.right / score.tokens) and len(whole.heads) == 4
    found = ablate_labels(labelled, TEXTS, ["पशु", "", "animal,動物", "पशु"])
    said = labelled.measure(TEXTS, ["पशु", "", "animal,動物", "पशु"])
    assert found.nats == pytest.approx(-said.nats / len(TEXTS), abs=1e-6)
    head = next(one for one in found.heads if (one.layer, one.head) == (1, 0))
    weight = labelled.model.get_parameter("encoder.1.self_attention.output.weight")
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[:, : weight.shape[1] // 2] = 0
        without = labelled.measure(TEXTS, ["पशु", "", "animal,動物", "पशु"])
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert head.nats == pytest.approx(-without.nats / len(TEXTS), abs=1e-5) and head.nats_lost != 0
    with pytest.raises(UsageError, match="no attention heads"):
        ablate_labels(classifier("gru-mean"), TEXTS, [LABELS[0]] * 4)
    with pytest.raises(UsageError, match="no line with a token"):
        ablate_guesses(masked, ["", " "])


@pytest.mark.parametrize("name", MASKED)
def test_the_lens_ends_in_the_guesses_and_begins_in_what_the_first_block_reads(name: str) -> None:
    one = filler(name)
    record = one.lens(one.inspect(HIDDEN[1], at=[2]))
    guesses = guesses_of(record)
    assert record["logit_lens.rank"].shape == (3, len(guesses))
    for place, guess in enumerate(guesses):
        assert record["logit_lens.right"][-1, place] == pytest.approx(guess.chosen.probability, abs=1e-5)
        assert record["logit_lens.rank"][-1, place] == guess.rank and record["logit_lens.divergence"][-1, place] == pytest.approx(
            0, abs=1e-6
        )
        assert record["logit_lens.entropy"][-1, place] == pytest.approx(guess.entropy, abs=1e-4)
        assert record.facts.extras["logit_lens"]["pieces"][-1][place] == [found.piece for found in guess.candidates[:5]]
    last = one.model.get_submodule("encoder.1")
    idle = last.register_forward_hook(lambda module, inputs, output: inputs[0])
    try:
        early = guesses_of(one.inspect(HIDDEN[1], at=[2]))
    finally:
        idle.remove()
    hidden = [place for place, guess in enumerate(guesses) if guess.hidden]
    shown = [[record["logit_lens.top_probabilities"][1, place, 0]] for place in hidden]
    np.testing.assert_allclose(shown, [[early[place].candidates[0].probability] for place in hidden], atol=1e-5)


@pytest.mark.parametrize("name", ["masked", "masked-post-learned-untied-first", "softmax-first", "gru-mean"])
def test_maps_are_of_what_is_recorded_line_by_line(name: str) -> None:
    reader = filler(name, "bpe") if name in MASKED else classifier(name)
    found = map_text(reader, [*CORPUS, CORPUS[0], " "])
    assert [line.text for line in found.sentences] == CORPUS and found.retrieval == () and found.means.place == "memory"
    records = [reader.inspect(line) for line in CORPUS]
    assert found.points.piece[: len(records[0].source_tokens)] == records[0].source_tokens
    means = [np.stack([record[place].mean(0) for record in records]).astype(np.float64) for place in found.cka.places]
    for row, x in enumerate(means):
        for column, y in enumerate(means):
            assert found.cka.values[row][column] == pytest.approx(hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y)), abs=1e-3)
    (table,) = found.embeddings
    vocabulary = reader.vocabularies.source
    assert table.side == "text" and sum(table.counts) == sum(map(len, vocabulary.encode_batch(CORPUS)))
    with pytest.raises(UsageError, match="3 different lines of 1 to"):
        map_text(reader, CORPUS[:3])


def test_the_projector_gets_the_tokens_of_a_masked_model_and_its_mask(tmp_path: Path) -> None:
    reader = filler("masked", "bpe")
    found = export_text_embeddings(reader, tmp_path / "out")
    assert found.tables == {"embeddings": reader.vocabulary.size + 1}
    assert len((tmp_path / "out" / "embeddings.vectors.tsv").read_text().splitlines()) == reader.vocabulary.size + 1
