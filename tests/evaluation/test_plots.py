"""Charts: every number at its place, read back from the SVG; pages that need nothing but themselves."""

import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.reports.charts import (
    WIDTH,
    Bar,
    Section,
    Series,
    bar_chart,
    bars_table,
    bullets,
    html_figure,
    line_chart,
    page,
    paragraph,
    series_table,
    table,
)
from vitrail.reports.scales import drawable, interval, is_numeric, number, scale

SVG = "{http://www.w3.org/2000/svg}"
SPITEFUL = "<script>alert('a')</script> & \"b\" \x00\udcff"


def chart(*series, **how):
    return ElementTree.fromstring(line_chart(series, title="t", x_label="x", y_label="y", **how))


def drawn(root, kind):
    """The corners of every element of a class."""
    found = []
    for element in root.iter():
        if element.get("class") == kind:
            text = element.get("points") or element.get("d")
            numbers = [float(part) for part in re.findall(r"-?\d+\.?\d*", text)]
            found.append(list(zip(numbers[::2], numbers[1::2], strict=False)))
    return found


def words(root):
    return {element.text: (float(element.get("x")), float(element.get("y"))) for element in root.iter(f"{SVG}text")}


def on_axes(root, ticks_x, ticks_y):
    """Place a value by two ticks of each axis, whose labels stand at a known distance from their lines."""
    labels = words(root)
    (x0, x1), (y0, y1) = ([labels[name] for name in pair] for pair in (ticks_x, ticks_y))
    return lambda share_x, share_y: (x0[0] + share_x * (x1[0] - x0[0]), y0[1] - 5 + share_y * (y1[1] - y0[1]))


def test_a_line_stands_where_the_ticks_say():
    root = chart(Series("a", (2, 6, 10), (0.0, 300.0, 400.0)))
    place = on_axes(root, ("2", "10"), ("200", "400"))
    (line,) = drawn(root, "line")
    for corner, wanted in zip(line, [place(0.0, -1.0), place(0.5, 0.5), place(1.0, 1.0)], strict=True):
        assert corner == pytest.approx(wanted, abs=0.02)


def test_a_logarithmic_axis_puts_equal_ratios_at_equal_distances():
    root = chart(Series("a", (1, 10, 100, 1000), (1e-6, 1e-4, 1e-2, 1.0)), log_x=True, log_y=True)
    (line,) = drawn(root, "line")
    steps = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(line)]
    assert all(step == pytest.approx(steps[0], abs=0.03) for step in steps)
    labels = words(root)
    assert line[0][1] == pytest.approx(labels["10⁻⁶"][1] - 5, abs=0.02) and line[2][0] == pytest.approx(labels["100"][0], abs=0.02)


def test_bands_follow_low_and_high():
    root = chart(Series("a", (0, 1), (10.0, 20.0), (5.0, 10.0), (20.0, 25.0)))
    (band,), (line,) = drawn(root, "band"), drawn(root, "line")
    unit = (line[0][1] - line[1][1]) / 10  # of y, in places; it grows downwards
    heights = [line[0][1] - 10 * unit, line[1][1] - 5 * unit, line[1][1] + 10 * unit, line[0][1] + 5 * unit]
    assert [corner[1] for corner in band] == pytest.approx(heights, abs=0.05)
    assert [corner[0] for corner in band] == [line[0][0], line[1][0], line[1][0], line[0][0]]


def test_a_band_that_reaches_zero_stops_at_the_floor_of_a_logarithmic_axis():
    root = chart(Series("a", (0, 1), (0.1, 1.0), (0.0, 0.5), (0.2, 2.0)), log_y=True)
    (band,) = drawn(root, "band")
    floor = float(next(element for element in root.iter() if element.get("class") == "axis").get("d").split()[1].split("H")[0])
    assert band[-1][1] == pytest.approx(floor)


def test_missing_values_leave_gaps_and_are_counted():
    root = chart(Series("a", (0, 1, 2, 3, 4, 5), (1.0, 2.0, None, math.nan, 3.0, 4.0)))
    assert [len(line) for line in drawn(root, "line")] == [2, 2]
    assert "1 values cannot be drawn" in words(root)
    assert "3 values cannot be drawn" in words(chart(Series("a", (0, 1, 2, 3), (0.0, -1.0, math.inf, 1.0)), log_y=True))


def test_categories_are_named_and_their_whiskers_do_not_hide_each_other():
    series = [Series(name, (0, 1, 2), (1.0, 2.0, 3.0), (0.5, 1.5, 2.5), (1.5, 2.5, 3.5)) for name in ("a", "b", "c")]
    root = chart(*series, categories=("short", "middle", "long"))
    labels = words(root)
    centres = [labels[name][0] for name in ("short", "middle", "long")]
    lines = drawn(root, "line")
    assert [corner[0] for corner in lines[1]] == pytest.approx(centres, abs=0.02)
    assert lines[0][0][0] + 9 < lines[1][0][0] < lines[2][0][0] - 9  # a whisker is 8 wide
    assert len(drawn(root, "whisker")) == 3


def test_colour_is_never_the_only_difference():
    root = chart(*(Series(f"s{index}", (0, 1), (index, index + 1)) for index in range(7)))
    lines = [element for element in root.iter() if element.get("class") == "line"]
    shapes = [
        element.get("class")
        for element in root.iter()
        if element.get("class") in {"circle", "square", "triangle", "diamond", "cross", "star"}
    ]
    looks = {(line.get("stroke-dasharray"), shape) for line, shape in zip(lines, shapes[:14:2], strict=True)}
    assert len(looks) == 7 and len({line.get("style") for line in lines}) == 7


def test_names_do_not_overlap_and_stay_inside():
    names = [f"a rather long name of more than thirty letters {index}" for index in range(25)]
    root = chart(*(Series(name, (0, 1), (5.0, 5.0 + index / 1000)) for index, name in enumerate(names)))
    height = float(root.get("viewBox").split()[3])
    labels = {text: place for text, place in words(root).items() if text.startswith("a rather")}  # cut in the middle: still 25 texts
    assert all(place[0] + 7.5 * len(text) < WIDTH for text, place in labels.items())
    heights = sorted(place[1] for place in labels.values())
    assert len(heights) == 25 and heights[0] > 0 and heights[-1] < height
    assert min(after - before for before, after in pairwise(heights)) > 17.9


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.none(), max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_any_numbers_give_a_chart_whose_shapes_are_inside(values, log_x, log_y):
    root = chart(Series("a", range(len(values)), values, values, values), Series("b", (3,), (7.0,)), log_x=log_x, log_y=log_y)
    height = float(root.get("viewBox").split()[3])
    for kind in ("line", "band"):
        for corner in (corner for shape in drawn(root, kind) for corner in shape):
            assert 0 <= corner[0] <= WIDTH and 0 <= corner[1] <= height


@pytest.mark.parametrize("log", [False, True])
@given(low=st.floats(1e-200, 1e200), ratio=st.floats(1, 1e80))
def test_axes_hold_what_they_show(log, low, ratio):
    axis = scale([low, low * ratio], start=0.0, end=100.0, log=log, outward=True)
    assert axis.low <= low * (1 + 1e-9) and low * ratio <= axis.high * (1 + 1e-9)
    assert 2 <= len(axis.ticks) <= 12
    places = [axis.at(value) for value, _ in axis.ticks]
    assert places == sorted(places) and places[0] == 0.0 and places[-1] == 100.0


def test_bars_start_at_zero_and_are_in_proportion():
    root = ElementTree.fromstring(bar_chart([Bar("a", 10.0, 8.0, 12.0), Bar("b", 24.0), Bar("c", None)], title="t", x_label="BLEU"))
    bars = list(root.iter(f"{SVG}rect"))
    zero, unit = words(root)["0"][0], (words(root)["25"][0] - words(root)["0"][0]) / 25
    assert [float(bar.get("x")) for bar in bars] == [pytest.approx(zero, abs=0.02)] * 2
    assert [float(bar.get("width")) for bar in bars] == pytest.approx([10 * unit, 24 * unit], abs=0.03)
    (whisker,) = (element for element in root.iter() if element.get("class") == "whisker")
    start, stop = re.match(r"M([\d.]+) [\d.]+H([\d.]+)", whisker.get("d")).groups()
    assert (float(start), float(stop)) == pytest.approx((zero + 8 * unit, zero + 12 * unit), abs=0.03)
    assert {"10.0 (8.0 to 12.0)", "24", "–"} <= words(root).keys()


def test_negative_bars_grow_to_the_left():
    root = ElementTree.fromstring(bar_chart([Bar("a", -10.0), Bar("b", 10.0)], title="t", x_label="x"))
    left, right = root.iter(f"{SVG}rect")
    assert float(left.get("x")) + float(left.get("width")) == pytest.approx(float(right.get("x")), abs=0.02)


@pytest.mark.parametrize("series", [(), (Series("a", (), ()),), (Series("a", (1,), (None,)),)])
def test_nothing_to_draw_is_said(series):
    root = chart(*series)
    assert "no values" in words(root) and "no values" in root.find(f"{SVG}desc").text


def test_one_point_and_equal_values_have_room():
    for values in ((5.0,), (5.0, 5.0, 5.0), (0.0, 0.0)):
        root = chart(Series("a", range(len(values)), values))
        (height,) = {corner[1] for shape in drawn(root, "circle")[:1] for corner in shape[:1]}
        assert 58 < height < 328
    assert len(drawn(chart(Series("", (1,), (2.0,), (1.0,), (3.0,))), "whisker")) == 1


def test_text_alternatives_tell_the_numbers():
    root = chart(Series("rnn", (1, 2, 3), (4.0, 9.0, 6.0)), Series("one", (1,), (2.0,), (1.0,), (3.0,)))
    assert root.get("role") == "img" and root.find(f"{SVG}title").text == "t"
    described = root.find(f"{SVG}desc").text
    assert "rnn: first 1: 4; last 3: 6; lowest 4, highest 9." in described and "one, 1: 2.0 (1.0 to 3.0)." in described


def test_foreign_text_is_text():
    picture = line_chart([Series(SPITEFUL, (0,), (1.0,))], title=SPITEFUL, x_label=SPITEFUL, y_label=SPITEFUL, categories=[SPITEFUL])
    bars = bar_chart([Bar(SPITEFUL, 1.0)], title=SPITEFUL, x_label=SPITEFUL)
    for svg in (picture, bars):
        assert ElementTree.fromstring(svg).find(f"{SVG}title").text.startswith("<script>alert('a')</script> & \"b\" \ufffd\ufffd")
    numbers = table([SPITEFUL], [[SPITEFUL]], caption=SPITEFUL)
    body = html_figure(picture + bars, caption=SPITEFUL, numbers=numbers) + paragraph(SPITEFUL) + bullets([SPITEFUL])
    text = page(SPITEFUL, [Section(SPITEFUL, body)], language=SPITEFUL)
    assert "<script" not in text and "\x00" not in text
    text.encode("utf-8")


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_a_page_is_well_formed_and_reaches_for_nothing():
    series = [Series("a", (0, 1), (1.0, 2.0)), Series("b", (0, 2), (1.0, None))]
    body = html_figure(
        line_chart(series, title="t", x_label="x", y_label="y"), caption="How to read.", numbers=series_table(series, x_label="x")
    )
    text = page("A title", [Section("One", body), Section("Two", bars_table([Bar("a", 1.0)], x_label="x"))], language="fr")
    tags = _Tags()
    tags.feed(text)
    assert tags.open == [] and ("html", {"lang": "fr"}) in tags.seen
    assert set(re.findall(r"https?://[^\"'\s<]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not any(
        name in {"src", "href"} and not value.startswith("data:") for _, attributes in tags.seen for name, value in attributes.items()
    )
    assert "prefers-color-scheme:dark" in text and "@media print" in text


def test_tables_hold_every_number():
    series = [Series("a", (1, 2), (10.0, None), (9.0, None), (11.0, None)), Series("b", (2, 3), (5.0, 6.0)), Series("empty", (), ())]
    cells = re.findall(r"<t[hd] [^>]*>([^<]*)<", series_table(series, x_label="x"))
    assert cells == ["x", "a", "b", "1", "10.0 (9.0 to 11.0)", "", "2", "–", "5", "3", "", "6"]
    assert '<th scope="row" class="words">late</th>' in series_table(
        [Series("a", (0, 1), (1.0, 2.0))], x_label="x", categories=("early", "late")
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0"),
        (28.812, "28.81"),
        (-0.5, "−0.5"),
        (123456.0, "123,456"),
        (3.2e15, "3.2·10¹⁵"),
        (1e-7, "10⁻⁷"),
    ],
)
def test_numbers_for_reading(value, text):
    assert number(value) == text


def test_intervals_show_the_digits_that_count():
    assert interval(28.1, 27.2, 29.0) == "28.10 (27.20 to 29.00)"
    assert interval(28.1, 24.2, 32.0) == "28.1 (24.2 to 32.0)"
    assert interval(5.0, 5.0, 5.0) == "5 (5 to 5)" and interval(5.0, None, 6.0) == "5"
    assert is_numeric(["1", "+2", "–", ""]) and not is_numeric(["1", "BLEU"])
    assert drawable(0.0, log=False) and not drawable(0.0, log=True) and not drawable(math.nan, log=False)


def test_same_input_same_text():
    series = [Series("a", (0, 1), (1.0, 2.0), (0.5, 1.5), (1.5, 2.5))]
    first, second = (line_chart(series, title="t", x_label="x", y_label="y") for _ in range(2))
    assert first == second
