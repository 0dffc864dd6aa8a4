"""Pictures of web pages as a person sees them, taken with Debian's chromium driven by playwright."""

from __future__ import annotations

import re
from pathlib import Path

from assets_tests.support.servers.process import MissingBinary

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


def screenshot(url: str, png: Path, *, wait_for: str, timeout: float = 30) -> Path:
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
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as missing:
        raise MissingBinary("playwright is not installed (Python package: playwright)") from missing
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(timeout * 1000)
            page.goto(url)
            page.get_by_text(wait_for).first.wait_for()
            page.get_by_text(re.compile("^Loading")).first.wait_for(state="hidden")
            page.screenshot(path=str(png))
        finally:
            browser.close()
    return png
