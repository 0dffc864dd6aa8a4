"""What a source has follows from what its YAML says: bars, a daily series, or both."""

from __future__ import annotations

import re
from datetime import date, time
from typing import Any

import polars as pl
import pytest
import yaml
from pydantic import ValidationError

from assets_tests.support.described import changed, resolved
from lakehouse.api import Lake
from lakehouse.catalog import source_named, sources
from lakehouse.domains.market.bars.chart import ChartError, read_chart
from lakehouse.domains.market.bars.config import Calendar, SourceConfig
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.errors import SourceError
from lakehouse.ingest.coerce import typed

READINGS = {
    ("alpha_vantage", "bars"): "00edf9a83cb2",
    ("alpha_vantage", "official_daily"): "ac42c6c6df35",
    ("binance", "bars"): "9d6ae42eb579",
    ("xetra", "bars"): "f38cf1e4e322",
}
"""Of the contracts with volumes that may be fractional: another one would have every object read again."""
LINE = {
    "Date": "1983-12-30",
    "Open": "44.0",
    "High": "44.5",
    "Low": "43.5",
    "Close": "44.0",
    "Volume": "47000.0",
    "Ex-Dividend": "0.0",
    "Split Ratio": "1.0",
    "Adj. Close": "3.0743269311336",
    "named:ticker": "jpm",
}


def described(source: str, **entries: Any) -> SourceConfig:
    """A source's YAML with other entries, validated again."""
    return SourceConfig.model_validate(source_named(source).config.model_dump(exclude_unset=True) | entries)


def with_daily(**entries: Any) -> BarSource:
    """Wiki with other entries of its daily series."""
    config = source_named("wiki").config
    daily = config.model_dump(exclude_unset=True)["official_daily"]
    return resolved(described("wiki", official_daily=daily | entries))


def test_a_source_with_a_daily_series_alone_has_the_tables_and_checks_of_that_one() -> None:
    source = source_named("wiki")
    assert [dataset.name for dataset in source.datasets] == ["official_daily"]
    assert [table.name for table in source.tables] == ["official_daily", "corporate_actions"]
    assert set(source.contracts) == {"raw_daily", "official_daily", "corporate_actions", "symbols"}
    assert {check.table for check in source.checks} == set(source.contracts) - set(source.views)
    assert list(source.macros) == ["adjusted_official_daily"]
    assert source.facts("official_daily") == {}
    assert not source.has_bars


def test_bars_of_a_source_without_them_are_an_error_that_says_so() -> None:
    source = source_named("wiki")
    with pytest.raises(SourceError, match="wiki has no bars, only official_daily"):
        _ = source.bars
    day = source.calendar.sessions[0]
    with pytest.raises(ChartError, match="wiki has no bars to draw"):
        read_chart(Lake.open(), [source], "JPM", day, day)
    with pytest.raises(ChartError, match="there are no daily bars in xetra"):
        read_chart(Lake.open(), [source, source_named("xetra")], "JPM", day, day)


@pytest.mark.parametrize(
    "said",
    [
        "{code: 24/7, day_starts: 17:00}",
        "{code: 24/7, day_starts: '17:00Z'}",
        "{code: 24/7, day_starts: '09:00:30'}",
        "{code: XBOM, also: [{session: 2024-11-01, opens: 18:00, closes: 19:00}]}",
    ],
)
def test_times_of_day_are_read_as_they_are_written_or_refused(said: str) -> None:
    """YAML takes 17:00 without quotes for 1020, which would be seventeen minutes after midnight."""
    with pytest.raises(
        ValidationError, match='is not a time of day; write hours and minutes in quotes, such as "17:00"'
    ):
        Calendar.model_validate(yaml.safe_load(said))
    quoted = re.sub("'?([0-9]{2}:[0-9]{2})[Z:30]*'?", r"'\1'", said)
    calendar = Calendar.model_validate(yaml.safe_load(quoted))
    assert calendar.day_starts or calendar.sessions_added == {date(2024, 11, 1): (time(18), time(19))}


def test_a_source_without_a_daily_series_keeps_its_bars() -> None:
    source = changed(source_named("alpha_vantage"), official_daily=None)
    assert [table.name for table in source.tables] == ["bars", "daily_bars"]
    assert source.has_bars


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"official_daily": None}, "describe `bars`, `official_daily` or both"),
        ({"updates": {"after_close": "20:30"}}, "updates needs `bars`"),
        ({"report": {"key": "r_{session}", "columns": {"a": "close"}}}, "report needs `bars`"),
        (
            {"reconciliation": {"against": "xetra.daily_bars", "volume_min": 0.5, "volume_max": 2.0}},
            "reconciliation needs `bars`",
        ),
    ],
)
def test_entries_that_need_bars_are_refused_without_them(entries: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        described("wiki", **entries)


@pytest.mark.parametrize("column", ["close", "name", "instrument"])
def test_upper_takes_texts_that_the_source_gives(column: str) -> None:
    with pytest.raises(ValidationError, match=f"upper: {column}"):
        with_daily(upper=[column])


def test_a_line_becomes_a_row_with_the_tickers_letters_in_upper_case() -> None:
    source = source_named("wiki")
    dataset = source.official_daily
    assert dataset is not None
    (row,) = typed(pl.DataFrame([LINE]), dataset).to_dicts()
    assert (row["instrument_id"], row["symbol"], row["currency"]) == ("JPM", "JPM", "USD")
    assert (row["volume"], row["dividend_amount"], row["split_coefficient"]) == (47000, 0.0, 1.0)
    (broken,) = typed(pl.DataFrame([LINE | {"Volume": "47000.5"}]), dataset).to_dicts()
    assert broken["volume"] == 47000.5
    assert dataset.parse_name("brk_b.csv.gz").values == {"ticker": "brk_b"}  # type: ignore[union-attr]
    assert dataset.parse_name("LICENSE.upstream") is None


def test_the_readings_of_the_sources_stay_and_take_in_upper() -> None:
    found = {(source.name, each.name): each.reading for source in sources().values() for each in source.datasets}
    assert {key: found[key] for key in READINGS} == READINGS
    as_written = with_daily(upper=[]).official_daily
    assert as_written is not None
    assert as_written.reading != found["wiki", "official_daily"]
    assert with_daily().official_daily.reading == found["wiki", "official_daily"]  # type: ignore[union-attr]


def test_prices_without_a_currency_are_in_the_venues() -> None:
    config = source_named("alpha_vantage").config.model_dump(exclude_unset=True)
    bars = {name: entry for name, entry in config["bars"].items() if name != "constants"}
    found = SourceConfig.model_validate(config | {"bars": bars})
    assert found.bars is not None
    assert found.bars.constants == {"currency": "USD"}
    in_euros = {**bars, "constants": {"currency": "EUR"}}
    assert SourceConfig.model_validate(config | {"bars": in_euros}).bars.constants == {"currency": "EUR"}
