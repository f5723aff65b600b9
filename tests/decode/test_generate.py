"""Text from a language model, and how well it expects a text."""

import math
from collections.abc import Sequence
from itertools import islice

import pytest
import torch
from test_spelling import KINDS, TEXTS, plain_find, vocabulary
from transformers import RepetitionPenaltyLogitsProcessor

from vitrail.data.vocabularies.subwords import EOS, CharacterVocabulary
from vitrail.decode.generate import Generator
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.errors import UsageError
from vitrail.models.base import LanguageModel
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.configs.language import LanguageConfig
from vitrail.models.kinds.causal import CausalLanguageModel
from vitrail.models.kinds.language import RecurrentLanguageModel
from vitrail.train.log.display import validation_line


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(2)
    vocabulary = CharacterVocabulary(list("abcde "))
    model = RecurrentLanguageModel(LanguageConfig(embedding_width=8, width=12, layers=2), vocabulary=vocabulary.size)
    with torch.no_grad():
        model.output_weight *= 3
    return Generator(model, vocabulary)


def make(kind: str, script: str = "latin", *, causal: bool = True, **shape: object) -> Generator:
    """A model with random weights, whose texts are of all tokens that there are."""
    torch.manual_seed(3)
    ours = vocabulary(kind, script)
    model: LanguageModel
    if causal:
        config = CausalConfig.model_validate(
            {"layers": 1, "width": 16, "heads": 2, "feed_forward": 16, "context": 256, "dropout": 0.0} | shape
        )
        model = CausalLanguageModel(config, vocabulary=ours.size)
    else:
        model = RecurrentLanguageModel(LanguageConfig(embedding_width=8, width=12), vocabulary=ours.size)
    return Generator(model, ours)


@torch.no_grad()
def log_probability(generator: Generator, ids: Sequence[int], *, given: int) -> float:
    """Of the tokens after the first `given`, one at a time in float64, by a pass over one row that knows nothing of search and chunks."""
    model = generator.model.double()
    hidden, _ = model.read(torch.tensor([list(ids)]), model.start(1))
    scores = (hidden[0] @ model.output_weight.t() + model.output_bias).log_softmax(-1)
    model.float()
    return sum(float(scores[place - 1, ids[place]]) for place in range(given, len(ids)))


def test_the_same_seed_writes_the_same_and_every_prompt_draws_by_itself(generator: Generator) -> None:
    search = SearchConfig(n_best=3, sampling=SamplingConfig(), max_extra=12)
    alone = generator.generate("ab", search=search, seed=5)
    assert [one.text for one in alone] == [one.text for one in generator.generate("ab", search=search, seed=5)]
    beside = generator.generate(["ab", "ca", "ab"], search=search, seed=5)
    assert [one.text for one in beside[0]] == [one.text for one in alone] != [one.text for one in beside[2]]
    assert all(one.text.startswith(one.prompt) and one.truncated == (len(one.tokens) == 12) for row in beside for one in row)


@pytest.mark.parametrize(
    "search", [SearchConfig(beams=4, n_best=4, max_extra=6), SearchConfig(n_best=2, sampling=SamplingConfig(), max_extra=6)]
)
def test_its_log_probability_is_the_models(generator: Generator, search: SearchConfig) -> None:
    for one in generator.generate("bad", search=search):
        start = [EOS, *generator.vocabulary.encode("bad")]
        ids = [*start, *one.tokens, *([] if one.truncated else [EOS])]
        assert one.log_probability == pytest.approx(log_probability(generator, ids, given=len(start)), abs=1e-4)
        assert sum(one.token_log_probabilities) == pytest.approx(one.log_probability, abs=1e-4)


def test_further_lines_are_written_from_all_that_came_before(generator: Generator) -> None:
    search = SearchConfig(n_best=1, sampling=SamplingConfig(temperature=0.7), max_extra=300)
    found = next(one for seed in range(50) if not (one := generator.generate("a", search=search, lines=3, seed=seed)[0]).truncated)
    assert found.text.count("\n") == 2 and list(found.tokens).count(EOS) == 2
    ids = [EOS, *generator.vocabulary.encode("a"), *found.tokens, EOS]
    assert found.log_probability == pytest.approx(log_probability(generator, ids, given=2), abs=1e-3)
    with pytest.raises(UsageError, match="0 lines"):
        generator.generate("a", lines=0)


def test_perplexity_is_that_of_the_whole_text_in_one_pass(generator: Generator) -> None:
    lines = ["abba", "bad  cab", "", "dead"]
    found = generator.measure(lines)
    texts = ["abba", "bad cab", "dead"]
    ids = [EOS, *(token for text in texts for token in (*generator.vocabulary.encode(text), EOS))]
    nats = -log_probability(generator, ids, given=1)
    assert found.nats == pytest.approx(nats, rel=1e-5) and (found.tokens, found.words, found.bytes) == (len(ids) - 1, 4, 18)
    figures = found.figures()
    assert figures["perplexity"] == pytest.approx(math.exp(nats / found.tokens), rel=1e-4)
    assert figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / 18, rel=1e-4)
    with pytest.raises(UsageError, match="an empty text"):
        generator.measure(["", " "])


def test_a_long_text_is_read_in_several_places_and_loses_little(generator: Generator) -> None:
    lines = ["abba cad", "bed", "a dead bee"] * 300
    ids = [EOS, *(token for text in lines for token in (*generator.vocabulary.encode(text), EOS))]
    found = generator.measure(lines)
    assert found.tokens == len(ids) - 1 > 7_000
    assert found.nats == pytest.approx(-log_probability(generator, ids, given=1), rel=2e-3)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("彼女は昨日の夜に東京の駅で友達に会いました", 0),
        ("เมื่อวานนี้ฉันไปตลาดกับเพื่อนของฉัน", 0),
        ("кот видит птицу у дома", 5),
        ("彼女 は 昨日 東京 に 行き まし た", 8),
    ],
)
def test_words_are_counted_where_spaces_part_them(line: str, words: int) -> None:
    vocabulary = CharacterVocabulary(sorted(set(line)))
    torch.manual_seed(1)
    model = RecurrentLanguageModel(LanguageConfig(embedding_width=4, width=4), vocabulary=vocabulary.size)
    found = Generator(model, vocabulary).measure([line] * 30)
    assert found.words == 30 * words and ("perplexity_per_word" in found.figures()) == bool(words)
    assert ("a word" in found.to_text()) == bool(words) and found.bytes == 30 * (len(line.encode()) + 1)
    shown = validation_line(3, {f"dev_{name}": value for name, value in found.figures().items()} | {"best": True})
    assert ("a word" in shown) == bool(words) and "bits a byte" in shown


EVERYWHERE = [(kind, script, place % 2 == 0) for place, (kind, script) in enumerate((kind, script) for kind in KINDS for script in TEXTS)]
DRAW = SearchConfig(sampling=SamplingConfig(), max_extra=16, min_length=12)


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("kind", "script", "causal"), EVERYWHERE)
def test_a_stop_string_cuts_the_same_text_where_it_is_first_complete(kind: str, script: str, causal: bool) -> None:
    """Without and with it the same is drawn; so the text must be the one without it up to there, wherever the tokens part it."""
    generator = make(kind, script, causal=causal)
    prompt = TEXTS[script][0][:5].strip()
    straddled = begun = 0
    for seed in range(2):
        for lines in (1, 2):
            free = generator.generate(prompt, search=DRAW, seed=seed, lines=lines)[0]
            written = len(free.text) - len(free.prompt)
            assert free.text.startswith(free.prompt) and written > 8
            for at, size in ((-2, 3), (-1, 2), (1, 1), (3, 2), (4, 5), (written - 5, 4)):
                first = len(free.prompt) + at
                stop = free.text[first : first + size]
                found = plain_find(free.text, [stop], after=len(free.prompt))
                if found is None or "\ufffd" in stop:  # of a character that was never completed
                    continue
                one = generator.generate(prompt, search=DRAW, seed=seed, lines=lines, stop=[stop, "never written"])[0]
                assert (one.text, one.ended, one.truncated) == (free.text[: max(found[0], len(one.prompt))], "stop", False)
                assert one.tokens == free.tokens[: len(one.tokens)] and sum(one.token_log_probabilities) == pytest.approx(
                    one.log_probability
                )
                straddled += size > 1
                begun += found[0] < len(one.prompt)
                assert "".join(generator.stream(prompt, search=DRAW, seed=seed, lines=lines, stop=[stop, "never written"])) == one.text
    assert straddled >= 4 and begun >= 2


@pytest.mark.parametrize(("kind", "script", "causal"), EVERYWHERE[::5])
def test_a_stream_is_what_is_written(kind: str, script: str, causal: bool) -> None:
    generator = make(kind, script, causal=causal)
    prompts = ["", TEXTS[script][0][:6], "?"]
    several = SearchConfig(n_best=3, sampling=SamplingConfig(top_k=20), max_extra=8)
    for search, lines, stop in (
        (DRAW, 1, ()),
        (several, 1, ("a", "的")),
        (several, 2, ("a", "の", "\n")),
        (SearchConfig(beams=1, max_extra=8), 2, ()),
    ):
        written = generator.generate(prompts, search=search, lines=lines, seed=4, stop=stop)
        pieces = list(generator.pieces(prompts, search=search, lines=lines, seed=4, stop=stop))
        for row, many in enumerate(written):
            for sample, one in enumerate(many):
                mine = [piece for piece in pieces if (piece.prompt, piece.sample) == (row, sample)]
                assert "".join(piece.text for piece in mine) == one.text
                assert [piece.ended for piece in mine] == [None] * (len(mine) - 1) + [one.ended]
        assert [(piece.prompt, piece.sample) for piece in pieces] == sorted((piece.prompt, piece.sample) for piece in pieces)


def test_a_line_break_can_stop_a_text(generator: Generator) -> None:
    search = SearchConfig(sampling=SamplingConfig(temperature=0.7), max_extra=300)
    seed, free = next(
        (seed, one) for seed in range(50) if (one := generator.generate("a", search=search, lines=3, seed=seed)[0]).ended == "line"
    )
    first, second, _ = free.text.split("\n")
    for stop, expected in (("\n", first), (f"{first[-1:]}\n{second[:1]}", first[:-1]), ("\n" + second[:2], first)):
        one = generator.generate("a", search=search, lines=3, seed=seed, stop=stop)[0]
        assert (one.text, one.ended) == (expected, "stop")
        assert "".join(generator.stream("a", search=search, lines=3, seed=seed, stop=stop)) == expected
    assert generator.generate("a", search=search, lines=1, seed=seed, stop="\n")[0].ended == "line", "no line follows"
    assert generator.generate("abba", search=search, stop="bb", seed=seed)[0].text.startswith("abba"), "the prompt's own do not count"


def test_a_stream_comes_while_the_text_is_drawn_and_ends_with_its_reader(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    step = RecurrentLanguageModel.step

    def counted(self: RecurrentLanguageModel, last: torch.Tensor, state: object) -> object:
        nonlocal steps
        steps += 1
        return step(self, last, state)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(RecurrentLanguageModel, "step", counted)
    stream = generator.stream("ab", search=SearchConfig(sampling=SamplingConfig(), min_length=50, max_extra=60))
    assert steps == 0 and next(stream) == "ab" and steps == 0
    pieces = list(islice(stream, 5))
    assert all(len(piece) == 1 for piece in pieces) and 5 <= steps <= 6
    del stream
    assert steps <= 6
    with pytest.raises(UsageError, match="4 beams"):
        generator.stream("ab", search=SearchConfig(beams=4))
    with pytest.raises(UsageError, match="2 continuations"):
        generator.stream("ab", search=SearchConfig(n_best=2, sampling=SamplingConfig()))


def test_a_beam_search_stops_at_a_string(generator: Generator) -> None:
    """Of the hypotheses that contain it, none goes on; greedily, the text is that without it up to there."""
    free = generator.generate("a", search=SearchConfig(beams=1, min_length=12, max_extra=20))[0]
    stop = free.text[6:8]
    found = plain_find(free.text, [stop], after=1)
    assert found is not None
    one = generator.generate("a", search=SearchConfig(beams=1, min_length=12, max_extra=20), stop=stop)[0]
    assert (one.text, one.ended) == (free.text[: found[0]], "stop")
    for item in generator.generate("a", search=SearchConfig(beams=5, n_best=5, min_length=3, max_extra=20), stop=["b", "ca"]):
        whole = generator.vocabulary.decode(item.tokens)
        hit = plain_find("a" + whole, ["b", "ca"], after=1)
        assert (item.ended == "stop") == (hit is not None) and (
            hit is None or (hit[1] == 1 + len(whole) and item.text == ("a" + whole)[: hit[0]])
        )


@torch.no_grad()
def plain_greedy(model: LanguageModel, ids: Sequence[int], *, most: int, ngram: int = 0, penalty: float = 1.0) -> list[int]:
    """The likeliest token, again and again, by a pass over the whole row each time; no n-gram twice; the penalty is Hugging Face's."""
    tokens, begin = list(ids), len(ids)
    assert isinstance(model, RecurrentLanguageModel)
    while len(tokens) - begin < most:
        hidden, _ = model.read(torch.tensor([tokens]), model.start(1))
        logits = hidden[:, -1] @ model.output_weight.t() + model.output_bias
        if penalty != 1:
            logits = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([[one for one in tokens if one > EOS]]), logits)
        scores: list[float] = logits[0].tolist()
        seen = {tuple(tokens[at : at + ngram]) for at in range(len(tokens) - ngram + 1)} if ngram else set()
        free = [token for token in range(EOS, len(scores)) if token == EOS or (*tokens[len(tokens) - ngram + 1 :], token) not in seen]
        best = max(free, key=lambda token: scores[token])
        if best == EOS:
            break
        tokens.append(best)
    return tokens[begin:]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ngram", [1, 2, 3])
def test_no_sequence_is_written_twice_and_those_of_the_prompt_count(kind: str, ngram: int) -> None:
    generator = make(kind, "hindi", causal=False)
    prompts = [TEXTS["hindi"][0], f"{TEXTS['hindi'][1]} {TEXTS['hindi'][1]}", ""]
    search = SearchConfig(beams=1, repeat_ngram=ngram, max_repeats=1, max_extra=30)
    for prompt, (found,) in zip(prompts, generator.generate(prompts, search=search), strict=True):
        start = [EOS, *generator.vocabulary.encode(prompt)]
        assert list(found.tokens) == plain_greedy(generator.model, start, most=30, ngram=ngram)
    drawn = search.model_copy(update={"n_best": 4, "sampling": SamplingConfig(temperature=0.2)})
    for one in generator.generate(prompts[0], search=drawn, lines=2):
        ids = [EOS, *generator.vocabulary.encode(prompts[0]), *one.tokens]
        new = [tuple(ids[at : at + ngram]) for at in range(len(ids) - ngram + 1)]
        own = len(ids) - len(one.tokens) - ngram + 1
        assert all(gram not in new[:place] for place, gram in enumerate(new) if place >= own and gram[-1] != EOS)


@pytest.mark.parametrize("penalty", [0.5, 1.3, 5.0])
def test_the_repetition_penalty_is_that_of_the_field(penalty: float) -> None:
    generator = make("character", "arabic", causal=False)
    search = SearchConfig(sampling=SamplingConfig(top_k=1, repetition_penalty=penalty), max_extra=30)
    for prompt in ["", *TEXTS["arabic"]]:
        start = [EOS, *generator.vocabulary.encode(prompt)]
        one = generator.generate(prompt, search=search)[0]
        assert list(one.tokens) == plain_greedy(generator.model, start, most=30, penalty=penalty)
        ids = [*start, *one.tokens, *([] if one.truncated else [EOS])]
        assert one.log_probability == pytest.approx(log_probability(generator, ids, given=len(start)), abs=1e-3), "the model's own"


def test_the_guard_of_translations_leaves_texts_alone(generator: Generator) -> None:
    """Any three characters stand often in a long text; who sets the guard has it."""
    search = SearchConfig(beams=1, max_extra=200, min_length=199)
    free, guarded = (
        generator.generate("ab", search=how)[0] for how in (search, SearchConfig(beams=1, max_extra=200, min_length=199, repeat_ngram=3))
    )
    assert list(free.tokens) != list(guarded.tokens)
    counts = {free.text.count(free.text[at : at + 3]) for at in range(100, 200)}
    assert max(counts) > 8


def test_samples_are_in_the_order_drawn(generator: Generator) -> None:
    """Those of 5 begin with those of 5 of other lengths: their order is not that of their scores."""
    long, short = (SearchConfig(n_best=5, sampling=SamplingConfig(), max_extra=most) for most in (30, 3))
    whole = generator.generate("b", search=long, seed=3)
    scores = [one.log_probability for one in whole]
    assert scores != sorted(scores, reverse=True)
    noise = torch.rand(30, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    again = torch.rand(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert torch.equal(noise[:3], again)
    assert [one.tokens for one in generator.generate("b", search=short, seed=3)] == [one.tokens[:3] for one in whole]


@torch.no_grad()
def in_windows(model: CausalLanguageModel, ids: Sequence[int], *, most: int) -> list[int]:
    """Greedily, the window being rebuilt from its second half where it is full; each time by a pass over the whole window."""
    window, found = list(ids[:-1])[-model.context :], list[int]()
    last = ids[-1]
    while len(found) < most:
        if len(window) + 1 > model.context:
            window = window[-(model.context // 2) :]
        window.append(last)
        logits = model.hidden(torch.tensor([window]))[0, -1] @ model.output_weight.t()
        last = int(logits[EOS:].argmax()) + EOS
        if last == EOS:
            break
        found.append(last)
    return found


@pytest.mark.parametrize(
    ("positions", "script"), [("learned", "latin"), ("learned", "arabic"), ("sinusoidal", "hindi"), ("rotary", "japanese")]
)
def test_a_prompt_may_be_longer_than_the_context_and_the_positions(positions: str, script: str) -> None:
    generator = make("character", script, positions=positions, context=16, max_positions=16)
    assert isinstance(generator.model, CausalLanguageModel)
    text = " ".join(TEXTS[script])
    for length in (15, 16, 17, 60):
        prompt = (text * 3)[:length].strip()
        one = generator.generate(prompt, search=SearchConfig(beams=1, max_extra=20))[0]
        assert list(one.tokens) == in_windows(generator.model, [EOS, *generator.vocabulary.encode(prompt)], most=20)
        assert "".join(generator.stream(prompt, search=SearchConfig(beams=1, max_extra=20))) == one.text
