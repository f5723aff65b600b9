"""The list of models of tests/contract, what these tests share, importable from them, and the browser that opens their pages."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "contract")]

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's own Chromium, started once. Its absence skips a test on a desk, and fails it where changes are admitted."""
    path = next((found for name in CHROMIUM if (found := shutil.which(name)) is not None), None)
    if path is None:
        reason = f"no browser: none of {', '.join(CHROMIUM)} is installed"
        if "CI" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()
