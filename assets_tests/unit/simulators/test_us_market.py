"""The invented US market: its bars, official series and corporate actions, read by plain readers."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from math import isclose, prod
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.simulators.us_market import UsMarket

NEW_YORK = ZoneInfo("America/New_York")
LATER = datetime(2021, 1, 15, tzinfo=UTC)
MONTHS = ("2020-10", "2020-11", "2020-12")
HALF_DAY = date(2020, 11, 27)
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:00(,\d+\.\d{4}){4},\d+")
DAILY_LINE = re.compile(r"\d{4}-\d\d-\d\d(,\d+\.\d{4}){4},[\d.]+,\d+,\d+\.\d{4},\d+\.\d+")


def session(day: date, opens: str, closes: str) -> tuple[date, datetime, datetime]:
    return (day, *(datetime.combine(day, time.fromisoformat(clock), UTC) for clock in (opens, closes)))  # type: ignore[return-value]


# Both sides of the end of daylight saving on 2020-11-01, and a half-day, written down rather than computed.
SESSIONS = [
    session(date(2020, 10, 29), "13:30", "20:00"),
    session(date(2020, 10, 30), "13:30", "20:00"),
    session(date(2020, 11, 2), "14:30", "21:00"),
    session(date(2020, 11, 25), "14:30", "21:00"),
    session(HALF_DAY, "14:30", "18:00"),
    session(date(2020, 11, 30), "14:30", "21:00"),
    session(date(2020, 12, 1), "14:30", "21:00"),
]
WEEKDAYS = [day for day in (date(2020, 7, 1) + timedelta(days=n) for n in range(120)) if day.weekday() < 5]
EARLIER = [day for day in WEEKDAYS if day < SESSIONS[0][0]]


def market(seed: int = 5, symbols: int = 6) -> UsMarket:
    return UsMarket(SESSIONS, seed=seed, symbols=symbols, earlier_sessions=EARLIER)


@pytest.fixture(scope="module")
def untouched() -> UsMarket:
    return market()


def bars_of(
    vendor: UsMarket, symbol: str, adjusted: bool = False, extended: bool = True, now: datetime = LATER
) -> dict[datetime, list[float]]:
    """Open, high, low, close and volume by the label in New York's time, as a plain reader finds them."""
    found: dict[datetime, list[float]] = {}
    for month in MONTHS:
        lines = vendor.intraday(symbol, month, adjusted, extended, now)
        assert lines is not None
        assert all(LINE.fullmatch(line) for line in lines[1:])
        rows = list(csv.DictReader(lines))
        labels = [datetime.fromisoformat(row["timestamp"]) for row in rows]
        assert labels == sorted(set(labels), reverse=True)
        assert all(f"{label:%Y-%m}" == month for label in labels)
        values = [[float(row[name]) for name in ("open", "high", "low", "close", "volume")] for row in rows]
        found |= dict(zip(labels, values, strict=True))
    return dict(sorted(found.items()))


def daily_of(vendor: UsMarket, symbol: str, now: datetime = LATER) -> dict[date, dict[str, float]]:
    """The official rows by date, oldest first."""
    lines = vendor.daily(symbol, now)
    assert lines is not None
    assert all(DAILY_LINE.fullmatch(line) for line in lines[1:])
    rows = {date.fromisoformat(row.pop("timestamp")): row for row in csv.DictReader(lines)}
    assert list(rows) == sorted(rows, reverse=True)
    return {day: {name: float(value) for name, value in rows[day].items()} for day in sorted(rows)}


def regular(bars: dict[datetime, list[float]], day: date, end: time = time(16)) -> dict[time, list[float]]:
    return {at.time(): bar for at, bar in bars.items() if at.date() == day and time(9, 30) <= at.time() < end}


def test_the_unadjusted_answers_are_the_truth(untouched: UsMarket) -> None:
    told = {}
    for symbol in untouched.symbols:
        for label, values in bars_of(untouched, symbol).items():
            told[symbol, label.replace(tzinfo=NEW_YORK).astimezone(UTC)] = values
    truth = {
        (row["symbol"], row["start_at"]): [row[name] for name in ("open", "high", "low", "close", "volume")]
        for row in untouched.truth_bars().iter_rows(named=True)
    }
    assert told == truth
    assert all(
        row["end_at"] - row["start_at"] == timedelta(minutes=1) for row in untouched.truth_bars().iter_rows(named=True)
    )


@pytest.mark.parametrize(("day", "first_start"), [(date(2020, 10, 30), 13), (date(2020, 11, 2), 14)])
def test_wall_clocks_follow_the_end_of_daylight_saving(untouched: UsMarket, day: date, first_start: int) -> None:
    labels = [label for label in bars_of(untouched, untouched.symbols[0]) if label.date() == day]
    assert len([label for label in labels if time(9, 30) <= label.time() < time(16)]) > 385
    assert min(labels).time() < time(9, 0)
    assert time(4, 1) <= min(labels).time()
    assert time(19, 0) < max(labels).time() <= time(20)
    rows = untouched.truth_bars().filter(symbol=untouched.symbols[0], session=day, segment="regular")
    assert rows["start_at"][0] == datetime(day.year, day.month, day.day, first_start, 30, tzinfo=UTC)


def test_a_half_day_ends_early_and_has_flat_bars_without_volume(untouched: UsMarket) -> None:
    liquid, illiquid = untouched.symbols[:2]
    inside = [at.time() for at in bars_of(untouched, liquid, extended=False) if at.date() == HALF_DAY]
    assert 205 <= len(inside) <= 210
    assert (min(inside), max(inside)) == (time(9, 30), time(12, 59))
    bars = {at.time(): bar for at, bar in bars_of(untouched, illiquid).items() if at.date() == HALF_DAY}
    flat = {at: bar for at, bar in bars.items() if bar[4] == 0}
    assert sorted(flat) == [time(13, 10), time(15, 30)]
    last_regular = next(bar for at, bar in reversed(bars.items()) if at < time(13))
    assert all(bar[:4] == [last_regular[3]] * 4 for bar in flat.values())
    assert not [bar for at, bar in bars_of(untouched, illiquid).items() if bar[4] == 0 and at.date() != HALF_DAY]


def test_illiquid_symbols_miss_minutes(untouched: UsMarket) -> None:
    counts = [len(regular(bars_of(untouched, symbol), date(2020, 11, 25))) for symbol in untouched.symbols]
    assert min(counts[::2]) > 380
    assert max(counts[1::2]) < 370


def test_extended_hours_can_be_left_out(untouched: UsMarket) -> None:
    every, inside = (bars_of(untouched, untouched.symbols[0], extended=extended) for extended in (True, False))
    days = {day: time(13) if day == HALF_DAY else time(16) for day, _, _ in SESSIONS}
    assert inside == {at: bar for at, bar in every.items() if time(9, 30) <= at.time() < days[at.date()]}
    assert len(inside) < len(every)


def test_official_values_agree_with_the_minute_bars(untouched: UsMarket) -> None:
    for symbol in untouched.symbols:
        bars, daily, drifts = bars_of(untouched, symbol), daily_of(untouched, symbol), []
        assert list(daily) == [*EARLIER, *(day for day, _, _ in SESSIONS)]
        for day, _, _ in SESSIONS:
            minutes = list(regular(bars, day, time(13) if day == HALF_DAY else time(16)).values())
            official = daily[day]
            assert official["open"] == minutes[0][0]
            assert official["high"] == max(bar[1] for bar in minutes)
            assert official["low"] == min(bar[2] for bar in minutes)
            assert official["low"] <= official["close"] <= official["high"]
            assert isclose(official["close"], minutes[-1][3], rel_tol=6e-4)
            assert 0.80 <= sum(bar[4] for bar in minutes) / official["volume"] <= 0.95
            drifts.append(official["close"] / minutes[-1][3] - 1)
        assert any(drifts)
        assert all(
            row["low"] <= min(row["open"], row["close"]) <= max(row["open"], row["close"]) <= row["high"]
            for row in daily.values()
        )
        truth = untouched.truth_daily().filter(symbol=symbol)
        assert truth["close"].to_list() == [row["close"] for row in daily.values()]
        assert truth["dividend"].to_list() == [row["dividend_amount"] for row in daily.values()]


def test_adjusted_answers_follow_from_the_daily_series(untouched: UsMarket) -> None:
    acting = set()
    for symbol in untouched.symbols:
        daily = daily_of(untouched, symbol)
        for day, row in daily.items():
            expected = row["close"]
            for later_day, later in daily.items():
                if later_day > day:
                    expected *= later["close"] / (later["close"] + later["dividend_amount"])
                    expected /= later["split_coefficient"]
            assert isclose(row["adjusted_close"], expected, rel_tol=6e-12)
        bars, adjusted = (bars_of(untouched, symbol, adjusted=basis) for basis in (False, True))
        assert list(bars) == list(adjusted)
        for at, bar in bars.items():
            shares = prod(row["split_coefficient"] for day, row in daily.items() if day > at.date())
            factor = daily[at.date()]["adjusted_close"] / daily[at.date()]["close"]
            # Half a unit of the fourth decimal, and the float's own last digits.
            assert all(
                abs(new - old * factor) <= 5.000001e-5 for new, old in zip(adjusted[at][:4], bar[:4], strict=True)
            )
            assert abs(adjusted[at][4] - bar[4] * shares) <= 0.5
        acting |= {"split" for row in daily.values() if row["split_coefficient"] != 1}
        acting |= {"dividend" for row in daily.values() if row["dividend_amount"]}
    assert acting == {"split", "dividend"}


def test_nothing_is_told_before_its_time(untouched: UsMarket) -> None:
    splitting = untouched.symbols[1]
    [ex_date] = [day for day, row in daily_of(untouched, splitting).items() if row["split_coefficient"] != 1]
    opens, closes = next(times[1:] for times in SESSIONS if times[0] == ex_date)
    before = opens + timedelta(minutes=30)
    bars = bars_of(untouched, splitting, now=before)
    assert max(bars).replace(tzinfo=NEW_YORK) <= before < max(bars).replace(tzinfo=NEW_YORK) + timedelta(minutes=20)
    assert max(daily_of(untouched, splitting, now=before)) < ex_date
    assert bars_of(untouched, splitting, adjusted=True, now=before) == bars
    assert max(daily_of(untouched, splitting, now=closes)) == ex_date
    first = min(bars)
    adjusted = bars_of(untouched, splitting, adjusted=True, now=closes)
    assert isclose(adjusted[first][0] * 4, bars[first][0], abs_tol=2.1e-4)
    assert bars_of(untouched, splitting, now=closes)[first] == bars[first]


def test_a_split_divides_prices_and_leaves_the_adjusted_ones_as_they_were() -> None:
    vendor = market()
    symbol, ex_date = vendor.symbols[4], date(2020, 11, 27)
    bars, daily, adjusted = bars_of(vendor, symbol), daily_of(vendor, symbol), bars_of(vendor, symbol, adjusted=True)
    vendor.split(symbol, ex_date, 2.0)
    for at, bar in bars_of(vendor, symbol).items():
        shares = 2 if at.date() >= ex_date else 1
        assert all(isclose(new * shares, old, abs_tol=1.01e-4) for new, old in zip(bar[:4], bars[at][:4], strict=True))
        assert bar[4] == bars[at][4] * shares
    for at, bar in bars_of(vendor, symbol, adjusted=True).items():
        assert all(isclose(new * 2, old, abs_tol=5e-3) for new, old in zip(bar[:4], adjusted[at][:4], strict=True))
    rows = daily_of(vendor, symbol)
    assert [day for day, row in rows.items() if row["split_coefficient"] == 2] == [ex_date]
    assert all(isclose(rows[day]["close"] * 2, daily[day]["close"], abs_tol=2e-4) for day in rows if day >= ex_date)
    with pytest.raises(ValueError, match="splits on 2020-11-27 already"):
        vendor.split(symbol, ex_date, 3.0)


def test_corrections_are_told_from_the_next_answer_on() -> None:
    vendor = market()
    symbol, day = vendor.symbols[1], date(2020, 11, 25)
    before = bars_of(vendor, symbol)
    present = regular(before, day)
    absent = next(at for at in (time(10, minute) for minute in range(60)) if at not in present)
    changed, withdrawn = list(present)[100], list(present)[200]
    vendor.correct(symbol, day, changed, close=1.2345, volume=77)
    vendor.withdraw_bar(symbol, day, withdrawn)
    vendor.add_bar(symbol, day, absent, open=9999.0, high=9999.5, low=9998.5, close=9999.25, volume=5)
    old = before.pop(datetime.combine(day, changed))
    del before[datetime.combine(day, withdrawn)]
    expected = before | {
        datetime.combine(day, changed): [old[0], old[1], 1.2345, 1.2345, 77],
        datetime.combine(day, absent): [9999.0, 9999.5, 9998.5, 9999.25, 5],
    }
    assert bars_of(vendor, symbol) == dict(sorted(expected.items()))
    official = daily_of(vendor, symbol)[day]
    assert (official["high"], official["low"]) == (9999.5, 1.2345)
    for mistake in (
        lambda: vendor.add_bar(symbol, day, absent, open=1, high=1, low=1, close=1, volume=1),
        lambda: vendor.withdraw_bar(symbol, day, withdrawn),
        lambda: vendor.correct("NONE", day, changed, close=1.0),
        lambda: vendor.correct(symbol, date(2020, 11, 28), changed, close=1.0),
    ):
        with pytest.raises(ValueError, match=r"take (another|one)"):
            mistake()


def test_dividends_are_paid_and_revised() -> None:
    vendor = market()
    symbol, ex_date, other = vendor.symbols[1], date(2020, 11, 30), date(2020, 11, 2)
    close = daily_of(vendor, symbol)
    vendor.pay_dividend(symbol, ex_date, 0.5)
    ratios = {
        day: row["adjusted_close"] / close[day]["adjusted_close"] for day, row in daily_of(vendor, symbol).items()
    }
    paid = close[ex_date]["close"] / (close[ex_date]["close"] + 0.5)
    assert all(isclose(ratio, paid if day < ex_date else 1.0, rel_tol=1e-10) for day, ratio in ratios.items())
    vendor.revise_dividend(symbol, ex_date, 0.75)
    assert daily_of(vendor, symbol)[ex_date]["dividend_amount"] == 0.75
    with pytest.raises(ValueError, match="revise_dividend"):
        vendor.pay_dividend(symbol, ex_date, 1.0)
    with pytest.raises(ValueError, match="pay_dividend"):
        vendor.revise_dividend(symbol, other, 1.0)
    with pytest.raises(ValueError, match="no daily bar on 2020-11-01"):
        vendor.pay_dividend(symbol, date(2020, 11, 1), 1.0)


def test_the_same_seed_gives_the_same_answers() -> None:
    def told(seed: int) -> list[object]:
        vendor = market(seed)
        return [(vendor.daily(s, LATER), vendor.intraday(s, "2020-11", True, True, LATER)) for s in vendor.symbols]

    first, second, other = told(3), told(3), told(4)
    assert first == second
    assert all(one != another for one, another in zip(first, other, strict=True))


@given(seed=st.integers(0, 2**31), symbols=st.integers(1, 30), count=st.integers(1, len(SESSIONS)))
def test_any_market_is_sound(seed: int, symbols: int, count: int) -> None:
    vendor = UsMarket(SESSIONS[:count], seed=seed, symbols=symbols)
    assert len(set(vendor.symbols)) == symbols
    keys: defaultdict[tuple[str, datetime], int] = defaultdict(int)
    for row in vendor.truth_bars().iter_rows(named=True):
        keys[row["symbol"], row["start_at"]] += 1
        assert 0 < row["low"] <= min(row["open"], row["close"]) <= max(row["open"], row["close"]) <= row["high"]
        assert row["volume"] >= 0
        assert row["start_at"].astimezone(NEW_YORK).date() == row["session"]
    assert set(keys.values()) == {1}
    assert vendor.truth_daily().height == symbols * count


@pytest.mark.parametrize(
    ("sessions", "symbols", "cause"),
    [
        ([], 1, "needs a session"),
        (SESSIONS[:1], 0, "needs a session and a symbol"),
        (SESSIONS[1::-1], 1, "out of order"),
        ([session(date(2020, 11, 2), "02:00", "10:00")], 1, "not within 04:00 to 20:00"),
    ],
)
def test_an_impossible_market_is_refused(sessions: list, symbols: int, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        UsMarket(sessions, symbols=symbols)
