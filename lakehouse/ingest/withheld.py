"""Probes withheld objects: those that the store refused to return (no permission, archived, a damaged disk). A listing
doesn't show when they become readable, since their version stays the same, so they are probed at growing intervals.

An object is probed once in each of its slots, which begin 1, 2, 4, ... minutes after it failed, and daily after the
first day. The caller (the sensor) remembers until when it has probed; the ledger records when an object failed. A probe
is one request for the start of an object; only readable objects are offered to a run.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakehouse.ingest.ledger import listed_version, newest_entries
from lakehouse.ingest.object_source import ObjectSource

if TYPE_CHECKING:
    import polars as pl

_FIRST, _DAY = timedelta(minutes=1), timedelta(days=1)
_SLOTS_OF_FIRST_DAY = (_DAY // _FIRST).bit_length()
_MOST = 500
"""Maximum of objects probed at once, chosen at random if more are due."""
_THREADS = 16


@dataclass(frozen=True)
class Asking:
    """Probes the objects with a slot that began between two moments."""

    since: datetime | None
    """Until when objects were probed before; None if unknown."""
    now: datetime


def readable_again(store: ObjectSource, listed: pl.DataFrame, ledger: pl.LazyFrame, asking: Asking) -> pl.DataFrame:
    """The due listed versions (columns name, version, ...) that were withheld and can now be read, with the number of
    the `slot`.

    Raises:
        SourceUnavailable: the store doesn't answer.
    """
    import polars as pl

    waiting = listed.join(_due(ledger, asking), on=["name", "version"], how="inner")
    if waiting.height > _MOST:
        waiting = waiting.sample(_MOST)
    with ThreadPoolExecutor(_THREADS) as pool:
        return waiting.filter(pl.Series(pool.map(store.can_read, waiting["path"]), dtype=pl.Boolean))


def _due(ledger: pl.LazyFrame, asking: Asking) -> pl.DataFrame:
    """Name, version and slot of the withheld objects that are due."""
    import polars as pl

    # Few objects were ever withheld: sort only their entries.
    ever = ledger.filter(pl.col("is_withheld")).select("object").unique()
    withheld = newest_entries(ledger.join(ever, on="object", how="semi")).filter(pl.col("is_withheld"))
    rows: list[dict[str, Any]] = []
    for name, stored, failed_at in withheld.select("object", "object_version", "ingested_at").collect().iter_rows():
        slot = _slot(asking.now - failed_at)
        if slot != (0 if asking.since is None else _slot(asking.since - failed_at)):
            rows.append({"name": name, "version": listed_version(stored), "slot": slot})
    return pl.DataFrame(rows, schema={"name": pl.String, "version": pl.String, "slot": pl.Int64})


def _slot(age: timedelta) -> int:
    """The number of slots that have begun since an object failed; negative if the clock was ahead when it failed, so
    that it is probed before that moment, too.
    """
    if age < timedelta(0):
        return -_slot(-age)
    if age < _DAY:
        return (age // _FIRST).bit_length()
    return _SLOTS_OF_FIRST_DAY + age // _DAY
