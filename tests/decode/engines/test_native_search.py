"""The compiled search against torch: random small models of every shape, in every company, with guards around all memory."""

import gc
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from random_searches import (
    KINDS,
    DrawConfig,
    Request,
    Sources,
    compare_with_torch,
    jobs_for,
    native,
    queries_for,
    random_config,
    random_model,
    random_recurrent_config,
    random_request,
    random_sources,
    random_ssru_config,
)

from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.engines import native_groups
from vitrail.decode.engines.native_groups import GroupSearch, make_groups, search_all
from vitrail.decode.engines.native_models import NativeModel
from vitrail.decode.engines.native_requests import ConstraintTable, Job
from vitrail.decode.engines.pool import Pool
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.search.constraints import Constraints
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.errors import ModelError, UsageError
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.transformer import Transformer
from vitrail.native.arrays import allocate
from vitrail.native.matrices.packing import Precision


def searched(model: NativeModel, sources: Sources, config: SearchConfig, *, threads: int = 1, **how: Any) -> list[list[Hypothesis]]:
    found = search_all([model], jobs_for(sources, queries_for(sources, config, **how)), config, pool=Pool(threads))
    return [found[number] for number in range(len(sources))]


@pytest.mark.parametrize("seed", range(8))
def test_a_random_model_searches_as_torch_does(seed: int) -> None:
    assert compare_with_torch(seed) == ""


@pytest.mark.parametrize("seed", range(400, 400 + len(KINDS)))
def test_a_random_decoder_without_self_attention_searches_as_torch_does(seed: int) -> None:
    """Whatever is asked; its state follows the beams, and a prompt is read into it."""
    assert compare_with_torch(seed, random_ssru_config, brief=True) == ""


@pytest.mark.slow
def test_many_random_models_search_as_torch_does() -> None:
    assert {seed: what for seed in range(8, 400) if (what := compare_with_torch(seed))} == {}


PLAIN = TransformerConfig(encoder_layers=2, decoder_layers=2, width=40, heads=4, feed_forward=72, activation="swiglu")
STUDENT = PLAIN.model_copy(update={"decoder": "ssru", "norm_position": "post"})


@pytest.fixture(scope="module")
def plain() -> Transformer:
    return random_model(PLAIN, seed=1, vocabularies=(90, 90))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("config", [PLAIN, STUDENT], ids=["attention", "ssru"])
def test_a_result_depends_on_nothing_but_its_sentence(config: TransformerConfig, precision: Precision, beams: int) -> None:
    """To the last bit: alone, in any order, in large and small batches, with any number of threads."""
    model = native(random_model(config, seed=1, vocabularies=(90, 90)), precision)
    config = SearchConfig(beams=beams, max_ratio=1, max_extra=6)
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


def one_by_one(seed: int) -> list[tuple[list[Hypothesis], list[Hypothesis]]]:
    """Sentences of two random models, or both, each by itself with any of several settings; the same with arrays of its own."""
    draw = np.random.default_rng(seed)
    configs = [random_config(draw), random_recurrent_config(draw)]
    models = [native(random_model(one, seed=seed + at, vocabularies=(60, 60)), "int8") for at, one in enumerate(configs)]
    settings = [SearchConfig(beams=beams, n_best=beams, max_ratio=0.5, max_extra=extra) for beams, extra in ((1, 5), (3, 2), (3, 40))]
    found = list[tuple[list[Hypothesis], list[Hypothesis]]]()
    for _ in range(12):
        some, config = (models[:1], models[1:], models)[int(draw.integers(0, 3))], settings[int(draw.integers(0, 3))]
        for source in random_sources(draw, 4, 60, longest=40):
            (job,) = jobs_for([source], queries_for([source], config, spelled=bool(draw.random() < 0.3)))
            ((own,),) = GroupSearch(some, config, ConstraintTable([], 60), allocate).run([[job]])
            found.append((search_all(some, [job], config, pool=Pool(1))[0], own))
    return found


def test_a_sentence_does_not_depend_on_the_one_before_whose_arrays_it_uses() -> None:
    with ThreadPoolExecutor(3) as threads:
        for pairs in threads.map(one_by_one, (1, 2, 3)):
            for found, expected in pairs:
                assert found == expected


def test_arrays_are_made_once_for_short_sentences_of_equal_settings(plain: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    model, config, made = native(plain), SearchConfig(beams=2, max_ratio=1, max_extra=3), list[int]()
    prepare = GroupSearch._prepare

    def counted(self: GroupSearch, jobs: list[Job], *args: Any, **how: Any) -> Any:
        made.append(len(jobs))
        return prepare(self, jobs, *args, **how)

    sources = random_sources(np.random.default_rng(6), 20, 90, longest=12)
    monkeypatch.setattr(native_groups, "_unused", [])
    searched(model, [(5,) * 200], config)  # an arena grows when it is used again
    monkeypatch.setattr(GroupSearch, "_prepare", counted)
    found = [searched(model, [source], config)[0] for source in sources]
    assert made == [1]
    assert searched(model, sources, config) == found and searched(model, sources[:1], config) == found[:1]
    assert made == [1, 16, 4, 1]


def test_threads_search_single_sentences_with_one_model_at_once(plain: Transformer) -> None:
    model, config = native(plain, "int8"), SearchConfig(beams=2, max_ratio=1, max_extra=6)
    sources = random_sources(np.random.default_rng(7), 60, 90, longest=40)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda source: searched(model, [source], config)[0], sources))
    assert found == searched(model, sources, config)


def test_a_model_and_a_vocabulary_end_with_their_last_user() -> None:
    def search() -> list[weakref.ref[Any]]:
        model, config = native(random_model(PLAIN, seed=2, vocabularies=(50, 50))), SearchConfig(beams=2, n_best=2, max_extra=3)

        def spell(tokens: Sequence[int]) -> str:
            return str(tokens)

        for _ in range(3):
            search_all([model], [Job(0, (5, 6, EOS), Query(longest=5, spell=spell))], config, pool=Pool(1))
        return [weakref.ref(model.packed.weights.embeddings), weakref.ref(spell)]

    ended = search()
    gc.collect()
    assert [one() for one in ended] == [None, None]


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
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")


def search_between_guards(seed: int, precision: Precision, draw_config: DrawConfig = random_config) -> None:
    """A random request, with guards around every array, which are as they were after the search."""
    request, wholes = random_request(seed, draw_config), list[np.ndarray]()

    def make(count: int, kind: Any) -> Any:
        whole = np.full(count + 2 * GUARD, 77, kind)
        wholes.append(whole)
        return whole[GUARD : GUARD + count]

    models, jobs = [native(model, precision) for model in request.models], jobs_for(request.sources, request.queries)
    table = ConstraintTable([job.query.constraints for job in jobs], models[0].packed.shape.vocabulary)
    for group in make_groups(jobs, beams=request.config.width, threads=1):
        GroupSearch(models, request.config, table, make).run([group])
    assert len(wholes) > 50
    for whole in wholes:
        assert (whole[:GUARD] == 77).all() and (whole[-GUARD:] == 77).all(), f"seed {seed} ({KINDS[seed % len(KINDS)]})"


@pytest.mark.parametrize("seed", range(300, 307))
def test_nothing_is_written_beside_its_memory(seed: int) -> None:
    search_between_guards(seed, PRECISIONS[seed // 2 % 3])


@pytest.mark.parametrize("seed", range(400, 403))
def test_nothing_is_written_beside_the_memory_of_a_decoder_without_self_attention(seed: int) -> None:
    search_between_guards(seed, PRECISIONS[seed % 3], random_ssru_config)


@pytest.mark.slow
def test_nothing_is_written_beside_the_memory_of_many() -> None:
    for seed in range(307, 500):
        search_between_guards(seed, PRECISIONS[seed // len(KINDS) % 3])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_what_is_no_number_is_an_error(precision: Precision) -> None:
    model = random_model(PLAIN.model_copy(update={"norm": "rms"}), seed=2, vocabularies=(20, 20))
    with torch.no_grad():
        model.encoder[0].residual_1.norm.norm.weight.fill_(3e38)
    with pytest.raises(ModelError, match="not a number"):
        searched(native(model, precision), [(5, 6, 7)], SearchConfig(beams=2))


@pytest.mark.parametrize("name", ["candidate", "forget"])
def test_what_is_no_number_in_a_cell_is_an_error(name: str) -> None:
    model = random_model(STUDENT, seed=2, vocabularies=(20, 20))
    with torch.no_grad():
        model.decoder[1].recurrence.get_submodule(name).weight.fill_(3e38)
    with pytest.raises(ModelError, match="not a number"):
        searched(native(model), [(5, 6, 7)], SearchConfig(beams=2))


def job(source: tuple[int, ...], **how: Any) -> list[Job]:
    return [Job(0, source, Query(longest=5, **how))]


def test_ids_beyond_the_vocabulary_are_refused(plain: Transformer) -> None:
    model = native(plain)
    model.check(job((4, 89)))
    asked = [{"constraints": Constraints(**one)} for one in ({"prefix": (90,)}, {"forbidden": ((5, -1),)}, {"forced": (((5,), (4, 90)),)})]
    for jobs in (job((90,)), job((4, -1)), job((4,), prompt=(2, 90)), *(job((4,), **one) for one in asked)):
        with pytest.raises(UsageError, match="0 to 89"):
            search_all([model], jobs, SearchConfig(), pool=Pool(1))


def test_forced_words_are_not_drawn(plain: Transformer) -> None:
    jobs = job((4,), constraints=Constraints(forced=(((5,),),)))
    with pytest.raises(UsageError, match="forced words together with sampling"):
        search_all([native(plain)], jobs, SearchConfig(sampling=SamplingConfig()), pool=Pool(1))


def test_learned_positions_end_where_they_end() -> None:
    model = native(random_model(PLAIN.model_copy(update={"positions": "learned", "max_positions": 9}), seed=3, vocabularies=(20, 20)))
    model.check(job((5,) * 9))
    for jobs in (job((5,) * 10), job((5,), prompt=(5,) * 10)):
        with pytest.raises(UsageError, match="position 10 with 9 learned positions"):
            model.check(jobs)
    with pytest.raises(UsageError, match="learned positions"):
        searched(model, [(5, 6)], SearchConfig(beams=1, max_extra=30, min_length=29))
    with pytest.raises(UsageError, match="learned positions"):
        search_all([model], job((5,), prompt=(5,) * 8, shortest=4), SearchConfig(), pool=Pool(1))


DRAWN = (
    {},
    {"temperature": 0.5},
    {"temperature": 3.0},
    {"top_k": 5},
    {"top_p": 0.7},
    {"min_p": 0.1},
    {"repetition_penalty": 2.0},
)
"""One thing at a time; by default all of them at once are tried."""
DRAWN_BY_ALL = {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.3}


@pytest.mark.parametrize("how", [DRAWN_BY_ALL, *(pytest.param(one, marks=pytest.mark.slow) for one in DRAWN)], ids=str)
def test_tokens_are_drawn_as_often_as_they_should_be(plain: Transformer, how: dict[str, Any]) -> None:
    """10,000 draws of one token: chi-squared against the distribution from torch's logits in float64; and torch's draws, but where rounding
    decides between two tokens."""
    source, prompt, draws = (5, 17, 44, 60), (2, 50, 9), 10_000
    config = SearchConfig(n_best=draws, sampling=SamplingConfig(**how), repeat_ngram=0)
    request = Request([plain], [source], [Query(prompt, longest=1, shortest=0, seed=11)], config)
    drawn = {one.column: one.tokens[0] if one.tokens else EOS for one in request.by_native()[0]}
    expected = {one.column: one.tokens[0] if one.tokens else EOS for one in request.by_torch()[0]}
    assert sum(drawn[number] != expected[number] for number in range(draws)) <= 3
    with torch.inference_mode():
        state = plain.start(plain.encode(torch.tensor([[*source, EOS]])))
        for token in prompt:
            logits, state = plain.step(torch.tensor([token]), state)
    counts = np.bincount([drawn[number] for number in range(draws)], minlength=90)
    shares = _distribution(logits[0].double().numpy(), config.sampling or SamplingConfig(), prompt)
    assert counts[shares == 0].sum() == 0
    known = shares > 0
    rare = known & (shares * draws < 5)
    observed, wanted = np.append(counts[known & ~rare], counts[rare].sum()), np.append(shares[known & ~rare], shares[rare].sum()) * draws
    chi = float((((observed - wanted) ** 2)[wanted > 0] / wanted[wanted > 0]).sum())
    freedom = int((wanted > 0).sum()) - 1
    assert chi < freedom + 4 * (2 * freedom) ** 0.5 + 4


def _distribution(logits: np.ndarray, how: SamplingConfig, prompt: tuple[int, ...]) -> np.ndarray:
    """The probability of each token, written here by the definitions of `SamplingConfig`."""
    values = logits.copy()
    for token in {one for one in prompt if one > EOS}:
        values[token] = values[token] / how.repetition_penalty if values[token] > 0 else values[token] * how.repetition_penalty
    values[:3] = -np.inf
    shares = np.exp((values - values.max()) / how.temperature)
    order = np.argsort(-values, kind="stable")
    if how.top_k:
        shares[order[how.top_k :]] = 0
    shares /= shares.sum()
    if how.top_p < 1:
        shares[order[1:][np.cumsum(shares[order])[:-1] >= how.top_p]] = 0
    shares[shares < how.min_p * shares.max()] = 0
    return shares / shares.sum()


def test_a_sample_depends_on_nothing_but_its_sentence_and_seed(plain: Transformer) -> None:
    config = SearchConfig(n_best=3, sampling=SamplingConfig(top_p=0.9), max_ratio=1, max_extra=6)
    sources = random_sources(np.random.default_rng(7), 40, 90, longest=12)
    jobs = [one._replace(query=Query(longest=12, seed=one.number)) for one in jobs_for(sources, queries_for(sources, config))]
    model = [native(plain, "int8")]
    together = search_all(model, jobs, config, pool=Pool(1))
    assert search_all(model, jobs[::-1], config, pool=Pool(3)) == together
    assert {one.number: search_all(model, [one], config, pool=Pool(1))[one.number] for one in jobs} == together


def test_ensembles_and_constraints_depend_on_nothing_but_the_sentence() -> None:
    """To the last bit: sentences alone find what they find together."""
    for seed in (5, 12, 3):  # two ensembles, and forced words
        request = random_request(seed)
        together = request.by_native("int8", threads=2)
        for source, query, found in zip(request.sources, request.queries, together, strict=True):
            assert Request(request.models, [source], [query], request.config).by_native("int8") == [found]


def test_sinusoids_go_on_as_far_as_needed(plain: Transformer) -> None:
    model, config = native(plain), SearchConfig(beams=1, max_ratio=0, max_extra=3)
    sources: Sources = [tuple(np.random.default_rng(6).integers(4, 90, 900).tolist())]
    assert (
        searched(model, sources, config)[0][0].tokens
        == TorchEngine(plain).search(sources, queries_for(sources, config), config=config)[0][0].tokens
    )


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_a_search_goes_on_with_its_positions_while_another_one_has_longer_texts(positions: str) -> None:
    """The table that it reads stays where it is, when the model has a larger one."""
    stored = random_model(PLAIN.model_copy(update={"positions": positions}), seed=1, vocabularies=(90, 90))
    config = SearchConfig(beams=2, max_extra=40, early_stop=False, min_length=40)
    (job,) = jobs_for([tuple(np.random.default_rng(1).integers(4, 90, 20).tolist())], [Query(**config.lengths(20)._asdict())])

    def found(*, grows: bool) -> list[list[Hypothesis]]:
        model, others = native(stored), list[np.ndarray]()
        size, steps = model.packed.weights.positions.size, GroupSearch([model], config, ConstraintTable([], 90)).steps([job])
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            if grows and not others:
                model.extend_positions(model.known_positions(1) + 1)
                model.words()
                others += [np.full(size, 9, np.float32) for _ in range(200)]  # takes the memory that is free now

    assert found(grows=True) == found(grows=False)
