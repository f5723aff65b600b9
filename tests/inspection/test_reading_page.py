"""The page of a text that a masked language model or a classifier read, in a real browser: it shows what the record holds."""

import re
from collections.abc import Iterator

import pytest
from page_helpers import Tab
from playwright.sync_api import Browser
from readers import MASKED, classifier, filler

from vitrail.inspection.reading.facts import guesses_of, labels_of
from vitrail.inspection.record import Inspection

OF_ATTENTION = ["attention", "steps", "masks"]
KINDS = ["masked-post-learned-untied-first", "sigmoid-two", "several", "lstm-last"]


@pytest.fixture(scope="module")
def only_tab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Tab:
    return Tab(browser, tmp_path_factory.mktemp("pages"))


@pytest.fixture
def tab(only_tab: Tab) -> Iterator[Tab]:
    only_tab.forget()
    yield only_tab
    assert only_tab.said == [] and all(asked.startswith("file:") for asked in only_tab.asked)
    assert only_tab.page.locator(".note.bad").count() == 0


def record(name: str) -> Inspection:
    if name in MASKED:
        return filler(name).attribute(filler(name).lens(filler(name).inspect("the [MASK] 猫は[MASK]", at=[2])))
    return classifier(name).attribute(classifier(name).inspect("the dog खाना 猫は"))


@pytest.mark.parametrize("name", KINDS)
def test_every_view_that_there_is_is_drawn_at_every_width_and_speaks_of_no_translation(tab: Tab, name: str) -> None:
    page = tab.open(record(name), "reading")
    views = page.eval_on_selector_all("[role=tab]", "all => all.map(one => one.id.slice(4))")
    assert sorted(views) == sorted(["reading", "recurrent", "maps", *([] if name == "lstm-last" else OF_ATTENTION)])
    for width, language in ((1280, "en"), (400, "fr")):
        page.set_viewport_size({"width": width, "height": 900})
        page.click(f"[data-language={language}]")
        for view in views:
            page.click(f"#tab-{view}")
            shown = page.locator(f"#view-{view}")
            said = shown.inner_text() + page.locator("header").inner_text()
            assert shown.inner_text().strip() and re.search(r"translat|traduc|undefined|NaN|null", said, re.IGNORECASE) is None, view
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), view
    page.set_viewport_size({"width": 1280, "height": 900})
    assert page.locator("h1 .sentence").all_inner_texts() == [record(name).source.text]


@pytest.mark.parametrize("name", KINDS)
def test_guesses_labels_reasons_and_pooling_are_those_of_the_record(tab: Tab, name: str) -> None:
    seen = record(name)
    page = tab.open(seen, "reading")
    guesses, labels = guesses_of(seen), labels_of(seen)
    assert page.locator(".rea-guess").count() == len(guesses)
    for guess in guesses:
        shown = page.locator(f"[data-position='{guess.position}'] .rea-name").all_inner_texts()
        assert len(shown) == len(guess.candidates)
    if labels is not None:
        rows = sorted(labels.labels, key=lambda one: -one.probability)
        assert page.locator(".rea-name").all_inner_texts() == [one.label for one in rows]
        chosen = page.locator(".rea-chosen .rea-name").all_inner_texts()
        assert chosen == [one.label for one in rows if one.chosen]
    words = [seen.source.word(number) for number in range(len(seen.source.words))]
    assert [row.strip() for row in page.locator(".bey-bars tbody th").all_inner_texts()] == words
    page.click("[data-value=tokens]")
    assert page.locator(".bey-bars tbody tr").count() == len(seen.source_tokens)
    entering = page.eval_on_selector_all(".rea-token", "all => all.flatMap((one, at) => one.classList.contains('rea-enters') ? [at] : [])")
    assert entering == seen.facts.extras["pooling"]["tokens"]


@pytest.mark.parametrize("name", [name for name in KINDS if name != "lstm-last"])
def test_every_step_of_the_walk_is_computed_anew_and_agrees(tab: Tab, name: str) -> None:
    page = tab.open(record(name), "steps")
    page.click("[data-value=all]")
    for layer in ("0", "1"):
        page.select_option("[data-key=layer]", layer)
        summary = page.locator(".walk-summary")
        assert summary.get_attribute("data-bad") == "0" and int(summary.get_attribute("data-good") or 0) >= 12
