"""Text from a language model, and how well it expects a text."""

import math
from collections.abc import Sequence

import pytest
import torch

from vitrail.data.vocabularies.subwords import EOS, CharacterVocabulary
from vitrail.decode.generate import Generator
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.errors import UsageError
from vitrail.models.kinds.language import LanguageConfig, RecurrentLanguageModel
from vitrail.train.log.display import validation_line


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(2)
    vocabulary = CharacterVocabulary(list("abcde "))
    model = RecurrentLanguageModel(LanguageConfig(embedding_width=8, width=12, layers=2), vocabulary=vocabulary.size)
    with torch.no_grad():
        model.output_weight *= 3
    return Generator(model, vocabulary)


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
