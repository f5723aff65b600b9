"""The terminal's view: what it holds, how wide it is, and that nothing in a sentence steers the terminal."""

import re
import unicodedata
from functools import cache

import numpy as np
import pytest
from builders import TRANSLATING
from recorded import ATTENTIVE, RECURRENT, model, record

from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.translate import TranslateConfig
from vitrail.errors import UsageError
from vitrail.inspection.alignment.word_alignment import align
from vitrail.inspection.contents import Side
from vitrail.inspection.drawing.terminal import columns_of, to_text
from vitrail.inspection.record import Inspection
from vitrail.inspection.translator import InspectableTranslator

ANSI = re.compile(r"\x1b\[[\d;]*m")
NASTY = ("a\x1b[31m", "猫が", "e\u0301", "\u202eabc", "🎉", "مرحبا")


@cache
def nasty() -> Inspection:
    """A record whose tokens are what nobody wants in a terminal."""
    plain = align(record("pre-layer-sinusoidal"))
    pieces = tuple(NASTY[at % len(NASTY)] for at in range(len(plain.source.pieces)))
    text = "".join(pieces)
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    spans = tuple(zip([0, *ends], ends, strict=False))
    words = tuple((at,) for at in range(len(pieces)))
    side = Side(text=text, ids=plain.source.ids, pieces=pieces, spans=spans, words=words)
    return Inspection(plain.facts.model_copy(update={"source": side}), plain.arrays)


def matrix_lines(text: str) -> list[str]:
    """The rows of the attention, its heading first."""
    part = next(part for part in text.split("\n\n") if "-attention" in part.split("\n")[0])
    lines = part.split("\n")
    return lines[next(at for at, line in enumerate(lines) if line.startswith("    ")) :]


@pytest.mark.parametrize("name", sorted(TRANSLATING))
@pytest.mark.parametrize("width", [40, 72, 200])
def test_every_model_fits_its_terminal(name: str, width: int) -> None:
    drawn = record(name) if name not in ATTENTIVE else align(record(name))
    text = to_text(drawn, width=width)
    assert max(map(columns_of, text.split("\n"))) <= width
    assert text.endswith("\n") and not text.endswith("\n\n")
    assert "Step by step" in text and "Beam search" in text
    if name in ATTENTIVE:
        assert "Cross-attention" in text and "\nAlignment\n" in text
    else:
        assert "no attention to its source" in text.replace("\n", " ")


def test_numbers_are_those_of_the_record() -> None:
    drawn = record("pre-layer-sinusoidal")
    text = to_text(drawn, kind="decoder", layer=0, head=1, width=200)
    weights = drawn.weights("decoder", layer=0, head=1)
    rows = matrix_lines(text)[1:]
    assert "layer 0 (of 0 to 1), head 1 of 2" in text
    for row, expected in zip(rows, weights, strict=True):
        shown = [0 if cell == "·" else int(cell) for cell in re.findall(r"(?<=[ ░▒▓█])(\d+|·)", row)]
        np.testing.assert_allclose(shown, expected * 100, atol=0.51)
    for step in drawn.facts.decoding.steps:
        assert f"{step.chosen.probability:.2f}  {step.entropy:.2f}" in text


def test_an_average_is_drawn_where_no_head_is_named() -> None:
    drawn = record("pre-layer-sinusoidal")
    assert "layer 1 (of 0 to 1), average of 2 heads" in to_text(drawn, width=200)
    for wrong in ({"layer": 7}, {"head": 7}, {"kind": "encoder", "layer": -1}):
        with pytest.raises(UsageError):
            to_text(drawn, **wrong)
    recurrent = next(name for name in RECURRENT if name in ATTENTIVE)
    assert "its one head" in to_text(record(recurrent), width=200)
    with pytest.raises(UsageError, match="has none"):
        to_text(record(recurrent), kind="encoder")


@pytest.mark.parametrize("kind", ["encoder", "cross"])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("ascii", [False, True])
def test_nothing_in_a_sentence_steers_the_terminal(kind: str, colour: bool, ascii: bool) -> None:
    text = to_text(nasty(), kind=kind, colour=colour, ascii=ascii, width=72)
    assert bool(ANSI.search(text)) == colour
    plain = ANSI.sub("", text)
    assert all(one == "\n" or one.isprintable() or one in "\u200c\u200d" for one in plain)
    assert not any(unicodedata.category(one) in ("Cc", "Cf") for one in plain.replace("\n", ""))
    assert plain.isascii() == ascii
    assert max(map(columns_of, plain.split("\n"))) <= 72
    assert "[31m" in plain  # what was an escape sequence is text


def test_columns_line_up_under_wide_and_combining_characters() -> None:
    heading, *rows = matrix_lines(to_text(nasty(), kind="encoder", width=200))
    assert columns_of("猫が") == 4 and columns_of("e\u0301") == 1 and columns_of("🎉") == 2
    assert {columns_of(row) for row in rows} == {columns_of(heading)}


def test_long_sentences_tell_the_heaviest_columns() -> None:
    kind = TRANSLATING["pre-layer-sinusoidal"]
    looker = InspectableTranslator(
        model("pre-layer-sinusoidal"), vocabularies=kind.vocabularies, config=TranslateConfig(search=SearchConfig(beams=2, max_length=4))
    )
    drawn = looker.inspect("abcdefgh" * 12)
    text = to_text(drawn, kind="encoder")
    rows = [line for line in text.split("\n\n")[2].split("\n")[1:] if re.search(r"[a-h] \d+  ", line)]
    assert len(rows) == 97
    weights = drawn.weights("encoder").mean(1)[-1]
    assert rows[5].split()[2] == f"{weights[5].max() * 100:.0f}"


def test_the_tree_holds_every_hypothesis_that_ended() -> None:
    found = 0
    for name in ("pre-layer-sinusoidal", "gru-bahdanau", "lstm"):
        drawn = record(name)
        decoding = drawn.facts.decoding
        tree = to_text(drawn, width=200).split("Beam search")[1]
        ended = [node for node in decoding.nodes if node.fate == "ended"]
        for node in ended:
            assert f"  {node.score:.3f}" in tree
        finished = decoding.finished[0]
        if finished.node is not None:
            assert f"  {finished.score:.3f} ← best" in tree
            found += 1
        assert f"{sum(node.fate == 'pruned' for node in decoding.nodes):,} candidates pruned" in tree
    assert found
