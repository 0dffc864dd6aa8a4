"""`lakehouse plot`: the chart that a name, two dates and the lake give, and the errors where they give none."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from assets_tests.integration.conftest import FirstLoad
from assets_tests.support.dbt_warehouse import (
    FILES,
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
from assets_tests.support.exchange_lake import FIRST, LAST, SESSIONS
from lakehouse.api import Lake
from lakehouse.catalog import source_named, sources_of
from lakehouse.cli.app import app
from lakehouse.domains.market.bars.chart import price, read_bases, read_chart
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.ingest.load import load

EASTER = ["--from", "2024-03-29", "--to", "2024-04-01"]
RANGE = ["--from", str(FIRST), "--to", str(LAST)]


def plot(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plot", *arguments], env={"COLUMNS": "300"})


def said(*arguments: str) -> str:
    """The error of a command that must end with one, without a traceback."""
    result = plot(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "charts"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def daily(first_load: FirstLoad) -> pl.DataFrame:
    return first_load.lake.rows("xetra/daily_bars").sort("session")


@pytest.fixture
def busiest(daily: pl.DataFrame) -> dict[str, str]:
    """The instrument_id and the symbol of the most traded instrument that has one currency and one symbol."""
    plain = daily.group_by("instrument_id").agg(
        pl.col("currency").n_unique().alias("currencies"),
        pl.col("symbol").n_unique().alias("symbols"),
        pl.col("symbol").first(),
        pl.len().alias("sessions"),
        pl.col("bar_count").sum(),
    )
    plain = plain.filter(currencies=1, symbols=1, sessions=len(SESSIONS)).sort("bar_count", descending=True)
    return plain.select("instrument_id", "symbol").row(0, named=True)


def test_it_explains_itself() -> None:
    text = " ".join(plot("--help").output.split())
    assert "Usage: lakehouse plot [OPTIONS]" in text
    for option in ("--from", "--to", "--source", "--currency", "--output", "--adjusted", "--raw", "--log", "--as-of"):
        assert option in text


@pytest.mark.parametrize("named_by", ["instrument_id", "symbol"])
def test_one_session_shows_its_traded_bars(
    first_load: FirstLoad, busiest: dict[str, str], working_directory: Path, named_by: str
) -> None:
    name, session = busiest[named_by], SESSIONS[1]
    result = plot(name, "--from", str(session), "--to", str(session))
    assert (result.exit_code, result.output) == (0, f"{name}_{session}_{session}.png\n"), result.exception
    (made,) = working_directory.iterdir()
    assert made.name == result.output.strip()
    assert made.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    stored = first_load.lake.rows("xetra/bars").filter(session=session, instrument_id=busiest["instrument_id"])
    chart = read_chart(Lake.open(), sources_of("market"), name, session, session)
    assert chart.bars is not None
    assert chart.bars.equals(stored.filter("is_traded").sort("start_at").select(chart.bars.columns))
    # Frankfurt trades from 9:00 to 17:30, and the auction may take until 17:40.
    assert [hour.isoformat() for hour in chart.hours or ()] == [
        f"{session}T08:00:00+00:00",
        f"{session}T16:40:00+00:00",
    ]


def test_several_sessions_show_daily_bars(daily: pl.DataFrame, busiest: dict[str, str], tmp_path: Path) -> None:
    rows, target = daily.filter(instrument_id=busiest["instrument_id"]), tmp_path / "page.html"
    result = plot(busiest["symbol"].lower(), *RANGE, "--source", "xetra", "--output", str(target))
    assert (result.exit_code, result.output) == (0, f"{target}\n"), result.exception
    page = target.read_text(encoding="utf-8")
    change = (rows["close"][-1] / rows["open"][0] - 1) * 100
    told = [price(rows["open"][0]), price(max(rows["high"])), price(min(rows["low"])), price(rows["close"][-1])]
    for cell in (*told, f"{sum(rows['volume']):,.0f}", f"{change:+.2f}% since the first open"):
        assert f">{cell}</td>" in page
    assert "objects missing for" in page, "one object was late and one damaged"

    chart = read_chart(Lake.open(), sources_of("market"), busiest["symbol"], FIRST, LAST)
    assert chart.daily.equals(rows.select(chart.daily.columns))
    assert list(chart.sessions) == SESSIONS
    # The first of April was a holiday: this is one session, and its change is since the one before.
    chart = read_chart(Lake.open(), sources_of("market"), busiest["symbol"], date(2024, 3, 29), date(2024, 4, 2))
    assert chart.bars is not None
    assert chart.figures["Change"].endswith("since the close of 2024-03-28")


def test_a_symbol_that_changed_names_the_whole_series(daily: pl.DataFrame) -> None:
    changed = daily.group_by("instrument_id", "currency").agg(pl.col("symbol").unique(maintain_order=True))
    identifier, currency, symbols = changed.filter(pl.col("symbol").list.len() > 1).row(0)
    rows = daily.filter(instrument_id=identifier, currency=currency)
    for symbol in symbols:
        chart = read_chart(Lake.open(), sources_of("market"), symbol, FIRST, LAST)
        assert chart.daily["session"].to_list() == rows["session"].to_list()


def test_an_instrument_in_two_currencies_is_two_series(daily: pl.DataFrame) -> None:
    several = daily.group_by("instrument_id").agg(pl.col("currency").unique().sort())
    identifier, currencies = several.filter(pl.col("currency").list.len() > 1).row(0)
    text = said(identifier, *RANGE)
    assert f"'{identifier}' is 2 series" in text
    for currency in currencies:
        rows = daily.filter(instrument_id=identifier, currency=currency)
        assert f"{identifier} ({rows['symbol'][-1]}, " in text
        assert f"--source xetra --currency {currency}" in text
        assert plot(identifier, *RANGE, "--currency", currency, "--output", f"{currency}.png").exit_code == 0
        chart = read_chart(Lake.open(), sources_of("market"), identifier, FIRST, LAST, currency=currency)
        assert chart.title.endswith(f" · {currency}")
        assert chart.daily["close"].to_list() == rows["close"].to_list()
        # Each has a symbol of its own, which is enough to tell them apart.
        chart = read_chart(Lake.open(), sources_of("market"), rows["symbol"][-1], FIRST, LAST)
        assert chart.daily["currency"].unique().to_list() == [currency]


def test_an_instrument_at_two_sources_is_two_series(
    first_load: FirstLoad, daily: pl.DataFrame, busiest: dict[str, str]
) -> None:
    """A second vendor has two of the sessions."""
    symbol, lake = busiest["symbol"], Lake.open()
    rows = daily.filter(pl.col("session") < SESSIONS[2], instrument_id=busiest["instrument_id"])
    rows = rows.with_columns(instrument_id="symbol", volume=pl.lit(7))
    known = first_load.lake.rows("ingest_ledger").head(1).with_columns(source=pl.lit("alpha_vantage"))
    for table, frame in (("alpha_vantage/daily_bars", rows), ("ingest_ledger", known)):
        snapshot = lake.table(table).snapshot()
        schema = snapshot.table.contract.arrow_schema
        snapshot.append(frame.to_arrow().select(schema.names).cast(schema), [table])

    text = said(symbol, *RANGE)
    assert f"'{symbol}' is 2 series" in text
    assert "--source xetra --currency EUR" in text
    assert "--source alpha_vantage --currency EUR" in text
    chart = read_chart(lake, [source_named("alpha_vantage")], symbol, FIRST, LAST)
    assert chart.daily["volume"].to_list() == [7, 7]
    assert read_chart(lake, [source_named("xetra")], symbol, FIRST, LAST).daily["volume"].min() > 7
    # The identifier of one of them, or sessions that only one has, leave no doubt.
    assert read_chart(lake, sources_of("market"), busiest["instrument_id"], FIRST, LAST).source.name == "xetra"
    assert read_chart(lake, sources_of("market"), symbol, SESSIONS[3], LAST).source.name == "xetra"


def test_a_name_that_nothing_has_gets_the_nearest(daily: pl.DataFrame, busiest: dict[str, str]) -> None:
    identifier, symbol = busiest["instrument_id"], busiest["symbol"]
    described = " ".join(daily.filter(instrument_id=identifier)["name"][-1].split())
    for wrong in (f"{symbol}X", identifier[:-1] + "X", described.split()[0].lower()):
        text = said(wrong, *RANGE)
        assert f"there is no instrument '{wrong}' in xetra; near it: " in text
        assert f"{identifier} ({symbol}, {described})" in text
    assert said("#", *RANGE).endswith("there is no instrument '#' in xetra")


def test_errors_are_answers(busiest: dict[str, str], working_directory: Path) -> None:
    symbol = busiest["symbol"]
    other = (
        f"'{symbol}' has no daily bar from 2024-03-29 to 2024-04-01; it has some in EUR at xetra from {FIRST} to {LAST}"
    )
    assert other in said(symbol, *EASTER)
    assert f"'{symbol}' has no daily bar in JPY from" in said(symbol, *RANGE, "--currency", "JPY")
    assert "no source 'nasdaq'; there is" in said(symbol, *RANGE, "--source", "nasdaq")
    assert "'a.pdf' is not a chart format; name a file that ends in .html, .svg or .png" in said(
        symbol, *RANGE, "-o", "a.pdf"
    )
    assert "--to 2024-03-26 is before --from 2024-04-03" in said(symbol, "--from", str(LAST), "--to", str(FIRST))
    assert "/nowhere/a.png" in said(symbol, *RANGE, "-o", "/nowhere/a.png")
    assert "Missing option" in said(symbol, "--from", str(FIRST))
    assert not list(working_directory.iterdir())


@pytest.mark.usefixtures("exchange_lake")
def test_an_empty_lake_says_how_to_fill_it() -> None:
    assert "there are no daily bars in the lake; load some with lakehouse backfill SOURCE" in said("BMW", *RANGE)
    assert "there are no daily bars in xetra; load some" in said("BMW", *RANGE, "--source", "xetra")


def test_as_of_shows_what_was_known_then(first_load: FirstLoad, daily: pl.DataFrame, tmp_path: Path) -> None:
    lake, source, moment = first_load.lake, source_named("xetra"), datetime.now(UTC)
    for stage in ("late", "repaired", "corrected"):
        lake.exchange.write(lake.feed, stage)  # type: ignore[arg-type]
    load(Lake.open(), source.bars, SESSIONS)
    derive_bars(Lake.open(), source, SESSIONS)
    derive_daily_bars(Lake.open(), source, SESSIONS)
    series, shared = ["instrument_id", "currency", "session"], ["volume", "close", "bar_count"]
    news = lake.rows("xetra/daily_bars").join(daily, on=series, suffix="_then")
    row = news.filter(pl.col("volume") != pl.col("volume_then")).sort(series).row(0, named=True)
    name, session = row["instrument_id"], row["session"]

    now = read_chart(Lake.open(), sources_of("market"), name, session, session, currency=row["currency"])
    then = read_chart(Lake.open(as_of=moment), sources_of("market"), name, session, session, currency=row["currency"])
    for column in shared:
        assert now.daily[column].to_list() == [row[column]]
        assert then.daily[column].to_list() == [row[f"{column}_then"]]
    assert then.bars is not None
    assert len(then.bars) == row["bar_count_then"]
    assert then.bars["volume"].sum() == row["volume_then"]

    whole = read_chart(Lake.open(as_of=moment), sources_of("market"), name, FIRST, LAST, currency=row["currency"])
    assert whole.daily.filter(session=session)["volume"].to_list() == [row["volume_then"]]
    assert whole.notes[-1].startswith("as known at")

    target = tmp_path / "then.html"
    days = ["--from", str(session), "--to", str(session)]
    result = plot(name, *days, "--currency", row["currency"], "--as-of", moment.isoformat(), "-o", str(target))
    assert result.exit_code == 0, result.output
    page = target.read_text(encoding="utf-8")
    assert f"as known at {moment:%Y-%m-%d %H:%M:%S} UTC" in page
    assert f">{row['volume_then']:,.0f}</td>" in page


def test_adjusted_prices_are_on_the_basis_that_is_named_and_others_are_not_called_adjusted() -> None:
    """A source without corporate actions has its prices as they came."""
    closes = {TUESDAY: 40.0, WEDNESDAY: 44.0, THURSDAY: 11.0}
    bars = {Key("S", day, "USD"): Bar(close, "S") for day, close in closes.items()}
    for source in (VENDOR, FILES):
        write(bars, source)
    write_actions([Action("S", THURSDAY, "split", 4)])
    found = read_chart(Lake.open(), [source_named(VENDOR)], "S", TUESDAY, THURSDAY, adjusted=True)
    assert found.daily["close"].to_list() == [10, 11, 11]
    assert found.daily["volume"].to_list() == [400, 400, 100]
    assert found.notes[1].startswith("adjusted for splits and dividends (crsp) as of ")
    plain = read_chart(Lake.open(), [source_named(VENDOR)], "S", TUESDAY, THURSDAY)
    assert [chart.daily["close"].to_list() for chart in read_bases(Lake.open(), plain)] == [[40, 44, 11], [10, 11, 11]]
    assert [chart.daily["close"].to_list() for chart in read_bases(Lake.open(), found)] == [[10, 11, 11], [40, 44, 11]]
    assert plain.daily["close"].to_list() == [40, 44, 11]
    assert plain.notes[1:] == ["prices as traded", "split 4:1 on 2024-01-04"]
    files = read_chart(Lake.open(), [source_named(FILES)], "S", TUESDAY, THURSDAY)
    assert len(read_bases(Lake.open(), files)) == 1, "without corporate actions there is one basis"
    unknown = read_chart(Lake.open(), [source_named(FILES)], "S", TUESDAY, THURSDAY, adjusted=True)
    assert unknown.daily["close"].to_list() == [40, 44, 11]
    assert unknown.notes[1:] == ["prices as they came: no corporate action of xetra is known"]
    relation = Lake.open().daily_bars(FILES, adjusted="splits")
    assert set(relation.pl()["adjustment"]) == {"none"}
