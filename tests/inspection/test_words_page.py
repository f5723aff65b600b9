"""The map of word vectors and the objective of pairs: their numbers, and their page in a real browser."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_helpers import Tab
from playwright.sync_api import Browser, Page

from vitrail.errors import UsageError
from vitrail.inspection.maps.word_map import KNOWN, Wanted, WordMap, map_words
from vitrail.inspection.page.words import words_to_html
from vitrail.vectors import Ngrams, WordVectors
from vitrail.vectors.explaining.explain import explain_pair
from vitrail.vectors.word_vectors import Outputs

HOSTILE = [
    *("</script>", "<img src=x onerror=alert(1)>", "it's", '"quoted"', "$x_1^2$", "&amp;", "__proto__", "constructor", "\\", "\u202eevil"),
    *("السلام", "שלום", "हिन्दी", "日本", "👩‍👩‍👧", "e\u0301cole", "Straße", "Σίσυφος", "a" * 300, "\u00a0", "ไทย"),
]


def vectors(words: list[str], *, seed: int = 0, **known: Any) -> WordVectors:
    matrix = np.random.default_rng(seed).normal(size=(len(words), 12)).astype(np.float32)
    return WordVectors(words, matrix, np.arange(len(words) + 5, 5, -1), **known)


def trained(method: str, **changes: Any) -> WordVectors:
    """Vectors with outputs, as a training leaves them."""
    words = ["the", "dog", "barks", "猫", "بيت", "हिन्दी", "loud"]
    draw = np.random.default_rng(1)
    plain = {"method": method, "architecture": "skip-gram", "negatives": 3, "noise_power": 0.75, "x_max": 10.0, "alpha": 0.75, "window": 4}
    outputs = Outputs(draw.normal(size=(7, 12)).astype(np.float32), draw.normal(size=(7, 2)).astype(np.float32))
    table = Ngrams(draw.normal(size=(40, 12)).astype(np.float32), 3, 4) if method == "fasttext" else None
    return vectors(words, ngrams=table, facts={"training": plain | changes, "words of text": 1234}, outputs=outputs)


def test_the_map_is_that_of_the_vectors_and_neighbours_are_of_the_full_space() -> None:
    found = vectors([f"w{n}" for n in range(60)])
    made = map_words(found, Wanted(words=20, also=["w50", "W41", "w3"], neighbours=7), name="v")
    rows = [*range(20), 41, 50]
    assert made.shown == 22 and made.words[:22] == tuple(f"w{row}" for row in rows) and sorted(made.words) == sorted(found.words)
    assert np.cumsum(made.gaps[:22]).tolist() == rows and made.counts == tuple((65 - np.array(rows)).tolist())
    units = found.matrix.astype(np.float64) / np.linalg.norm(found.matrix, axis=1, keepdims=True)
    centred = units[rows] - units[rows].mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    assert made.explained == pytest.approx((values / values.sum())[::-1][:2])
    for axis in (0, 1):
        expected = centred @ axes[:, -1 - axis]
        assert np.abs(made.coordinates[axis]) == pytest.approx(np.abs(expected), abs=2e-3)
    for number, row in enumerate(rows):
        cosines = units @ units[row]
        cosines[row] = -2
        order = np.argsort(-cosines, kind="stable")[:7]
        assert [made.words[place] for place in made.neighbours[number]] == [f"w{other}" for other in order]
        assert made.cosines[number] == pytest.approx(cosines[order], abs=1e-4)
    assert WordMap.model_validate_json(made.model_dump_json()) == made


def test_a_map_knows_so_many_words_by_name_and_refuses_unknown_ones() -> None:
    few = map_words(vectors(["a", "B"]), Wanted(words=10, neighbours=10), name="v")
    assert few.shown == 2 and few.method == "pca" and not few.fold and few.neighbours == ((1,), (0,))
    with pytest.raises(UsageError, match="a word of the vocabulary"):
        map_words(vectors(["a", "b"]), Wanted(also=["c"]), name="v")
    words = [f"w{n}" for n in range(KNOWN + 300)]
    many = WordVectors(words, np.random.default_rng(0).normal(size=(len(words), 3)).astype(np.float32))
    found = map_words(many, Wanted(words=2, neighbours=2), name="v")
    others = set(found.words[2:])
    assert set(words[2:KNOWN]) <= others and {found.words[place] for line in found.neighbours for place in line} <= {*words[:2], *others}
    assert len(others) <= KNOWN + 2


@pytest.mark.parametrize("method", ["tsne", "umap"])
@pytest.mark.slow
def test_other_layouts_have_no_variance(method: Any) -> None:
    pytest.importorskip({"tsne": "sklearn", "umap": "umap"}[method])
    found = map_words(vectors([f"w{n}" for n in range(40)]), Wanted(method=method), name="v")
    assert found.explained is None and [len(axis) for axis in found.coordinates] == [40, 40]


# ---- in a browser -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def only_tab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Tab:
    return Tab(browser, tmp_path_factory.mktemp("pages"))


@pytest.fixture
def tab(only_tab: Tab) -> Iterator[Tab]:
    only_tab.forget()
    only_tab.page.set_viewport_size({"width": 1280, "height": 900})
    yield only_tab
    assert only_tab.said == [] and all(asked.startswith("file:") for asked in only_tab.asked)
    assert only_tab.page.locator(".note.bad").count() == 0


def opened(tab: Tab, found: WordMap, folder: Path, *, view: str = "words", language: str = "en") -> Page:
    path = folder / f"{len(list(folder.iterdir()))}.html"
    path.write_text(words_to_html(found, language=language), encoding="utf-8", errors="replace")
    tab.page.goto(f"{path.as_uri()}#{view}")
    tab.page.locator("[role=tab]").first.wait_for()
    return tab.page


def find(page: Page, text: str) -> str:
    """Search for a text; what the page says."""
    page.fill(".wor-search", text)
    page.press(".wor-search", "Enter")
    return page.locator(".live").inner_text()


def listed(page: Page) -> list[str]:
    return page.locator(".wor-near li bdi").all_inner_texts()


def drawn(page: Page) -> int:
    """Labels on the map, once it has been drawn."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done))))")
    return int(page.locator(".wor-canvas").get_attribute("data-labels") or 0)


def test_hostile_words_and_scripts_are_text_found_and_shown_as_they_are(tab: Tab, tmp_path: Path) -> None:
    given = vectors(HOSTILE)
    pairs = [explain_pair(given, HOSTILE[place], HOSTILE[-1 - place]) for place in range(0, 10, 2)]
    made = map_words(given, Wanted(neighbours=5), name="<b>x</b>", walks=pairs)
    page = opened(tab, made, tmp_path)
    assert page.locator(".sentence").inner_text() == "<b>x</b>" and page.locator("img").count() == 0
    for place in range(0, len(HOSTILE) - 2, 3):  # the last but one is a space, which nobody searches for
        find(page, HOSTILE[place])
        shown = {"\u202eevil": "[U+202E]evil", "\u00a0": "[U+00A0]"}
        assert listed(page) == [shown.get(HOSTILE[other], HOSTILE[other]) for other in made.neighbours[place]]
    find(page, "E\u0301COLE")
    assert "is not among the 21 shown" in page.locator(".live").inner_text(), "case counts where these vectors have upper case"
    assert drawn(page) >= 10
    page.click("#tab-objective")
    for number, walk in enumerate(pairs[:2]):
        page.select_option("select", str(number))
        assert page.locator(".obj-title bdi").first.inner_text() == walk.word
        assert float(page.locator("[data-cosine]").get_attribute("data-cosine") or "nan") == pytest.approx(walk.cosine)
    page.click("#tab-words")


def test_search_selection_and_keyboard(tab: Tab, tmp_path: Path) -> None:
    words = [*(f"w{n}" for n in range(30)), "straße", "σίσυφος", "rare", "rarer"]
    made = map_words(vectors(words), Wanted(words=30, also=["straße", "σίσυφος"], neighbours=6), name="v")
    page = opened(tab, made, tmp_path)
    box = page.locator(".wor-search")
    assert page.locator(".live").inner_text() == "32 of 34 words shown" and "hold" in page.locator(".note").first.inner_text()
    for text, word in (("STRASSE", "straße"), ("ΣΊΣΥΦΟΣ", "σίσυφος"), ("W7", "w7")):
        assert find(page, text).startswith(f"{word}: nearest ") and box.input_value() == word
        assert listed(page) == [made.words[place] for place in made.neighbours[made.words.index(word)]]
    assert "number 33 of 34" in find(page, "Rare") and "not among the 32 shown" in page.locator(".live").inner_text()
    assert listed(page) == []
    assert "nor in the vocabulary of 34 words" in find(page, "nobody")
    box.fill("rar")
    assert page.locator("[role=option]").all_inner_texts() == ["rare not shown", "rarer not shown"]
    box.fill("w1")
    assert page.locator("[role=option]").first.inner_text() == "w1" and box.get_attribute("aria-expanded") == "true"
    box.press("ArrowDown")
    box.press("ArrowDown")
    assert page.locator("[role=option][aria-selected=true]").inner_text() == "w10"
    box.press("Enter")
    assert page.locator(".maps-piece").inner_text() == "w10" and page.locator("[role=listbox]").is_hidden()
    chosen = page.locator("button.wor-word").first
    name = chosen.inner_text()
    chosen.click()
    assert page.locator(".maps-piece").inner_text() == name
    canvas = page.locator(".wor-canvas")
    canvas.focus()
    seen = {name}
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowLeft"):
        canvas.press(key)
        seen.add(page.locator(".maps-piece").inner_text())
    assert len(seen) >= 3, "arrows go from word to word"
    canvas.press("Escape")
    assert page.locator(".maps-piece").count() == 0 and "Click a word" in page.locator(".wor-near").inner_text()


@pytest.mark.slow
def test_a_click_on_the_map_chooses_the_word_there_also_when_it_is_enlarged(tab: Tab, tmp_path: Path) -> None:
    given = vectors([f"w{n}" for n in range(40)])
    page = opened(tab, map_words(given, Wanted(neighbours=4), name="v"), tmp_path)
    where = """word => { const {WordCanvas} = Vitrail["views/11_word_canvas.js"]; const at = WordCanvas.prototype.at;
        return window.seen.at(Number(word.slice(1))); }"""
    page.evaluate("""() => { const {WordCanvas} = Vitrail["views/11_word_canvas.js"]; const draw = WordCanvas.prototype._draw;
        WordCanvas.prototype._draw = function () { window.seen = this; draw.call(this); }; }""")
    canvas = page.locator(".wor-canvas")
    for clicks in range(3):
        canvas.focus()
        for _ in range(clicks):
            page.click("[data-zoom=in]")
        assert drawn(page) > 0
        for word in ("w3", "w17"):
            x, y = page.evaluate(where, word)
            box = canvas.bounding_box()
            assert box is not None
            if 0 < x < box["width"] - 200 and 0 < y < box["height"]:
                canvas.click(position={"x": x, "y": y})
                assert page.locator(".maps-piece").inner_text() == word
        page.click("[data-zoom=whole]")
    assert page.locator(".maps-piece").count() == 1
    page.mouse.move(0, 0)


SLOW = [pytest.param(method, marks=pytest.mark.slow) for method in ("cbow", "tree", "never", "plain")]


@pytest.mark.parametrize("method", ["fasttext", "glove", *SLOW])
def test_the_objective_shows_what_was_computed_at_every_width_in_both_languages(tab: Tab, tmp_path: Path, method: str) -> None:
    changes: dict[str, Any] = {"tree": {"negatives": 0}, "cbow": {"architecture": "cbow"}}.get(method, {})
    kind = {"tree": "word2vec", "cbow": "word2vec", "never": "glove"}.get(method, method)
    given = vectors(["dog", "barks", "بيت"]) if method == "plain" else trained(kind, **changes)
    walk = explain_pair(given, "dog", "بيت", x={"glove": 3.5, "never": 0.0}.get(method), around=["猫"] if method == "cbow" else [])
    page = opened(tab, map_words(given, Wanted(), name="v", walks=[walk]), tmp_path, view="objective")
    steps = {"tree": 5, "cbow": 7, "fasttext": 7, "glove": 5, "never": 5, "plain": 1}[method]
    for width, language in ((1280, "en"), (390, "fr")):
        page.set_viewport_size({"width": width, "height": 900})
        page.click(f"[data-language={language}]")
        assert page.locator(".walk-step").count() == steps
        text = page.locator("#view-objective").inner_text() + page.locator("header").inner_text()
        assert not any(word in text for word in ("undefined", "NaN", "null", "[object")), text
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        shown = page.locator("[data-loss]").all_inner_texts()
        expected = [] if method in ("plain", "never") else [f"{walk.loss:.4f}".replace(".", "," if language == "fr" else ".")]
        assert shown == expected
        page.click("#tab-words")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert drawn(page) >= 2
        page.click("#tab-objective")
    assert ("dog" in page.locator(".obj-title").inner_text()) and page.locator("#view-objective .note").count() == len(walk.missing)


@pytest.mark.slow
def test_five_thousand_words_of_several_scripts_stay_fluent(tab: Tab, tmp_path: Path) -> None:
    """Dots and labels of a frame are counted, not the seconds; the labels are thinned and more come when the map is enlarged."""
    words = [f"{('слово', 'كلمة', '語', 'शब्द', 'word')[n % 5]}{n}" for n in range(5000)]
    made = map_words(vectors(words), Wanted(words=5000), name="v")
    html = words_to_html(made)
    assert len(html.encode()) < 2_000_000
    page = opened(tab, made, tmp_path)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert 20 < drawn(page) <= 200
    find(page, "كلمة1")
    assert len(listed(page)) == 10
    colours = "canvas => { const p = canvas.getContext('2d').getImageData(2, 2, 1, 1).data; return p[0] + p[1] + p[2]; }"
    dark = page.locator(".wor-canvas").evaluate(colours)
    page.click("[data-scheme=light]")
    page.wait_for_timeout(200)
    assert page.locator(".wor-canvas").evaluate(colours) > 600 > 200 > dark


def test_the_record_of_a_page_is_the_json_of_the_map(tmp_path: Path) -> None:
    made = map_words(trained("word2vec"), Wanted(), name="v", walks=[explain_pair(trained("word2vec"), "dog", "猫")])
    text = json.dumps(made.model_dump(mode="json"), allow_nan=False)
    assert json.loads(text)["training"] == {
        "method": "word2vec",
        "architecture": "skip-gram",
        "negatives": 3,
        "kind": "negatives",
        "text_words": 1234,
    }
    html = words_to_html(made)
    assert "default-src 'none'" in html and "http" not in html.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    with pytest.raises(UsageError):
        words_to_html(made, language="de")
