"""Search continues a text as it searches a translation: a language model against all its continuations, counted one by one."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from toy import NEVER, Scored, ToyModel, penalised

from vitrail.data.vocabularies.subwords import EOS, PAD, SOS
from vitrail.decode.search.beams import beam_search, read_prompts
from vitrail.decode.search.constraints import Constraints
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.errors import UsageError
from vitrail.models.base import Reads
from vitrail.models.configs.language import LanguageConfig
from vitrail.models.kinds.language import RecurrentLanguageModel

V, CAP = 8, 4
PROMPTS = [(SOS,), (SOS, 5), (SOS, 4, 6, 7, 5), (SOS, 7, 7, 4), (EOS, 6)]
"""Of different lengths, and one that begins with another token."""
CELLS = pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])


def model(cell: str = "lstm", *, seed: int = 0, sharpness: float = 3.0) -> RecurrentLanguageModel:
    torch.manual_seed(seed)
    config = LanguageConfig.model_validate({"cell": cell, "embedding_width": 6, "width": 7, "layers": 2, "tie": False})
    made = RecurrentLanguageModel(config, vocabulary=V).eval()
    with torch.no_grad():
        made.output_weight *= sharpness
    return made


def queries(**asked: object) -> list[Query]:
    return [Query(prompt, longest=CAP, seed=row, **asked) for row, prompt in enumerate(PROMPTS)]  # pyright: ignore[reportArgumentType]


def search(ours: RecurrentLanguageModel, asked: Sequence[Query], **how: object) -> list[list[Hypothesis]]:
    state = read_prompts(ours, ours.start(len(asked)), asked)
    config = SearchConfig.model_validate({"repeat_ngram": 0, **how})
    return beam_search(ours.step, state, asked, config=config)


class Stepping:
    """A language model that can only take one token after the other."""

    def __init__(self, ours: RecurrentLanguageModel) -> None:
        self.step = ours.step


@torch.no_grad()
def log_probs(ours: RecurrentLanguageModel, tokens: Sequence[int]) -> list[float]:
    """log p(token | tokens) of every token, by a pass over one row that knows nothing of search, state or padding."""
    hidden, _ = ours.double().read(torch.tensor([list(tokens)]), ours.start(1))
    values: list[float] = (hidden[0, -1] @ ours.output_weight.t() + ours.output_bias).log_softmax(-1).tolist()
    ours.float()
    return values


def every_continuation(ours: RecurrentLanguageModel, prompt: Sequence[int], *, alpha: float) -> list[Scored]:
    """All ended continuations of at most CAP tokens, best first."""
    found: list[Scored] = []

    def grow(tokens: tuple[int, ...], total: float) -> None:
        for token, value in enumerate(log_probs(ours, (*prompt, *tokens))):
            if token == EOS:
                found.append(Scored(tokens, penalised(total + value, len(tokens) + 1, alpha), False))
            elif token not in NEVER and len(tokens) + 1 < CAP:
                grow((*tokens, token), total + value)

    grow((), 0.0)
    return sorted(found, key=lambda item: -item.score)


@CELLS
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_of_all_continuations(cell: str, alpha: float) -> None:
    ours = model(cell)
    found = search(ours, queries(), beams=V**CAP, n_best=6, length_penalty=alpha)
    for prompt, items in zip(PROMPTS, found, strict=True):
        best = every_continuation(ours, prompt, alpha=alpha)[:6]
        assert [item.tokens for item in items] == [item.tokens for item in best]
        assert [item.score for item in items] == pytest.approx([item.score for item in best], abs=1e-5)
    assert len({items[0].score for items in found}) == len(PROMPTS), "each goes on from its own prompt"


@CELLS
def test_greedy_search_takes_the_best_next_token(cell: str) -> None:
    ours = model(cell, seed=1)
    for prompt, (item,) in zip(PROMPTS, search(ours, queries(), beams=1), strict=True):
        tokens: list[int] = []
        while len(tokens) < CAP:
            values = log_probs(ours, (*prompt, *tokens))
            best = max((value, token) for token, value in enumerate(values) if token not in NEVER)[1]
            if best == EOS:
                break
            tokens.append(best)
        assert item.tokens == tuple(tokens)
        assert item.truncated == (len(tokens) == CAP)


def test_samples_come_as_often_as_they_are_probable() -> None:
    """Chi-square over all first tokens after each of two prompts in one batch; the seeds are fixed, so this never flickers."""
    ours, draws = model(sharpness=1.0), 3000
    asked = [Query(prompt, longest=1, seed=row) for row, prompt in enumerate([(SOS, 5), (SOS, 4, 6, 7)])]
    for query, items in zip(asked, search(ours, asked, n_best=draws, sampling=SamplingConfig()), strict=True):
        counts = Counter(item.tokens[0] if item.tokens else EOS for item in items)
        allowed = {token: math.exp(value) for token, value in enumerate(log_probs(ours, query.prompt)) if token not in NEVER}
        expected = {token: draws * value / sum(allowed.values()) for token, value in allowed.items()}
        assert set(counts) <= set(expected)
        assert math.fsum((counts[token] - often) ** 2 / often for token, often in expected.items()) < 18.5, "4 degrees: 0.1 % point"


@CELLS
def test_reading_is_stepping_whatever_stands_beside_it(cell: str) -> None:
    ours = model(cell)
    together = search(ours, queries(), beams=3, n_best=3)
    for query, items in zip(queries(), together, strict=True):
        state = read_prompts(Stepping(ours), ours.start(1), [query])
        (stepped,) = beam_search(ours.step, state, [query], config=SearchConfig(beams=3, n_best=3, repeat_ngram=0))
        assert [item.tokens for item in items] == [item.tokens for item in stepped]
        for one, two in zip(items, stepped, strict=True):
            assert one.token_log_probabilities == pytest.approx(two.token_log_probabilities, abs=1e-6)


@CELLS
def test_the_state_after_reading_is_the_state_after_stepping(cell: str) -> None:
    ours = model(cell)
    together = read_prompts(ours, ours.start(len(PROMPTS)), queries())
    for row, query in enumerate(queries()):
        alone = read_prompts(Stepping(ours), ours.start(1), [query])
        for mine, expected in zip(together.select(torch.tensor([row]), torch.tensor([row])).carries, alone.carries, strict=True):
            for one, two in zip(mine, expected, strict=True):
                torch.testing.assert_close(one, two, atol=1e-6, rtol=0)


def test_a_prompt_is_read_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = model()
    assert isinstance(ours, Reads) and not isinstance(Stepping(ours), Reads)
    shapes: list[tuple[int, ...]] = []
    read = RecurrentLanguageModel.read

    def count(self: RecurrentLanguageModel, tokens: torch.Tensor, state: object) -> object:
        shapes.append(tuple(tokens.shape))
        return read(self, tokens, state)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(RecurrentLanguageModel, "read", count)
    search(ours, queries(), beams=2, early_stop=False)
    assert shapes[0] == (len(PROMPTS), max(map(len, PROMPTS)) - 1)
    assert {shape[1] for shape in shapes[1:]} == {1} and len(shapes) <= 1 + CAP


@CELLS
def test_wishes_hold_for_the_continuation(cell: str) -> None:
    """The tokens of the prompt are not looked at: a word that stands there is neither granted nor forbidden by that."""
    ours = model(cell)
    wish = Constraints(prefix=(6,), forbidden=((5,),), forced=(((7, 4),),))
    found = search(ours, queries(constraints=wish), beams=12, n_best=2)
    for prompt, items in zip(PROMPTS, found, strict=True):
        wanted = [item for item in every_continuation_after_six(ours, prompt) if wish.satisfied_by(item.tokens)]
        complete = [item for item in items if not item.truncated]
        assert complete and complete[0].tokens == wanted[0].tokens
        assert complete[0].score == pytest.approx(wanted[0].score, abs=1e-5)


def every_continuation_after_six(ours: RecurrentLanguageModel, prompt: Sequence[int]) -> list[Scored]:
    """With the one token of the prefix beside the limit of length."""
    found: list[Scored] = []
    first = log_probs(ours, prompt)[6]
    for item in every_continuation(ours, (*prompt, 6), alpha=0.0):
        found.append(Scored((6, *item.tokens), penalised(first + item.score, len(item.tokens) + 2, 1.0), False))
    return sorted(found, key=lambda item: -item.score)


def test_a_translation_goes_on_from_a_prompt_as_from_a_prefix() -> None:
    """What is read before the search is not scored; the rest is what the same tokens as a prefix lead to."""
    toy = ToyModel(10, seed=3)
    prompts = [(SOS, 6, 4), (SOS, 9, 9)]
    asked = [Query(prompt, longest=6) for prompt in prompts]
    config = SearchConfig(beams=3, n_best=3, length_penalty=0.0, repeat_ngram=0)
    state = read_prompts(toy, toy.sentences(2), asked)
    prefixed = [Query(longest=6, constraints=Constraints(prefix=prompt[1:])) for prompt in prompts]
    expected = beam_search(toy.step, toy.sentences(2), prefixed, config=config)
    for items, others in zip(beam_search(toy.step, state, asked, config=config), expected, strict=True):
        assert [item.tokens for item in items] == [item.tokens[2:] for item in others]
        assert [item.log_probability for item in items] == pytest.approx(
            [item.log_probability - sum(item.token_log_probabilities[:2]) for item in others], abs=1e-5
        )


def test_what_cannot_be_read_is_refused() -> None:
    toy = ToyModel(10)
    with pytest.raises(UsageError, match="prompts of 1 to 3 tokens"):
        read_prompts(toy, toy.sentences(2), [Query((SOS, 4, 5), longest=3), Query(longest=3)])
    for prompt in ((), (SOS, PAD, 4)):
        with pytest.raises(UsageError, match="prompt"):
            Query(prompt, longest=3)
    with pytest.raises(UsageError, match="at most 0 tokens"):
        Query(longest=0)
