"""Pictures of web pages as a person sees them, taken with Debian's chromium driven by playwright."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from assets_tests.support.patience import PATIENCE_S
from assets_tests.support.servers.process import MissingBinary

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser, while the context lasts."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


def screenshot(url: str, png: Path, *, wait_for: str, timeout: float = PATIENCE_S) -> Path:
    """A picture of a page, taken when the text `wait_for` stands on it and nothing loads any more.

    Args:
        timeout: seconds until the page must have got there.

    Returns:
        `png`, where the picture is.

    Raises:
        MissingBinary: chromium or playwright is not installed.
        playwright.sync_api.TimeoutError: the page did not get there in time.
    """
    if not CHROMIUM.exists():
        raise MissingBinary("chromium is not installed (Debian package: chromium)")
    if find_spec("playwright") is None:
        raise MissingBinary("playwright is not installed (Python package: playwright)")
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(timeout * 1000)
        page.goto(url)
        page.get_by_text(wait_for).first.wait_for()
        page.get_by_text(re.compile("^Loading")).first.wait_for(state="hidden")
        page.screenshot(path=str(png))
    return png
