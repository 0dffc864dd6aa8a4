"""A crypto exchange's daily zip files through the whole job, held against what plain Python reads from the files: a
vendor that is a YAML file and nothing else.
"""

from __future__ import annotations

import csv
import io
import os
import zipfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import polars as pl
import pytest

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.integration.conftest import FirstLoad, Kept
from assets_tests.support.crypto_files import CryptoExchange
from assets_tests.support.exchange_lake import ExchangeLake, code_location, failed_checks, materialized
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.components.resources import lake_resources
from lakehouse.components.sources.run_tags import RANGE_END_TAG, RANGE_START_TAG
from lakehouse.derive.rebuild import rebuild
from lakehouse.settings import settings

JOB = "binance_update"
# A weekend, the new year with its other unit of time, and the first files with a header.
DAYS = [date(2024, 12, 28) + timedelta(days=number) for number in range(6)]
FIRST, LAST = DAYS[0], DAYS[-1]
MISSING = date(2024, 12, 30)
LOADED = [day for day in DAYS if day != MISSING]
CURRENCIES = {"BTCUSDT": "USDT", "ETHUSDT": "USDT", "BTCEUR": "EUR"}
DAMAGED = ("BTCEUR", date(2024, 12, 29))
ROOT = "data/spot/daily/klines"
MISPLACED = f"{ROOT}/ETHUSDT/1m/BTCUSDT-1m-2024-12-28.zip"
"""Of another pair than its folder."""


class Kline(NamedTuple):
    """A line of a file."""

    start_at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    trades: int


def exchange() -> CryptoExchange:
    return CryptoExchange(tuple(CURRENCIES), days=DAYS, seed=6, header_from=LAST)


def place_of(symbol: str, day: date) -> str:
    return f"{ROOT}/{symbol}/1m/{symbol}-1m-{day}.zip"


def publish(feed: Path, *days: date) -> None:
    """Publishes the files of these days."""
    for item in exchange().objects():
        if item.name[-14:-4] in map(str, days):
            write(feed / item.name, item.body, item.published_at)


def write(path: Path, body: bytes, moment: datetime) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    os.utime(path, (moment.timestamp(),) * 2)


def zipped(name: str, lines: list[str]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(name, "\n".join(lines))
    return archive.getvalue()


def told(feed: Path, *without: tuple[str, date]) -> dict[tuple[str, date], list[Kline]]:
    """What the files say, by symbol and day, read by Python's own modules."""
    found = {}
    for path in sorted((feed / ROOT).glob("*/1m/*.zip")):
        symbol, _, day = path.stem.partition("-1m-")
        about = (symbol, date.fromisoformat(day))
        if about not in without and path == feed / place_of(*about):
            with zipfile.ZipFile(path) as archive:
                text = archive.read(archive.namelist()[0]).decode()
            rows = [row for row in csv.reader(io.StringIO(text)) if row[0] != "open_time"]
            found[about] = [_kline(row) for row in rows]
    return found


def _kline(row: list[str]) -> Kline:
    assert len(row[0]) in (13, 16)
    seconds, rest = divmod(int(row[0]), 10 ** (len(row[0]) - 10))
    assert rest == 0
    amounts = [Decimal(row[place]) for place in (1, 2, 3, 4, 5, 7)]
    return Kline(datetime.fromtimestamp(seconds, UTC), *amounts, int(row[8]))


def daily_of(files: dict[tuple[str, date], list[Kline]]) -> dict[tuple[str, date], dict[str, object]]:
    """The daily bars that files amount to, but for the turnover."""
    found: dict[tuple[str, date], dict[str, object]] = {}
    previous: dict[str, tuple[date, float]] = {}
    for (symbol, day), lines in sorted(files.items()):
        traded = [line for line in lines if line.volume]
        close = float(traded[-1].close)
        prev_session, prev_close = previous.get(symbol, (None, None))
        found[symbol, day] = {
            "instrument_id": symbol,
            "symbol": symbol,
            "currency": CURRENCIES[symbol],
            "session": day,
            "open": float(traded[0].open),
            "high": float(max(line.high for line in traded)),
            "low": float(min(line.low for line in traded)),
            "close": close,
            "volume": pytest.approx(float(sum(line.volume for line in traded)), rel=1e-12),
            "trades": sum(line.trades for line in traded),
            "bar_count": len(traded),
            "first_bar_at": traded[0].start_at,
            "last_bar_at": traded[-1].start_at,
            "vwap": None,
            "prev_session": prev_session,
            "prev_close": prev_close,
            "change_pct": None if prev_close is None else pytest.approx((close / prev_close - 1) * 100, rel=1e-9),
        }
        previous[symbol] = (day, close)
    return found


def assert_holds(lake: ExchangeLake, *without: tuple[str, date], published: bool = True) -> None:
    """Bars, daily bars and the `published` marts are what the files say, those `without` left out."""
    files = told(lake.feed, *without)
    bars = lake.rows("binance/bars").sort("instrument_id", "start_at")
    wanted = [
        (
            *(symbol, symbol, CURRENCIES[symbol], day, "regular", line.start_at, line.start_at + timedelta(minutes=1)),
            *(float(price) for price in (line.open, line.high, line.low, line.close)),
            *(float(line.volume), line.trades, line.volume > 0),
        )
        for (symbol, day), lines in files.items()
        for line in lines
    ]
    columns = ["instrument_id", "symbol", "currency", "session", "segment", "start_at", "end_at"]
    columns += ["open", "high", "low", "close", "volume", "trades", "is_traded"]
    assert bars.select(columns).rows() == wanted

    daily = daily_of(files)
    stored = {(row["instrument_id"], row["session"]): row for row in lake.rows("binance/daily_bars").to_dicts()}
    assert {about: {name: row[name] for name in daily[about]} for about, row in stored.items()} == daily
    for about, lines in files.items():
        turnover = float(sum(line.close * line.volume for line in lines))
        assert stored[about]["turnover"] == pytest.approx(turnover, rel=1e-12)
        # In the quote currency: the bars' closes instead of each trade's price make but a little difference.
        assert turnover == pytest.approx(float(sum(line.quote_volume for line in lines)), rel=1e-3)

    if not published:
        return
    names = ["mic", "instrument_id", "currency", "session", "close", "volume", "prev_close"]
    facts = lake.marts(f"SELECT {', '.join(names)} FROM fct_daily_bar WHERE source = 'binance' ORDER BY 2, 4")
    assert facts == [("XXXX", *(row[name] for name in names[1:])) for row in daily.values()]


def offered(instance: dg.DagsterInstance) -> list[tuple[str, str]]:
    """The stretches of sessions that the source's sensor asks for."""
    with dg.build_sensor_context(instance=instance, resources=lake_resources()) as context:
        tick = code_location().resolve_sensor_def("binance_objects").evaluate_tick(context)
    return [(request.tags[RANGE_START_TAG], request.tags[RANGE_END_TAG]) for request in tick.run_requests or ()]


@pytest.fixture(scope="module")
def kept_klines(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("klines"))


@pytest.fixture
def klines(exchange_lake: ExchangeLake, monkeypatch: pytest.MonkeyPatch) -> ExchangeLake:
    """An empty lake beside the crypto exchange's bucket."""
    monkeypatch.setenv("LAKEHOUSE_BINANCE_URL", str(exchange_lake.feed))
    settings.cache_clear()
    return exchange_lake


@pytest.fixture
def loaded(kept_klines: Kept, klines: ExchangeLake) -> FirstLoad:
    """The lake after one run: a day is missing, and one zip is cut."""
    if kept_klines.first is None:
        publish(klines.feed, *LOADED)
        cut = klines.feed / place_of(*DAMAGED)
        cut.write_bytes(cut.read_bytes()[:-1000])
        # What else lies in such a bucket.
        (cut.parent / f"{cut.name}.CHECKSUM").write_text("0f3a  a digest\n")
        for other in (f"{ROOT}/BTCUSDT/1h/BTCUSDT-1h-2024-12-28.zip", MISPLACED):
            write(klines.feed / other, b"another product", datetime(2024, 12, 29, 2, tzinfo=UTC))
        with dg.DagsterInstance.ephemeral() as made:
            kept_klines.first = klines.run(made, FIRST, LAST, job=JOB)
        klines.save(kept_klines.folder / "first")
    klines.restore(kept_klines.folder / "first")
    return FirstLoad(klines, kept_klines.first)


def test_bars_daily_bars_and_marts_are_what_the_files_say(loaded: FirstLoad) -> None:
    lake, result = loaded

    assert result.success
    assert_holds(lake, DAMAGED)
    assert lake.rows("quarantine").is_empty()
    reported = materialized(result)
    for table in ("raw_bars", "bars", "daily_bars"):
        assert reported[f"binance/{table}"] == [str(day) for day in DAYS]


def test_the_simulators_own_truth_is_stored(loaded: FirstLoad) -> None:
    truth = exchange().truth().filter(pl.col("day") != MISSING).sort("symbol", "start_at")
    truth = truth.filter((pl.col("symbol") != DAMAGED[0]) | (pl.col("day") != DAMAGED[1]))
    bars = loaded.lake.rows("binance/bars").sort("symbol", "start_at")
    assert bars.height == 14 * 1440
    for name in ("symbol", "start_at", "end_at", "open", "high", "low", "close", "trades"):
        assert bars[name].to_list() == truth[name].to_list(), name
    # The simulator trades whole 1/100,000 coins.
    assert bars["volume"].to_list() == truth["volume"].to_list()


def test_every_day_is_a_session(loaded: FirstLoad) -> None:
    sessions = loaded.lake.rows("binance/bars").group_by("session").agg(pl.col("segment").unique()).sort("session")
    assert sessions.rows() == [(day, ["regular"]) for day in LOADED]
    assert {day.isoweekday() for day in LOADED} >= {6, 7}
    assert date(2025, 1, 1) in LOADED
    marts = loaded.lake.marts(
        f"""SELECT session, open_at, close_at - open_at, previous_session, next_session FROM dim_session
            WHERE mic = 'XXXX' AND session BETWEEN '{FIRST}' AND '{LAST}' ORDER BY session"""
    )
    day = timedelta(days=1)
    midnights = [datetime(one.year, one.month, one.day, tzinfo=UTC) for one in DAYS]
    assert marts == [(one, start, day, one - day, one + day) for one, start in zip(DAYS, midnights, strict=True)]


def test_symbol_and_currency_come_from_the_objects_names(loaded: FirstLoad) -> None:
    marts = loaded.lake.marts("SELECT instrument_id, symbol, currency, name FROM dim_instrument ORDER BY 1")
    assert marts == [(symbol, symbol, currency, None) for symbol, currency in sorted(CURRENCIES.items())]
    venue = loaded.lake.marts("SELECT mic, name, time_zone, currency FROM dim_venue WHERE name = 'Binance'")
    assert venue == [("XXXX", "Binance", "UTC", "USDT")]


def test_the_missing_day_and_the_damaged_zip_are_named_and_the_others_land(loaded: FirstLoad) -> None:
    lake, result = loaded
    damaged = place_of(*DAMAGED)

    found = {found.check_name: found for found in result.get_asset_check_evaluations() if not found.passed}
    checks = ("objects_known", "objects_readable", "session_complete")
    assert set(failed_checks(result)) == {f"binance/raw_bars {check}" for check in checks}
    # Checksums and other intervals are ignored by the YAML; a file in the wrong folder is not.
    assert found["objects_known"].description == f"1 object matches no pattern: {MISPLACED}"
    assert f"{damaged} is a cut or damaged zip file" in str(found["objects_readable"].metadata["rows"].value)
    lines = str(found["session_complete"].metadata["rows"].value).splitlines()[2:]
    assert lines == [f"| {DAMAGED[1]} | {damaged} |", f"| {MISSING} | {MISSING} |"]
    ledger = lake.rows("ingest_ledger")
    assert dict(ledger.group_by("status").len().rows()) == {"loaded": 14, "failed": 1}
    assert ledger.filter(pl.col("status") == "failed")["object"].to_list() == [damaged]
    daily = lake.rows("binance/daily_bars")
    assert {(day, whole) for day, whole in daily.select("session", "is_complete").rows()} == {
        (day, day != DAMAGED[1]) for day in LOADED
    }


def test_the_late_day_and_the_mended_zip_are_offered_and_taken_in(
    loaded: FirstLoad, instance: dg.DagsterInstance
) -> None:
    lake = loaded.lake
    assert offered(instance) == []
    publish(lake.feed, DAMAGED[1], MISSING)
    assert offered(instance) == [(str(DAMAGED[1]), str(MISSING))]
    result = lake.run(instance, DAMAGED[1], MISSING, job=JOB, marts=False)

    assert result.success
    assert failed_checks(result).keys() == {"binance/raw_bars objects_known"}
    assert_holds(lake, published=False)
    assert lake.rows("binance/daily_bars")["is_complete"].all()
    # The sessions of the run, and the next one, whose previous close is another.
    following = MISSING + timedelta(days=1)
    assert set(materialized(result)["binance/daily_bars"]) == {str(DAMAGED[1]), str(MISSING), str(following)}
    assert not rebuild(Lake.open(), source_named("binance"), verify=True).differs


def test_a_corrected_zip_replaces_its_day(loaded: FirstLoad, instance: dg.DagsterInstance) -> None:
    """The new file has three lines: all other bars of the pair's day are withdrawn."""
    lake, day = loaded.lake, date(2024, 12, 31)
    midnight = int(datetime(2024, 12, 31, tzinfo=UTC).timestamp()) * 1000
    amounts = ["0.00000003,{},0.00002998,1", "0.00000000,{},0.00000000,0", "1234.56789012,{},3734567.12345678,77"]
    prices = ["3000.10,3000.20,2999.90,3000.15", "9.99,9.99,9.99,9.99", "3001.00,3025.50,2987.65,3025.25"]
    opened = [midnight, midnight + 60_000, midnight + 1439 * 60_000]
    lines = [
        f"{start},{price},{amount.format(start + 59_999)},0,0,0"
        for start, price, amount in zip(opened, prices, amounts, strict=True)
    ]
    body = zipped(f"ETHUSDT-1m-{day}.csv", lines)
    write(lake.feed / place_of("ETHUSDT", day), body, datetime(2025, 2, 1, tzinfo=UTC))
    assert offered(instance) == [(str(day), str(day))]
    result = lake.run(instance, day, day, job=JOB)

    assert result.success
    assert_holds(lake, DAMAGED)
    columns = ("open", "high", "low", "close", "volume", "trades", "bar_count")
    row = lake.marts(
        f"SELECT {', '.join(columns)} FROM fct_daily_bar WHERE instrument_id = 'ETHUSDT' AND session = '{day}'"
    )
    assert row == [(3000.1, 3025.5, 2987.65, 3025.25, pytest.approx(1234.56789015, rel=1e-15), 78, 2)]
    counts = Lake.open().sql(
        f"SELECT received, kept, duplicates, superseded, quarantined FROM lake.conservation WHERE session = '{day}'"
    )
    assert counts.fetchall() == [(3 * 1440 + 3, 2 * 1440 + 3, 0, 1440, 0)]
    assert set(materialized(result)["binance/daily_bars"]) == {str(day), str(day + timedelta(days=1))}
    assert not rebuild(Lake.open(), source_named("binance"), verify=True).differs


def test_the_sensor_offers_each_stretch_of_days(klines: ExchangeLake, instance: dg.DagsterInstance) -> None:
    assert offered(instance) == []
    publish(klines.feed, *LOADED)
    assert offered(instance) == [(str(FIRST), "2024-12-29"), ("2024-12-31", str(LAST))]


def test_nothing_but_the_yaml_is_the_vendors() -> None:
    package = PROJECT_ROOT / "lakehouse"
    modules = [path for path in package.rglob("*.py") if "simulators" not in path.relative_to(package).parts]
    assert len(modules) > 50
    assert [path.name for path in modules if "binance" in path.read_text().lower()] == []
    models = [*(PROJECT_ROOT / "dbt_project").rglob("*.sql"), *(PROJECT_ROOT / "dbt_project").rglob("*.yml")]
    assert len(models) > 10
    assert [path.name for path in models if "binance" in path.read_text().lower()] == []
