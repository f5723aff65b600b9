"""Maps of models: states of many sentences as of one, retrieval on planted models, neighbours, likeness, the record, the projector."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import TRANSLATING, vocabularies
from recorded import model, translator

from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.search.beams import SearchConfig
from vitrail.errors import UsageError
from vitrail.inspection.collect import collect
from vitrail.inspection.maps.embeddings import find_neighbours, table_of
from vitrail.inspection.maps.model_map import POSITIONS, Maps, map_model
from vitrail.inspection.maps.projector import VectorTable, export_embeddings, write_projector
from vitrail.inspection.maps.retrieval import look_up
from vitrail.inspection.maps.similarity import linear_cka
from vitrail.inspection.maps.states import Pooled, read_states
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig

SENTENCES = ["".join(letters) for letters in itertools.permutations("abcde", 4)][:40]
SOME = ("pre-layer-sinusoidal", "post-layer-untied", "lstm-bahdanau-layer-norm", "gru-one-way-reversed")


def order_blind() -> InspectableTranslator:
    """A Transformer without positions: for it a sentence and its reverse are the same set of words."""
    torch.manual_seed(2)
    config = TransformerConfig(encoder_layers=1, decoder_layers=1, width=16, heads=2, feed_forward=16, positions="none")
    words = vocabularies(joint=True)
    return InspectableTranslator(build_model(config, words).eval(), vocabularies=words)


# ---- states ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TRANSLATING)
def test_states_read_side_by_side_are_those_of_each_pair_alone(kind: str) -> None:
    pairs = [((5, 6, 7), (8, 9)), ((5, 4, 9, 10, 11), (8,)), ((7,), (8, 9, 4, 5))]
    numbers = list[int]()
    for one in read_states(model(kind), pairs):
        numbers.append(one.number)
        alone = collect(model(kind), *pairs[one.number])
        assert {"source_embedded", "memory"} <= one.source.keys() and {"target_embedded", "decoder_output"} <= one.target.keys()
        for name, values in {**one.source, **one.target}.items():
            np.testing.assert_allclose(values, alone[name], rtol=1e-5, atol=1e-5, err_msg=name)
    assert sorted(numbers) == [0, 1, 2]


def test_many_pairs_are_cut_into_batches_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list[int]()
    one = model("pre-layer-sinusoidal")
    encode = one.encode
    monkeypatch.setattr(one, "encode", lambda source: (rows.append(len(source)), encode(source))[1])
    pooled = Pooled(51)
    for states in read_states(one, [*[((4, 5),) * 2] * 50, ((4,) * 400, (5,))]):
        pooled.add(states)
    assert rows == [1, 32, 18]
    np.testing.assert_allclose(pooled.source["memory"][0], pooled.source["memory"][49], atol=1e-5)


# ---- retrieval -------------------------------------------------------------------------------------------------------------------


def test_a_planted_rotation_is_found_only_where_queries_are_turned() -> None:
    draw = np.random.default_rng(0)
    meaning = draw.normal(size=(200, 12))
    answers = meaning @ np.linalg.qr(draw.normal(size=(12, 12)))[0] + 0.1 * draw.normal(size=(200, 12)) + 9
    turned = look_up(meaning, answers, source="x", target="y", mapped=True)
    plain = look_up(meaning, answers, source="x", target="y", mapped=False)
    assert turned.accuracy > 0.99 and turned.median_rank == 1
    assert plain.accuracy < 0.05 and plain.median_rank > 20
    assert turned.candidates == 100 and turned.chance == pytest.approx(0.01) and turned.sentences == 200


def test_what_is_unrelated_is_found_by_chance() -> None:
    draw = np.random.default_rng(0)
    found = look_up(draw.normal(size=(400, 6)), draw.normal(size=(400, 6)), source="x", target="y", mapped=True)
    assert found.accuracy < 0.03 and 60 < found.median_rank < 140


def test_an_encoder_blind_to_order_finds_reversed_sentences() -> None:
    words = ["".join(letters) for letters in itertools.combinations("abcdefgh", 4)][:60]
    found = {
        (one.source, one.target, one.mapped): one
        for one in map_model(order_blind(), words, translations=[w[::-1] for w in words]).retrieval
    }
    assert found["memory", "memory", False].accuracy == 1
    assert set(found) == {
        ("memory", "memory", False),
        ("source_embedded", "target_embedded", False),
        ("memory", "decoder_output", True),
        ("source_embedded", "target_embedded", True),
    }
    others = words[1:] + words[:1]
    wrong = map_model(order_blind(), words, translations=others).retrieval[0]
    assert (wrong.source, wrong.target) == ("memory", "memory") and wrong.accuracy < 0.2


def test_separate_vocabularies_are_only_compared_through_a_rotation() -> None:
    found = map_model(translator("post-layer-untied"), SENTENCES, translations=SENTENCES[::-1]).retrieval
    assert all(one.mapped for one in found) and len(found) == 2


# ---- the record ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOME)
def test_the_record_holds_what_it_promises(kind: str) -> None:
    one = translator(kind)
    found = map_model(one, SENTENCES, translations=SENTENCES[::-1])
    record = json.loads(json.dumps(found.to_record(), allow_nan=False))
    assert Maps.model_validate(record) == found
    points = record["points"]
    assert len(points["piece"]) == len(points["sentence"]) == len(points["position"]) == min(POSITIONS, 5 * len(SENTENCES))
    assert points["piece"][:5] == [*one.vocabularies.source.pieces(one.encode_source(SENTENCES[0])), "<eos>"]
    for drawn in record["states"]:
        assert [len(column) for column in drawn["coordinates"]] == [len(points["piece"])] * 3
        assert 0 < sum(drawn["explained"]) <= 1 + 1e-9
    assert record["states"][0]["place"] == "source_embedded" and record["states"][-1]["place"] == "memory"
    assert len(record["means"]["coordinates"][0]) == len(record["sentences"]) == len(SENTENCES)
    assert record["sentences"][0] == {"text": SENTENCES[0], "translation": SENTENCES[-1]}
    assert [table["side"] for table in record["embeddings"]] == (["both"] if one.vocabularies.joint else ["source", "target"])
    table = record["embeddings"][0]
    assert len(table["pieces"]) == len(table["counts"]) == len(table["neighbours"]) == len(table["coordinates"][0])
    assert table["counts"] == sorted(table["counts"], reverse=True)
    assert "linear CKA" in found.to_text() and "retrieval" in found.to_text()
    piece, near = table["pieces"][0], table["neighbours"][0]
    assert re.search(rf"^  {piece} +{near[0][0]} {near[0][1]:.2f}  {near[1][0]}", found.to_text().split("nearest")[1], re.MULTILINE)


def test_likeness_is_that_of_means_within_a_model_and_between_two() -> None:
    one, other = translator("pre-layer-sinusoidal"), translator("rnn")
    texts = SENTENCES[::5]
    likeness = map_model(one, texts, translations=texts[::-1], other=other, other_name="rnn").cka

    def memory(which: InspectableTranslator) -> np.ndarray:
        return np.stack([collect(which.model, which.encode_source(text), [5])["memory"].mean(axis=0) for text in texts])

    assert likeness.other == "rnn" and likeness.other_places is not None and likeness.between is not None
    row, column = likeness.places.index("memory"), likeness.other_places.index("memory")
    assert likeness.between[row][column] == pytest.approx(linear_cka(memory(one), memory(other)), abs=1e-3)
    values = np.array(likeness.values)
    np.testing.assert_allclose(np.diagonal(values), 1)
    np.testing.assert_allclose(values, values.T, atol=1e-4)
    same = map_model(one, texts, translations=texts[::-1], other=one).cka
    assert same.between == same.values


def test_translations_are_the_models_own_where_none_are_given() -> None:
    one = translator("pre-layer-sinusoidal")
    texts = [f"{a}{b}" for a in "abcdefgh" for b in "ijkl"]
    greedy = [found.text for found in one.translate(texts, search=SearchConfig(beams=1))]
    firsts = [number for number, text in enumerate(greedy) if text not in greedy[:number] and text]
    assert [(pair.text, pair.translation) for pair in map_model(one, texts).sentences] == [(texts[n], greedy[n]) for n in firsts]


def test_repeated_empty_and_endless_sentences_are_left_out() -> None:
    texts = [*SENTENCES[:10], SENTENCES[0], "", "a" * 300]
    found = map_model(order_blind(), texts, translations=[*SENTENCES[10:20], SENTENCES[20], "ab", "ba"])
    assert [pair.text for pair in found.sentences] == SENTENCES[:10]
    with pytest.raises(UsageError, match="3 different sentences"):
        map_model(order_blind(), texts[:3], translations=texts[:3])
    with pytest.raises(UsageError, match="10 sentences and 3 translations"):
        map_model(order_blind(), texts[:10], translations=texts[:3])


# ---- neighbours ------------------------------------------------------------------------------------------------------------------


def test_neighbours_of_a_planted_twin() -> None:
    one = order_blind()
    first, second = one.vocabularies.source.encode("ab")
    with torch.no_grad():
        table = one.model.get_parameter("source_embedding.weight")
        table[second] = 3 * table[first]
    found = find_neighbours(one, "aa c", count=2)
    assert found.pieces[0] == "a" and len(found.pieces) == len(set(found.pieces))
    assert found.neighbours[0][0] == ("b", 1.0)
    assert found.to_text().startswith("a") and "b 1.00" in found.to_text()
    with pytest.raises(UsageError):
        find_neighbours(one, "  ")
    with pytest.raises(UsageError):
        find_neighbours(one, "", side="target")


def test_special_tokens_are_no_neighbours() -> None:
    one = translator("pre-layer-sinusoidal")
    found = find_neighbours(one, "a", count=one.vocabularies.source.size)
    assert len(found.neighbours[0]) == one.vocabularies.source.size - EOS - 2


# ---- the projector ---------------------------------------------------------------------------------------------------------------


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    one = translator("post-layer-untied")
    export_embeddings(one, tmp_path, sentences=["abc", "", "de"])
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(encoding="utf-8"), ProjectorConfig())
    assert [table.tensor_name for table in config.embeddings] == ["source-embeddings", "target-embeddings", "memory"]
    for table in config.embeddings:
        vectors = np.loadtxt(tmp_path / table.tensor_path, delimiter="\t", ndmin=2)
        assert list(table.tensor_shape) == list(vectors.shape)
        assert len((tmp_path / table.metadata_path).read_text(encoding="utf-8").split("\n")) == len(vectors) + 2  # header, last end
    vectors = np.loadtxt(tmp_path / "target-embeddings.vectors.tsv", delimiter="\t")
    np.testing.assert_allclose(vectors, table_of(one.model, "target"), rtol=1e-5)
    memory = np.loadtxt(tmp_path / "memory.vectors.tsv", delimiter="\t")
    np.testing.assert_allclose(memory[4:], collect(one.model, one.encode_source("de"), [5])["memory"], rtol=1e-4, atol=1e-5)
    assert (tmp_path / "memory.metadata.tsv").read_text(encoding="utf-8").split("\n")[5] == "d\t1\t0\tde"


def test_no_text_leaves_its_cell(tmp_path: Path) -> None:
    texts = ["tab\there", "line\nhere\r", "\u00a0", "", "  ", "\u2028", "<b>", "ﷺ"]
    written = write_projector(tmp_path, [VectorTable("t", np.eye(8), ("text", "more"), [(text, "x") for text in texts])])
    lines = (tmp_path / "t.metadata.tsv").read_text(encoding="utf-8").split("\n")
    assert lines[1:-1] == ["tab\\there\tx", "line\\nhere\\r\tx", "\\xa0\tx", '""\tx', '""\tx', "\\u2028\tx", "<b>\tx", "ﷺ\tx"]
    write_projector(tmp_path, [VectorTable("t", np.eye(8), ("text",), [(text,) for text in texts])])
    assert (tmp_path / "t.metadata.tsv").read_text(encoding="utf-8").startswith("tab")  # one column has no header
    assert "8 of t" in written.to_text()


def test_states_of_no_sentence_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no sentence"):
        export_embeddings(translator("pre-layer-sinusoidal"), tmp_path, sentences=["", "a" * 300])
    assert not list(tmp_path.iterdir())
