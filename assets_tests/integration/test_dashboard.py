"""The dashboard over a lake and marts in which every text is a script: by HTTP, and in a browser on two sizes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from assets_tests.support.dashboard import HOSTILE, served, write_marts
from assets_tests.support.dbt_warehouse import (
    THURSDAY,
    TUESDAY,
    VENDOR,
    WEDNESDAY,
    Action,
    Bar,
    Key,
    write,
    write_actions,
)
from assets_tests.support.patience import PATIENCE_S
from assets_tests.support.servers.browser import CHROMIUM, chromium
from lakehouse.api import Lake
from lakehouse.apps.dashboard.pages import PAGES
from lakehouse.derive.check_history import CheckResult, record
from lakehouse.settings import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage

PATHS = [page.path for page in PAGES if page.path != "/chart"]
CHART = f"/chart?instrument=S&source={VENDOR}"
SIZES = {"desktop": (1300, 800), "phone": (390, 844)}
needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed (Debian package)")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home of a dashboard")


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    """A dashboard of a vendor with three daily bars, a split and a dividend, a refused row and a failed check; every
    text that comes from outside is hostile, in the lake and in the marts.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_HOME", str(home))
        settings.cache_clear()
        (home / "lake").mkdir()
        closes = {TUESDAY: 40.0, WEDNESDAY: 44.0, THURSDAY: 11.0}
        write({Key("S", day, "USD"): Bar(close, HOSTILE) for day, close in closes.items()}, VENDOR)
        write_actions([Action("S", THURSDAY, "split", 4), Action("S", WEDNESDAY, "dividend", 0.5)])
        lake = Lake.open()
        record(lake, [CheckResult(VENDOR, HOSTILE, "a_check", False, "error", HOSTILE)], "run-1", "all")
        write_marts(
            settings().warehouse,
            {
                "daily_movers": [
                    {"source": VENDOR, "session": THURSDAY, "instrument_id": "S", "currency": "USD", "gain_rank": 1}
                    | {"loss_rank": 1, "split_adjusted_change_pct": change, "symbol": HOSTILE}
                    for change in (10.0, -3.0)
                ],
                "daily_summary": [{"source": VENDOR, "session": THURSDAY}],
                "fct_corporate_action": [
                    {"source": VENDOR, "instrument_id": "S", "currency": "USD", "kind": kind, "ex_date": THURSDAY}
                    | {"split_coefficient": value if kind == "split" else None}
                    | {"dividend_amount": value if kind == "dividend" else None}
                    for kind, value in (("split", 4.0), ("dividend", 0.5))
                ],
                "fct_sale_line": [{"kind": "sale"}],
            },
        )
        config = settings()
    settings.cache_clear()
    with served(partial(Lake.open, config)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.mark.parametrize("path", [*PATHS, CHART, f"/movers?source={VENDOR}&session=2024-01-04", "/actions?kind=split"])
def test_page__shows_hostile_texts_as_they_are(url: str, path: str) -> None:
    answer = httpx.get(url + path, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    assert "<script>window.hit" not in answer.text
    assert "<img src=x" not in answer.text
    assert "49" not in re.findall(r"\{\{|49\}\}", answer.text), "it isn't a template of its own"
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/movers", "/instruments", "/checks", "/retail", "/bank", "/orders", CHART])
def test_page__has_the_hostile_text_that_it_is_about(url: str, path: str) -> None:
    assert escape(HOSTILE)[:40].replace("&#x27;", "&#39;") in httpx.get(url + path, timeout=PATIENCE_S).text


def test_movers__mark_a_split(url: str) -> None:
    assert "split 4:1" in httpx.get(f"{url}/movers", timeout=PATIENCE_S).text


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/movers?session=yesterday", 404, "session=&#39;yesterday&#39; is not a date; write it as 2024-03-28"),
        ("/movers?source=nasdaq", 404, "there is no source &#39;nasdaq&#39;; choose one of alpha_vantage"),
        ("/coverage?year=abc", 404, "year=&#39;abc&#39; is not a whole number"),
        ("/chart", 404, "no instrument is asked for"),
        (f"/chart?instrument=NOPE&source={VENDOR}", 404, "there is no instrument &#39;NOPE&#39;"),
        (f"{CHART}&session=2024-01-04", 404, "has a daily bar of 2024-01-04 at alpha_vantage, but no shorter bars"),
        ("/nowhere", 404, "There is nothing at this address."),
        ("/static/../server.py", 404, "There is nothing at this address."),
    ],
)
def test_page__says_what_is_wrong_with_an_address(url: str, path: str, status: int, words: str) -> None:
    answer = httpx.get(url + path, timeout=PATIENCE_S)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_dashboard__only_reads(url: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert httpx.request(method, f"{url}/movers").status_code == 405


def test_dashboard__answers_on_the_names_of_this_machine_only(url: str) -> None:
    for host, status in (
        ("evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("localhost:1", 200),
        ("[::1]", 200),
    ):
        assert httpx.get(f"{url}/actions", headers={"Host": host}, timeout=PATIENCE_S).status_code == status


def test_dashboard__writes_nothing(url: str, home: Path) -> None:
    def state() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}

    httpx.get(f"{url}/", timeout=PATIENCE_S)
    before = state()
    for path in (*PATHS, CHART):
        httpx.get(url + path, timeout=PATIENCE_S)
    assert {name for name in state() if "/cache/" not in name} == {name for name in before if "/cache/" not in name}
    assert {name: at for name, at in state().items() if name in before} == before


@needs_chromium
@pytest.mark.parametrize("size", SIZES)
def test_page__runs_no_text_and_fits_its_width_in_a_browser(url: str, browser: Browser, size: str) -> None:
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height})
    told: list[str] = []

    def note(message: ConsoleMessage) -> None:
        told.append(f"{message.type}: {message.text}")

    page.on("console", note)
    page.on("pageerror", lambda error: told.append(str(error)))
    for path in (*PATHS, CHART):
        page.goto(url + path)
        page.wait_for_load_state("load")
        assert page.evaluate("window.hit") is None, path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        heading = page.get_by_role("heading", level=1)
        assert heading.is_visible(), path
    # Were a text to get into the page unescaped, the policy would still stop it.
    assert told == []
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:image/png,\" onerror=\"window.hit=1\">')"
    )
    page.wait_for_function("document.images.length === 0 || document.images[document.images.length - 1].complete")
    assert page.evaluate("window.hit") is None
    assert any("Content Security Policy" in each for each in told)
    page.close()


@needs_chromium
def test_chart__answers_to_mouse_and_keys_and_switches_basis_and_axis(url: str, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1300, "height": 800})
    page.goto(url + CHART)
    chart, legend = page.locator(".chart"), page.locator(".chart-legend")
    canvas = chart.locator("canvas")
    assert chart.get_attribute("data-bars") == "3"
    assert legend.inner_text().startswith("2024-01-04")
    box = canvas.bounding_box()
    assert box is not None
    # Three candles in the middle of room for twelve.
    page.mouse.move(box["x"] + (box["width"] - 72) * 5 / 12, box["y"] + 100)
    assert legend.inner_text().startswith("2024-01-02")
    page.mouse.move(box["x"] + (box["width"] - 72) * 7 / 12, box["y"] + 100)
    words = legend.inner_text()
    assert words.startswith("2024-01-04")
    assert "C\n11.00" in words or "C11.00" in words.replace("\n", "")
    page.get_by_role("button", name="Adjusted").click()
    page.mouse.move(box["x"] + (box["width"] - 72) * 6 / 12, box["y"] + 100)
    assert "11.00" in legend.inner_text(), "44 before a split of 4:1"
    assert "adjusted for splits and dividends" in page.locator("[data-chart-notes]").inner_text()
    page.get_by_role("button", name="Log").click()
    assert chart.get_attribute("data-scale") == "log"
    assert page.get_by_role("button", name="Log").get_attribute("aria-pressed") == "true"
    page.close()


def test_dashboard__tells_how_to_begin_where_nothing_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("none yet", "empty"):
        monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / name))
        settings.cache_clear()
        (tmp_path / "empty" / "lake").mkdir(parents=True, exist_ok=True)
        with served() as address:
            assert "lakehouse demo" in httpx.get(f"{address}/", timeout=PATIENCE_S).text
            for path in PATHS:
                answer = httpx.get(address + path, timeout=PATIENCE_S)
                assert answer.status_code == 200
                assert "<code>lakehouse " in answer.text, path


def test_dashboard__answers_for_a_fault_of_its_own_without_its_details() -> None:
    def failing() -> Lake:
        raise RuntimeError("a detail")

    with served(failing) as url:
        answer = httpx.get(f"{url}/")
    assert answer.status_code == 500
    assert "RuntimeError: the page could not be made" in answer.text
    assert "a detail" not in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_dashboard__names_a_damaged_publication(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    settings.cache_clear()
    (tmp_path / "lake").mkdir()
    settings().warehouse.write_bytes(b"not DuckDB's")
    with served() as address:
        assert "it is damaged or not DuckDB&#39;s" in httpx.get(f"{address}/freshness", timeout=PATIENCE_S).text
        assert httpx.get(f"{address}/movers", timeout=PATIENCE_S).status_code == 200


def test_command__prints_its_address_and_ends_on_a_signal(tmp_path: Path) -> None:
    environment = {**os.environ, "LAKEHOUSE_HOME": str(tmp_path), "PYTHON_DOTENV_DISABLED": "1", "COLUMNS": "200"}
    command = [sys.executable, "-c", "from lakehouse.cli.app import app; app()", "dashboard", "--port"]
    started = datetime.now(UTC)
    with subprocess.Popen([*command, "0"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
        assert httpx.get(address, timeout=PATIENCE_S).status_code == 200
        taken = subprocess.run(
            [*command, address.rpartition(":")[2]], env=environment, capture_output=True, text=True, check=False
        )
        assert taken.returncode == 2
        assert "Address already in use. Choose another port by --port" in taken.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) in (0, -signal.SIGTERM)
    assert datetime.now(UTC) - started < timedelta(minutes=1)
