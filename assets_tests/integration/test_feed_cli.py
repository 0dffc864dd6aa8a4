"""A feed at the command line: how it stands, and its windows rebuilt from its quotes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.support.feed_lake import SOURCE, FeedLake, said
from assets_tests.support.lakes import Lakehouse
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.quotes.batch import PollError, QuoteBatch
from lakehouse.domains.market.quotes.feed import WINDOWS
from lakehouse.domains.market.quotes.status import feed_status

OPENS = datetime(2026, 3, 2, 23, 50, tzinfo=UTC)
ROUNDS = 120  # twenty minutes, from one day to the next


@pytest.fixture
def lake() -> FeedLake:
    """A lake of two symbols' quotes with one that is refused and one poll that failed."""
    made = FeedLake()
    for first in range(0, ROUNDS, 20):
        moments = {number: OPENS + timedelta(seconds=10 * number) for number in range(first, first + 20)}
        made.tell(said(symbol, moments[number], 100.0 + number) for number in moments for symbol in ("AAPL", "GME"))
    made.store([said("GME", OPENS, None)])
    failed = PollError("GME", datetime.now(UTC), 1, "permanent", "status 404: Unknown symbol", datetime.now(UTC))
    made.log.store(QuoteBatch([], [failed]))
    return made


def test_status_says_how_a_feed_stands(lake: FeedLake) -> None:
    text = Lakehouse(Path(lake.lake.uri).parent).succeed("status")
    (feed,) = [part for part in text.split("\n") if part.startswith(f"{SOURCE} ")]
    about = text[text.index(feed) :]
    assert "240 of 2 days (2026-03-02 to 2026-03-03)" in about
    assert "2026-03-03 00:09:50 UTC" in about
    assert f"{lake.live.closed_through:%Y-%m-%d %H:%M:%S} UTC" in about
    assert "1  GME" in about
    assert "1  latest_price is missing or not a double" in about


def test_status_counts_rounds_that_are_lost_also_where_nothing_has_come_for_long() -> None:
    """A try that failed before one that didn't is no loss; nor does an outage end where the last quote was stored."""
    lake, now = FeedLake(), datetime.now(UTC)
    lake.tell([said("AAPL", OPENS, 100.0)])
    passing = [PollError("AAPL", now + timedelta(hours=3), 1, "passing", "status 500", now)]
    lost = [
        PollError("GME", now + timedelta(hours=3, seconds=10 * number), attempt, kind, "status 500", now)
        for number in range(2)
        for attempt, kind in ((1, "passing"), (2, "unfinished"))
    ]
    lake.log.store(QuoteBatch([], passing + lost))  # type: ignore[arg-type]
    assert feed_status(lake.lake, lake.described).unanswered == {"GME": 2}


def test_windows_are_rebuilt_from_the_quotes(lake: FeedLake) -> None:
    right = lake.windows
    text = Lakehouse(Path(lake.lake.uri).parent).succeed("rebuild", SOURCE, "--verify")
    assert "marts: never published" in text
    sound = rebuild(lake.lake, lake.described, verify=True)
    assert (sound.differs, sound.tables[WINDOWS].rows) == (False, right.height)

    table = lake.lake.table(lake.described.table(WINDOWS))
    wrong = right.with_columns(mean_price=pl.col("mean_price") + (pl.col("symbol") == "GME").cast(pl.Float64))
    days = ", ".join(f"'{day}'" for day in right["day"].unique())
    table.snapshot().overwrite(wrong.to_arrow(), f"day IN ({days})")
    code, text = Lakehouse(Path(lake.lake.uri).parent).run("rebuild", SOURCE, "--verify")
    differing = (right["symbol"] == "GME").sum()
    assert code == 1
    assert f"{SOURCE}.quote_windows: {right.height:,} rows, {differing:,} rows differ" in text
    assert rebuild(lake.lake, lake.described).tables[WINDOWS].rows_changed == differing
    assert_frame_equal(lake.windows, right)
