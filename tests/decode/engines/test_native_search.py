"""The compiled search against torch: random small models of every shape, in every company, with guards around all memory."""

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from vitrail.decode.engines.native_groups import GroupSearch
from vitrail.decode.engines.native_requests import ConstraintTable
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import ModelError, UsageError
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.transformer import Transformer
from vitrail.native.matrices.packing import Precision


@pytest.mark.parametrize("seed", range(24))
def test_a_random_model_searches_as_torch_does(seed: int) -> None:
    assert compare_with_torch(seed) == ""


@pytest.mark.slow
def test_many_random_models_search_as_torch_does() -> None:
    assert {seed: what for seed in range(24, 3000) if (what := compare_with_torch(seed))} == {}


PLAIN = TransformerConfig(encoder_layers=2, decoder_layers=2, width=40, heads=4, feed_forward=72, activation="swiglu")


@pytest.fixture(scope="module")
def plain() -> Transformer:
    return random_model(PLAIN, seed=1, vocabularies=(90, 90))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("beams", [1, 4])
def test_a_result_depends_on_nothing_but_its_sentence(plain: Transformer, precision: Precision, beams: int) -> None:
    """To the last bit: alone, in any order, in large and small batches, with any number of threads."""
    model, config = native(plain, precision), SearchConfig(beams=beams, max_ratio=1, max_extra=6)
    sources = random_sources(np.random.default_rng(2), 60, 90, longest=12)
    together = searched(model, sources, config)
    assert searched(model, sources, config, threads=3) == together
    assert searched(model, sources[::-1], config)[::-1] == together
    for at in range(0, 60, 15):
        assert [searched(model, [sources[at]], config)[0]] == together[at : at + 1]
    assert searched(model, sources[:7], config, threads=2) == together[:7]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_sentences_of_no_one_and_512_tokens(plain: Transformer, precision: Precision) -> None:
    draw, model = np.random.default_rng(3), native(plain, precision)
    sources: Sources = [(), (5,), tuple(draw.integers(4, 90, 512).tolist()), (4,) * 16, (4,) * 15]
    config = SearchConfig(beams=2, max_ratio=0.02, max_extra=4)
    found = searched(model, sources, config)
    assert [len(one) for one in found] == [1] * 5
    if precision == "fp32":
        expected = TorchEngine(plain).search(sources, queries_for(sources, config), config=config)
        assert [one[0].tokens for one in found] == [one[0].tokens for one in expected]


def test_a_thousand_sentences_are_those_of_one_by_one(plain: Transformer) -> None:
    model, config = native(plain, "int8"), SearchConfig(beams=1, max_ratio=0.1, max_extra=3)
    sources = random_sources(np.random.default_rng(4), 1000, 90, longest=6)
    found = searched(model, sources, config, threads=2)
    assert all(found[at] == searched(model, [sources[at]], config)[0] for at in range(0, 1000, 97))


def test_8_bits_are_near_32(plain: Transformer) -> None:
    """Log-probabilities of the same tokens, and how many tokens are the same."""
    config = SearchConfig(beams=1, max_ratio=1, max_extra=5)
    sources = random_sources(np.random.default_rng(5), 100, 90)
    exact, rough = (searched(native(plain, precision), sources, config) for precision in ("fp32", "int8"))
    first = [(one[0].token_log_probabilities[0], other[0].token_log_probabilities[0]) for one, other in zip(exact, rough, strict=True)]
    assert np.abs(np.diff(first)).max() < 0.25
    same = sum(a == b for one, other in zip(exact, rough, strict=True) for a, b in zip(one[0].tokens, other[0].tokens, strict=False))
    assert same / sum(len(one[0].tokens) for one in exact) > 0.6


GUARD = 64


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_written_beside_its_memory(seed: int, precision: Precision) -> None:
    """Every array stands between guards, which are as they were after the search."""
    draw = np.random.default_rng(40 + seed)
    config = random_config(draw)
    model = native(random_model(config, seed=seed, vocabularies=(50, 50)), precision)
    wholes: list[np.ndarray] = []

    def make(count: int, kind: Any) -> Any:
        whole = np.full(count + 2 * GUARD, 77, kind)
        wholes.append(whole)
        return whole[GUARD : GUARD + count]

    search = random_search(draw)
    sources = random_sources(draw, 9, 50, longest=35)
    jobs = jobs_for(sources, queries_for(sources, search, spelled=True))
    GroupSearch([model], search, ConstraintTable([job.query.constraints for job in jobs], 50), make).run(jobs)
    assert len(wholes) > 40
    for whole in wholes:
        assert (whole[:GUARD] == 77).all() and (whole[-GUARD:] == 77).all()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_no_number_is_an_error(precision: Precision) -> None:
    model = random_model(PLAIN.model_copy(update={"norm": "rms"}), seed=2, vocabularies=(20, 20))
    with torch.no_grad():
        model.encoder[0].residual_1.norm.norm.weight.fill_(3e38)
    with pytest.raises(ModelError, match="not a number"):
        searched(native(model, precision), [(5, 6, 7)], SearchConfig(beams=2))


def test_ids_beyond_the_vocabulary_are_refused(plain: Transformer) -> None:
    model = native(plain)
    model.check([(), (4, 89)])
    for ids in ((90,), (4, -1)):
        with pytest.raises(UsageError, match="0 to 89"):
            model.check([ids])


def test_learned_positions_end_where_they_end() -> None:
    model = native(random_model(PLAIN.model_copy(update={"positions": "learned", "max_positions": 9}), seed=3, vocabularies=(20, 20)))
    model.check([(5,) * 8])
    with pytest.raises(UsageError, match="position 10 with 9 learned positions"):
        model.check([(5,) * 9])
    with pytest.raises(UsageError, match="learned positions"):
        searched(model, [(5, 6)], SearchConfig(beams=1, max_extra=30, min_length=29))


def test_sinusoids_go_on_as_far_as_needed(plain: Transformer) -> None:
    model, config = native(plain), SearchConfig(beams=1, max_ratio=0, max_extra=3)
    sources: Sources = [tuple(np.random.default_rng(6).integers(4, 90, 900).tolist())]
    assert (
        searched(model, sources, config)[0][0].tokens
        == TorchEngine(plain).search(sources, queries_for(sources, config), config=config)[0][0].tokens
    )
