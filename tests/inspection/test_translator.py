"""What can be inspected: texts of any length and script, by one model that is not compiled; everything else is refused in words."""

import pytest
import torch
from builders import TRANSLATING, settled
from recorded import TEXT, exact, model, record, translator

from vitrail.data.vocabularies.subwords import CharacterVocabulary, Vocabularies
from vitrail.decode.ensemble import Ensemble
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.translate import TranslateConfig
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.translator import LONGEST, InspectableTranslator
from vitrail.models.build import build_model

BOTH = pytest.mark.parametrize("name", ["pre-layer-sinusoidal", "gru-bahdanau"])
SHORT = SearchConfig(beams=2, max_ratio=0, max_extra=5)
SCRIPTS = {
    "one letter": "a",
    "right to left": "הכלב אכל את האוכל",
    "without spaces": "犬は餌を食べた。",
    "emoji": "👩‍👩‍👧 🍎🍎",
    "combining": "e\u0301te\u0301",
    "html": "</script><img src=x onerror=alert(1)> & <b>",
    "quotes": '"it\'s" {} ${x} \\n `',
}


@BOTH
def test_texts_without_tokens_or_with_too_many_are_refused(name: str) -> None:
    asked = translator(name)
    for text in ("", "   ", "\n", "\0"):
        with pytest.raises(UsageError, match="nothing to inspect"):
            asked.inspect(text)
    unbounded = InspectableTranslator(
        model(name), vocabularies=TRANSLATING[name].vocabularies, config=TranslateConfig(search=SHORT, max_source_tokens=1000)
    )
    for count in (LONGEST + 1, 500):
        with pytest.raises(UsageError, match=rf"a text of {count} tokens[\s\S]*at most {LONGEST}[\s\S]*one sentence"):
            unbounded.inspect("ab" * (count // 2) + "c" * (count % 2))
        assert asked.inspect("ab" * (count // 2) + "c" * (count % 2), search=SHORT).facts.parts == 2
        with pytest.raises(UsageError, match=rf"a translation of {count} tokens[\s\S]*at most {LONGEST}"):
            asked.inspect("ab", "ab" * (count // 2) + "c" * (count % 2))


@BOTH
def test_the_shortest_and_the_longest(name: str) -> None:
    one = translator(name).inspect("a", "")
    assert (one.source.ids, one.target.ids, one.target.text, one.predicted_tokens) == ((4,), (), "", ("<eos>",))
    longest = translator(name).inspect("abcd" * (LONGEST // 4), "ab" * (LONGEST // 2), search=SHORT)
    weights = longest.weights("cross")
    assert weights.shape[2:] == (LONGEST + 1, LONGEST + 1) and abs(exact(weights).sum(3) - 1).max() < 1e-5


@BOTH
@pytest.mark.parametrize("text", SCRIPTS.values(), ids=list(SCRIPTS))
def test_texts_of_all_scripts(name: str, text: str) -> None:
    vocabulary = CharacterVocabulary(sorted(set("".join(SCRIPTS.values()))))
    torch.manual_seed(0)
    both = Vocabularies(vocabulary, vocabulary, joint=True)
    asked = InspectableTranslator(
        build_model(TRANSLATING[name].config, both).eval(), vocabularies=both, config=TranslateConfig(search=SHORT), languages=("a", "b")
    )
    found = asked.inspect(text, text)
    assert found.facts.asked == text and found.source == found.target and found.facts.languages == ("a", "b")
    assert found.source.text == text and len(found.source.pieces) == len(found["memory"]) - 1
    page = found._repr_html_()
    assert "<img" not in page.replace("&lt;img", "") and "alert(1)>" not in page


def test_what_a_vocabulary_does_not_have() -> None:
    found = translator("rnn").inspect("aéb")
    assert found.source.pieces == ("a", "<unk>", "b")


@BOTH
def test_inspecting_changes_no_translation_and_leaves_no_hook(name: str) -> None:
    asked = translator(name)
    before = asked.translate(TEXT)
    assert asked.inspect(TEXT).target.text == before.text
    assert asked.translate(TEXT) == before
    assert not any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in model(name).modules())
    assert all(parameter.grad is None for parameter in settled(TRANSLATING[name]).parameters())


def test_the_same_sentence_gives_the_same_record() -> None:
    assert translator("gru-bahdanau").inspect(TEXT).to_npz() == record("gru-bahdanau").to_npz()


def test_ensembles_and_compiled_models_are_refused() -> None:
    vocabularies = TRANSLATING["lstm"].vocabularies
    together = InspectableTranslator(Ensemble([model("lstm"), settled(TRANSLATING["lstm"])], digests=["x", "x"]), vocabularies=vocabularies)
    assert together.translate("ab").parts == 1
    with pytest.raises(ModelError, match=r"an ensemble cannot be inspected[\s\S]*one of its models"):
        together.inspect("ab")
    compiled = settled(TRANSLATING["lstm"])
    compiled.compile(backend="eager")
    with pytest.raises(ModelError, match="compiled"):
        InspectableTranslator(compiled, vocabularies=vocabularies).inspect("ab")
