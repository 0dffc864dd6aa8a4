"""The simulated exchange: its bytes, its market, and whether an independent reader finds its truth."""

from __future__ import annotations

import csv
import gzip
import itertools
import re
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import isin as isin_number

from assets_tests.support.independent_reader import HEADER_ONLY, Reading
from lakehouse.simulators.bar_files import BarRow, bar_file
from lakehouse.simulators.dirt import FAULTS
from lakehouse.simulators.exchange import Exchange
from lakehouse.simulators.truth import STAGES

# At most three decimals, the last not zero: neither 15.10 nor 240.20000000000002.
NUMBER = r"(0|[1-9]\d*)(\.\d{0,2}[1-9])?"
LINE = re.compile(
    r'"[A-Z]{2}[A-Z0-9]{9}\d","[A-Z0-9]+","[^"]+","(Common stock|ETF|ETC|ETN|Other)","[A-Z]{3}",\d+,'
    rf"\d{{4}}-\d\d-\d\d,\d\d:\d\d,({NUMBER},){{4}}\d+,[1-9]\d*"
)


def trading_days(first: date, count: int, opens: int = 7, minutes: int = 510) -> list[tuple[date, datetime, datetime]]:
    weekdays = (day for day in (first + timedelta(days=n) for n in itertools.count()) if day.weekday() < 5)
    opened = ((day, datetime(day.year, day.month, day.day, opens, tzinfo=UTC)) for day in weekdays)
    return [(day, at, at + timedelta(minutes=minutes)) for day, at in itertools.islice(opened, count)]


# A Thursday to the Wednesday after, so that there is a weekend within.
WEEK = trading_days(date(2024, 6, 6), 5)


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    return Exchange(WEEK, seed=7, instruments=25)


def lines_of(body: bytes) -> list[str]:
    return gzip.decompress(body).decode().splitlines()[1:]


def assert_truth(exchange: Exchange, stages: tuple[str, ...], compress: bool = True) -> None:
    reading, counts = Reading(exchange, stages, compress), exchange.truth.counts(*stages)
    assert reading.received == counts.received
    assert len(reading.bars) == counts.kept
    assert reading.duplicates == counts.duplicates
    assert reading.superseded == counts.superseded
    assert Counter(reading.faults.values()) == counts.quarantined
    assert counts.received == counts.kept + counts.duplicates + counts.superseded + sum(counts.quarantined.values())
    told = [item for item in exchange.truth.objects if item.stage in stages]
    assert sorted(reading.statuses) == sorted((t.name, t.stage, t.status, t.received, t.quarantined) for t in told)
    broken = {(row.object, row.row_number): row.kind for row in exchange.truth.dirty_rows if row.kind != "duplicate"}
    assert {place: kind for place, kind in reading.faults.items() if kind != "not_a_session"} == broken
    told_daily = {
        (row[0], row[1], str(row[2])): (*row[3:10], *(f"{at:%Y-%m-%d %H:%M}" for at in row[10:]))
        for row in exchange.truth.daily_bars(*stages).iter_rows()
    }
    assert reading.daily_bars() == told_daily


@pytest.mark.slow
@pytest.mark.parametrize(
    "stages",
    [
        ("first",),
        ("first", "late"),
        ("first", "repaired"),
        ("first", "corrected"),
        STAGES,
        ("first", "corrected", "repaired", "late"),
    ],
)
def test_truth_is_what_an_independent_reader_finds(exchange: Exchange, stages: tuple[str, ...]) -> None:
    truth = exchange.truth
    assert None not in (truth.late_object, truth.damaged_object, truth.corrected_object, truth.test_day)
    assert truth.test_day == date(2024, 6, 8)
    assert {row.kind for row in truth.dirty_rows} == {*FAULTS, "duplicate"}
    assert Counter(bar.kind for bar in truth.corrected_bars) == {"changed": 3, "added": 1, "withdrawn": 1}
    assert_truth(exchange, stages)


def test_each_later_stage_changes_the_daily_bars(exchange: Exchange) -> None:
    first = exchange.truth.daily_bars("first")
    for stage in STAGES[1:]:
        assert not exchange.truth.daily_bars("first", stage).equals(first)
    traded = exchange.market.bars
    assert exchange.truth.daily_bars()["volume"].sum() == traded["volume"].sum()
    assert exchange.truth.daily_bars()["bar_count"].sum() == traded.height


def test_plain_files_have_the_same_rows_and_the_same_truth(exchange: Exchange) -> None:
    plain = Exchange(WEEK, seed=7, instruments=25, compress=False)
    assert plain.truth.counts() == exchange.truth.counts()
    assert_truth(plain, STAGES, compress=False)
    packed = {f.name: f.body for f in exchange.objects() if f.name != exchange.truth.damaged_object}
    for name, body, _ in plain.objects():
        assert f"{name}.gz" == exchange.truth.damaged_object or gzip.decompress(packed[f"{name}.gz"]) == body


@given(
    seed=st.integers(0, 2**31),
    instruments=st.integers(1, 6),
    count=st.integers(1, 4),
    minutes=st.sampled_from([1, 45, 510]),
    dirt=st.booleans(),
)
def test_any_small_exchange_is_consistent(seed: int, instruments: int, count: int, minutes: int, dirt: bool) -> None:
    sessions = trading_days(date(2024, 11, 7), count, opens=8, minutes=minutes)
    exchange = Exchange(sessions, seed=seed, instruments=instruments, dirt=dirt)
    bars = exchange.market.bars
    assert bars.filter(
        (pl.col("high") < pl.max_horizontal("open", "close", "low"))
        | (pl.col("low") > pl.min_horizontal("open", "close"))
        | (pl.col("low") < 1)
        | (pl.col("trades") < 1)
        | (pl.col("volume") < pl.col("trades"))
    ).is_empty()
    assert bars.select("listing", "minute").is_unique().all()
    limits = pl.DataFrame(exchange.market.sessions, schema=["session", "open_at", "close_at"], orient="row")
    offsets = bars.join(limits, on="session").select(
        after_open=pl.col("minute") - pl.col("open_at").dt.epoch("s") // 60,
        after_close=pl.col("minute") - pl.col("close_at").dt.epoch("s") // 60,
    )
    assert offsets.filter((pl.col("after_open") < 0) | (pl.col("after_close") > 5)).is_empty()
    assert_truth(exchange, STAGES)


def test_the_same_seed_gives_the_same_bytes() -> None:
    feeds = [
        [tuple(Exchange(WEEK, seed=seed, instruments=12).objects(stage)) for stage in STAGES] for seed in (3, 3, 4)
    ]
    assert feeds[0] == feeds[1]
    assert feeds[0] != feeds[2]
    # The stamp in a gzip header would betray when a file was made.
    assert all(item.body[4:8] == b"\0\0\0\0" for stage in feeds[0] for item in stage)


def test_objects_cover_every_hour_of_every_day(exchange: Exchange) -> None:
    days = [date(2024, 6, 6) + timedelta(days=n) for n in range(7)]
    expected = [f"{day}/{day}_BINS_XETR{hour:02d}.csv.gz" for day in days for hour in range(24)]
    expected.remove(exchange.truth.late_object)
    objects = list(exchange.objects())
    assert [item.name for item in objects] == expected
    sunday = [gzip.decompress(item.body) for item in objects if item.name.startswith("2024-06-09/")]
    assert sunday == [HEADER_ONLY] * 24
    assert [item.published_at for item in objects] == sorted({item.published_at for item in objects})
    for stage in STAGES[1:]:
        (later,) = exchange.objects(stage)
        assert later.published_at > objects[-1].published_at


def test_lines_are_quoted_and_ordered_as_the_vendor_does() -> None:
    names = set()
    for item in Exchange(WEEK, seed=2, instruments=25, dirt=False).objects():
        assert gzip.decompress(item.body).startswith(HEADER_ONLY)
        lines = lines_of(item.body)
        assert all(LINE.fullmatch(line) for line in lines)
        rows = [BarRow.parse(line) for line in lines]
        assert all(f"{row.date} {row.time[:2]}" == f"{item.name[:10]} {item.name[-9:-7]}" for row in rows)
        places = [(row.time, int(row.security_id)) for row in rows]
        assert places == sorted(places)
        names |= {row.description for row in rows}
    assert any("," in name for name in names)


def test_listings_are_invented_unique_and_valid() -> None:
    listings = Exchange(WEEK[:1], instruments=200, dirt=False).market.listings
    assert len(listings) == 201
    assert all(isin_number.is_valid(listing.isin) and "000SIM" in listing.isin for listing in listings)
    for attribute in ("mnemonic", "security_id"):
        assert len({getattr(listing, attribute) for listing in listings}) == 201
    assert len({listing.isin for listing in listings}) == 200
    (twice,) = [isin for isin, count in Counter(listing.isin for listing in listings).items() if count == 2]
    assert {listing.currency for listing in listings if listing.isin == twice} == {"EUR", "USD"}
    assert {listing.security_type for listing in listings} == {"Common stock", "ETF", "ETC", "ETN", "Other"}


def test_a_split_divides_prices_and_the_evening_before_knows(exchange: Exchange) -> None:
    (split,) = exchange.truth.splits
    daily = exchange.truth.daily_bars().filter(isin=split.isin, currency="EUR")
    before = daily.filter(pl.col("session") < split.ex_session).row(-1, named=True)
    after = daily.filter(pl.col("session") >= split.ex_session).row(0, named=True)
    assert before["close"] / after["open"] == pytest.approx(split.factor, rel=0.1)
    assert after["volume"] / before["volume"] == pytest.approx(split.factor, rel=0.5)
    evening = f"{before['session']}/{before['session']}_BINS_XETR19.csv.gz"
    (item,) = [item for item in exchange.objects() if item.name == evening]
    (technical,) = [row for row in map(BarRow.parse, lines_of(item.body)) if row.isin == split.isin]
    assert (technical.time, technical.volume, technical.trades) == ("19:30", "0", "1")
    assert before["close"] / float(technical.end_price) == pytest.approx(split.factor, rel=0.1)


def test_renamed_instruments_keep_their_isin(exchange: Exchange) -> None:
    seen = defaultdict(set)
    sound = (item for item in exchange.objects() if item.name != exchange.truth.damaged_object)
    for item in sound:
        for fields in csv.reader(lines_of(item.body)):
            texts = {"mnemonic": fields[1], "description": fields[2]}
            for rename in exchange.truth.renames:
                if len(fields) == 14 and (fields[0], fields[4]) == (rename.isin, rename.currency):
                    renamed = date.fromisoformat(item.name[:10]) >= rename.first_session
                    seen[rename.field, renamed].add(texts[rename.field])
    assert {rename.field for rename in exchange.truth.renames} == {"mnemonic", "description"}
    for rename in exchange.truth.renames:
        assert seen[rename.field, False] == {rename.old}
        assert seen[rename.field, True] == {rename.new}
        assert rename.old != rename.new


def test_writing_sets_publication_times_and_replaces_versions(exchange: Exchange, tmp_path) -> None:
    for stage in STAGES:
        paths = exchange.write(tmp_path, stage)
        objects = list(exchange.objects(stage))
        assert [str(path.relative_to(tmp_path)) for path in paths] == [item.name for item in objects]
        for path, item in zip(paths, objects, strict=True):
            assert path.read_bytes() == item.body
            assert path.stat().st_mtime == item.published_at.timestamp()
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 7 * 24


def test_a_bar_file_is_rendered_from_rows() -> None:
    row = BarRow(
        isin="DE000SIM0014",
        description="UTOPIA, NIRGENDS",
        date=date(2024, 6, 6),
        time="08:00",
        start_price=15.0,
        max_price=15.13,
        min_price=0.00005,
        end_price="n/a",
        volume=100,
    )
    line = (
        b'"DE000SIM0014","SIM","UTOPIA, NIRGENDS","Common stock","EUR",2500001,'
        b"2024-06-06,08:00,15,15.13,0.00005,n/a,100,1"
    )
    assert bar_file([row], compress=False) == HEADER_ONLY + line + b"\n"
    assert gzip.decompress(bar_file([row, row])) == HEADER_ONLY + (line + b"\n") * 2
    assert bar_file([], compress=False) == HEADER_ONLY
    assert BarRow.parse(row.line()).line() == row.line()


def test_without_dirt_every_row_is_a_traded_bar() -> None:
    clean, dirty = (Exchange(WEEK, seed=5, instruments=10, dirt=dirt) for dirt in (False, True))
    assert clean.market.bars.equals(dirty.market.bars)
    counts = clean.truth.counts()
    assert counts.received == counts.kept == clean.market.bars.height
    assert [list(clean.objects(stage)) for stage in STAGES[1:]] == [[], [], []]
    assert dirty.truth.zero_volume_bars > 0 == clean.truth.zero_volume_bars
    assert clean.truth.daily_bars().equals(dirty.truth.daily_bars())


@pytest.mark.parametrize("sessions", [[], [WEEK[1], WEEK[0]], [WEEK[0], WEEK[0]]])
def test_impossible_sessions_are_refused(sessions: list) -> None:
    with pytest.raises(ValueError, match=r"[Ss]ession"):
        Exchange(sessions)
