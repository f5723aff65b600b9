"""Recurrent models in compiled code against torch: random small models of every shape, in every company, with guards around all memory."""

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from test_native_search import Sources, jobs_for, queries_for, random_search, random_sources, searched

from vitrail.decode.engines.native_groups import search_group
from vitrail.decode.engines.native_models import NativeRecurrent
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import ModelError, UsageError
from vitrail.models.base import unique_tensors
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.kinds.recurrent import Recurrent
from vitrail.native.matrices.packing import Precision

ATTENTION = ("none", "bahdanau", "luong-dot", "luong-general", "luong-concat")


def random_config(draw: np.random.Generator) -> RecurrentConfig:
    """Any recurrent model that can be configured, small."""
    bidirectional, attention = bool(draw.random() < 0.6), str(draw.choice(ATTENTION))
    return RecurrentConfig.model_validate(
        {
            "cell": draw.choice(["rnn", "gru", "lstm"]),
            "embedding_width": int(draw.integers(4, 70)),
            "width": 2 * int(draw.integers(4, 40)) if bidirectional else int(draw.integers(6, 80)),
            "encoder_layers": int(draw.integers(1, 4)),
            "decoder_layers": int(draw.integers(1, 4)),
            "bidirectional": bidirectional,
            "reverse_source": bool(draw.random() < 0.4),
            "residual": bool(draw.random() < 0.5),
            "norm": draw.choice(["none", "layer", "batch"]),
            "attention": attention,
            "input_feeding": attention.startswith("luong") and bool(draw.random() < 0.5),
            "tie": draw.choice(["all", "target", "none"]),
        }
    )


def random_model(config: RecurrentConfig, *, seed: int, vocabularies: tuple[int, int]) -> Recurrent:
    """One whose norms and biases are not those of a beginning."""
    torch.manual_seed(seed)
    source, target = (vocabularies[1] if config.tie == "all" else vocabularies[0]), vocabularies[1]
    model = Recurrent(config, source_vocabulary=source, target_vocabulary=target).eval()
    with torch.no_grad():
        for name, tensor in unique_tensors(model).items():
            if "variance" in name:
                tensor.uniform_(0.5, 2)
            elif tensor.ndim == 1:
                tensor += 0.2 * torch.randn_like(tensor)
            else:
                tensor *= 1.3
    return model


def native(model: Recurrent, precision: Precision = "fp32") -> NativeRecurrent:
    tensors = {name: tensor.detach().numpy() for name, tensor in unique_tensors(model).items()}
    config = model.config.model_dump()
    sizes = {"source": model.source_embedding.num_embeddings, "target": model.target_embedding.num_embeddings}
    assert NativeRecurrent.obstacle(config) == ""
    assert NativeRecurrent.tensor_shapes(config, **sizes) == {name: tensor.shape for name, tensor in tensors.items()}
    return NativeRecurrent.of(config, tensors, precision=precision)


def compare_with_torch(seed: int) -> None:
    """A random model, random sentences and a random search: equal tokens, equal scores."""
    draw = np.random.default_rng(seed)
    config, search = random_config(draw), random_search(draw)
    sizes = int(draw.integers(5, 70)), int(draw.integers(5, 300))
    model = random_model(config, seed=seed, vocabularies=sizes)
    sources = random_sources(draw, 5, sizes[1] if config.tie == "all" else sizes[0])
    spelled = search.n_best > 1 and bool(draw.random() < 0.7)
    found = searched(native(model), sources, search, spelled=spelled)
    expected = TorchEngine(model).search(sources, queries_for(sources, search, spelled=spelled), config=search)
    for source, ours, theirs in zip(sources, found, expected, strict=True):
        what = f"seed {seed}, {config}, {search}, {source}"
        assert [one.tokens for one in ours] == [one.tokens for one in theirs], what
        for one, other in zip(ours, theirs, strict=True):
            assert (one.truncated, one.column) == (other.truncated, other.column), what
            assert one.token_log_probabilities == pytest.approx(other.token_log_probabilities, abs=1e-4), what
            assert one.score == pytest.approx(other.score, abs=1e-4), what


@pytest.mark.parametrize("seed", range(12))
def test_a_random_model_searches_as_torch_does(seed: int) -> None:
    compare_with_torch(seed)


@pytest.mark.slow
def test_many_random_models_search_as_torch_does() -> None:
    for seed in range(12, 3000):
        compare_with_torch(seed)


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
    assert search_group(model, jobs, config=config) == search_group(model, jobs[::-1], config=config)[::-1]


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


GUARD = 64


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("seed", range(4))
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
    search_group(model, jobs_for(sources, queries_for(sources, search, spelled=True)), config=search, make=make)
    assert len(wholes) > 40
    for whole in wholes:
        assert (whole[:GUARD] == 77).all() and (whole[-GUARD:] == 77).all()


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
    model.check([(), (4, 29)])
    for ids in ((30,), (4, -1)):
        with pytest.raises(UsageError, match="0 to 29"):
            model.check([ids])
