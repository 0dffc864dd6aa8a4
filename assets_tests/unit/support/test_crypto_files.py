"""The simulated crypto exchange: its files, read by plain readers, against its own numbers."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from assets_tests.support.crypto_files import HEADER, CryptoExchange

# The last day in milliseconds, the first in microseconds, and the leap day before.
DAYS = [date(2024, 2, 29), date(2024, 12, 31), date(2025, 1, 1)]
AMOUNT = re.compile(r"(0|[1-9]\d*)\.\d{8}")
COLUMNS = HEADER.split(",")


@pytest.fixture(scope="module")
def exchange() -> CryptoExchange:
    return CryptoExchange(days=DAYS, seed=4)


def rows_of(body: bytes) -> tuple[str, list[list[str]]]:
    """The name of the one file in the archive, and its fields."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        [name] = archive.namelist()
        text = archive.read(name).decode()
    assert text.endswith("\n")
    return name, list(csv.reader(io.StringIO(text)))


def test_files_have_the_vendors_names_and_columns(exchange: CryptoExchange, tmp_path: Path) -> None:
    paths = exchange.write(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in paths} == {
        f"data/spot/daily/klines/{symbol}/1m/{symbol}-1m-{day}.zip"
        for symbol in ("BTCUSDT", "ETHUSDT", "BTCEUR")
        for day in ("2024-02-29", "2024-12-31", "2025-01-01")
    }
    for path in paths:
        name, rows = rows_of(path.read_bytes())
        assert name == f"{path.stem}.csv"
        assert len(rows) == 1440
        assert {len(row) for row in rows} == {12}
        assert all(AMOUNT.fullmatch(row[place]) for row in rows for place in (1, 2, 3, 4, 5, 7, 9, 10))
        assert {row[11] for row in rows} == {"0"}
        published = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        assert published.date() == date.fromisoformat(path.stem[-10:]) + timedelta(days=1)


@pytest.mark.parametrize(("day", "digits", "units"), zip(DAYS, (13, 13, 16), (1000, 1000, 1_000_000), strict=True))
def test_times_are_milliseconds_before_2025_and_microseconds_from_then_on(
    exchange: CryptoExchange, day: date, digits: int, units: int
) -> None:
    body = next(item.body for item in exchange.objects() if str(day) in item.name)
    rows = rows_of(body)[1]
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    assert [int(row[0]) for row in rows] == [(midnight + 60 * minute) * units for minute in range(1440)]
    assert all(int(row[6]) == int(row[0]) + 60 * units - 1 for row in rows)
    assert {len(row[0]) for row in rows} == {digits}


def test_every_line_is_sound(exchange: CryptoExchange) -> None:
    untraded = 0
    last_close: dict[str, str] = {}
    for item in exchange.objects():
        symbol = item.name.split("/")[4]
        for row in rows_of(item.body)[1]:
            opens, high, low, close, volume, quote, taken, taken_quote = (
                Decimal(row[place]) for place in (1, 2, 3, 4, 5, 7, 9, 10)
            )
            assert 0 < low <= min(opens, close) <= max(opens, close) <= high
            assert low * volume <= quote <= high * volume
            assert 0 <= taken <= volume
            assert low * taken <= taken_quote <= high * taken
            assert (volume == 0) == (int(row[8]) == 0)
            if volume == 0:
                untraded += 1
                assert len({row[1], row[2], row[3], row[4], last_close.get(symbol, row[1])}) == 1
            last_close[symbol] = row[4]
    assert 100 < untraded < 1000


def test_the_truth_is_what_the_files_say(exchange: CryptoExchange) -> None:
    truth = {(row["symbol"], row["start_at"]): row for row in exchange.truth().iter_rows(named=True)}
    names = dict(zip(COLUMNS, COLUMNS, strict=True)) | {"count": "trades"}
    seen = 0
    for item in exchange.objects():
        name, rows = rows_of(item.body)
        for fields in rows:
            row = dict(zip(COLUMNS, fields, strict=True))
            start_at = datetime.fromtimestamp(int(row["open_time"]) // (10 ** (len(row["open_time"]) - 10)), UTC)
            told = truth[name.split("-")[0], start_at]
            assert all(float(row[column]) == told[names[column]] for column in COLUMNS[1:6] + COLUMNS[7:11])
            assert (told["day"], told["end_at"]) == (start_at.date(), start_at + timedelta(minutes=1))
            seen += 1
    assert seen == len(truth) == 3 * 3 * 1440


def test_a_header_comes_from_the_day_that_is_named() -> None:
    days = [date(2024, 12, 30), date(2024, 12, 31), date(2025, 1, 1)]
    plain, headed = (
        [rows_of(item.body)[1] for item in CryptoExchange(("ETHUSDT",), days=days, header_from=first).objects()]
        for first in (None, days[1])
    )
    assert headed == [plain[0], [COLUMNS, *plain[1]], [COLUMNS, *plain[2]]]


def test_the_same_seed_gives_the_same_bytes() -> None:
    feeds = [tuple(CryptoExchange(days=DAYS, seed=seed).objects()) for seed in (3, 3, 4)]
    assert feeds[0] == feeds[1]
    assert all(one.body != other.body for one, other in zip(feeds[0], feeds[2], strict=True))


def test_a_feed_that_grows_tells_its_first_days_as_before() -> None:
    grown = {item.name: item for item in CryptoExchange(days=DAYS).objects()}
    young = list(CryptoExchange(("BTCEUR",), days=DAYS[:2]).objects())
    assert [grown[item.name] for item in young] == young


def test_an_impossible_feed_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a symbol and a day"):
        CryptoExchange(days=[])
    with pytest.raises(ValueError, match="out of order"):
        CryptoExchange(days=DAYS[::-1])
