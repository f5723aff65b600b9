"""Recurrent models in compiled code against torch: random small models of every shape, in every company, with guards around all memory."""

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from random_searches import (
    KINDS,
    TIE,
    Sources,
    compare_with_torch,
    jobs_for,
    native,
    queries_for,
    random_model,
    random_recurrent_config,
    random_sources,
)
from test_native_search import PRECISIONS, job, search_between_guards, searched

from vitrail.decode.engines.native_groups import GroupSearch
from vitrail.decode.engines.native_requests import ConstraintTable
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import ModelError, UsageError
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.kinds.recurrent import Recurrent
from vitrail.native.matrices.packing import Precision


@pytest.mark.parametrize("seed", range(len(KINDS)))
def test_a_random_model_serves_a_random_request_as_torch_does(seed: int) -> None:
    """Equal tokens and scores, with any kind of recurrent model and of request."""
    found = compare_with_torch(seed, random_recurrent_config)
    assert not found or found.startswith(TIE), f"seed {seed}: {found}"


@pytest.mark.slow
def test_many_random_models_serve_random_requests_as_torch_does() -> None:
    for seed in range(len(KINDS), 400):
        found = compare_with_torch(seed, random_recurrent_config)
        assert not found or found.startswith(TIE), f"seed {seed}: {found}"


PLAIN = RecurrentConfig(
    cell="lstm",
    attention="luong-general",
    input_feeding=True,
    encoder_layers=2,
    decoder_layers=2,
    embedding_width=40,
    width=56,
    norm="layer",
    reverse_source=True,
)
SMALL: dict[str, RecurrentConfig] = {
    "lstm": PLAIN,
    "gru": RecurrentConfig(cell="gru", attention="bahdanau", embedding_width=24, width=40),
    "rnn": RecurrentConfig(cell="rnn", bidirectional=False, embedding_width=20, width=33, norm="batch", residual=True, encoder_layers=2),
}


@pytest.fixture(scope="module")
def small() -> dict[str, Recurrent]:
    return {name: random_model(config, seed=1, vocabularies=(90, 90)) for name, config in SMALL.items()}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", SMALL)
def test_a_result_depends_on_nothing_but_its_sentence(small: dict[str, Recurrent], name: str, precision: Precision) -> None:
    """To the last bit: alone, in any order, in large and small batches, with any number of threads."""
    model, config = native(small[name], precision), SearchConfig(beams=3, max_ratio=1, max_extra=6)
    sources = random_sources(np.random.default_rng(2), 60, 90, longest=12)
    together = searched(model, sources, config)
    assert searched(model, sources, config, threads=3) == together
    assert searched(model, sources[::-1], config)[::-1] == together
    for at in range(0, 60, 15):
        assert [searched(model, [sources[at]], config)[0]] == together[at : at + 1]


def test_a_group_may_come_in_any_order(small: dict[str, Recurrent]) -> None:
    """The encoder takes the longest first, whatever the order of a group."""
    model, config = native(small["gru"]), SearchConfig(beams=2, max_ratio=1, max_extra=6)
    sources = random_sources(np.random.default_rng(7), 9, 90)
    jobs = jobs_for(sources, queries_for(sources, config))
    search = GroupSearch([model], config, ConstraintTable([job.query.constraints for job in jobs], model.vocabulary))
    (found,), (backwards,) = search.run([jobs]), search.run([jobs[::-1]])
    assert found == backwards[::-1]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", SMALL)
def test_sentences_of_no_one_and_512_tokens(small: dict[str, Recurrent], name: str, precision: Precision) -> None:
    draw, model = np.random.default_rng(3), native(small[name], precision)
    sources: Sources = [(), (5,), tuple(draw.integers(4, 90, 512).tolist()), (4,) * 16, (4,) * 15]
    config = SearchConfig(beams=2, max_ratio=0.02, max_extra=4)
    found = searched(model, sources, config)
    assert [len(one) for one in found] == [1] * 5
    if precision == "fp32":
        expected = TorchEngine(small[name]).search(sources, queries_for(sources, config), config=config)
        assert [one[0].tokens for one in found] == [one[0].tokens for one in expected]


def test_8_bits_are_near_32(small: dict[str, Recurrent]) -> None:
    """Log-probabilities of the same tokens, and how many tokens are the same."""
    config = SearchConfig(beams=1, max_ratio=1, max_extra=5)
    sources = random_sources(np.random.default_rng(5), 100, 90)
    exact, rough = (searched(native(small["lstm"], precision), sources, config) for precision in ("fp32", "int8"))
    first = [(one[0].token_log_probabilities[0], other[0].token_log_probabilities[0]) for one, other in zip(exact, rough, strict=True)]
    assert 0 < np.abs(np.diff(first)).max() < 0.25
    same = sum(a == b for one, other in zip(exact, rough, strict=True) for a, b in zip(one[0].tokens, other[0].tokens, strict=False))
    assert same / sum(len(one[0].tokens) for one in exact) > 0.6


@pytest.mark.parametrize("seed", range(300, 303))
def test_nothing_is_written_beside_its_memory(seed: int) -> None:
    search_between_guards(seed, PRECISIONS[seed // 2 % 3], random_recurrent_config)


@pytest.mark.slow
def test_nothing_is_written_beside_the_memory_of_many() -> None:
    for seed in range(303, 500):
        search_between_guards(seed, PRECISIONS[seed // 2 % 3], random_recurrent_config)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_what_is_no_number_is_an_error(cell: str, precision: Precision) -> None:
    """Gates would hide it: their values lie between -1 and 1."""
    config = RecurrentConfig.model_validate({"cell": cell, "embedding_width": 16, "width": 16})
    model = random_model(config, seed=2, vocabularies=(20, 20))
    with torch.no_grad():
        model.encoder[0].forward_cell.input_weight.fill_(3e38)
    with pytest.raises(ModelError, match="not a number"):
        searched(native(model, precision), [(5, 6, 7)], SearchConfig(beams=2))


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    model = native(random_model(PLAIN.model_copy(update={"tie": "target"}), seed=3, vocabularies=(30, 20)))
    model.check(job((4, 29)))
    for jobs, last in ((job((30,)), 29), (job((4, -1)), 29), (job((4,), prompt=(2, 20)), 19)):
        with pytest.raises(UsageError, match=f"0 to {last}"):
            model.check(jobs)
