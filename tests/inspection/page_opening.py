"""How long the largest promised page takes to open in Chromium: `python tests/inspection/page_opening.py`.

20 x 20 tokens, the base model (6 layers, 8 heads a layer): seconds by the clock from the navigation until the first view is drawn.
"""

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from test_page import base

from vitrail.inspection.page import to_html

ROUNDS = 9
_DRAWN = """new Promise(done => {
  const look = () => document.querySelector('[data-head]')
    ? requestAnimationFrame(() => setTimeout(() => done(performance.now() / 1000))) : setTimeout(look, 2);
  look();
})"""


def main() -> None:
    """Each round in a tab of its own; the first, which starts the browser's processes, is told apart."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        path = Path(scratch) / "page.html"
        path.write_text(to_html(base()), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        seconds: list[float] = []
        for _ in range(ROUNDS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(path.as_uri(), wait_until="commit")
            seconds.append(page.evaluate(_DRAWN))
            page.close()
        browser.close()
        median = statistics.median(seconds)
        sys.stdout.write(f"{path.stat().st_size:,} bytes; first {seconds[0]:.2f} s, median {median:.2f} s, slowest {max(seconds):.2f} s\n")


if __name__ == "__main__":
    main()
