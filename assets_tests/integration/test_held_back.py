"""A source whose blocking check failed keeps its published rows, and those of other sources are published meanwhile."""

from __future__ import annotations

import gzip
from datetime import date

import dagster as dg
import pytest
from typer.testing import CliRunner

from assets_tests.integration.conftest import FirstLoad
from assets_tests.support.dbt_warehouse import TUESDAY, WEDNESDAY, Bar, Key, write
from assets_tests.support.exchange_lake import LAST, ExchangeLake, failed_checks
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.derive.held_back import holds
from lakehouse.settings import settings
from lakehouse.warehouse.parts import MARKET_MARTS
from lakehouse.warehouse.publish import build_part, differing_marts, publication

OTHER = "binance"


def spoil(lake: ExchangeLake, session: date) -> None:
    """The vendor sends every price of an hour negative: most of its rows are refused."""
    path = min(path for path in (lake.feed / str(session)).iterdir() if len(gzip.decompress(path.read_bytes())) > 500)
    header, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    prices = [header.split(",").index(name) for name in ("StartPrice", "MaxPrice", "MinPrice", "EndPrice")]
    rows = [line.split(",") for line in lines]
    for row in rows:
        for place in prices:
            row[place] = "-1"
    path.write_bytes(gzip.compress("\n".join([header, *map(",".join, rows)]).encode()))


def rows(lake: ExchangeLake, source: str) -> list[tuple]:
    return lake.marts(f"SELECT * FROM fct_daily_bar WHERE source = '{source}' ORDER BY ALL")


def publish_news_of_the_other(*sessions: date) -> None:
    """A run of the other source has its daily bars of these sessions published."""
    write({Key("BTCUSDT", session): Bar(10.0 + session.day, symbol="BTCUSDT") for session in sessions}, OTHER)
    with publication(settings()):
        assert build_part(settings(), MARKET_MARTS) == []


def content(relation: str) -> tuple:
    """What tells the daily bars of the lake from those of the marts."""
    answer = Lake.open().sql(f"SELECT count(*), sum(bar_count), sum(volume) FROM {relation} WHERE source = 'xetra'")
    assert answer is not None
    return answer.fetchall()[0]


IN_LAKE, IN_MARTS = "(SELECT *, 'xetra' AS source FROM xetra.daily_bars)", "marts.fct_daily_bar"


def test_the_other_sources_are_published_while_one_is_held_back(
    first_load: FirstLoad, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    """The run of another source published the bad rows of one whose blocking check had failed."""
    lake = first_load.lake
    published = rows(lake, "xetra")
    spoil(lake, LAST)
    result = lake.run(instance, LAST, LAST)
    assert "xetra/daily_bars enough_rows_kept" in failed_checks(result)
    assert content(IN_LAKE) != content(IN_MARTS)

    publish_news_of_the_other(TUESDAY)
    assert len(rows(lake, OTHER)) == 1
    assert rows(lake, "xetra") == published
    (hold,) = holds(Lake.open())
    assert hold.source == "xetra"
    since = lake.marts("SELECT part, source, table_name, check_name, since FROM held_back")
    assert since == [("market", "xetra", "daily_bars", "enough_rows_kept", hold.since)]
    assert "The marts show the rows of xetra as they were published before: xetra since 2" in caplog.text
    said = CliRunner().invoke(app, ["status"]).output
    assert f"held back: xetra since {hold.since:%Y-%m-%d %H:%M:%S} UTC, daily_bars: enough_rows_kept: " in said

    # A rebuild from scratch is made from the same.
    assert differing_marts(settings()) == []
    # A rebuild of the tables, which gives the same, leaves the source held back.
    assert "xetra since" in CliRunner().invoke(app, ["rebuild", "xetra"]).output
    assert rows(lake, "xetra") == published

    # Its correction publishes it.
    for stage in ("first", "corrected"):
        lake.exchange.write(lake.feed, stage)  # type: ignore[arg-type]
    publish_news_of_the_other(TUESDAY, WEDNESDAY)
    assert rows(lake, "xetra") == published
    assert lake.run(instance).success
    assert holds(Lake.open()) == []
    assert lake.marts("FROM held_back") == []
    assert len(rows(lake, OTHER)) == 2
    assert content(IN_LAKE) == content(IN_MARTS)
    assert rows(lake, "xetra") != published
    assert differing_marts(settings()) == []
