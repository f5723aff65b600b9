"""The tree of a search adds up, and its winner is what the model finds most probable by itself."""

from collections import Counter

import numpy as np
import pytest
import torch
from builders import TRANSLATING
from recorded import TEXT, exact, model, record, translator

from vitrail.data.batches import collate
from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.decode.translate import TextConstraints
from vitrail.inspection.collect import collect
from vitrail.inspection.decoding import Decoding, Node, describe_steps, piece_of
from vitrail.inspection.record import Inspection

pytestmark = pytest.mark.sampled(7)

every_kind = pytest.mark.parametrize("name", TRANSLATING)
BEAMS = 3


def path(decoding: Decoding, node: Node) -> list[Node]:
    """From the first token to this one."""
    return [*(path(decoding, decoding.nodes[node.parent]) if node.parent is not None else []), node]


@torch.no_grad()
def log_probabilities(name: str, source: list[int], tokens: list[int]) -> np.ndarray:
    """log p of given tokens, by a forced pass without a search."""
    pairs = collate([source], [tokens])
    logits = model(name).read_out(model(name).decode(pairs.target_in, model(name).encode(pairs.source)))[0]
    return logits.double().log_softmax(1)[torch.arange(len(tokens)), torch.tensor(tokens, dtype=torch.long)].numpy()


@every_kind
def test_kept_ended_and_pruned_add_up(name: str) -> None:
    decoding = record(name).facts.decoding
    fates, alive = Counter((node.step, node.fate) for node in decoding.nodes), 1
    for step in range(max(node.step for node in decoding.nodes) + 1):
        nodes = [node for node in decoding.nodes if node.step == step]
        assert nodes and sum(fates[step, fate] for fate in ("kept", "ended", "pruned")) == len(nodes)
        assert fates[step, "kept"] <= BEAMS and len({(node.parent, node.token) for node in nodes}) == len(nodes)
        assert {node.token == EOS for node in nodes if node.fate == "ended"} <= {True, step + 1 == longest(name)}
        parents = {node.parent for node in nodes}
        if step == 0:
            assert parents == {None}
        else:
            assert all(decoding.nodes[parent].fate == "kept" and decoding.nodes[parent].step == step - 1 for parent in parents)  # pyright: ignore
            assert len(parents) <= alive
        alive = fates[step, "kept"]
    assert [node.number for node in decoding.nodes] == list(range(len(decoding.nodes)))


def longest(name: str) -> int:
    """Of a translation, its end included; see `recorded.translator`."""
    return len(record(name).source.ids) + 6


@every_kind
def test_totals_and_scores_are_what_the_model_says_of_each_path(name: str) -> None:
    """Recomputed by forced passes over paths of the tree, pruned ones among them."""
    found, search = record(name), SearchConfig(beams=BEAMS)
    decoding = found.facts.decoding
    for node in decoding.nodes:
        before = 0.0 if node.parent is None else decoding.nodes[node.parent].total
        assert node.total == pytest.approx(before + node.log_probability, abs=1e-5)
        assert node.score == pytest.approx(node.total / ((5 + node.step + 1) / 6) ** search.length_penalty, abs=1e-6)
        assert node.piece == piece_of(node.token, TRANSLATING[name].vocabularies.target)
    for node in decoding.nodes[:: max(1, len(decoding.nodes) // 6)]:
        way = path(decoding, node)
        expected = log_probabilities(name, list(found.source.ids), [one.token for one in way])
        np.testing.assert_allclose([one.log_probability for one in way], expected, atol=1e-4)


@every_kind
def test_the_winners_path_is_the_translation(name: str) -> None:
    found = record(name)
    best = found.facts.decoding.finished[0]
    assert best.node is not None
    way = path(found.facts.decoding, found.facts.decoding.nodes[best.node])
    assert [one.token for one in way] == [*found.target.ids, *([] if best.truncated else [EOS])]
    assert best.log_probability == pytest.approx(way[-1].total, abs=1e-5) and best.length == len(way)
    assert best.score == pytest.approx(best.log_probability / best.divisor) and best.divisor == pytest.approx((5 + best.length) / 6)
    assert best.text == found.target.text == translator(name).translate(TEXT).text and not found.facts.given


@pytest.mark.parametrize("name", ["pre-layer-sinusoidal", "lstm-luong-dot-fed"])
def test_n_best_are_all_in_the_tree_best_first(name: str) -> None:
    finished = translator(name, n_best=3).inspect(TEXT).facts.decoding.finished
    assert 1 < len(finished) <= 3 and all(one.node is not None for one in finished)
    assert [one.score for one in finished] == sorted((one.score for one in finished), reverse=True)


@every_kind
def test_greedy_keeps_one_a_step_and_that_is_the_most_probable(name: str) -> None:
    found = translator(name, beams=1, repeat_ngram=0).inspect(TEXT)
    decoding, length = found.facts.decoding, len(found.target.ids)
    kept = {step: [node.token for node in decoding.nodes if node.step == step and node.fate == "kept"] for step in range(length)}
    assert decoding.beams == 1 and kept == {step: [token] for step, token in enumerate(found.target.ids)}
    assert decoding.finished[0].truncated or [node.step for node in decoding.nodes if node.fate == "ended"][-1] == length
    allowed = exact(found["probabilities"]).copy()
    allowed[:, :3] = 0  # PAD, UNK and SOS are never said
    assert allowed.argmax(axis=1)[:length].tolist() == list(found.target.ids)


@every_kind
def test_steps_tell_what_the_model_thought_of_saying(name: str) -> None:
    found, vocabulary = record(name), TRANSLATING[name].vocabularies.target
    probabilities = exact(found["probabilities"])
    assert len(found.facts.decoding.steps) == len(found.predicted_tokens) == len(probabilities)
    for step, row, token in zip(found.facts.decoding.steps, probabilities, found.predicted_ids, strict=True):
        assert (step.chosen.token, step.chosen.probability) == (token, pytest.approx(row[token]))
        assert step.rank == 1 + (row > row[token]).sum() and step.entropy == pytest.approx(-(row * np.log(row)).sum(), abs=1e-6)
        assert [one.token for one in step.candidates] == np.argsort(-row, kind="stable")[:10].tolist()
        assert [one.piece for one in step.candidates] == [piece_of(one.token, vocabulary) for one in step.candidates]


def test_of_a_distribution_with_zeros() -> None:
    vocabulary = TRANSLATING["rnn"].vocabularies.target
    row = np.zeros((1, vocabulary.size), dtype=np.float32)
    row[0, 5] = 1
    (step,) = describe_steps(row, [5], vocabulary, count=2)
    assert (step.entropy, step.rank, step.chosen.probability, len(step.candidates)) == (0, 1, 1, 2)
    assert describe_steps(row, [6], vocabulary)[0].rank == 2


@every_kind
def test_a_given_translation_is_looked_at_and_the_search_recorded_all_the_same(name: str) -> None:
    given = "".join(piece_of(token, TRANSLATING[name].vocabularies.target) for token in (6, 4, 9))
    found = translator(name).inspect(TEXT, given)
    assert found.facts.given and found.target.ids == (6, 4, 9)
    assert found.facts.decoding.nodes == record(name).facts.decoding.nodes
    assert found.facts.decoding.finished == record(name).facts.decoding.finished
    assert [step.chosen.token for step in found.facts.decoding.steps] == [6, 4, 9, EOS]
    expected = collect(model(name), list(found.source.ids), [6, 4, 9])
    np.testing.assert_array_equal(found["logits"], expected["logits"])


def test_sampling_and_prefixes_are_told() -> None:
    asked = translator("lstm")
    sampled = asked.inspect(TEXT, search=SearchConfig(sampling=SamplingConfig(), n_best=4, max_extra=6, max_ratio=1)).facts.decoding
    assert (sampled.sampled, sampled.beams) == (True, 4) and len(sampled.finished) == 4
    begun: Inspection = asked.inspect(TEXT, constraints=TextConstraints(prefix="ab"))
    assert begun.facts.decoding.prefix == 2 and begun.target.text.startswith("ab") and not begun.facts.decoding.sampled
    assert record("lstm").facts.decoding.prefix == 0
