"""Batches that are searched side by side: each sentence finds what it finds alone, to the bit, whatever is beside it."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from random_searches import queries_for, random_config, random_model
from toy import ToyModel, ToyState, query

from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.decode.engines import torch as engines
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.search.beams import Observation, beam_search, search_cohorts
from vitrail.decode.search.constraints import Constraints
from vitrail.decode.search.pool import Cohort, RowLimits
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import BatchConfig, SamplingConfig, SearchConfig
from vitrail.models.base import State, Steps
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.transformer import Transformer
from vitrail.nn.layers import OutputMatrix
from vitrail.nn.probe import trace
from vitrail.runtime.device import fewest_rows

GREEDY = SearchConfig(beams=1)


class TogetherModel(ToyModel):
    """Counts the states of each step, and steps them one by one, so that no number can depend on another state."""

    def __init__(self, vocabulary: int, **how: float) -> None:
        super().__init__(vocabulary, **how)  # pyright: ignore[reportArgumentType]
        self.states_seen: list[int] = []

    def step_together(self, last: torch.Tensor, states: Sequence[State]) -> Steps:
        self.states_seen.append(len(states))
        parts = last.split([state.size.rows for state in states])
        found = [self.step(part, state) for part, state in zip(parts, states, strict=True)]  # pyright: ignore[reportArgumentType]
        return Steps(torch.cat([one.logits for one in found]), [one.state for one in found])


def cohorts_of(model: ToyModel, sizes: Sequence[int]) -> tuple[list[Cohort], torch.Tensor]:
    hidden = model.sentences(sum(sizes)).hidden

    def start(numbers: Sequence[int]) -> ToyState:
        return ToyState(hidden[list(numbers)], len(numbers))

    firsts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [Cohort(range(first, first + size), start) for first, size in zip(firsts, sizes, strict=True)], hidden


@pytest.mark.parametrize(
    "how", [{"beams": 1}, {"beams": 3, "n_best": 3}, {"n_best": 2, "sampling": SamplingConfig(repetition_penalty=1.3)}]
)
@pytest.mark.parametrize(("fewest", "most"), [(1, 20), (8, 40), (4, 1)])
def test_a_sentence_finds_what_it_finds_alone(how: dict[str, object], fewest: int, most: int) -> None:
    """Of cohorts that enter at different times, with prompts of different lengths, limits, constraints, and the repetition guard."""
    model, sizes = TogetherModel(15, end_bias=1.0), (3, 1, 4, 2, 2)
    config = SearchConfig(max_ratio=1, max_extra=6, repeat_ngram=1, max_repeats=2).model_copy(update=how)
    cohorts, hidden = cohorts_of(model, sizes)
    asked = [Query((SOS, 5, 6, 7)[: 1 + number % 3], longest=3 + number, shortest=number % 4, seed=number) for number in range(sum(sizes))]
    if config.sampling is None:
        asked[2] = query(config, constraints=Constraints(forbidden=((8,), (9, 10)), prefix=(11,)))
        asked[5] = query(config, constraints=Constraints(forced=(((12, 4),),)))
    found = search_cohorts(model.step_together, cohorts, asked, config=config, limits=RowLimits(fewest, most))
    assert max(model.states_seen) > (1 if most > 1 else 0)
    for number, one in enumerate(asked):
        assert [found[number]] == beam_search(model.step, ToyState(hidden[number : number + 1], 1), [one], config=config), number


def test_an_observer_sees_one_cohort_at_a_time() -> None:
    model, seen = TogetherModel(15, end_bias=1.0), list[Observation]()
    cohorts, _ = cohorts_of(model, (3, 2))
    queries = [query(GREEDY)] * 5
    found = search_cohorts(model.step_together, cohorts, queries, config=GREEDY, observe=seen.append, limits=RowLimits(4, 100))
    assert set(model.states_seen) == {1}
    for number, (one,) in enumerate(found):
        lengths = [step.length for step in seen if number in step.sentences]
        assert lengths == list(range(len(one.token_log_probabilities)))


def transformer(**changes: object) -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig.model_validate(
        {"encoder_layers": 2, "decoder_layers": 2, "width": 64, "heads": 4, "feed_forward": 96, "tie": "none"} | changes
    )
    model = Transformer(config, source_vocabulary=300, target_vocabulary=700).eval()
    with torch.no_grad():
        model.output_weight *= 3
    return model


def sentences() -> list[tuple[int, ...]]:
    draw = torch.Generator().manual_seed(5)
    lengths = [1, 2, 2, 3, 5, 5, 5, 9, 20]
    return [tuple(torch.randint(EOS + 1, 300, (length,), generator=draw).tolist()) for length in lengths]


def translate(model: Transformer, config: SearchConfig, sources: Sequence[tuple[int, ...]], **how: object) -> list[list[Hypothesis]]:
    queries = [Query(longest=4 + 3 * len(source) % 11, seed=len(source)) for source in sources]
    return TorchEngine(model, config=BatchConfig.model_validate(how)).search(sources, queries, config=config)


@pytest.mark.parametrize("positions", ["learned", *(pytest.param(one, marks=pytest.mark.slow) for one in ("sinusoidal", "rotary"))])
def test_a_transformer_translates_batches_side_by_side(positions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts = transformer(positions=positions, norm="rms" if positions == "rotary" else "layer", max_positions=40), sentences()
    for config in (GREEDY, SearchConfig(beams=3, n_best=2), SearchConfig(n_best=2, sampling=SamplingConfig())):
        alone = [translate(model, config, [text])[0] for text in texts]
        for rows, size in ((256, 64), (12, 3)):
            monkeypatch.setattr(engines, "_ROWS", rows)
            assert translate(model, config, texts, batch_sentences=size) == alone
    assert len({items[0].tokens for items in alone}) > 5


def test_steps_of_several_states_are_the_steps_of_each() -> None:
    """Also where caches grow, and beams are reordered."""
    model, draw = transformer(), torch.Generator().manual_seed(1)
    rows = fewest_rows(torch.get_num_threads())
    with torch.inference_mode():
        apart = [model.start(model.encode(torch.randint(4, 300, (rows, length)))) for length in (3, 8)]
        apart = [model.step(torch.full((rows,), SOS), apart[0]).state, apart[1]]
        joined: Sequence[State] = [state.select(torch.arange(rows)) for state in apart]
        for _ in range(36):
            last = torch.randint(4, 700, (2 * rows,), generator=draw)
            steps = [model.step(part, state) for part, state in zip(last.split(rows), apart, strict=True)]
            logits, joined = model.step_together(last, joined)
            assert torch.equal(logits, torch.cat([step.logits for step in steps]))
            moved = torch.randint(rows, (rows,), generator=draw)
            apart, joined = [step.state.reorder(moved) for step in steps], [state.reorder(moved) for state in joined]


def test_what_is_heard_is_what_is_searched() -> None:
    """A traced search finds the same, and its probes hear each step."""
    model, texts = transformer(), sentences()[3:6]
    expected = translate(model, GREEDY, texts)
    with trace(model, only=lambda name: name.endswith(("logits", "weights"))) as seen:
        found = translate(model, GREEDY, texts)
    assert [items[0].tokens for items in found] == [items[0].tokens for items in expected]
    assert len(seen["logits"]) > 3 and len(seen["decoder.1.cross_attention.weights"]) >= len(seen["logits"])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("tokens", "width"), [(700, 64), (33, 20), (500, 512)])
def test_the_output_matrix_is_a_product(tokens: int, width: int, bias: bool) -> None:
    torch.manual_seed(0)
    weight, hidden = torch.randn(tokens, width, dtype=torch.float64), torch.randn(9, width, dtype=torch.float64)
    offset = torch.randn(tokens, dtype=torch.float64) if bias else None
    expected = hidden @ weight.t() + (0 if offset is None else offset)
    with torch.inference_mode():
        matrix = OutputMatrix.of(weight.float(), None if offset is None else offset.float())
        torch.testing.assert_close(matrix.logits(hidden.float()), expected.float(), atol=2e-4, rtol=1e-5)
        assert torch.equal(matrix.logits(hidden.float())[:5], matrix.logits(hidden[:5].float()))


def test_changed_weights_are_packed_anew() -> None:
    weight, hidden = torch.nn.Parameter(torch.ones(40, 16)), torch.ones(4, 16)
    with torch.inference_mode():
        first = OutputMatrix.of(weight, None)
        assert OutputMatrix.of(weight, None) is first
    with torch.no_grad():
        weight *= 2
    with torch.inference_mode():
        assert OutputMatrix.of(weight, None).logits(hidden)[0, 0] == 32
    hidden.requires_grad_()
    OutputMatrix.of(weight, None).logits(hidden).sum().backward()
    assert hidden.grad is not None and hidden.grad[0, 0] == 80


@pytest.mark.parametrize("inference", [False, True])
def test_weights_that_change_between_two_searches_are_seen(inference: bool) -> None:
    """The engine keeps what it made ready of the output matrix: for as long as this is the same."""
    with torch.inference_mode(inference):
        model, other = (random_model(random_config(np.random.default_rng(3)), seed=seed, vocabularies=(30, 30)) for seed in (1, 2))
    engine, sources = TorchEngine(model), [(5, 6, 7), (8, 9)]
    queries = queries_for(sources, GREEDY)
    before = engine.search(sources, queries, config=GREEDY)
    with torch.inference_mode(inference), torch.no_grad():
        model.output_weight.copy_(other.output_weight)
    after = engine.search(sources, queries, config=GREEDY)
    assert after == TorchEngine(copy.deepcopy(model)).search(sources, queries, config=GREEDY) != before
