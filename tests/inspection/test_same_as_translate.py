"""What is inspected is what `translate` returns: the same parts, tokens, log-probability, ends and links, for any text and vocabulary."""

import re
from functools import cache

import numpy as np
import pytest
import torch
from builders import TRANSLATING

from vitrail.data.cleaning.normalise import CURRENT, LEGACY_NORMALISATION
from vitrail.data.vocabularies.subwords import UNK, CharacterVocabulary, SubwordsConfig, Vocabularies, WordVocabulary, train_vocabularies
from vitrail.data.vocabularies.vocabulary import collapse
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.decode.translate import TextConstraints, TranslateConfig
from vitrail.errors import UsageError
from vitrail.inspection.alignment.word_alignment import Aligner, align, all_heads
from vitrail.inspection.causes.attribution import attribute
from vitrail.inspection.causes.change import Edit
from vitrail.inspection.drawing.terminal import to_text
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.build import build_model

CORPUS = [
    "a dog ate the food .",
    "the dog , which was hungry , ate it .",
    "le chien a mangé l'eau-de-vie !",
    "собака съела еду .",
    "犬は餌を食べた。",
    "कुत्ते ने खाना खाया ।",
]
TEXTS = [
    "the dog ate .",
    "A zebra ate the food.",
    "The dog ate it. A zebra ate the dog! Was it hungry?",
    "the dog. A food.  The dog.",
    "  the   dog ate ",
    "\u00a0the dog\u00a0ate\u3000the food.\u2028A dog ate. ",
    "the\tdog ate.\tThe food ate.\r\nA dog.",
    "the dog ate the food and the dog ate the dog and the food ate the dog ,",
    "犬は餌を食べた。猫は犬を食べた。the dog",
    "собака съела ёжика. Ёжик съел собаку.",
    "कुत्ते ने खाना खाया । बिल्ली ने खाया ।",
    "e\u0301te\u0301 dog",
    "مرحبا بك. مرحبا. dog",
    "zebra",
    "zebra. Zebra! Zebra?",
    "12:30. The\u200b dog ate\u00ad it.  42! \ufeffWas it?",
    "...",
    "👩‍👩‍👧 dog 🍎.",
    "dog \udcff dog",
    "a" * 40,
    "",
    "   ",
    "\n",
    "\u00a0",
]
VOCABULARIES = ("word", "character", "bpe")
MODELS = ("pre-layer-sinusoidal", "pre-rms-rotary-swiglu", "lstm-luong-dot-fed")


@cache
def looker(model: str, kind: str, beams: int) -> InspectableTranslator:
    """A random model that knows only some of the words, takes 7 tokens at a time, and reaches its limit now and then."""
    shape = SubwordsConfig.model_validate({"kind": kind, "size": 340 if kind == "bpe" else 60, "least_count": 1})
    both = train_vocabularies(CORPUS, CORPUS, config=shape)
    assert both.joint
    torch.manual_seed(5)
    made = build_model(TRANSLATING[model].config, both).eval()
    search = SearchConfig(beams=beams, max_ratio=0.5, max_extra=6)
    return InspectableTranslator(
        made,
        vocabularies=both,
        config=TranslateConfig(search=search, max_source_tokens=24, seed=3),
        longest_source=7,
        several_sentences=0.5 if model == MODELS[1] else None,
        normalisation=LEGACY_NORMALISATION if model == MODELS[2] else CURRENT,
    )


def check(one: InspectableTranslator, text: str, **asked: object) -> int:
    """Hold every part of a text against its translation; how many parts reached the limit of length."""
    whole = one.translate(text, **asked)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if not whole.parts:
        with pytest.raises(UsageError, match="nothing to inspect"):
            one.inspect(text)
        return 0
    records = [one.inspect(text, part=number, **asked) for number in range(1, whole.parts + 1)]  # pyright: ignore[reportArgumentType]
    said = 0.0
    for number, (found, segment) in enumerate(zip(records, whole.segments, strict=True), start=1):
        facts = found.facts
        assert (facts.asked, facts.part, facts.parts, facts.translation) == (text, number, whole.parts, whole.text)
        assert found.source.ids == segment.source_tokens and found.target.ids == segment.target_tokens
        assert found.source.text == collapse(one.read(text[facts.source_start : facts.source_end]))
        assert whole.text[facts.target_start :].startswith(found.target.text.strip())
        ending = () if facts.truncated else ("<eos>",)
        assert found.predicted_tokens == (*found.target.pieces, *ending) and len(found.target_tokens) == len(found.predicted_tokens)
        assert [step.chosen.token for step in facts.decoding.steps] == [*found.target.ids, *([3] if ending else [])]
        assert len(found["logits"]) == len(found.predicted_tokens)
        best = facts.decoding.finished[0]
        assert best.truncated == facts.truncated and best.length == len(found.predicted_tokens) and (best.node is not None or asked)
        nats = float(np.log([step.chosen.probability for step in facts.decoding.steps]).sum())
        assert nats == pytest.approx(best.log_probability, abs=1e-3)
        said += nats
        assert f"part {number} of {whole.parts}" in to_text(found) or whole.parts == 1
    assert said == pytest.approx(whole.log_probability, abs=2e-3)
    assert any(found.facts.truncated for found in records) == whole.truncated
    assert any(found.facts.cut for found in records) == whole.cut
    links = {link for found in records for link in align(found).facts.extras["alignment"]["pharaoh"].split()}
    (expected,) = Aligner(one, all_heads(one)).align_translations([whole])
    assert links == {f"{i}-{j}" for i, j in expected}
    sources, targets = (len(list(filter(None, re.split("[ \t\r\n\u2028]", one)))) for one in (text, whole.text))
    assert all(i < sources and j < targets for i, j in expected)
    return sum(found.facts.truncated for found in records)


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", VOCABULARIES)
@pytest.mark.parametrize("model", MODELS)
def test_every_part_is_what_translate_returns(model: str, kind: str, every: int) -> None:
    """All texts, each with one of the models and vocabularies, or with all of them."""
    one = looker(model, kind, 3 if model == MODELS[0] else 1)
    texts = TEXTS[(3 * MODELS.index(model) + VOCABULARIES.index(kind)) % every :: every]
    cut_off = [check(one, text) for text in texts]
    if every == 1:
        parts = [found.parts for found in one.translate(texts)]
        assert max(parts) > 2 and 1 in parts and 0 in parts and sum(cut_off) > 0


@pytest.mark.slow
def test_however_it_is_searched() -> None:
    one = looker(MODELS[0], "character", 3)
    several = "The dog ate it. A cat."
    check(one, several, constraints=TextConstraints(prefix="a dog"))
    check(one, "***! The dog ate it.", constraints=TextConstraints(prefix="a dog"))  # no letter, but to begin with the prefix
    check(one, several, constraints=TextConstraints(forbidden=("a", "e"), forced=("dog",)))
    assert check(one, several, search=SearchConfig(beams=30, n_best=2, max_length=6)) < 3  # so many beams find an end
    check(one, several, search=SearchConfig(sampling=SamplingConfig(), max_length=9))
    found = one.inspect(several, constraints=TextConstraints(forced=("dog",)))
    assert found.facts.decoding.beams == 4 and "dog" in found.facts.translation  # a bank for each number of forced tokens that stand


def test_a_given_translation_is_of_a_part_that_is_named() -> None:
    one, several = looker(MODELS[0], "bpe", 3), "the dog ate. A zebra ate the food."
    with pytest.raises(UsageError, match=r"translated in 2 parts[\s\S]*part 1 to 2"):
        one.inspect(several, "le chien")
    found = one.inspect(several, "l'eau-de-vie", part=2)
    assert (found.source.text, found.target.text, found.facts.translation) == ("A zebra ate the food.", "l'eau-de-vie", None)
    assert not found.facts.truncated and found.predicted_tokens[-1] == "<eos>"
    pharaoh = align(found).facts.extras["alignment"]["pharaoh"]
    assert pharaoh and all(3 <= int(link.split("-")[0]) < 8 and link.endswith("-0") for link in pharaoh.split())
    for wrong in (0, 3):
        with pytest.raises(UsageError, match=rf"part {wrong} of a text that is translated in 2"):
            one.inspect(several, part=wrong)


@pytest.mark.parametrize("model", [MODELS[0], MODELS[2]])
def test_edits_are_of_one_part(model: str) -> None:
    one, several = looker(model, "word", 1), "the dog ate. A zebra ate the food today."
    alone = one.inspect(several, part=2)
    edit = Edit(hidden=("zebra", 4))
    change, seen = one.edit(several, edit, part=2), one.inspect(several, part=2, edit=edit)
    assert (change.source, change.part, change.parts) == ("A zebra ate the food today.", 2, 2)
    assert change.old.tokens == alone.target.ids and change.old.truncated == alone.facts.truncated
    best = alone.facts.decoding.finished[0]
    assert change.old.log_probability_before == pytest.approx(best.log_probability, abs=1e-3)
    assert change.old.pieces == alone.predicted_tokens
    assert seen.target.ids == change.new.tokens and seen.facts.truncated == change.new.truncated
    assert attribute(alone, one.model).arrays["attribution.occlusion"].shape == (len(alone.predicted_tokens), len(alone.source_tokens))
    with pytest.raises(UsageError, match="does not occur"):
        one.edit(several, edit)
    with pytest.raises(UsageError, match="into 1 parts instead of 2"):
        one.edit("the dog ate it. The dog ate", Edit(words=(("it", "Mr"),)))
    with pytest.raises(UsageError, match=r"a prefix for part 2[\s\S]*part 1"):
        one.edit(several, Edit(prefix="a"), part=2)


# Unknown words.


@pytest.mark.parametrize("kind", [WordVocabulary, CharacterVocabulary])
def test_unknown_words_stay_and_are_counted(kind: type[WordVocabulary | CharacterVocabulary]) -> None:
    both = Vocabularies(*[kind.train(["A dog ate the food ."], size=40)] * 2, joint=True)
    torch.manual_seed(1)
    one = InspectableTranslator(build_model(TRANSLATING[MODELS[0]].config, both).eval(), vocabularies=both)
    text = "A zebra ate  the 斑馬, food."
    found = one.inspect(text, "dog żyrafa food")
    words = [found.source.word(number) for number in range(len(found.source.words))]
    assert found.source.text == "A zebra ate the 斑馬, food." and UNK in found.source.ids
    assert "".join(words) == found.source.text.replace(" ", "") and words[:2] == ["A", "zebra"]
    assert "".join(found.source.text[slice(*span)] for span in found.source.spans) == found.source.text
    assert found.target.text == "dog żyrafa food"
    aligner = Aligner(one, all_heads(one))
    for pair in ((text, "dog żyrafa food"), (text, "斑馬 斑馬 dog"), ("斑馬 dog", "dog"), ("zzz", "yyy xxx")):
        (expected,) = aligner.align_texts([pair[0]], [pair[1]])
        pharaoh = align(one.inspect(*pair)).facts.extras["alignment"]["pharaoh"].split()
        assert pharaoh == [f"{i}-{j}" for i, j in sorted(expected)] and pharaoh
        assert "zebra" in to_text(one.inspect(*pair)) or pair[0] != text
    hidden = one.inspect(text, edit=Edit(hidden=("zebra",)))
    assert hidden.facts.extras["edits"] == ["hidden: zebra"]


@pytest.mark.parametrize("kind", VOCABULARIES)
def test_ids_without_their_text_show_what_was_unknown(kind: str) -> None:
    vocabulary = looker(MODELS[0], kind, 3).vocabularies.source
    for text in TEXTS:
        ids = vocabulary.encode(text.replace("\udcff", "?"))
        assert vocabulary.written(ids).count("\ufffd") == ids.count(UNK)
        assert vocabulary.encode(vocabulary.written(ids)) == ids
