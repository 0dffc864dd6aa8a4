"""Lists where news can be, instead of everything: the folders of days that the ledger doesn't know, the newest known
ones, and those with objects that failed. A full listing, once a day, finds what else changed: late corrections. Where
some days are asked for, their folders are listed.

So it is where a place is large, which takes more than a few requests to list, and where objects lie in one folder per
day, as their pattern says: the folders' names are listed first (a thousand a request). Other places, and those that
can't list folders, are listed in full each time.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from lakehouse.ingest.ledger import failed_objects
from lakehouse.ingest.listing import Listing, listing_schema
from lakehouse.ingest.names import Objects, day_in
from lakehouse.ingest.object_source import ObjectSource

if TYPE_CHECKING:
    import polars as pl

_NEWEST = 7
"""Known days, the newest ones, whose folders are listed each time."""
_MOST = 100
"""Folders; with more to list, listing everything takes fewer requests."""
FEW = 10_000
"""Known objects; listing so few takes ten requests of a bucket, so all are listed each time."""
_NEAR = timedelta(days=7)
_FOLDERS_BEFORE_DATE = re.compile(r"((?:[A-Za-z0-9_=-]+/)*)\(\?P<date>")


@dataclass(frozen=True)
class DayFolders:
    """A folder for each day: below which folder ("" or ending in a slash), and the strptime format of their names."""

    below: str
    date_format: str

    def day_of(self, name: str) -> date | None:
        """The day of a folder; None if it is another folder."""
        return day_in(name, self.date_format)


def day_folders(objects: Objects) -> DayFolders | None:
    """The folders of days that a pattern describes: the date is a whole part of the name, after none but literal ones.
    None for any other pattern.
    """
    begins = _FOLDERS_BEFORE_DATE.match(objects.pattern)
    if begins is None or "/" in objects.date_format:
        return None
    rest = _after_group(objects.pattern, begins.end())
    has_branches = "|" in re.sub(r"\\.|\[[^]]*\]|\([^()]*\)", "", rest)
    return DayFolders(begins[1], objects.date_format) if rest.startswith("/") and not has_branches else None


def _after_group(pattern: str, start: int) -> str:
    """The rest of a pattern after the group that is open at `start`."""
    depth, place = 1, start
    while depth and place < len(pattern):
        if pattern[place] == "\\":
            place += 1
        elif pattern[place] == "[":
            place = pattern.index("]", place + 2)
        else:
            depth += {"(": 1, ")": -1}.get(pattern[place], 0)
        place += 1
    return pattern[place:]


def list_recent(store: ObjectSource, days: DayFolders | None, ledger: pl.LazyFrame, first: date) -> Listing:
    """The objects that may be news, or all objects.

    Args:
        first: the first partition; folders of days long before it are left out.

    Raises:
        SourceUnavailable: the store doesn't answer.
    """
    import polars as pl

    folders = _folders(store, days, ledger)
    if days is None or folders is None:
        return store.list()
    since = first - _NEAR if first - date.min > _NEAR else date.min
    dated = {name: day for name in folders if (day := days.day_of(name)) is not None and day >= since}
    of_object = pl.col("object").str.strip_prefix(days.below).str.extract("^([^/]+)/")
    known = set(ledger.select(of_object.unique()).collect()["object"])
    failed = set(failed_objects(ledger).select(of_object.unique())["object"])
    newest = sorted(dated.keys() & known, key=lambda name: dated[name])[-_NEWEST:]
    wanted = (dated.keys() - known) | (dated.keys() & failed) | {*newest}
    if len(wanted) > _MOST:
        return store.list()
    return _of_folders(store, days.below, wanted)


def list_days(
    store: ObjectSource, days: DayFolders | None, ledger: pl.LazyFrame, since: date, until: date
) -> Listing | None:
    """The objects in the folders of the days from `since` to `until`; None where listing everything is as good.

    Raises:
        SourceUnavailable: the store doesn't answer.
    """
    folders = _folders(store, days, ledger)
    if days is None or folders is None:
        return None
    wanted = [name for name in folders if (day := days.day_of(name)) is not None and since <= day <= until]
    return _of_folders(store, days.below, wanted) if len(wanted) <= _MOST else None


def _folders(store: ObjectSource, days: DayFolders | None, ledger: pl.LazyFrame) -> Collection[str] | None:
    """The names of the folders of days; None for a place that is small, or has no such folders."""
    import polars as pl

    is_large = days is not None and ledger.select(pl.col("object").n_unique()).collect().item() > FEW
    return store.folders(days.below) if days and is_large else None


def _of_folders(store: ObjectSource, below: str, names: Collection[str]) -> Listing:
    import polars as pl

    found = [store.list(f"{below}{name}") for name in sorted(names)]
    columns = listing_schema()
    objects = pl.concat([pl.DataFrame(schema=columns), *(each.objects.select(*columns) for each in found)])
    return Listing(objects, tuple(skipped for each in found for skipped in each.passed_over))
