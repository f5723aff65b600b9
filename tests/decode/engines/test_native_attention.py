"""Attention weights of given translations in compiled code against torch: random small models of every shape, in every company."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from exact import MOST, exact, rounded
from random_searches import (
    AnyModel,
    DrawConfig,
    native,
    random_config,
    random_model,
    random_recurrent_config,
    random_sources,
    random_ssru_config,
)

from vitrail.decode.engines.native_given import GivenReader, Pair, read_given
from vitrail.decode.engines.native_models import NativeModel
from vitrail.decode.engines.pool import Pool
from vitrail.decode.engines.torch import TorchEngine
from vitrail.errors import UsageError
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.native.matrices.packing import Precision

Texts = Sequence[tuple[int, ...]]
VOCABULARIES = 60, 90


def attentive_config(draw: np.random.Generator) -> RecurrentConfig:
    """A recurrent model with attention."""
    found = random_recurrent_config(draw)
    return found if found.attention != "none" else attentive_config(draw)


DRAWS: dict[str, DrawConfig] = {"transformer": random_config, "ssru": random_ssru_config, "recurrent": attentive_config}


def random_pairs(draw: np.random.Generator, model: AnyModel, count: int, longest: int = 20) -> tuple[Texts, Texts]:
    sizes = model.source_embedding.num_embeddings, model.target_embedding.num_embeddings
    sources, targets = (random_sources(draw, count, size, longest=longest) for size in sizes)
    return sources, targets


def compare_with_torch(seed: int, draw_config: DrawConfig) -> None:
    """Some heads of a random model, in a random order: weights within 1e-5 of torch's in float64, or as near as float32 can be."""
    draw = np.random.default_rng(seed)
    model = random_model(draw_config(draw), seed=seed, vocabularies=VOCABULARIES)
    known = TorchEngine(model).attention_heads()
    heads = [known[at] for at in draw.permutation(len(known))[: draw.integers(1, len(known) + 1)]]
    sources, targets = random_pairs(draw, model, 9)
    packed = native(model)
    assert packed.heads == known
    found = read_given(packed, sources, targets, heads=heads, pool=Pool(1))

    def by_torch(models: Sequence[AnyModel]) -> Sequence[np.ndarray]:
        return TorchEngine(models[0]).cross_attention(sources, targets, heads=heads)

    right = by_torch(exact([model]))
    for ours, theirs, source, target in zip(found, right, sources, targets, strict=True):
        assert ours.shape == theirs.shape == (len(heads), len(target) + 1, len(source) + 1)
    if (error := farthest(found, right)) > 1e-5:
        assert error <= MOST * max(farthest(by_torch(models), right) for models in rounded([model])), f"seed {seed}"


def farthest(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    return max(float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("seed", range(4))
def test_random_heads_attend_as_with_torch(seed: int, kind: str) -> None:
    compare_with_torch(seed, DRAWS[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", DRAWS)
def test_many_random_heads_attend_as_with_torch(kind: str) -> None:
    for seed in range(4, 400):
        compare_with_torch(seed, DRAWS[kind])


SMALL: dict[str, TransformerConfig | RecurrentConfig] = {
    "transformer": TransformerConfig(encoder_layers=2, decoder_layers=2, width=40, heads=4, feed_forward=72),
    "ssru": TransformerConfig(encoder_layers=2, decoder_layers=2, width=40, heads=4, feed_forward=72, decoder="ssru"),
    "bahdanau": RecurrentConfig(cell="gru", attention="bahdanau", embedding_width=24, width=40),
    "luong": RecurrentConfig(cell="lstm", attention="luong-general", input_feeding=True, embedding_width=24, width=40, reverse_source=True),
}


@pytest.fixture(scope="module")
def small() -> dict[str, AnyModel]:
    return {name: random_model(config, seed=1, vocabularies=(90, 90)) for name, config in SMALL.items()}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", SMALL)
def test_weights_depend_on_nothing_but_their_pair(small: dict[str, AnyModel], name: str, precision: Precision) -> None:
    """To the last bit: alone, in any order, with any number of threads, beside other heads or not."""
    model = native(small[name], precision)
    sources, targets = random_pairs(np.random.default_rng(2), small[name], 40)
    together = read_given(model, sources, targets, heads=model.heads, pool=Pool(1))

    def same(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> None:
        assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))

    same(read_given(model, sources, targets, heads=model.heads, pool=Pool(3)), together)
    same(read_given(model, sources[::-1], targets[::-1], heads=model.heads, pool=Pool(1))[::-1], together)
    same(read_given(model, sources, targets, heads=model.heads[-1:], pool=Pool(1)), [one[-1:] for one in together])
    for at in range(0, 40, 13):
        same(read_given(model, [sources[at]], [targets[at]], heads=model.heads, pool=Pool(1)), together[at : at + 1])
    for weights in together:
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_the_end_of_a_long_text_is_read_as_alone(small: dict[str, AnyModel], name: str) -> None:
    """More tokens than are read together, of a source of many pages; a prefix has the same rows."""
    draw, model = np.random.default_rng(5), native(small[name])
    (source,), (target,) = random_sources(draw, 1, 90, 300), [tuple(draw.integers(4, 90, 300).tolist())]
    (whole,) = read_given(model, [source], [target], heads=model.heads, pool=Pool(1))
    (begun,) = read_given(model, [source], [target[:70]], heads=model.heads, pool=Pool(1))
    assert np.array_equal(whole[:, :71], begun)


GUARD = 64


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("seed", range(50, 53))
def test_nothing_is_written_beside_its_memory(seed: int, kind: str) -> None:
    draw, wholes = np.random.default_rng(seed), list[np.ndarray]()
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "int8")
    model = random_model(DRAWS[kind](draw), seed=seed, vocabularies=VOCABULARIES)

    def make(count: int, kind: Any) -> Any:
        whole = np.full(count + 2 * GUARD, 77, kind)
        wholes.append(whole)
        return whole[GUARD : GUARD + count]

    sources, targets = random_pairs(draw, model, 9)
    packed = native(model, precisions[seed % 3])
    pairs = [Pair(number, (*source, 3), (2, *target)) for number, (source, target) in enumerate(zip(sources, targets, strict=True))]
    found = GivenReader(packed, packed.heads, make).run(pairs)
    assert [one.shape for one in found] == [(len(packed.heads), len(pair.target), len(pair.source)) for pair in pairs]
    for whole in wholes:
        assert (whole[:GUARD] == 77).all() and (whole[-GUARD:] == 77).all(), f"seed {seed}"


def test_what_cannot_be_read_is_refused(small: dict[str, AnyModel]) -> None:
    model: NativeModel = native(small["transformer"])
    for source, target in (((90,), (5,)), ((5,), (90,)), ((5,), (-1,))):
        with pytest.raises(UsageError, match="0 to 89"):
            read_given(model, [source], [target], heads=[(0, 0)], pool=Pool(1))
    config = TransformerConfig(encoder_layers=1, decoder_layers=1, width=16, positions="learned", max_positions=9)
    learned = native(random_model(config, seed=3, vocabularies=(20, 20)))
    assert read_given(learned, [(5,)], [(5,) * 8], heads=[(0, 0)], pool=Pool(1))[0].shape == (1, 9, 2)
    with pytest.raises(UsageError, match="position 10 with 9 learned positions"):
        read_given(learned, [(5,)], [(5,) * 9], heads=[(0, 0)], pool=Pool(1))
    assert read_given(model, [], [], heads=[(0, 0)], pool=Pool(1)) == []
