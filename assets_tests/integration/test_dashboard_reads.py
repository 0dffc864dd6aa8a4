"""What the dashboard's pages read: aggregates and logs of tables, however many bars are stored, and of bars those of a
chart's session.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import polars as pl
import pytest

from assets_tests.support.dashboard import served, write_marts
from assets_tests.support.patience import PATIENCE_S
from lakehouse.api import Lake
from lakehouse.apps.dashboard.pages import PAGES
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.ingest.load import load
from lakehouse.settings import settings
from lakehouse.simulators.exchange import Exchange

FIRST, LAST = date(2024, 3, 5), date(2024, 3, 7)
CHARTED = date(2024, 3, 6)


class Dashboard(NamedTuple):
    """Where it answers, and an instrument that traded in each session."""

    url: str
    instrument: str


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard of a lake whose files of bars can't be read, as they aren't there, except for one session."""
    home = tmp_path_factory.mktemp("dashboard reads")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LAKEHOUSE_HOME", str(home))
        patched.setenv("LAKEHOUSE_XETRA_URL", str(home / "feed"))
        settings.cache_clear()
        source, lake = source_named("xetra"), Lake.open()
        sessions = source.calendar.frame.select("session", "open_at", "close_at")
        wanted = sessions.filter(pl.col("session").is_between(FIRST, LAST)).rows()
        Exchange(wanted, instruments=3).write(home / "feed")
        days = [session for session, _, _ in wanted]
        load(lake, source.bars, days)
        derive_bars(lake, source, days)
        derive_daily_bars(lake, source, days)
        traded = lake.table("xetra/daily_bars").to_polars()["instrument_id"].value_counts()
        instrument = traded.filter(pl.col("count") == len(days))["instrument_id"].min()
        for table in ("raw_bars", "bars"):
            removed = [path for path in (home / "lake" / "xetra" / table).rglob("*.parquet") if not of_chart(path)]
            assert len(removed) >= 2
            for path in removed:
                path.unlink()
        write_marts(settings().warehouse, {"fct_sale_line": [{"kind": "sale"}]}, text="xetra")
        config = settings()
    settings.cache_clear()
    with served(partial(Lake.open, config)) as address:
        yield Dashboard(address, str(instrument))


def of_chart(path: Path) -> bool:
    """Whether a file has winning bars of the session that is charted."""
    return f"session={CHARTED}" in str(path) and "raw_bars" not in path.parts


@pytest.mark.parametrize("path", [page.path for page in PAGES if page.path != "/chart"])
def test_page__reads_no_bars(dashboard: Dashboard, path: str) -> None:
    answer = httpx.get(dashboard.url + path, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("session", "status"), [("", 200), (f"&session={CHARTED}", 200), (f"&session={LAST}", 503)])
def test_chart__reads_the_bars_of_its_session_alone(dashboard: Dashboard, session: str, status: int) -> None:
    answer = httpx.get(
        f"{dashboard.url}/chart?source=xetra&instrument={dashboard.instrument}{session}", timeout=PATIENCE_S
    )
    assert answer.status_code == status, answer.text
