"""Figures: right kinds of file, the same bytes every time, the numbers that were recorded, and clear refusals."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import KINDS, settled

from vitrail.errors import UsageError
from vitrail.inspection.figures import draw_attention, draw_entropy, draw_gradients
from vitrail.inspection.record import Inspection
from vitrail.inspection.translator import InspectableTranslator

Draw = Callable[[Inspection, Path], None]


@pytest.fixture(scope="module")
def inspection() -> Inspection:
    chosen = KINDS["pre-layer-sinusoidal"]
    return InspectableTranslator(settled(chosen), vocabularies=chosen.vocabularies).inspect("abcd", "bad")


@pytest.mark.parametrize("draw", [draw_attention, draw_gradients, draw_entropy])
def test_each_is_written_in_each_format_the_same_every_time(draw: Draw, inspection: Inspection, tmp_path: Path) -> None:
    for suffix, begins in ((".svg", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")):
        paths = [tmp_path / f"{number}{suffix}" for number in range(2)]
        for path in paths:
            draw(inspection, path)
        first, second = (path.read_bytes() for path in paths)
        assert first.startswith(begins) and first == second


def test_tokens_are_letters_in_a_vector_figure(inspection: Inspection, tmp_path: Path) -> None:
    draw_attention(inspection, tmp_path / "a.svg", kind="cross", layer=0, head=1)
    texts = re.findall(r">([^<>\n]+)</text>", (tmp_path / "a.svg").read_text())
    assert [text for text in texts if text in "abcd"] == ["a", "b", "c", "d", "b", "a", "d"]
    assert texts.count("&lt;eos&gt;") == 2


def test_a_recurrent_model_too(tmp_path: Path) -> None:
    chosen = KINDS["gru-bahdanau"]
    found = InspectableTranslator(settled(chosen), vocabularies=chosen.vocabularies).inspect("abcd", "bad")
    draw_attention(found, tmp_path / "a.png")
    draw_gradients(found, tmp_path / "g.png")
    with pytest.raises(UsageError, match="encoder attention"):
        draw_attention(found, tmp_path / "e.png", kind="encoder")


def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(
    inspection: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="layer 7"):
        draw_attention(inspection, tmp_path / "a.png", layer=7)
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.pdf"):
        draw_entropy(inspection, tmp_path / "a.gif")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"vitrail\[plot\]"):
        draw_entropy(inspection, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
