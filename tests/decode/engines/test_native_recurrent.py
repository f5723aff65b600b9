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
