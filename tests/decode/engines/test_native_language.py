"""Language models in the compiled search against torch: random small ones, prompts of any length, texts beyond the context."""

from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from vitrail.data.vocabularies.subwords import EOS, Vocabularies, WordVocabulary
from vitrail.decode.engines.native_engine import NativeEngine
from vitrail.decode.engines.native_groups import GroupSearch
from vitrail.decode.engines.native_models import NATIVE_MODELS
from vitrail.decode.engines.native_requests import ConstraintTable, Job
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.generate import Generator
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import BatchConfig, SamplingConfig, SearchConfig
from vitrail.models.base import LanguageModel, unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.configs.language import LanguageConfig
from vitrail.models.model_folder import build_stored, save_model
from vitrail.models.stored import StoredModel
from vitrail.native.matrices.packing import Precision

WORDS = WordVocabulary.train([" ".join(f"w{number}" for number in range(60))], size=200)
BOTH = Vocabularies(WORDS, WORDS, joint=True)
SIZE = 64


def random_config(draw: np.random.Generator) -> CausalConfig:
    """Any causal Transformer that can be configured, small."""
    heads, head = int(draw.integers(1, 5)), 2 * int(draw.integers(1, 13))
    return CausalConfig.model_validate(
        {
            "width": max(8, heads * head) if draw.random() < 0.6 else 2 * int(draw.integers(4, 40)),
            "heads": heads,
            "head_width": head,
            "feed_forward": int(draw.integers(1, 90)),
            "layers": int(draw.integers(1, 4)),
            "activation": draw.choice(["relu", "gelu", "swiglu"]),
            "norm": draw.choice(["layer", "rms", "batch"]),
            "norm_position": draw.choice(["pre", "post"]),
            "positions": draw.choice(["sinusoidal", "learned", "rotary", "none"]),
            "max_positions": 90,
            "context": int(draw.integers(2, 90)) if draw.random() < 0.7 else 90,
            "embedding_norm": bool(draw.random() < 0.3),
            "tie": bool(draw.random() < 0.5),
        }
    )


def random_recurrent_config(draw: np.random.Generator) -> LanguageConfig:
    """Any recurrent language model that can be configured, small."""
    return LanguageConfig.model_validate(
        {
            "cell": draw.choice(["rnn", "gru", "lstm"]),
            "embedding_width": int(draw.integers(4, 70)),
            "width": int(draw.integers(6, 80)),
            "layers": int(draw.integers(1, 4)),
            "residual": bool(draw.random() < 0.5),
            "norm": draw.choice(["none", "layer", "batch"]),
            "tie": bool(draw.random() < 0.5),
        }
    )


AnyConfig = CausalConfig | LanguageConfig
DRAWS: dict[str, Callable[[np.random.Generator], AnyConfig]] = {"causal": random_config, "recurrent": random_recurrent_config}


def random_model(config: AnyConfig, *, seed: int) -> StoredModel:
    """One whose norms and biases are not those of a beginning."""
    torch.manual_seed(seed)
    model = build_model(config, BOTH).eval()
    with torch.no_grad():
        for name, tensor in unique_tensors(model).items():
            if "variance" in name:
                tensor.uniform_(0.5, 2)
            elif tensor.ndim == 1:
                tensor += 0.2 * torch.randn_like(tensor)
            else:
                tensor *= 0.5 if config.norm == "batch" and config.kind == "causal-language" else 1.3
    return StoredModel(Path(), config, BOTH, {}, {name: tensor.numpy() for name, tensor in unique_tensors(model).items()})


def random_search(draw: np.random.Generator) -> SearchConfig:
    beams = int(draw.integers(1, 5))
    table: dict[str, Any] = {
        "beams": beams,
        "n_best": int(draw.integers(1, beams + 1)),
        "max_extra": int(draw.integers(1, 40)),
        "repeat_ngram": int(draw.integers(0, 4)),
        "max_repeats": int(draw.integers(1, 4)),
        "min_length": int(draw.choice([0, 0, 5])),
    }
    if draw.random() < 0.4:
        table["sampling"] = SamplingConfig(
            temperature=float(draw.choice([0.5, 1, 1.5])),
            top_k=int(draw.choice([0, 7])),
            top_p=float(draw.choice([0.9, 1])),
            min_p=float(draw.choice([0, 0.02])),
            repetition_penalty=float(draw.choice([1, 1.2])),
        )
    return SearchConfig.model_validate(table)


def random_queries(draw: np.random.Generator, config: SearchConfig, *, longest: int = 100, count: int = 5) -> list[Query]:
    limits = config.lengths()._asdict()
    prompts = [draw.integers(4, SIZE, draw.choice([0, 1, 3, draw.integers(0, longest)])) for _ in range(count)]
    return [Query((EOS, *prompt.tolist()), seed=number, **limits) for number, prompt in enumerate(prompts)]


def native(stored: StoredModel, precision: Precision = "fp32", threads: int = 1) -> NativeEngine:
    return NativeEngine.of([stored], device="cpu", threads=threads, config=BatchConfig(precision=precision), alone=True)


def searched(engine: NativeEngine | TorchEngine, queries: list[Query], config: SearchConfig) -> list[list[Hypothesis]]:
    return engine.search([()] * len(queries), queries, config=config)


def compare_with_torch(seed: int, kind: str) -> None:
    """A random model, random prompts and a random search: equal tokens, equal scores."""
    draw = np.random.default_rng(seed)
    config, search = DRAWS[kind](draw), random_search(draw)
    stored = random_model(config, seed=seed)
    model = build_stored(stored)
    assert isinstance(model, LanguageModel)
    queries = random_queries(draw, search)
    what = f"seed {seed}, {config}, {search}"
    for ours, theirs in zip(searched(native(stored), queries, search), searched(TorchEngine(model), queries, search), strict=True):
        assert [one.tokens for one in ours] == [one.tokens for one in theirs], what
        for one, other in zip(ours, theirs, strict=True):
            assert (one.truncated, one.column) == (other.truncated, other.column), what
            assert one.token_log_probabilities == pytest.approx(other.token_log_probabilities, abs=1e-4), what
            assert one.score == pytest.approx(other.score, abs=1e-4), what


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("seed", range(4))
def test_a_random_model_writes_as_torch_does(seed: int, kind: str) -> None:
    compare_with_torch(seed, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DRAWS)
def test_many_random_models_write_as_torch_does(kind: str) -> None:
    for seed in range(4, 400):
        compare_with_torch(seed, kind)


PLAIN: dict[str, AnyConfig] = {
    "causal": CausalConfig(layers=2, width=40, heads=4, feed_forward=72, activation="swiglu", context=40),
    "recurrent": LanguageConfig(layers=2, embedding_width=40, width=56, cell="lstm", norm="layer"),
}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("kind", PLAIN)
def test_a_text_depends_on_nothing_but_its_prompt(kind: str, drawn: bool, precision: Precision) -> None:
    """To the last bit: alone, in any order, in any company, with any number of threads."""
    stored = random_model(PLAIN[kind], seed=1)
    search = SearchConfig(beams=3, max_extra=30, sampling=SamplingConfig(top_p=0.9) if drawn else None)
    queries = random_queries(np.random.default_rng(2), search, count=30, longest=60)
    together = searched(native(stored, precision), queries, search)
    assert searched(native(stored, precision, threads=3), queries, search) == together
    assert searched(native(stored, precision), queries[::-1], search)[::-1] == together
    for at in range(0, 30, 7):
        assert searched(native(stored, precision), queries[at : at + 1], search) == together[at : at + 1]


GUARD = 64


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", DRAWS)
def test_nothing_is_written_beside_its_memory(kind: str, seed: int, precision: Precision) -> None:
    """Every array stands between guards, which are as they were after the search."""
    draw = np.random.default_rng(40 + seed)
    config, search = DRAWS[kind](draw), random_search(draw)
    wholes: list[np.ndarray] = []

    def make(count: int, kind: Any) -> Any:
        whole = np.full(count + 2 * GUARD, 77, kind)
        wholes.append(whole)
        return whole[GUARD : GUARD + count]

    model = NATIVE_MODELS[config.kind].of(config.model_dump(), random_model(config, seed=seed).tensors, precision=precision)
    model.extend_positions(100)
    for length in (1, 70, 100):
        queries = [replace(one, prompt=(EOS, *draw.integers(4, SIZE, length - 1).tolist())) for one in random_queries(draw, search)]
        jobs = [Job(number, (), query) for number, query in enumerate(queries)]
        GroupSearch([model], search, ConstraintTable([one.constraints for one in queries], SIZE), make).run([jobs])
    assert len(wholes) > 100
    for whole in wholes:
        assert (whole[:GUARD] == 77).all() and (whole[-GUARD:] == 77).all()


def saved(folder: Path, stored: StoredModel) -> Path:
    tensors = {name: torch.from_numpy(tensor) for name, tensor in stored.tensors.items()}
    save_model(folder, tensors=tensors, config=stored.config, vocabularies=BOTH, facts={})
    return folder


DRAWN = SearchConfig(beams=1, max_extra=12, sampling=SamplingConfig(top_p=0.9))
PROMPTS = ["w1 w2 w3", "", "w5 " * 50]


@pytest.mark.parametrize("kind", PLAIN)
def test_texts_are_those_of_torch(tmp_path: Path, kind: str) -> None:
    """Also with stop strings, which samples and beams meet at different places, or not at all."""
    folder = saved(tmp_path / "model", random_model(PLAIN[kind], seed=3))
    auto, alone, theirs = (Generator.load(folder, engine=name) for name in ("auto", "native", "torch"))
    samples = DRAWN.model_copy(update={"n_best": 3})
    beams = SearchConfig(beams=4, n_best=3, max_extra=12)
    requests: list[dict[str, Any]] = [{"search": DRAWN, "lines": 2}, {"search": DRAWN, "stop": "7"}]
    requests += [{"search": one, "stop": ["4", "w2 w"], "lines": 3} for one in (samples, beams, SearchConfig(beams=1, max_extra=12))]
    ended: set[str] = set()
    for request in requests:
        for ours, other in zip(alone.generate(PROMPTS, **request), theirs.generate(PROMPTS, **request), strict=True):
            assert [(one.text, one.tokens, one.ended) for one in ours] == [(one.text, one.tokens, one.ended) for one in other]
            assert [one.log_probability for one in ours] == pytest.approx([one.log_probability for one in other], abs=1e-3)
            ended |= {one.ended for one in ours}
    assert "stop" in ended and len(ended) > 1
    told: list[str] = []
    auto.announce(told.append)
    assert [line for line in told if line.startswith("engine")] == ["engine: native (fp32)"]


@pytest.mark.parametrize("kind", PLAIN)
def test_streams_are_those_of_torch(tmp_path: Path, kind: str) -> None:
    """Piece by piece; also where others write in the same thread meanwhile."""
    folder = saved(tmp_path / "model", random_model(PLAIN[kind], seed=3))
    ours, theirs = (Generator.load(folder, engine=name) for name in ("native", "torch"))
    samples, greedy = DRAWN.model_copy(update={"n_best": 3}), SearchConfig(beams=1, max_extra=12)
    for request in ({"search": samples, "lines": 2}, {"search": samples, "stop": ["4"]}, {"search": greedy, "stop": "5 w"}):
        assert list(ours.pieces(PROMPTS, **request)) == list(theirs.pieces(PROMPTS, **request))
    first, second = (ours.pieces(PROMPTS, search=samples, seed=seed) for seed in (1, 2))
    expected = [list(ours.pieces(PROMPTS, search=samples, seed=seed)) for seed in (1, 2)]
    found: list[list[Any]] = [[], []]
    for one, other in zip_longest(first, second):
        ours.generate("w3", search=DRAWN)
        found[0].append(one)
        found[1].append(other)
    assert [[one for one in many if one is not None] for many in found] == expected
    stream = ours.stream("w1", search=greedy)
    assert next(stream).startswith("w1")
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]  (a generator)
