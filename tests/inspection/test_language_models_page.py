"""The page of a language model's text in a real browser: what it shows is what the record holds, and nothing asks for a source."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from language_models import CAUSAL, LANGUAGE, generator
from page_helpers import Tab
from playwright.sync_api import Browser

from vitrail.decode.search_config import SearchConfig
from vitrail.inspection.complete import complete
from vitrail.inspection.record import Inspection

OF_ATTENTION = ["attention", "steps", "masks"]
QUICK = ("causal-normed-embedding", "gru-residual")
OF_BOTH = ["decoding", "beyond", "recurrent", "maps"]


@pytest.fixture(scope="module")
def only_tab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Tab:
    return Tab(browser, tmp_path_factory.mktemp("pages"))


@pytest.fixture
def tab(only_tab: Tab) -> Iterator[Tab]:
    only_tab.forget()
    yield only_tab
    assert only_tab.said == [] and all(asked.startswith("file:") for asked in only_tab.asked)
    assert only_tab.page.locator(".note.bad").count() == 0


def record(name: str, text: str, folder: Path, *, more: int = 0) -> Inspection:
    one = generator(name)
    return complete(one.inspect(text, more=more, search=SearchConfig(beams=3) if more else None), one, folder)


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LANGUAGE])
def test_every_view_that_there_is_is_drawn_at_every_width_and_speaks_of_no_translation(tab: Tab, tmp_path: Path, name: str) -> None:
    page = tab.open(record(name, "the dog 猫は", tmp_path), "decoding")
    views = page.eval_on_selector_all("[role=tab]", "all => all.map(one => one.id.slice(4))")
    assert sorted(views) == sorted([*OF_BOTH, *(OF_ATTENTION if name in CAUSAL else [])])
    for width, language in ((1280, "en"), (400, "fr")):
        page.set_viewport_size({"width": width, "height": 900})
        page.click(f"[data-language={language}]")
        for view in views:
            page.click(f"#tab-{view}")
            shown = page.locator(f"#view-{view}")
            assert shown.inner_text().strip()
            said = shown.inner_text() + page.locator("header").inner_text()
            assert re.search(r"translat|traduc|\bsource\b|undefined|NaN|null", said, re.IGNORECASE) is None, view
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), view
    page.set_viewport_size({"width": 1280, "height": 900})
    assert page.title() == "the dog 猫は · Vitrail" and page.locator("h1 .sentence").all_inner_texts() == ["the dog 猫は"]


@pytest.mark.parametrize("name", CAUSAL)
def test_every_step_of_the_walk_is_computed_anew_and_agrees(tab: Tab, tmp_path: Path, name: str) -> None:
    page = tab.open(record(name, "الكلب", tmp_path), "steps")
    page.click("[data-value=all]")
    assert page.locator("[data-step=prediction]").count() == 0  # of the last layer alone
    page.select_option("[data-key=layer]", "1")
    assert page.locator("[data-step=prediction]").count() == 1 and page.locator("[data-step=cross]").count() == 0
    for layer in ("0", "1"):
        page.select_option("[data-key=layer]", layer)
        summary = page.locator(".walk-summary")
        assert summary.get_attribute("data-bad") == "0" and int(summary.get_attribute("data-good") or 0) >= 15


def test_the_candidates_of_each_position_are_those_of_the_record(tab: Tab, tmp_path: Path) -> None:
    seen = record("causal", "बिल्ली ने", tmp_path)
    page = tab.open(seen, "decoding")
    assert page.locator(".dec-start").inner_text() == "<eos>" and page.locator(".dec-stop").count() == len(seen.predicted_tokens)
    assert page.locator(".dec-fate").count() == 0 and page.locator(".dec-tree").count() == 0
    for place, step in enumerate(seen.facts.decoding.steps):
        page.locator(".dec-stop").nth(place).click()
        tokens = page.eval_on_selector_all("[data-token]", "all => all.map(one => Number(one.dataset.token))")
        listed = [one.token for one in step.candidates]
        assert tokens == (listed if step.chosen.token in listed else [*listed, step.chosen.token])


def test_the_tree_is_of_what_the_model_wrote_on(tab: Tab, tmp_path: Path) -> None:
    seen = record("causal", "the cat", tmp_path, more=4)
    page = tab.open(seen, "decoding")
    assert page.locator(".dec-root text").text_content() == "t" and "7 tokens of the text" in page.locator("#view-decoding").inner_text()
    page.locator(".dec-stop").first.click()
    assert set(page.locator(".dec-fate").all_inner_texts()) == {"before the search"}
    page.locator(".dec-stop").nth(7).click()
    told = page.locator(".dec-chosen .dec-fate").inner_text()
    assert "kept" in told or "ended" in told
    assert page.locator("[data-equal]").get_attribute("data-equal") == "true"
