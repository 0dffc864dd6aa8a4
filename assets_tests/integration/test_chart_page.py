"""The page that `lakehouse plot` writes, opened from its file in Chromium: hover, zoom, pan, keys, touch, log axis."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assets_tests.support.servers.browser import CHROMIUM, chromium
from assets_tests.unit.cli.test_plot import action, daily_chart, daily_row, minute_chart
from lakehouse.cli.plot import write
from lakehouse.domains.market.bars.chart import Chart

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed (Debian package: chromium)")

WEEKDAYS = [day for day in (date(2015, 1, 1) + timedelta(days=number) for number in range(3700)) if day.weekday() < 5]
HOSTILE = "</script><script>window.hit=1</script><img src=x onerror=window.hit=1>"


def years(count: int = 1000) -> Chart:
    """Some years of daily bars that grow, with a dividend each month and a split."""
    dice, rows, price = random.Random(7), [], 20.0
    for session in WEEKDAYS[:count]:
        opened, price = price, price * (1 + dice.gauss(0.001, 0.015))
        low, high = min(opened, price) * 0.995, max(opened, price) * 1.005
        rows.append(daily_row(session, (opened, high, low, price), volume=dice.randint(1_000, 90_000), name=HOSTILE))
    actions = [action(session, "dividend", 0.1) for session in WEEKDAYS[10:count:21]]
    actions.append(action(WEEKDAYS[500], "split", 4))
    return daily_chart(rows, actions=sorted(actions, key=lambda each: each["ex_date"]))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


def opened(browser: Browser, target: Path, charts: list[Chart], *, is_log: bool = False, width: int = 1300) -> Page:
    write(charts, target, is_log=is_log)
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.on("console", lambda message: pytest.fail(message.text))
    page.goto(target.as_uri())
    assert page.evaluate("window.hit") is None
    return page


def bars(page: Page) -> int:
    return int(page.locator(".chart").get_attribute("data-bars") or 0)


def first_and_last(page: Page) -> tuple[str | None, str | None]:
    chart = page.locator(".chart")
    return chart.get_attribute("data-first"), chart.get_attribute("data-last")


def test_page__zooms_moves_and_shows_all_again(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path / "a chart.html", [years()])
    assert (bars(page), first_and_last(page)) == (1000, (str(WEEKDAYS[0]), str(WEEKDAYS[999])))
    box = page.locator("canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    for _ in range(6):
        page.mouse.wheel(0, -300)
    page.wait_for_function("document.querySelector('.chart').dataset.bars < 600")
    zoomed, (first, _) = bars(page), first_and_last(page)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 150, box["y"] + 100)
    page.mouse.up()
    assert abs(bars(page) - zoomed) <= 1, "moved, not zoomed"
    assert (first_and_last(page)[0] or "") > (first or "")
    page.mouse.dblclick(box["x"] + box["width"] / 2, box["y"] + 100)
    assert bars(page) == 1000
    page.get_by_role("button", name="1Y").click()
    assert (bars(page), first_and_last(page)[1]) == (252, str(WEEKDAYS[999]))
    page.locator("canvas").focus()
    page.keyboard.press("ArrowLeft")
    assert (first_and_last(page)[1] or "") < str(WEEKDAYS[999])
    page.keyboard.press("0")
    assert bars(page) == 1000
    page.close()


def test_page__names_the_bar_and_the_actions_below_the_pointer(browser: Browser, tmp_path: Path) -> None:
    chart = years(30)
    page = opened(browser, tmp_path / "chart.html", [chart])
    box = page.locator("canvas").bounding_box()
    assert box is not None
    plot = box["width"] - 74
    for place in (0, 10, 29):
        page.mouse.move(box["x"] + 2 + plot * (place + 0.5) / 30, box["y"] + 100)
        words = page.locator(".chart-legend").inner_text().replace("\n", " ")
        row = chart.daily.row(place, named=True)
        assert words.startswith(str(row["session"]))
        for name in ("open", "high", "low", "close"):
            assert f"{row[name]:.4f}".rstrip("0") in words
        assert ("Dividend 0.1 on" in words) == (place == 10)
    page.close()


def test_page__switches_the_basis_and_the_axis(browser: Browser, tmp_path: Path) -> None:
    raw = years()
    halved = raw.daily.with_columns((raw.daily[name] / 2).alias(name) for name in ("open", "high", "low", "close"))
    adjusted = replace(raw, daily=halved, basis="adjusted for splits and dividends (crsp) as of 2024-01-01")
    page = opened(browser, tmp_path / "chart.html", [raw, adjusted], is_log=True)
    chart, close = page.locator(".chart"), page.locator("[data-chart-figure=Close]")
    assert chart.get_attribute("data-scale") == "log"
    assert close.inner_text() == raw.figures["Close"]
    page.get_by_role("button", name="Adjusted").click()
    assert close.inner_text() == adjusted.figures["Close"]
    assert "crsp" in page.locator("[data-chart-notes]").inner_text()
    page.get_by_role("button", name="Log").click()
    assert chart.get_attribute("data-scale") == "linear"
    page.close()


def test_page__of_minutes_fits_a_phone(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path / "chart.html", [minute_chart(list(range(520)))], width=390)
    assert bars(page) == 520
    assert first_and_last(page) == ("2024-03-26 09:00", "2024-03-26 17:39")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
