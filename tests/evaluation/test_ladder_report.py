"""The ladder's report: complete, true to its numbers, and safe from what people write into names."""

import json
import math
import re
from dataclasses import asdict, replace
from itertools import pairwise

import pytest

from vitrail.evaluation.curves import GradientCurve, Point
from vitrail.evaluation.scores import Comparison, Score
from vitrail.evaluation.slices import Band, Share
from vitrail.ladder.ladder_report import FORMAT, report_html, report_json, report_text, to_markdown, write_report
from vitrail.ladder.rungs import Ladder, Rung, RungComparison


def score(name, value, half=1.0):
    return Score(name, value, value - half, value + half, 500, {"matches": 12.0}, "nrefs:1|tok:13a")


def rung(name, bleu, *, half=1.0):
    bands = (
        Band(0, 10, 300, (score("BLEU", bleu + 2), score("chrF2", bleu + 20))),
        Band(11, 20, 200, (score("BLEU", bleu - 30 / bleu, 2.0), score("chrF2", bleu + 10))),
        Band(21, None, 0, ()),
    )
    return Rung(
        name=name,
        title=f"{name} as drawn in a book",
        seeds=(1, 2),
        settings=(f"model.cell={name}",),
        parameters=1_234_567,
        steps=4200,
        epochs=7.5,
        minutes=10.04,
        training_flops=3.2e15,
        tokens_per_second=20_500.4,
        peak_memory_bytes=3 * 2**29,
        dev_loss=2.5,
        dev_perplexity=math.exp(2.5),
        test_loss=2.0,
        test_perplexity=math.exp(2.0),
        scores=(score("BLEU", bleu, half), score("chrF2", bleu + 15)),
        seed_scores=(bleu, bleu + 0.5),
        bands=bands,
        shares=(Share("pronouns", 45, 60, 0.75, 0.65, 0.85),),
        sentences_per_second=120.25,
        gradients=(GradientCurve("encoder.0.forward_cell.hidden", (1.0, bleu / 100, (bleu / 100) ** 2), 32),),
        curve=tuple(Point(100 * step, 2.5 * step, 3.0 - step / 10, bleu * step / 4) for step in range(1, 5)),
    )


def pair(before, after):
    comparisons = tuple(
        Comparison(one.name, one.value, two.value, two.value - one.value, 0.5, 3.5, 0.002, 0.0001, 500, "sig")
        for one, two in zip(before.scores, after.scores, strict=False)
    )
    return RungComparison(before.name, after.name, comparisons)


def ladder_of(*rungs):
    pairs = tuple(pair(before, after) for before, after in pairwise(rungs))
    return Ladder("10 minutes each", ("29,000 pairs", "8,000 pieces"), "2 cores", rungs, pairs, ("gru is 12 % larger",))


LADDER = ladder_of(rung("rnn", 12.0), rung("gru", 13.5), rung("transformer", 30.0))


def bare(name):
    """A rung of which next to nothing is known."""
    return replace(
        rung(name, 10.0),
        peak_memory_bytes=None,
        dev_loss=math.nan,
        dev_perplexity=math.inf,
        test_loss=None,
        test_perplexity=None,
        sentences_per_second=None,
        **dict.fromkeys(("seeds", "settings", "scores", "seed_scores", "bands", "shares", "gradients", "curve"), ()),
    )


def test_three_files_are_written_and_the_same_twice(tmp_path):
    write_report(LADDER, tmp_path / "new")
    before = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert before.keys() == {"report.html", "report.md", "report.json"}
    write_report(LADDER, tmp_path / "new")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}


def test_json_holds_every_field():
    def plain(value):
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value

    assert json.loads(report_json(LADDER)) == {"format": FORMAT, **plain(asdict(LADDER))}


def test_json_has_no_number_that_json_has_not():
    broken = replace(rung("gru", 5.0), seed_scores=(math.nan, 3.0), training_flops=math.inf)
    back = json.loads(report_json(ladder_of(bare("rnn"), broken)), parse_constant=pytest.fail)
    assert back["rungs"][0]["dev_loss"] is None and back["rungs"][0]["dev_perplexity"] is None
    assert back["rungs"][1]["seed_scores"] == [None, 3.0] and back["rungs"][1]["training_flops"] is None


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_main_table():
    lines = to_markdown(LADDER).splitlines()
    start = lines.index("## Results") + 2
    header, rules, rnn = (cells(lines[start + offset]) for offset in range(3))
    found = dict(zip(header, rnn, strict=True))
    assert found == {
        "rung": "rnn",
        "parameters": "1,234,567",
        "dev perplexity": "12.18",
        "test perplexity": "7.39",
        "BLEU": "12.00 ± 1.00",
        "chrF2": "27.00 ± 1.00",
        "pronouns": r"75.0 % \[65.0, 85.0\]",
        "training FLOPs": "3.2·10¹⁵",
        "tokens/s": "20,500",
        "peak memory": "1.50 GiB",
        "minutes": "10.0",
        "decoded sentences/s": "120.2",
    }
    assert rules == ["---", *["---:"] * 11]


@pytest.mark.parametrize("write", [report_html, to_markdown])
def test_sentences_follow_from_the_numbers(write):
    text = write(LADDER)
    assert "transformer has the highest BLEU: 30.00 ± 1.00." in text
    assert "The intervals of gru and transformer do not overlap. The intervals of rnn and gru overlap." in text
    assert "transformer less rnn: +18.00 BLEU at 0–10 words, +19.50 at 11–20." in text
    assert "transformer is above the best of rnn (12.00) after 5.0 minutes." in text
    assert "What is left 2 positions before the last: rnn 0.0144, gru 0.01823, transformer 0.09." in text


@pytest.mark.parametrize("write", [report_html, to_markdown])
def test_every_part_is_there(write):
    text = write(LADDER)
    for wanted in (
        "10 minutes each",
        "2 cores",
        "29,000 pairs",
        "gru is 12 % larger",
        "model.cell=gru",
        "7.5",
        "0.0020",
        "0.0001",
        "+1.50",
    ):
        assert wanted in text
    assert "nrefs:1" in text and "21+" not in text  # a length without sentences is left out
    assert "12.25" in text and "12.00 to 12.50" in text  # mean and spread of the seeds


def test_the_page_has_its_plots_and_nothing_from_elsewhere():
    text = report_html(LADDER)
    assert text.count("<svg") == 4 == text.count("<figcaption>") == text.count("<details>")
    assert set(re.findall(r"https?://[^\"'\s<]*", text)) == {"http://www.w3.org/2000/svg"}
    assert "<script" not in text


def test_text_is_aligned_and_complete():
    text = report_text(LADDER)
    blocks = text.split("\n\n")
    assert blocks[0] == "3 architectures on the same data: 10 minutes each"
    quality = blocks[1].splitlines()
    assert [line.split()[0] for line in quality] == ["rung", "rnn", "gru", "transformer"] and len({len(line) for line in quality}) == 1
    assert "note: gru is 12 % larger" in text and "rnn, gru" in text and "20,500" in text
    assert max(map(len, blocks[2].splitlines())) <= 100


@pytest.mark.parametrize(
    "ladder",
    [
        ladder_of(rung("lonely", 20.0)),
        Ladder("1 step", (), "", (bare("rnn"),), (), ()),
        Ladder("1 step", (), "", (bare("rnn"), rung("gru", 9.0), bare("lstm")), (RungComparison("rnn", "gru", ()),), ()),
        Ladder("nothing", (), "", (), (), ()),
        ladder_of(replace(rung("a", 5.0), bands=rung("a", 5.0).bands[:1]), rung("a", 5.0)),
        ladder_of(
            replace(
                rung("zero", 1.0),
                scores=(score("BLEU", 0.0, 0.0),),
                gradients=(GradientCurve("h", (0.0, 0.0), 1), GradientCurve("i", (), 0)),
                curve=(Point(1, 0.0, 3.0, math.nan),),
            )
        ),
        ladder_of(replace(rung("unscored", 1.0), scores=(Score("BLEU", math.nan, None, None, 0, {}, ""),))),
    ],
    ids=["one rung", "bare", "mixed", "no rung", "one band", "zeros", "not a number"],
)
def test_what_is_missing_is_left_out(ladder, tmp_path):
    write_report(ladder, tmp_path)
    for text in (*(path.read_text("utf-8") for path in tmp_path.iterdir()), report_text(ladder)):
        assert not re.search(r"\b(nan|None|inf)\b", text)


def test_many_gradient_curves_are_drawn_apart():
    curves = tuple(GradientCurve(f"encoder.{layer}.hidden", (1.0, 0.5), 8) for layer in range(5))
    text = report_html(ladder_of(replace(rung("rnn", 5.0), gradients=curves), replace(rung("gru", 6.0), gradients=curves)))
    titles = re.findall(r"<svg[^>]*>\n<title>(Gradient[^<]*)</title>", text)
    assert titles == ["Gradient at each source position", *(f"Gradient at each source position: {name}" for name in ("rnn", "gru"))]


def test_foreign_text_is_text(tmp_path):
    name = "<img src=x onerror=a()> | `b` *c* \udcff"
    spiteful = replace(rung(name, 20.0), title=name, settings=(name,), shares=(Share(name, 1, 2, 0.5, None, None),))
    write_report(replace(ladder_of(spiteful, rung("b", 9.0)), budget=name, machine=name, corpus=(name,), notes=(name,)), tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<img" not in page and "&lt;img" in page
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert "\\<img src=x onerror=a()\\> \\| \\`b\\` \\*c\\*" in markdown and "<img" not in markdown.replace("\\<img", "")
    widths = {len(cells(line)) for line in markdown.split("## Notes")[0].splitlines() if line.startswith("|")}
    assert len(widths) == 1
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["notes"] == [name.replace("\udcff", "?")]
