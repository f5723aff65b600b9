"""What an edit changes is told token by token, and agrees with the model's own numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from recorded import model, translator

from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.translate import TextConstraints
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.causes.change import Edit, parse_edit, replace_words
from vitrail.inspection.causes.parts import Part
from vitrail.inspection.complete import complete

NAME, TEXT = "pre-layer-sinusoidal", "afcbd"


def test_numbers_are_those_of_two_inspections() -> None:
    one = translator(NAME)
    found = one.edit(TEXT, Edit(off=("decoder.1.cross_attention", "encoder.0.self_attention:1")))
    with one.edited(off=found.edits and ["decoder.1.cross_attention", "encoder.0.self_attention:1"]):
        edited = one.inspect(TEXT, found.old.text)
    plain = one.inspect(TEXT, found.old.text)
    assert plain.target.ids == found.old.tokens
    p, q = (np.asarray(record["probabilities"], dtype=np.float64) for record in (plain, edited))
    assert found.old.truncated and not plain.facts.truncated  # what is given ends, what the search found did not come so far
    p, q, predicted = p[:-1], q[:-1], found.old.tokens
    rows = range(len(predicted))
    assert found.old.before == pytest.approx(np.log(p[rows, predicted]).tolist(), abs=1e-5)
    assert found.old.after == pytest.approx(np.log(q[rows, predicted]).tolist(), abs=1e-5)
    assert found.divergence == pytest.approx((p * np.log(p / q)).sum(1).tolist(), abs=1e-5)
    assert found.old.log_probability_before == pytest.approx(sum(found.old.before))
    with one.edited(off=["decoder.1.cross_attention", "encoder.0.self_attention:1"]):
        assert one.translate(TEXT).tokens == found.new.tokens
    assert not any(part._forward_hooks for part in model(NAME).modules())


def test_nothing_changes_without_an_edit() -> None:
    found = translator(NAME).edit(TEXT, Edit())
    assert not found.changed and max(found.divergence) == 0 and found.old.before == found.old.after
    assert "as before" in found.to_text()


def test_a_word_of_the_source_is_changed() -> None:
    one = translator("gru-bahdanau")
    found = one.edit("afcbd", Edit(words=(("afcbd", "pon"),)))
    assert (found.source, found.edited_source) == ("afcbd", "pon")
    assert found.new.tokens == one.translate("pon").tokens and found.old.tokens == one.translate("afcbd").tokens
    assert "-> pon" in found.to_text() and "word: afcbd -> pon" in found.edits


def test_words_are_replaced_whole_and_all_at_once() -> None:
    assert replace_words("a dog, a dogma", [("dog", "cat"), ("a", "the")]) == "the cat, the dogma"
    assert replace_words("a b", [("a", "b"), ("b", "a")]) == "b a"
    assert replace_words("it's (it)", [("it", "she")]) == "she's (she)"
    with pytest.raises(UsageError, match="does not occur"):
        replace_words("a dogma", [("dog", "cat")])


@pytest.mark.parametrize("name", [NAME, "gru-bahdanau"])
def test_a_record_of_an_edit_is_of_what_the_edit_makes(name: str) -> None:
    one = translator(name)
    edit = Edit(words=(("afcbd", "ponk"),), hidden=("ponk",), prefix="a")
    found, looked = one.edit("afcbd", edit), one.inspect("afcbd", edit=edit)
    assert looked.source.text == "ponk" and looked.target.ids == found.new.tokens
    probable = np.log([step.chosen.probability for step in looked.facts.decoding.steps])
    assert probable.tolist() == pytest.approx(list(found.new.after), abs=1e-4)
    assert looked.facts.extras["edits"] == edit.to_lines() == list(found.edits)
    assert "edits" not in one.inspect("afcbd").facts.extras
    whole = complete(looked, one, Path("nowhere"), edit=edit)
    assert {"attribution", "edits"} <= whole.facts.extras.keys()
    with pytest.raises(ModelError, match="another model"):
        complete(looked, one, Path("nowhere"))


def test_a_record_made_while_a_model_is_edited_says_so() -> None:
    one = translator(NAME)
    with one.edited(off=iter(["encoder.0.self_attention:1"])), one.edited(hidden=[0]):
        looked = one.inspect(TEXT, edit=Edit(prefix="pon"))
    assert looked.facts.extras["edits"] == ["off: encoder.0.self_attention:1", "hidden: 0", "prefix: pon"]
    assert not one.inspect(TEXT).facts.extras


def test_search_and_prefix_are_those_of_both_translations() -> None:
    one = translator(NAME)
    narrow, constraints = SearchConfig(beams=1, max_length=3), TextConstraints(prefix="po")
    found = one.edit(TEXT, Edit(off=("decoder.1",)), search=narrow, constraints=constraints)
    assert found.old.text.startswith("po") and found.new.text.startswith("po")
    assert found.old.tokens == one.inspect(TEXT, search=narrow, constraints=constraints).target.ids
    assert one.edit(TEXT, Edit(prefix="ab"), search=narrow, constraints=constraints).new.text.startswith("ab")


def test_a_prefix_is_forced() -> None:
    found = translator(NAME).edit(TEXT, Edit(prefix="pon"))
    assert found.new.text.startswith("pon") and found.old.before == found.old.after


def test_a_hidden_word_is_hidden_token_by_token() -> None:
    one = translator(NAME)
    assert one.edit("afcbd", Edit(hidden=("afcbd",))).new == one.edit("afcbd", Edit(hidden=(0, 1, 2, 3, 4))).new
    with pytest.raises(UsageError, match="'cat' does not occur"):
        one.edit(TEXT, Edit(hidden=("cat",)))


def test_a_given_translation_is_weighed() -> None:
    found = translator(NAME).edit(TEXT, Edit(hidden=(1,)), translation="pon")
    assert found.old.text == "pon" and found.old.pieces == ("p", "o", "n", "<eos>")
    assert found.old.log_probability_before != found.old.log_probability_after


def test_edits_are_read_from_a_command_line() -> None:
    one = translator(NAME)
    edit = parse_edit(
        one,
        [
            "off=encoder.0.self_attention:1",
            "off=decoder.1",
            "hide=2,4",
            "hide=afcbd",
            "word=afcbd:ponm:l",
            "prefix=a=b",
            "patch=memory@1,2:pon",
        ],
    )
    assert edit.off == (Part("encoder.0.self_attention", (1,)), Part("decoder.1"))
    assert edit.hidden == (2, 4, "afcbd") and edit.words == (("afcbd", "ponm:l"),) and edit.prefix == "a=b"
    assert edit.patches[0].at == ((1, 1), (2, 2)) and edit.patches[0].origin == "pon" and edit.patches[0].name == "memory"
    assert (edit.patches[0].values == one.inspect("pon")["memory"]).all()
    assert [line.partition(":")[0] for line in edit.to_lines()] == ["off", "off", "hidden", "hidden", "hidden", "patched", "word", "prefix"]


@pytest.mark.parametrize("text", ["", "off", "off=", "of=encoder.0", "word=dog", "patch=memory", "hide=", "patch=nothing:a", "off=x y"])
def test_what_is_no_edit_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_edit(translator(NAME), [text])
    assert raised.value.expected


def test_a_patch_of_all_the_encoder_says_gives_the_other_translation() -> None:
    one = translator(NAME)
    found = one.edit("afcbd", parse_edit(one, ["patch=memory:ponmk"]))
    assert found.new.tokens == one.translate("ponmk").tokens
    record = json.loads(json.dumps(found.to_record()))
    assert record["changed"] is found.changed and record["log_probability"]["new"]["after"] == pytest.approx(
        found.new.log_probability_after
    )
