"""The guessed pattern says of every name the day, the hour and the symbol that it was made of."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.domains.market.guess.names import guess_names, without_date

LAYOUTS = (
    "{symbol}/{symbol}_{day}.csv",
    "{day}/{symbol}.csv.gz",
    "bars_5min/{symbol}-{day}.json",
    "{symbol}.{day}.parquet",
    "eod/{day}_{symbol}.txt",
)
FORMATS = ("%Y-%m-%d", "%Y%m%d", "%Y_%m_%d")
SYMBOLS = st.lists(st.from_regex(r"[A-Z]{1,5}", fullmatch=True), min_size=2, max_size=6, unique=True)
DAYS = st.lists(
    st.dates(date(1990, 1, 1), date(2035, 12, 31)).filter(lambda day: day.day > 12), min_size=2, max_size=6, unique=True
)


@example("bars_5min/{symbol}-{day}.json", "%Y-%m-%d", ["A", "EOD"], [date(2000, 1, 13), date(2000, 1, 14)])
@given(layout=st.sampled_from(LAYOUTS), form=st.sampled_from(FORMATS), symbols=SYMBOLS, days=DAYS)
def test_guess_names__finds_day_and_symbol(layout: str, form: str, symbols: list[str], days: list[date]) -> None:
    written = {
        layout.format(symbol=symbol, day=day.strftime(form)): (symbol, day) for symbol in symbols for day in days
    }
    found = guess_names([*written, "README.md"], needs_symbol=True)
    assert found.others == ("README.md",)
    assert found.holds == "day"
    for name, (symbol, day) in written.items():
        parsed = found.objects.parse_name(name)
        assert parsed is not None
        assert (parsed.values["symbol"], parsed.first_day) == (symbol, day)


def test_guess_names__finds_the_hours_of_objects_that_hold_one() -> None:
    names = [f"2024-03-0{day}/2024-03-0{day}_BINS_XETR{hour:02}.csv" for day in (4, 5) for hour in range(24)]
    found = guess_names(names, needs_symbol=False)
    assert (found.holds, found.has_symbol, found.others) == ("hour", False, ())
    assert {found.objects.parse_name(name).hour for name in names} == set(range(24))


def test_guess_names__takes_later_months_whose_folders_are_not_there_yet() -> None:
    found = guess_names(["v1/2024/03/2024-03-07.csv.gz", "v1/2024/03/2024-03-08.csv.gz"], needs_symbol=False)
    assert found.objects.parse_name("v1/2025/11/2025-11-30.csv.gz").first_day == date(2025, 11, 30)
    assert found.objects.parse_name("v2/2024/03/2024-03-08.csv.gz") is None


@pytest.mark.parametrize(
    ("names", "symbols"),
    [
        (["AAPL_full_1min_UNADJUSTED.txt", "BRK.B_full_1min_UNADJUSTED.txt"], ["AAPL", "BRK.B"]),
        (["us/a.csv"], ["a"]),
        (["XBTUSD_1.csv", "ETHUSD_1.csv"], ["XBTUSD", "ETHUSD"]),
    ],
)
def test_guess_names__finds_the_symbol_of_histories(names: list[str], symbols: list[str]) -> None:
    found = guess_names(names, needs_symbol=True)
    assert found.holds == "history"
    assert [found.objects.parse_name(name).values["symbol"] for name in names] == symbols


def test_without_date__takes_any_day() -> None:
    names = ["A_01.03.2024-31.03.2024.csv", "B_01.03.2024-31.03.2024.csv"]
    found = without_date(names, guess_names(names, needs_symbol=True))
    assert (found.holds, found.others) == ("history", ())
    later = date(2024, 4, 1)
    name = f"C_{later:%d.%m.%Y}-{later + timedelta(days=29):%d.%m.%Y}.csv"
    assert found.objects.parse_name(name).values["symbol"] == "C"
