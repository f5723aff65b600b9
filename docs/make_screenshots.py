"""Draw docs/screenshots: the views of a page as a browser shows them, light, and the first one dark too.

    python docs/make_screenshots.py runs/demo "A dog ate the food because it was hungry." docs/screenshots [VIEW ...]

Needs Playwright and the system's Chromium. Without views: all of them.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

import vitrail
from vitrail.inspection.complete import complete
from vitrail.inspection.page import to_html

SIZE = {"width": 1280, "height": 960}


def point_at_something(page: Page) -> None:
    """A picture of attention says more with a token under the pointer: the pronoun, or what stands in the middle."""
    tokens = page.locator(".ends.reads .end")
    names = [name.strip("·") for name in tokens.all_inner_texts()]
    pronouns = [place for place, name in enumerate(names) if name in ("il", "elle", "it")]
    tokens.nth(pronouns[0] if pronouns else len(names) // 2).click()


def shoot(browser: Browser, address: str, view: str, scheme: str) -> bytes:
    """One view as PNG, as tall as the screen."""
    page = browser.new_page(viewport=SIZE, color_scheme="dark" if scheme == "dark" else "light")
    page.goto(f"{address}#{view}")
    page.locator(f"#view-{view} .view > *").first.wait_for()
    if view == "attention":
        point_at_something(page)
        page.mouse.move(2, 2)
    if view == "film":  # a step at which it still had to learn
        slider = page.locator("input[type=range]")
        slider.press("Home")
        slider.press("ArrowRight")
        slider.blur()
    picture = page.screenshot()
    page.close()
    return picture


def views_of(browser: Browser, address: str) -> list[str]:
    """The views that a page has, in their order."""
    page = browser.new_page()
    page.goto(address)
    page.locator("[role=tab]").first.wait_for()
    found = page.locator("[role=tabpanel]").evaluate_all("panels => panels.map(panel => panel.id.replace('view-', ''))")
    page.close()
    return found


def main(run: Path, sentence: str, folder: Path, views: list[str]) -> None:
    """Write VIEW-light.png for each view."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        page = Path(scratch) / "page.html"
        translator = vitrail.load(run)
        page.write_text(to_html(complete(translator.inspect(sentence), translator, run)), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = views or views_of(browser, page.as_uri())
        for view in shown:
            for scheme in ("light", "dark") if view == shown[0] else ("light",):
                (folder / f"{view}-{scheme}.png").write_bytes(shoot(browser, page.as_uri(), view, scheme))
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
