"""The compiled search against torch: random small models of every shape, in every company, with guards around all memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.engines.native_groups import Job, search_all, search_group
from vitrail.decode.engines.native_models import NativeModel, NativeTransformer
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.search.constraints import Constraints
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import ModelError, UsageError
from vitrail.models.base import unique_tensors
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.transformer import Transformer
from vitrail.native.matrices.packing import Precision

Sources = Sequence[tuple[int, ...]]


def random_config(draw: np.random.Generator) -> TransformerConfig:
    """Any Transformer that can be configured, small; but with a width of 2, normed vectors are equal so often that ranks are chance."""
    heads, head = int(draw.integers(1, 5)), 2 * int(draw.integers(1, 13))
    return TransformerConfig.model_validate(
        {
            "width": max(8, heads * head) if draw.random() < 0.6 else 2 * int(draw.integers(4, 40)),
            "heads": heads,
            "head_width": head,
            "feed_forward": int(draw.integers(1, 90)),
            "encoder_layers": int(draw.integers(1, 4)),
            "decoder_layers": int(draw.integers(1, 4)),
            "activation": draw.choice(["relu", "gelu", "swiglu"]),
            "norm": draw.choice(["layer", "rms", "batch"]),
            "norm_position": draw.choice(["pre", "post"]),
            "positions": draw.choice(["sinusoidal", "learned", "rotary", "none"]),
            "max_positions": 80,
            "embedding_norm": bool(draw.random() < 0.3),
            "tie": draw.choice(["all", "target", "none"]),
        }
    )


def random_model(config: TransformerConfig, *, seed: int, vocabularies: tuple[int, int]) -> Transformer:
    """One whose norms and biases are not those of a beginning."""
    torch.manual_seed(seed)
    source, target = (vocabularies[1] if config.tie == "all" else vocabularies[0]), vocabularies[1]
    model = Transformer(config, source_vocabulary=source, target_vocabulary=target).eval()
    with torch.no_grad():
        for name, tensor in unique_tensors(model).items():
            if "variance" in name:
                tensor.uniform_(0.5, 2)
            elif tensor.ndim == 1:
                tensor += 0.2 * torch.randn_like(tensor)
            else:  # what batch norm does not bring back to a size of 1 grows from layer to layer
                tensor *= 0.5 if config.norm == "batch" else 1.3
    return model


def native(model: Transformer, precision: Precision = "fp32") -> NativeModel:
    tensors = {name: tensor.detach().numpy() for name, tensor in unique_tensors(model).items()}
    return NativeTransformer.of(model.config.model_dump(), tensors, precision=precision)


def random_search(draw: np.random.Generator) -> SearchConfig:
    beams = int(draw.integers(1, 7))
    return SearchConfig(
        beams=beams,
        n_best=int(draw.integers(1, beams + 1)),
        length_penalty=float(draw.choice([0, 0.6, 1, 2])),
        early_stop=bool(draw.random() < 0.7),
        max_ratio=1,
        max_extra=int(draw.integers(1, 12)),
        min_length=int(draw.choice([0, 0, 2, 5])),
        allow_unknown=bool(draw.random() < 0.3),
        repeat_ngram=int(draw.integers(0, 4)),
        max_repeats=int(draw.integers(1, 4)),
    )


def random_sources(draw: np.random.Generator, count: int, vocabulary: int, longest: int = 20) -> Sources:
    return [tuple(draw.integers(4, vocabulary, draw.integers(0, longest + 1)).tolist()) for _ in range(count)]


def short_text(tokens: Sequence[int]) -> str:
    """Many sequences have the same text, as with tokens that no reader sees."""
    return " ".join(str(token // 3) for token in tokens if token % 4)


def queries_for(sources: Sources, config: SearchConfig, *, spelled: bool = False) -> list[Query]:
    """Some sentences are searched without the repetition guard."""
    spell = short_text if spelled else None
    rules = [Constraints(guard_repeats=sum(source) % 5 != 4) for source in sources]
    return [Query(**config.lengths(len(one))._asdict(), spell=spell, constraints=rule) for one, rule in zip(sources, rules, strict=True)]


def jobs_for(sources: Sources, queries: Sequence[Query]) -> list[Job]:
    return [Job(number, (*source, EOS), query) for number, (source, query) in enumerate(zip(sources, queries, strict=True))]


def searched(model: NativeModel, sources: Sources, config: SearchConfig, *, threads: int = 1, **how: Any) -> list[list[Hypothesis]]:
    found = search_all(model, jobs_for(sources, queries_for(sources, config, **how)), config, threads=threads)
    return [found[number] for number in range(len(sources))]


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


PLAIN = TransformerConfig(encoder_layers=2, decoder_layers=2, width=40, heads=4, feed_forward=72, activation="swiglu")


@pytest.fixture(scope="module")
def plain() -> Transformer:
    return random_model(PLAIN, seed=1, vocabularies=(90, 90))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
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


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
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


@pytest.mark.parametrize(("precision", "most_nats", "least_share"), [("int8", 0.25, 0.6), ("bf16", 0.1, 0.8)])
def test_fewer_bits_are_near_32(plain: Transformer, precision: Precision, most_nats: float, least_share: float) -> None:
    """Log-probabilities of the same tokens, and how many tokens are the same."""
    config = SearchConfig(beams=1, max_ratio=1, max_extra=5)
    sources = random_sources(np.random.default_rng(5), 100, 90)
    exact, rough = (searched(native(plain, one), sources, config) for one in ("fp32", precision))
    first = [(one[0].token_log_probabilities[0], other[0].token_log_probabilities[0]) for one, other in zip(exact, rough, strict=True)]
    assert np.abs(np.diff(first)).max() < most_nats
    same = sum(a == b for one, other in zip(exact, rough, strict=True) for a, b in zip(one[0].tokens, other[0].tokens, strict=False))
    assert same / sum(len(one[0].tokens) for one in exact) > least_share


GUARD = 64


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
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
    search_group(model, jobs_for(sources, queries_for(sources, search, spelled=True)), config=search, make=make)
    assert len(wholes) > 40
    for whole in wholes:
        assert (whole[:GUARD] == 77).all() and (whole[-GUARD:] == 77).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
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
