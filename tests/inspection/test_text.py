"""Inspections in the terminal: what is drawn is what was recorded, in columns, and nothing in a text is obeyed."""

import unicodedata

import numpy as np
import pytest
from builders import KINDS, settled

from vitrail.data.subwords import CharacterVocabulary, Vocabularies
from vitrail.errors import UsageError
from vitrail.inspection.alignment import align
from vitrail.inspection.record import Inspection
from vitrail.inspection.text import to_text
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.build import build_model


def inspect(kind: str, text: str = "abcd", translation: str | None = None) -> Inspection:
    chosen = KINDS[kind]
    return InspectableTranslator(settled(chosen), vocabularies=chosen.vocabularies).inspect(text, translation)


def section(text: str, title: str) -> list[str]:
    (found,) = [block.splitlines() for block in text.split("\n\n") if block.startswith(title)]
    return found


@pytest.mark.parametrize("kind", ["pre-layer-sinusoidal", "gru-bahdanau"])
def test_the_matrix_is_the_recorded_one(kind: str) -> None:
    inspection = inspect(kind, translation="bad")
    drawn = section(to_text(inspection), "cross-attention")
    weights = inspection.weights("cross")[-1].mean(axis=0)
    assert len(drawn) == 3 + len(weights)
    for row, line in zip(weights, drawn[2:-1], strict=True):
        best = int(np.argmax(row))
        assert line.endswith(f"{inspection.source_tokens[best]} {row[best]:.2f}")
        cells = line.split("  ", 1)[1] if not line.startswith("<") else line
        shades = [" ░▒▓█"[min(4, int(value * 5))] for value in row]
        assert "".join(shade * 2 for shade in shades).rstrip() in cells or "".join(shades).strip() == ""


def test_layer_head_and_kind_can_be_chosen() -> None:
    inspection = inspect("pre-layer-sinusoidal")
    assert "encoder self-attention, layer 0, head 1" in to_text(inspection, kind="encoder", layer=0, head=1)
    assert "masked decoder self-attention, layer 1, mean" in to_text(inspection, kind="decoder")
    for wrong in ({"layer": 7}, {"head": 9}):
        with pytest.raises(UsageError):
            to_text(inspection, **wrong)


def test_each_position_tells_its_probability_and_rivals() -> None:
    inspection = inspect("pre-layer-sinusoidal", translation="bad")
    lines = section(to_text(inspection), "token")
    assert len(lines) == 1 + 4
    for line, step in zip(lines[1:], inspection.facts.decoding.steps, strict=True):
        assert line.startswith(step.chosen.piece) and f"{step.chosen.probability:.1%}" in line
        rival = next(one for one in step.candidates if one.token != step.chosen.token)
        assert f"{rival.piece} {rival.probability:.1%}" in line
    assert "was given" in to_text(inspection) and "was given" not in to_text(inspect("pre-layer-sinusoidal"))


def test_the_alignment_is_told_in_words_and_in_pharaoh_format() -> None:
    inspection = align(inspect("pre-layer-sinusoidal", translation="bad"))
    told = section(to_text(inspection), "alignment")
    assert "abcd-bad" in told[0] and told[1] == inspection.facts.extras["alignment"]["pharaoh"]
    assert "alignment" not in to_text(inspect("pre-layer-sinusoidal"))


def test_a_model_without_attention_says_so() -> None:
    assert "no attention" in to_text(inspect("lstm"))


def test_plain_unless_colours_are_asked_for_and_ascii_where_that_is_all_there_is() -> None:
    inspection = inspect("pre-layer-sinusoidal")
    assert "\x1b" not in to_text(inspection) and "\x1b[38;5;" in to_text(inspection, colour=True)
    assert to_text(inspection, ascii_only=True).isascii()


def test_wide_letters_keep_their_columns_and_no_control_character_gets_through() -> None:
    letters = list("犬食\u202e\u0301é a")
    vocabulary = CharacterVocabulary(letters)
    both = Vocabularies(vocabulary, vocabulary, joint=True)
    config = KINDS["pre-layer-sinusoidal"].config
    translator = InspectableTranslator(build_model(config, both).eval(), vocabularies=both)
    drawn = to_text(translator.inspect("犬 \u202eaé食", "犬a"))
    assert all(unicodedata.category(letter) not in ("Cc", "Cf") for letter in drawn.replace("\n", ""))
    starts = [
        line.index("%") + sum(unicodedata.east_asian_width(letter) in "WF" for letter in line[: line.index("%")])
        for line in section(drawn, "token")[1:]
    ]
    assert len(set(starts)) == 1, "probabilities stand below each other"
