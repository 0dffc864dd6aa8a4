"""Windows that follow the quotes commit by commit, whatever happens meanwhile, are those that are derived from all
quotes at once, and those of plain Python; and what the windows were at any commit can be read again.
"""

from __future__ import annotations

import random
import resource
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assets_tests.support.feed_lake import SOURCE, FeedLake, said
from assets_tests.support.soak import soak_count
from assets_tests.support.window_reference import DEFAULT, Lengths, assert_same, closed_windows
from lakehouse.api import Lake
from lakehouse.catalog import feed_named
from lakehouse.domains.market.quotes.config import Windows
from lakehouse.domains.market.quotes.derive import derive_windows
from lakehouse.domains.market.quotes.feed import QUOTES

# Shortly before midnight, half a second off the ends of windows.
START = datetime(2021, 2, 28, 23, 56, 0, 500_000, tzinfo=UTC)
SYMBOLS = ("AAPL", "GME", "NIO")
After = Literal[
    "nothing", "restart", "killed before the windows", "windows skipped", "other goes on", "other is quicker"
]
AFTERWARDS: tuple[After, ...] = get_args(After)


class Spoken(NamedTuple):
    """A quote, by the index of its symbol and its age when it is told."""

    symbol: int
    age_s: float
    cents: int


class Round(NamedTuple):
    """Quotes that come together, so many seconds after those before; and what happens then."""

    pause_s: float
    spoken: Sequence[Spoken]
    after: After


class Story(NamedTuple):
    """What was told, by which price each quote ought to be known, and the windows as they stood after each commit."""

    lake: FeedLake
    prices: dict[tuple[str, datetime], float]
    stood: dict[datetime, pl.DataFrame]


@contextmanager
def empty_lake(lengths: Lengths = DEFAULT) -> Iterator[FeedLake]:
    windows = Windows(
        resolutions_minutes=lengths.minutes,
        period_s=lengths.period_s,
        offset_s=lengths.offset_s,
        lateness_s=int(lengths.lateness_s),
    )
    with tempfile.TemporaryDirectory() as folder:
        yield FeedLake(feed_named(SOURCE).changed(windows=windows).config, Lake(f"{folder}/lake"))


def tell(lake: FeedLake, rounds: Sequence[Round]) -> Story:
    now = START
    prices: dict[tuple[str, datetime], float] = {}
    stood: dict[datetime, pl.DataFrame] = {}
    other = FeedLake(lake.config, lake.lake)
    for pause, spoken, after in rounds:
        now += timedelta(seconds=pause)
        heard = []
        for number, age, cents in spoken:
            moment = now - timedelta(seconds=age)
            prices.setdefault((SYMBOLS[number], moment), cents / 100)
            heard.append(said(SYMBOLS[number], moment, cents / 100))
        if after == "killed before the windows":
            stored = lake.store(heard)
            lake.restart()
        elif after == "windows skipped":
            lake.store(heard)
            continue
        else:
            stored = lake.store(heard)
            if after == "other is quicker":
                other.restart()
            lake.live.advance(stored)
            if after == "restart":
                assert lake.restart().rows_changed == 0
            elif after == "other goes on":
                lake, other = other, lake
        assert stored.received == len(heard) == stored.quotes.height + stored.repeated + stored.refused
        if stored.quotes.height:
            stood[stored.ingested_at] = lake.windows
    # The last word, so that nothing is left open by a skipped round.
    now += timedelta(seconds=10)
    prices[SYMBOLS[0], now] = 1.0
    stored, _ = lake.tell([said(SYMBOLS[0], now, 1.0)])
    stood[stored.ingested_at] = lake.windows
    return Story(lake, prices, stood)


def assert_told_right(story: Story, lengths: Lengths = DEFAULT, *, as_of: bool = True) -> None:
    lake = story.lake
    told = lake.told()
    assert {(quote.symbol, quote.event_time): quote.price for quote in told} == story.prices
    assert len(told) == len(story.prices)
    live = lake.windows
    assert_same(live, closed_windows(told, lengths))
    assert lake.derive_all(verify=True).rows_changed == 0
    fresh = FeedLake(lake.config, Lake(f"{lake.lake.uri}-rebuilt"))
    shutil.copytree(f"{lake.lake.uri}/{SOURCE}/{QUOTES}", f"{fresh.lake.uri}/{SOURCE}/{QUOTES}")
    fresh.derive_all()
    assert fresh.windows.equals(live)
    for moment, windows in story.stood.items():
        known = [quote for quote in told if quote.ingested_at <= moment]
        assert_same(windows, closed_windows(known, lengths))
        if as_of:
            again = lake.rows(f"{SOURCE}.quote_windows", moment)
            assert again.select(windows.columns).rows() == windows.rows()


ages = st.sampled_from([0, 2.5, 5, 7.5, 10, 17.5, 20, 22.5, 25, 30, 45, 60, 65, 130, 290, 310, 890, 905, 1000, 4000])
spoken_quotes = st.builds(Spoken, st.integers(0, 2), ages, st.sampled_from([0, 1, 9_999, 10_000, 10_001, 12_345]))
# Half a second more or less puts all quotes at the ends of windows, or off them.
pauses = st.sampled_from([10, 10, 10, 9.5, 0.5, 0, 12.5, 30, 60, 125, 300, 310, 900, 4000, 90_000])
some_rounds = st.lists(
    st.builds(Round, pauses, st.lists(spoken_quotes, max_size=4), st.sampled_from(AFTERWARDS)), min_size=2, max_size=7
)


@pytest.mark.soak
@settings(
    max_examples=soak_count(2, 20),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(some_rounds)
def test_windows_made_as_quotes_come_are_those_derived_from_all(rounds: list[Round]) -> None:
    with empty_lake() as lake:
        assert_told_right(tell(lake, rounds))


def a_session(seed: int, rounds: int) -> list[Round]:
    """What a feed tells in a while: each symbol every ten seconds, most of it at once, some late, some very late; and
    now and then a pause, or somebody who starts anew.
    """
    chance = random.Random(seed)
    told = []
    for _ in range(rounds):
        spoken = [
            Spoken(
                number,
                chance.choices([2.5, 7, 33, 95, 700, 2000], [60, 20, 8, 6, 4, 2])[0],
                chance.randrange(9000, 11000),
            )
            for number in range(len(SYMBOLS))
            if chance.random() < 0.9
        ]
        pause = chance.choices([10, 40, 400, 5000], [90, 4, 4, 2])[0]
        told.append(Round(pause, spoken, chance.choices(AFTERWARDS, [80, 4, 4, 4, 4, 4])[0]))
    return told


@pytest.mark.soak
@pytest.mark.parametrize(
    "lengths", [DEFAULT, Lengths((1,), 60, 0, 61), Lengths((2, 3), 20, 7, 0)], ids=["as usual", "minutes", "at once"]
)
def test_a_session_with_pauses_and_restarts(lengths: Lengths) -> None:
    with empty_lake(lengths) as lake:
        story = tell(lake, a_session(12, soak_count(14, 40)))
        assert story.lake.windows["revision"].max() >= 2  # type: ignore[operator]
        # As of a moment the lake knows the windows of its feeds' descriptions alone.
        assert_told_right(story, lengths, as_of=lengths is DEFAULT)


def test_a_long_time_is_derived_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    with empty_lake() as lake:
        story = tell(lake, a_session(3, 10))
        whole = lake.windows
        monkeypatch.setattr("lakehouse.domains.market.quotes.derive._QUOTES_AT_ONCE", 1)
        assert story.lake.derive_all(verify=True).rows_changed == 0
        stretches = FeedLake(lake.config, Lake(f"{lake.lake.uri}-stretches"))
        shutil.copytree(f"{lake.lake.uri}/{SOURCE}/{QUOTES}", f"{stretches.lake.uri}/{SOURCE}/{QUOTES}")
        assert stretches.derive_all().commits > 1
        assert stretches.windows.equals(whole)


def test_windows_of_many_symbols_are_opened_again_together() -> None:
    symbols = [f"S{number}" for number in range(101)]
    with empty_lake() as lake:
        for seconds in (0, 120, 15):
            lake.tell([said(symbol, START + timedelta(seconds=seconds), 1.0 + seconds) for symbol in symbols])
        assert_same(lake.windows, closed_windows(lake.told()))
        assert lake.windows["revision"].max() == 2


def test_a_derivation_of_some_symbols_leaves_the_others_alone() -> None:
    with empty_lake() as lake:
        tell(lake, a_session(5, 6))
        windows, rule = lake.windows, lake.described.config.windows.rule
        lake.lake.table("iex/quote_windows").snapshot().overwrite(windows.head(0).to_arrow(), "symbol <> 'GME'")
        assert set(lake.windows["symbol"]) == {"GME"}
        first, last = rule.next_end(START - timedelta(days=1)), rule.last_end(START + timedelta(days=1))
        derive_windows(lake.lake, lake.described, first, last, symbols=["NIO"])
        assert lake.windows.equals(windows.filter(windows["symbol"] != "AAPL"))
        derive_windows(lake.lake, lake.described, first, last)
        assert lake.windows.equals(windows)


def test_a_feed_may_be_silent_for_weeks() -> None:
    week = timedelta(days=7)
    with empty_lake() as lake:
        for weeks in (0, 2, 1):
            lake.tell([said("NIO", START + weeks * week, 43.7 + weeks)])
            assert_same(lake.windows, closed_windows(lake.told()))
        assert lake.derive_all(verify=True).rows_changed == 0


def test_a_quote_of_decades_ago_costs_no_more_than_another(tmp_path: Path) -> None:
    """A vendor says a time of 1991, or the last one of a share that has not been traded since 2018. Windows of the time
    in between, hundreds of millions of ends, are neither made nor looked at.
    """
    ages = [timedelta(days=365 * years) for years in (0, 3, 30)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with empty_lake() as lake:
        for number, age in enumerate(ages):
            lake.tell([said("NIO", START - age, 43.7), said("AAPL", START + timedelta(minutes=number), 116.0)])
            lake.restart()
        expected = closed_windows(lake.told())
        assert_same(lake.windows, expected)
        assert lake.derive_all(verify=True).rows_changed == 0
        anew = FeedLake(lake.config, Lake(str(tmp_path / "anew")))
        shutil.copytree(f"{lake.lake.uri}/{SOURCE}/{QUOTES}", f"{anew.lake.uri}/{SOURCE}/{QUOTES}")
        anew.restart()
        assert_same(anew.windows, expected)
        assert_same(lake.rows(f"{SOURCE}.quote_windows", datetime.now(UTC)), expected)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # KiB


def test_nothing_new_makes_no_commit() -> None:
    heard = [said("NIO", START + timedelta(seconds=seconds), 43.7) for seconds in (0, 120)]
    with empty_lake() as lake:
        lake.tell(heard)
        versions = lake.versions()
        stored, derived = lake.tell(heard)
        assert (stored.received, stored.repeated, derived.rows) == (2, 2, 0)
        lake.tell([])
        lake.restart()
        assert lake.derive_all().commits == 0
        assert lake.versions() == versions
