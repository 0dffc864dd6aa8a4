"""Stores a feed's messages: each quote once in `quotes`, rejected messages in the quarantine, failed polls in
`poll_errors`.

A quote counts as stored once it is committed to `quotes`; only then may a broker's message be acknowledged. Windows are
derived only from stored quotes (see `derive`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from lakehouse.domains.market.quotes.batch import PollError, QuoteBatch
from lakehouse.domains.market.quotes.feed import ERRORS, QUOTES, Feed
from lakehouse.domains.market.quotes.parse import Heard, quote_rows, refused
from lakehouse.ingest.load import append_new_objects
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import literal, timestamp_literal
from lakehouse.lake.table import retry_when_stale

if TYPE_CHECKING:
    import polars as pl

_Key = tuple[str, datetime]
# Whole milliseconds, the precision of Delta's file statistics.
_TICK = timedelta(milliseconds=1)
_STORED = -1
_MOST_NAMED = 200
_OTHER_PRICE = "a quote with this update time is stored already, with another price"


@dataclass(frozen=True)
class Stored:
    """The result of storing a batch: received = stored (the height of `quotes`) + repeated + refused.

    Args:
        quotes: the new quotes, in the columns of the table.
        ingested_at: the time of their commit.
        commit: the commit's number, counted from 1 over the table's life; the last commit's if nothing was new.
        errors: number of failed poll attempts.
    """

    quotes: pl.DataFrame
    ingested_at: datetime
    commit: int
    received: int
    repeated: int
    refused: int
    errors: int


class QuoteLog:
    """A writer for a feed's table `quotes`. It keeps each symbol's newest quote in memory, so that it recognises most
    repeated quotes without reading the table.
    """

    def __init__(self, lake: Lake, feed: Feed) -> None:
        self.lake, self.feed = lake, feed
        self.table = lake.table(feed.table(QUOTES))
        self._commits = -1
        self._newest: dict[str, tuple[datetime, float]] = {}
        self._newest_from = ""
        self._last_moment = datetime.min.replace(tzinfo=UTC)

    def store(self, inbox: QuoteBatch) -> Stored:
        """Commits the new quotes of a batch in one commit. Idempotent: repeating it writes no rows and no version."""
        _append_errors(self.lake, self.feed, inbox.errors)
        stored, rows, against = retry_when_stale(lambda: self._store(inbox))
        # Only the commit decides which of two prices is stored: another writer may commit first.
        if against:
            _append_refused(self.lake, self.feed, inbox.heard, rows, against, stored.ingested_at)
        return stored

    def _store(self, inbox: QuoteBatch) -> tuple[Stored, pl.DataFrame, dict[int, list[str]]]:
        """Returns what was stored, all rows of the batch, and the reasons against rejected rows by row number."""
        snapshot = self.table.snapshot()
        self._follow(snapshot)
        # Later than any earlier commit, so that ingested_at orders the commits even if the clock goes back.
        ingested_at = max(_now(), self._last_moment + _TICK)
        rows = quote_rows(inbox.heard, self.feed, ingested_at)
        against = self._refused(rows)
        fresh = self._fresh(snapshot, rows, against)
        if fresh.height:
            snapshot.append(fresh.sort("symbol", "event_time").to_arrow(), [self.table.name])
            self._commits += 1
            self._last_moment = ingested_at
            for symbol, event_time, price in fresh.select("symbol", "event_time", "latest_price").iter_rows():
                self._remember(symbol, event_time, price)
        repeated = rows.height - fresh.height - len(against)
        counts = (rows.height, repeated, len(against), len(inbox.errors))
        return Stored(fresh, ingested_at, self._commits, *counts), rows, against

    def _follow(self, snapshot: Snapshot) -> None:
        """Refreshes the in-memory state if another process has appended since our last write."""
        commits = snapshot.commits(self.table.name)
        if commits == self._commits:
            return
        newest = snapshot.partition_values("day")[-2:]
        with self.lake.connect() as connection:
            rows = connection.execute(
                f"""
                SELECT symbol, max(event_time), arg_max(latest_price, event_time)
                FROM ({snapshot.select({"day": newest})}) GROUP BY symbol
                """
            ).fetchall()
        self._newest = {symbol: (event_time.astimezone(UTC), price) for symbol, event_time, price in rows}
        self._newest_from = min(newest, default="")
        # The last commit may have brought quotes of any day.
        self._last_moment = max(self._last_moment, snapshot.max_value("ingested_at") or self._last_moment)
        self._commits = commits

    def _refused(self, rows: pl.DataFrame) -> dict[int, list[str]]:
        if rows.is_empty():
            return {}
        with self.lake.connect() as connection:
            return refused(rows, self.feed, connection)

    def _fresh(self, snapshot: Snapshot, rows: pl.DataFrame, against: dict[int, list[str]]) -> pl.DataFrame:
        """Returns the rows that are neither rejected nor stored, each quote once. Adds rows that contradict a stored
        quote to `against`.
        """
        told = rows.select("number", "symbol", "event_time", "latest_price").rows()
        good = [quote for quote in told if quote[0] not in against]
        known = self._stored(snapshot, {(symbol, moment) for _, symbol, moment, _ in good})
        kept = []
        for number, symbol, moment, price in good:
            first = known.setdefault((symbol, moment), (price, number))
            if first == (price, number):
                kept.append(number)
            elif first[0] != price:
                against[number] = [_OTHER_PRICE]
        return rows.filter(rows["number"].is_in(kept)).select(self.table.contract.column_names)

    def _stored(self, snapshot: Snapshot, quotes: set[tuple[str, datetime]]) -> dict[_Key, tuple[float, int]]:
        """Returns the stored prices of the given quotes; quotes that aren't stored are left out."""
        found, unsure = {}, []
        for symbol, moment in quotes:
            newest = self._newest.get(symbol)
            if newest is None or moment < newest[0]:
                unsure.append((symbol, moment))
            elif moment == newest[0]:
                found[symbol, moment] = (newest[1], _STORED)
        if unsure:
            with self.lake.connect() as connection:
                rows = connection.execute(
                    f"SELECT symbol, event_time, latest_price FROM ({snapshot.select_where(_at(unsure))})"
                ).fetchall()
            for symbol, event_time, price in rows:
                found[symbol, event_time.astimezone(UTC)] = (price, _STORED)
                self._remember(symbol, event_time.astimezone(UTC), price)
        return found

    def _remember(self, symbol: str, event_time: datetime, price: float) -> None:
        newest = self._newest.get(symbol)
        # A symbol without quotes on the newest days may have later quotes than this on the days before them.
        if newest is None and event_time.date().isoformat() < self._newest_from:
            return
        if newest is None or newest[0] < event_time:
            self._newest[symbol] = (event_time, price)


def object_of(symbol: str | None) -> str:
    """Returns the object name in the quarantine for rejected messages of a symbol, or of no known symbol."""
    return f"{QUOTES}/{symbol or 'unnamed'}"


def _now() -> datetime:
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _at(quotes: Sequence[tuple[str, datetime]]) -> str:
    """A predicate for the quotes with these update times."""
    moments = sorted({moment for _, moment in quotes})
    days = ", ".join(sorted({literal(moment.date()) for moment in moments}))
    if len(moments) > _MOST_NAMED:
        first, last = timestamp_literal(moments[0]), timestamp_literal(moments[-1])
        return f"day IN ({days}) AND event_time >= {first} AND event_time <= {last}"
    return f"day IN ({days}) AND event_time IN ({', '.join(map(timestamp_literal, moments))})"


def last_of_its_slot(feed: Feed) -> str:
    """A predicate for the rows of `poll_errors` that ended their slot: an attempt that was retried lost nothing."""
    return f"(kind <> 'passing' OR attempt >= {feed.config.api.max_attempts})"


def _append_errors(lake: Lake, feed: Feed, errors: Sequence[PollError]) -> None:
    """Appends the failed attempts that aren't stored yet: a batch may be stored again after a fault."""
    import polars as pl

    if not errors:
        return
    table = lake.table(feed.table(ERRORS))
    schema = table.contract.polars_schema
    rows = pl.DataFrame([{**vars(error), "day": error.slot_at.date()} for error in errors], schema=schema)
    slots = sorted({error.slot_at for error in errors})
    where = f"day >= {literal(slots[0].date())} AND slot_at >= {timestamp_literal(slots[0])}"

    def work() -> None:
        snapshot = table.snapshot()
        with lake.connect() as connection:
            known = connection.sql(f"SELECT symbol, slot_at, attempt FROM ({snapshot.select_where(where)})").pl()
        key = list(table.contract.key)
        fresh = rows.join(known.with_columns(pl.col("slot_at").cast(schema["slot_at"])), on=key, how="anti")
        if fresh.height:
            snapshot.append(fresh.to_arrow(), [table.name])

    retry_when_stale(work)


def _append_refused(
    lake: Lake,
    feed: Feed,
    heard: Sequence[Heard],
    rows: pl.DataFrame,
    against: Mapping[int, list[str]],
    ingested_at: datetime,
) -> None:
    """Quarantines rejected messages, each once: a vendor repeats them with every poll."""
    import pyarrow as pa

    found: dict[tuple[str, str], dict[str, Any]] = {}
    for number, symbol, event_time, price, day in rows.select(
        "number", "symbol", "event_time", "latest_price", "day"
    ).iter_rows():
        if number not in against:
            continue
        name = object_of(heard[number].asked or symbol)
        # A pushed message is redelivered as the same text; answers to polls may differ in irrelevant members.
        text = None if heard[number].asked else heard[number].text
        said = sha256(repr((symbol, price, against[number], text)).encode()).hexdigest()[:16]
        version = f"{event_time.isoformat() if event_time else 'untimed'}-{said}"
        found[name, version] = {
            "source": feed.name,
            "load_date": ingested_at.date(),
            "object": name,
            "object_version": version,
            "row_number": 1,
            "session": day,
            "reasons": against[number],
            "row": heard[number].text,
            "published_at": heard[number].published_at,
            "ingested_at": ingested_at,
        }
    refused_rows = pa.Table.from_pylist(list(found.values()), schema=lake.table("quarantine").contract.arrow_schema)
    append_new_objects(lake, "quarantine", refused_rows, "source", [f"{feed.name}/{QUOTES}"])
