"""Texts in, translations out: one for each, in order, the same whatever they are batched with, and never an error."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import ToyModel

import vitrail
from vitrail.data.vocabularies.subwords import EOS, CharacterVocabulary, Vocabularies, WordVocabulary
from vitrail.decode.engines.torch import make_batches
from vitrail.decode.search_config import SamplingConfig, SearchConfig, TranslateConfig
from vitrail.decode.textual.text_constraints import TextConstraints, spellings
from vitrail.decode.translate import Translation, Translator
from vitrail.errors import ModelError, UsageError
from vitrail.models.base import unique_tensors
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.transformer import Transformer
from vitrail.models.model_folder import save_model
from vitrail.runtime.device import fewest_rows

SENTENCE = "the grey heron waits by a slow river and two boys throw bread"
WORDS = [*SENTENCE.split(), *".,!?", "Mr", "dawn"]
CORPUS = [" ".join(WORDS), " ".join(reversed(WORDS)), "the grey heron, the slow river. (the bread)"]
TEXTS = ["the grey heron waits", "", "two boys throw bread by a river", "  ", "dawn", "the grey heron waits and waits", "a b c", "bread"]
SMALL = SearchConfig(beams=2, min_length=2, max_ratio=1, max_extra=4)
ANY_TEXT = st.one_of(st.text(max_size=30), st.text(alphabet="ab .\n\0\udcff", max_size=30), st.sampled_from(TEXTS))


def words() -> Vocabularies:
    vocabulary = WordVocabulary.train(CORPUS, size=60)
    return Vocabularies(vocabulary, vocabulary, joint=True)


def characters() -> Vocabularies:
    vocabulary = CharacterVocabulary.train(CORPUS, size=60)
    return Vocabularies(vocabulary, vocabulary, joint=True)


def toy(vocabularies: Vocabularies | None = None, *, end_bias: float = 2.0, longest: int | None = None, **changes: object) -> Translator:
    vocabularies = words() if vocabularies is None else vocabularies
    model = ToyModel(vocabularies.source.size, end_bias=end_bias, sharpness=1.0)
    config = TranslateConfig.model_validate({"search": SMALL} | changes)
    return Translator(model, vocabularies=vocabularies, config=config, longest_source=longest)


def transformer(vocabularies: Vocabularies, *, seed: int = 0) -> Transformer:
    """Random weights, made sharper so that translations differ from source to source."""
    torch.manual_seed(seed)
    size = vocabularies.source.size
    config = TransformerConfig(encoder_layers=2, decoder_layers=2, tie="none")
    model = Transformer(config, source_vocabulary=size, target_vocabulary=size).eval()
    with torch.no_grad():
        model.output_weight *= 4
    return model


def test_one_text_gives_one_translation() -> None:
    translator = toy()
    one = translator.translate("the grey heron waits")
    assert isinstance(one, Translation)
    assert translator.translate(["the grey heron waits"]) == [one]
    assert one.text == translator.vocabularies.target.decode(one.tokens)
    assert len(one.pieces) == len(one.tokens) > 0
    assert one.alternatives[0][:3] == (one.text, one.score, one.tokens)
    assert sum(one.token_log_probabilities) == pytest.approx(one.log_probability)
    assert translator.translate([]) == []


def test_order_and_empty_lines() -> None:
    found = toy().translate(TEXTS)
    assert [item.source for item in found] == TEXTS
    assert [item.text == "" for item in found if not item.source.strip()] == [True, True]
    assert all(item.parts == 0 for item in found if not item.source.strip())
    assert len({item.tokens for item in found}) > 3


def test_empty_lines_cost_nothing() -> None:
    translator = toy()
    model = ToyModel(20)
    silent = Translator(model, vocabularies=translator.vocabularies)
    silent.translate(["", " ", "\t\n", "\0"])
    assert model.rows_seen == []


@given(st.lists(ANY_TEXT, max_size=6), st.booleans())
@settings(max_examples=15, deadline=None)
def test_as_many_out_as_in(texts: list[str], exact: bool) -> None:
    translator = toy(exact=exact, max_source_tokens=8)
    found = translator.translate(texts)
    assert [item.source for item in found] == texts
    assert all("\n" in item.source for item in found if "\n" in item.text)  # only between parts, where the source had it
    assert list(translator.translate_stream(iter(texts))) == found


@pytest.mark.parametrize("text", ["a\0b", "\udcff", "\ud800\udc00", "\ufeff", "x" * 100_000, "e\u0301" * 40, "\u200b", "a\u2028b\rc"])
def test_strange_texts_are_translated(text: str) -> None:
    found = toy(words()).translate(text)
    assert found.source == text


def test_neighbours_change_nothing() -> None:
    for exact in (True, False):
        translator = toy(exact=exact)
        together = translator.translate(TEXTS * 2)
        assert together[: len(TEXTS)] == together[len(TEXTS) :]
        assert [translator.translate(text) for text in TEXTS] == together[: len(TEXTS)]


@pytest.mark.parametrize(
    ("beams", "threads"),
    [(2, 1), *(pytest.param(one, threads, marks=pytest.mark.slow) for one in (1, 2, 5) for threads in (1, 2) if (one, threads) != (2, 1))],
)
def test_exact_mode_of_a_transformer(beams: int, threads: int) -> None:
    vocabularies = characters()
    model = transformer(vocabularies)
    search = SearchConfig(beams=beams, n_best=beams, max_ratio=0, max_extra=12)
    texts = [text for text in TEXTS * 2 if text.strip()] + ["grey", "slow", "two boys"]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found: list[list[Translation]] = []
        for size in (1, 3, 64):
            config = TranslateConfig(search=search, batch_sentences=size)
            found.append(Translator(model, vocabularies=vocabularies, config=config).translate(texts))
        backwards = Translator(model, vocabularies=vocabularies, config=config).translate(texts[::-1])[::-1]
    finally:
        torch.set_num_threads(before)
    assert len({item.tokens for item in found[0]}) > 4
    for other in (*found[1:], backwards):
        assert [item.tokens for item in other] == [item.tokens for item in found[0]]
        for one, two in zip(other, found[0], strict=True):
            assert [item.tokens for item in one.alternatives] == [item.tokens for item in two.alternatives]
            assert one.score == pytest.approx(two.score, abs=1e-4)


@pytest.mark.parametrize("beams", [1, 3, 5])
def test_exact_mode_never_decodes_few_rows(beams: int) -> None:
    vocabularies = words()
    model = ToyModel(vocabularies.source.size)
    search = replace_search(beams=beams)
    Translator(model, vocabularies=vocabularies, config=TranslateConfig(search=search)).translate(TEXTS)
    assert min(model.rows_seen) >= fewest_rows(torch.get_num_threads())
    assert (fewest_rows(1), fewest_rows(2)) == (4, 16)


def test_fast_mode_agrees_on_scores() -> None:
    vocabularies = characters()
    model = transformer(vocabularies)
    texts = [text for text in TEXTS if text.strip()]
    exact, fast = (
        Translator(model, vocabularies=vocabularies, config=TranslateConfig(search=SMALL, exact=exact)).translate(texts)
        for exact in (True, False)
    )
    assert [item.tokens for item in exact] == [item.tokens for item in fast]
    assert [item.score for item in exact] == pytest.approx([item.score for item in fast], abs=1e-4)


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 8), st.integers(1, 120), st.booleans())
@settings(deadline=None)
def test_batches_hold_every_text_once_within_budget(lengths: list[int], sentences: int, tokens: int, exact: bool) -> None:
    batches = list(make_batches(lengths, config=TranslateConfig(exact=exact, batch_sentences=sentences, batch_tokens=tokens)))
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[number] for number in batch) + 1
        assert len(batch) <= sentences
        assert len(batch) == 1 or len(batch) * longest <= tokens
        assert not exact or len({lengths[number] for number in batch}) == 1


def test_stream_keeps_to_its_window() -> None:
    read: list[int] = []

    def lines() -> list[str]:
        for number in range(10):
            read.append(number)
            yield WORDS[number]

    translator = toy(window_lines=3)
    stream = translator.translate_stream(lines())
    first = next(stream)
    assert read == [0, 1, 2]
    assert [first, *stream] == translator.translate(WORDS[:10])
    by_characters = toy(window_characters=10)
    stream = by_characters.translate_stream(lines())
    read.clear()
    next(stream)
    assert read == [0, 1, 2]


def test_a_portion_is_answered_before_the_next_is_asked_for() -> None:
    read: list[int] = []

    def portions() -> Iterator[list[str]]:
        for number in range(3):
            read.append(number)
            yield [WORDS[number], "", WORDS[number + 1]]

    translator = toy()
    stream = translator.translate_portions(portions())
    first = [next(stream) for _ in range(3)]
    assert read == [0]
    assert first == translator.translate([WORDS[0], "", WORDS[1]])
    assert len(list(stream)) == 6


# Long texts.


@pytest.mark.parametrize(("share", "parts"), [(None, 2), (0.0, 2), (0.02, 2), (0.35, 1)])
def test_sentences_are_parted_where_training_lines_hardly_had_several(share: float | None, parts: int) -> None:
    vocabularies = words()
    model = ToyModel(vocabularies.source.size, end_bias=2.0)
    translator = Translator(model, vocabularies=vocabularies, longest_source=60, several_sentences=share)
    assert translator.translate("The heron waits. Two boys throw bread.").parts == parts
    assert translator.translate("The heron waits by Mr. Bread.").parts == 1


@pytest.mark.parametrize("separator", ["\t", "\r", "\u2028", "\x85", "\f", "\v", "\x1c", "\n", "\u3000", "\u2029 "])
def test_nothing_between_sentences_breaks_a_line(separator: str) -> None:
    found = toy().translate(separator.join(["The grey heron waits.", "Two boys throw bread!", "Dawn"]), search=replace_search(n_best=2))
    assert found.parts == 3
    for one in found.alternatives:
        assert "\t" not in one.text and len(one.text.splitlines()) == 1


def test_long_text_is_translated_sentence_by_sentence() -> None:
    translator = toy(longest=6)
    sentences = ["the grey heron waits.", "Two boys throw bread!", "a slow river"]
    text = f" {sentences[0]}  {sentences[1]} {sentences[2]} "
    found = translator.translate(text)
    alone = translator.translate(sentences)
    assert found.parts == 2
    text = text.replace("bread! a", "bread! The")
    found = translator.translate(text)
    alone = translator.translate([*sentences[:2], "The slow river"])
    assert (found.parts, found.cut) == (3, False)
    assert found.text == f"{alone[0].text}  {alone[1].text} {alone[2].text}"
    assert found.tokens == tuple(token for item in alone for token in item.tokens)
    assert found.log_probability == pytest.approx(sum(item.log_probability for item in alone))
    assert translator.translate(sentences[0]).parts == 1


def test_a_sentence_that_is_too_long_is_cut_and_marked() -> None:
    translator = toy(max_source_tokens=5)
    found = translator.translate(SENTENCE)
    assert found.cut
    assert found.parts == 4
    assert not translator.translate("the grey heron waits").cut
    long = toy(characters(), max_source_tokens=64).translate("bread" * 200)
    assert long.cut
    assert long.parts == 16


def test_truncation_is_told() -> None:
    assert toy(end_bias=-99.0).translate("dawn").truncated
    assert not toy(end_bias=9.0).translate("dawn").truncated


# TextConstraints.


@pytest.mark.parametrize("kind", [words, characters])
def test_prefix_comes_first(kind: type) -> None:
    found = toy(kind()).translate(TEXTS, constraints=TextConstraints(prefix="the river"))
    assert all(item.text.startswith("the river") for item in found if item.source.strip())
    assert all(item.text == "" for item in found if not item.source.strip())


def test_forbidden_words_do_not_occur() -> None:
    translator = toy()
    free = translator.translate("the grey heron waits")
    word = free.text.split()[0]
    found = translator.translate("the grey heron waits", constraints=TextConstraints(forbidden=(word, "")))
    assert word not in found.text.split()


@pytest.mark.parametrize("beams", [1, 4])
def test_forced_words_occur(beams: int) -> None:
    translator = toy()
    constraints = TextConstraints(forced=("slow river", "dawn"))
    for item in translator.translate(TEXTS, constraints=constraints, search=replace_search(beams=beams, max_extra=30)):
        if item.source.strip():
            assert "slow river" in item.text
            assert "dawn" in item.text


def replace_search(**changes: object) -> SearchConfig:
    return SearchConfig.model_validate(SMALL.model_dump() | changes)


def test_forced_words_stand_on_their_own() -> None:
    translator = toy(characters(), end_bias=3.0)
    found = translator.translate(
        ["dawn", "heron"], constraints=TextConstraints(forced=("boys",)), search=replace_search(beams=8, max_extra=40)
    )
    for item in found:
        assert item.truncated or "boys" in "".join(c if c.isalnum() else " " for c in item.text).split()


def test_spellings_with_and_without_the_space_before() -> None:
    vocabulary = words().target
    found = spellings("the", vocabulary)
    assert {tuple(vocabulary.pieces(spelling)) for spelling in found} == {("▁the",), ("the",)}
    assert spellings("zebra", vocabulary) == ()


def test_one_word_is_a_list_of_itself() -> None:
    assert TextConstraints(forced="river").forced == ("river",)
    assert TextConstraints(forbidden="the river").forbidden == ("the river",)
    assert TextConstraints(forced=["river", "boys"]) == TextConstraints(forced=("river", "boys"))
    assert "river" in toy().translate("dawn", constraints=TextConstraints(forced="river")).text


@pytest.mark.parametrize("seed", range(3))
def test_forced_words_of_a_text_in_parts(seed: int) -> None:
    """A word stays where it stands by itself; one that stands nowhere spoils one part only, the one that it costs least."""
    vocabularies = words()
    translator = Translator(ToyModel(vocabularies.source.size, end_bias=2.0, sharpness=1.0, seed=seed), vocabularies=vocabularies)
    search = SearchConfig(beams=4, max_ratio=1, max_extra=20)
    parts = ["The grey heron waits.", "Two boys throw bread.", "Dawn by the river"]
    text = " ".join(parts)
    free = translator.translate(text, search=search)
    alone = [translator.translate(part, search=search) for part in parts]
    there = next(one.text.split()[0] for one in reversed(alone) if one.text)
    assert translator.translate(text, constraints=TextConstraints(forced=(there,)), search=search).text == free.text
    absent = next(word for word in WORDS if word not in free.text)
    found = translator.translate(text, constraints=TextConstraints(forced=absent), search=search)
    spoiled = [translator.translate(part, constraints=TextConstraints(forced=absent), search=search) for part in parts]
    costs = [before.log_probability - after.log_probability for before, after in zip(alone, spoiled, strict=True)]
    cheapest = costs.index(min(costs))
    expected = [spoiled[place] if place == cheapest else one for place, one in enumerate(alone)]
    assert found.text == " ".join(one.text for one in expected if one.text)
    assert absent in found.text
    listed = translator.translate(text, constraints=TextConstraints(forced=(there, absent)), search=search.model_copy(update={"n_best": 4}))
    assert all(there in one.text.split() and absent in one.text for one in listed.alternatives if not one.truncated)


def test_wishes_that_cannot_be_granted() -> None:
    with pytest.raises(UsageError, match="zebra"):
        toy().translate("dawn", constraints=TextConstraints(forced=("zebra",)))
    with pytest.raises(UsageError, match="'river' is forced and forbidden"):
        toy().translate("dawn", constraints=TextConstraints(forced=("river",), forbidden=("river",)))


# Sampling and n-best.


def test_samples_depend_on_the_place_alone() -> None:
    how = SearchConfig(max_ratio=1, max_extra=4, sampling=SamplingConfig())
    translator = toy(search=how)
    found = translator.translate(["dawn"] * 6)
    assert len({item.tokens for item in found}) > 1
    assert translator.translate(["dawn", "bread", "river"])[0] == found[0]
    assert list(toy(search=how, window_lines=2).translate_stream(["dawn"] * 6)) == found
    assert list(translator.translate_portions([["dawn"], [], ["dawn"] * 3, ["dawn"] * 2])) == found
    assert toy(search=how, seed=1).translate(["dawn"] * 6) != found


@pytest.mark.parametrize("seed", range(4))
def test_alternatives_of_a_text_in_parts(seed: int) -> None:
    """The best combinations of the parts' alternatives, by their score as a whole; the first is made of the best."""
    vocabularies = words()
    model = ToyModel(vocabularies.source.size, end_bias=2.0, sharpness=1.0, seed=seed)
    translator = Translator(model, vocabularies=vocabularies)
    parts = ["the grey heron waits.", "Two boys throw bread.", "Dawn by the river"]
    search = SearchConfig(beams=4, n_best=4, max_ratio=1, max_extra=4)
    found = translator.translate(" ".join(parts), search=search)
    alone = [translator.translate(part, search=search).alternatives for part in parts]
    combined: dict[str, float] = {}
    for chosen in itertools.product(*alone):
        text = " ".join(one.text for one in chosen if one.text)
        length = sum(len(one.token_log_probabilities) for one in chosen)
        score = search.score(sum(one.log_probability for one in chosen), length)
        combined[text] = max(score, combined.get(text, score))
    best = " ".join(one[0].text for one in alone if one[0].text)
    assert found.text == found.alternatives[0].text == best
    assert found.text == translator.translate(" ".join(parts), search=search.model_copy(update={"n_best": 1})).text
    assert len({one.text for one in found.alternatives}) == len(found.alternatives) == 4
    scores = [one.score for one in found.alternatives]
    assert scores == sorted(scores, reverse=True)
    assert all(combined[one.text] == pytest.approx(one.score) for one in found.alternatives)


def test_no_text_stands_twice_in_an_n_best_list() -> None:
    """Characters that a line cannot hold are written as spaces, so that other tokens make the same text."""
    vocabulary = CharacterVocabulary(list("ab\v\f"))
    translator = Translator(ToyModel(vocabulary.size, end_bias=2.0), vocabularies=Vocabularies(vocabulary, vocabulary, joint=True))
    for text in ("a", "ab", "ba", "aab"):
        found = translator.translate(text, search=SearchConfig(beams=6, n_best=6, max_length=6))
        assert len({one.text for one in found.alternatives}) == len(found.alternatives) >= 4
        assert found.text == translator.translate(text, search=SearchConfig(beams=6, max_length=6)).text


# Folders.


def saved(folder: Path, vocabularies: Vocabularies, *, seed: int = 0, **facts: object) -> Path:
    model = transformer(vocabularies, seed=seed)
    save_model(folder, tensors=unique_tensors(model), config=model.config, vocabularies=vocabularies, facts=facts)
    return folder


def test_load_translates_as_before_saving(tmp_path: Path) -> None:
    vocabularies = characters()
    config = TranslateConfig(search=SMALL)
    folder = saved(tmp_path / "run" / "model", vocabularies, longest_source=25)
    before = Translator(transformer(vocabularies), vocabularies=vocabularies, config=config, longest_source=25).translate(TEXTS)
    assert Translator.load(folder, engine="torch", config=config).translate(TEXTS) == before
    assert Translator.load(str(folder.parent), engine="torch", config=config).translate(TEXTS) == before
    assert any(item.tokens and EOS not in item.tokens for item in before)


def test_load_several_as_an_ensemble(tmp_path: Path) -> None:
    first, second = (saved(tmp_path / name, characters(), seed=seed) for seed, name in enumerate("ab"))
    config = TranslateConfig(search=SMALL, precision="fp32")
    together = Translator.load(first, second, config=config).translate(TEXTS)
    assert together != Translator.load(first, config=config).translate(TEXTS)
    twice = Translator.load(first, first, config=config).translate(TEXTS)
    once = Translator.load(first, engine="torch", config=config).translate(TEXTS)
    assert [item.tokens for item in twice] == [item.tokens for item in once]
    with pytest.raises(ModelError, match="vocabulary"):
        Translator.load(first, saved(tmp_path / "c", words()))


def test_how_to_search_is_said_at_loading(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", characters(), search={"beams": 3, "max_length": 9})
    assert Translator.load(folder).search == SearchConfig(beams=3, max_length=9)
    assert Translator.load(folder, search={"beams": 2}).search == SearchConfig(beams=2, max_length=9)
    assert Translator.load(folder, search=SearchConfig(beams=7)).search == SearchConfig(beams=7)
    assert vitrail.load(folder, search={"n_best": 2}).search == SearchConfig(beams=3, max_length=9, n_best=2)
    with pytest.raises(UsageError, match="beam"):
        Translator.load(folder, search={"beam": 2})


@pytest.mark.parametrize("asked", [{"beams": 10**9}, {"beams": 5000}, {"max_extra": 10**9}, {"max_ratio": 1e300}, {"beems": 2}, 3])
def test_a_model_that_asks_for_too_much_is_refused_unless_told_otherwise(tmp_path: Path, asked: object) -> None:
    folder = saved(tmp_path / "model", characters(), search=asked)
    with pytest.raises(ModelError):
        Translator.load(folder)
    assert Translator.load(folder, search=SearchConfig(beams=2)).search.beams == 2
    if isinstance(asked, dict) and "beams" in asked:
        assert Translator.load(folder, search={"beams": 2}).search.beams == 2


def test_batches_of_many_beams_hold_few_sentences() -> None:
    batches = list(make_batches([4] * 300, config=TranslateConfig(), width=500))
    assert {len(batch) for batch in batches} == {2}


def test_load_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        Translator.load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="several_sentences_share"):
        Translator.load(saved(tmp_path / "share", characters(), several_sentences_share="few"))
    with pytest.raises(ModelError, match="longest_source"):
        Translator.load(saved(tmp_path / "odd", characters(), longest_source="long"))


def test_nothing_twice_holds_for_a_source_that_repeats_itself() -> None:
    """The default guard gives way there; who asks for nothing twice gets that."""
    ours = toy(end_bias=-4.0, search=SMALL.model_copy(update={"min_length": 6, "max_extra": 9, "repeat_ngram": 1, "max_repeats": 1}))
    for source in ("the the the river", "bread bread by bread", "two boys"):
        (segment,) = ours.translate(source).alternatives[0].segments
        assert len(set(segment.target_tokens)) == len(segment.target_tokens) >= 6
