"""Figures: the same bytes for the same record, as wide as asked, nothing left behind in matplotlib, and clear refusals."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import matplotlib
import numpy as np
import pytest
from recorded import RECURRENT, record

from vitrail.errors import UsageError
from vitrail.inspection.alignment.word_alignment import align
from vitrail.inspection.drawing import figures
from vitrail.inspection.drawing.figures import INCHES, What, draw_alignment, draw_attention, draw_entropy, draw_heads, figure
from vitrail.inspection.record import Inspection

NAMES = ("pre-layer-sinusoidal", "gru-bahdanau")


def with_pieces(inspection: Inspection, pieces: tuple[str, ...]) -> Inspection:
    """The same record with other tokens in its source."""
    side = inspection.source.model_copy(update={"pieces": pieces})
    return Inspection(inspection.facts.model_copy(update={"source": side}), inspection.arrays)


def inches(svg: str) -> float:
    return float(re.findall(r'width="([\d.]+)pt"', svg)[0]) / 72


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", get_args(What))
def test_every_figure_is_drawn_and_fits_its_width(name: str, what: What, tmp_path: Path) -> None:
    figure(align(record(name)), tmp_path / "a.svg", what=what)
    svg = (tmp_path / "a.svg").read_text()
    assert svg.startswith("<?xml") and "<dc:date>" not in svg
    assert any(inches(svg) == pytest.approx(width) for width in INCHES.values())


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_the_same_record_gives_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    for number in (1, 2):
        draw_attention(record(NAMES[0]), tmp_path / f"{number}.{suffix}", kind="encoder", layer=1, head=0)
    draw_attention(record(NAMES[0]), tmp_path / f"3.{suffix}", kind="encoder", layer=0, head=0)
    first, second, other = ((tmp_path / f"{number}.{suffix}").read_bytes() for number in (1, 2, 3))
    assert first == second != other
    assert b"CreationDate" not in first


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_a_figure_takes_the_place_of_a_figure_alone(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"drawn by hand")
    with pytest.raises(UsageError, match="which vitrail did not write"):
        draw_heads(record(NAMES[0]), path)
    assert path.read_bytes() == b"drawn by hand"
    path.unlink()
    draw_heads(record(NAMES[0]), path)
    draw_heads(record(NAMES[0]), path)


def test_pdf_keeps_text_as_truetype(tmp_path: Path) -> None:
    draw_heads(record(NAMES[0]), tmp_path / "a.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    assert b"/Type3" not in content and b"/FontFile2" in content


def test_matplotlib_is_left_as_it_was(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figure(align(record(NAMES[0])), tmp_path / "a.png", what="alignment")
    assert dict(matplotlib.rcParams) == before
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]; from recorded import record; from vitrail.inspection.drawing.figures import figure;"
        "assert 'matplotlib' not in sys.modules; figure(record('gru-bahdanau'), sys.argv[1]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    here = Path(__file__).parent
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b.svg"), str(here), str(here.parent / "contract")], check=True)


def test_values_are_those_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[np.ndarray, list[str], list[str]]] = []
    draw = figures._matrix
    monkeypatch.setattr(
        figures,
        "_matrix",
        lambda axes, values, rows, columns, **more: (seen.append((values, rows, columns)), draw(axes, values, rows, columns, **more)),
    )
    drawn = record(NAMES[0])
    draw_attention(drawn, tmp_path / "a.png", kind="decoder", layer=0, head=1)
    draw_attention(drawn, tmp_path / "a.png")
    draw_entropy(drawn, tmp_path / "a.png")
    np.testing.assert_array_equal(seen[0][0], drawn.weights("decoder", layer=0, head=1))
    assert seen[0][1:] == (drawn.target_tokens, drawn.target_tokens)
    np.testing.assert_allclose(seen[1][0], drawn.weights("cross")[-1].mean(0))
    assert seen[1][1:] == (drawn.predicted_tokens, drawn.source_tokens)
    for values, kind in zip((entry[0] for entry in seen[2:]), ("encoder", "decoder", "cross"), strict=True):
        wide = drawn.weights(kind).astype(np.float64)
        entropy = -np.sum(wide * np.log(wide, where=wide > 0, out=np.zeros_like(wide)), axis=3).mean(2)
        np.testing.assert_allclose(values, entropy, rtol=1e-5)


def test_tokens_are_taken_as_they_are(tmp_path: Path) -> None:
    drawn = record(NAMES[0])
    count = len(drawn.source.pieces)
    for odd in ("$x^2", "<b>&amp;", "a\x1b\n", "\\frac{", "▁"):
        draw_attention(with_pieces(drawn, (odd,) * count), tmp_path / "a.svg", kind="encoder")
    with pytest.raises(UsageError, match=r"no installed font has .*(\n.*)*Noto"):
        draw_attention(with_pieces(drawn, ("\U0001f9ff\U00012345",) * count), tmp_path / "none.svg", kind="encoder")
    assert not (tmp_path / "none.svg").exists()


def test_what_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = record(NAMES[0])
    mute = record(next(name for name in RECURRENT if RECURRENT[name].attention == "none"))
    with pytest.raises(UsageError, match="unknown file type"):
        draw_attention(drawn, tmp_path / "a.gif")
    for wrong in ({"layer": 9}, {"head": 9}):
        with pytest.raises(UsageError, match="9"):
            draw_attention(drawn, tmp_path / "a.svg", **wrong)
    with pytest.raises(UsageError, match=r"alignment\.links"):
        draw_alignment(drawn, tmp_path / "a.svg")
    for call in (draw_attention, draw_heads, draw_entropy):
        with pytest.raises(UsageError, match="has none"):
            call(mute, tmp_path / "a.svg")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'vitrail\[plot\]'"):
        draw_attention(drawn, tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []
