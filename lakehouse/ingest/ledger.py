"""The ledger: the outcome of loading each object version. It makes loading exactly-once, so only this module decides
what is still to be loaded and how an object's entries are ordered.

Entries are append-only, each numbered within its object on the snapshot that it is committed on: neither a clock nor a
modification time decides which is the newest. An object's highest number is its latest state at the source, even if a
version came back (A, B, A) or was read again by other rules. An entry counts from its `ingested_at` on: as of a moment,
the highest number among the entries up to it counts. So a clock that was ahead only hides the entries written under it
from earlier moments.

A version is stored under `<version>+<reading>`, so that rows left behind by a killed load are never mistaken for those
of another reading of the same version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Query, literal

if TYPE_CHECKING:
    import polars as pl

LEDGER = "ingest_ledger"
READING_DIGITS = 12
_LISTED = rf"^(.*?)(?:\+[0-9a-f]{{{READING_DIGITS}}})?$"
"""Matches a stored version; the first group is the version that the source lists."""
UNANSWERED = "-unanswered"
"""Suffix of the version of an unanswered API request."""
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
    """A row that a load added to the ledger, and its parts that no earlier entry had."""

    row: dict[str, Any]
    new_parts: frozenset[date]


def stored_version(listed: str, reading: str) -> str:
    """The version under which the rows of a listed version are stored."""
    return f"{listed}+{reading}"


def listed_version(stored: str) -> str:
    """A stored version as its source lists it."""
    match = re.match(_LISTED, stored, re.DOTALL)
    return match[1] if match else stored


def ledger_of(lake: Lake, source: str) -> pl.LazyFrame:
    """The ledger's rows of a source, one for every object version ever taken. Collect only the columns you need."""
    import polars as pl

    return lake.table(LEDGER).scan().filter(pl.col("source") == source)


def about(ledger: Snapshot, source: str, dataset: str, partitions: Sequence[date]) -> Query:
    """A DuckDB query for the ledger's rows, in all versions, of a dataset's objects that may hold rows of
    `partitions`.
    """
    if not partitions:
        return Query(f"SELECT * FROM ({ledger.select({'source': [source]})}) WHERE false")
    return Query(f"""
        SELECT * FROM ({ledger.select({"source": [source]})}) WHERE product = {literal(dataset)} AND object IN (
            SELECT object FROM ({ledger.select({"source": [source]})})
            WHERE first_session <= {literal(max(partitions))} AND last_session >= {literal(min(partitions))}
        )
    """)


def newest_entries(ledger: pl.LazyFrame) -> pl.LazyFrame:
    """The last committed entry of each object."""
    order = ("sequence", "ingested_at", "published_at")
    return ledger.sort(order, nulls_last=False).unique("object", keep="last", maintain_order=True)


def failed_objects(ledger: pl.LazyFrame) -> pl.DataFrame:
    """The objects whose last entry is a failure: product, first_session, last_session, object, error; sorted."""
    import polars as pl

    failed = newest_entries(ledger).filter(pl.col("status") == "failed")
    columns = ("product", "first_session", "last_session", "object", "error")
    return failed.select(columns).sort("first_session", "object").collect()


def pending(
    listed: pl.DataFrame,
    ledger: pl.LazyFrame,
    *,
    retry_failed: bool,
    answers: bool = False,
    reading: str | None = None,
) -> pl.DataFrame:
    """The listed object versions (columns name, version, ...) to be loaded: those that differ from the last entry of
    their object.

    A failed version is not tried again until its source replaces it, unless `retry_failed` (a manual retry, perhaps
    after a fix of the source's YAML).

    Args:
        answers: the versions are an API's answers. All of them are kept and listed; each is loaded once.
        reading: also return current versions that were read with another reading than this.
    """
    import polars as pl

    known = ledger if answers else newest_entries(ledger)
    done = known.filter(pl.col("status") != "failed") if retry_failed else known
    version = pl.col("object_version").str.extract(_LISTED)
    taken = done.select(pl.col("object").alias("name"), version.alias("version"), "reading").collect()
    key = ["name", "version"]
    waiting = listed.join(taken, on=key, how="anti")
    if reading is None:
        return waiting
    newest = listed.sort("version").unique("name", keep="last")
    again = newest.join(taken.filter(pl.col("reading") == reading), on=key, how="anti")
    return pl.concat([waiting, again]).unique(key)


def misordered(ledger: pl.LazyFrame) -> pl.DataFrame:
    """The unnumbered entries that were committed last of their objects although another one, published later, counts:
    earlier releases ordered versions by publication time. Sorted by object.
    """
    import polars as pl

    readable = ledger.filter(pl.col("status") != "failed")
    decided = readable.filter(pl.col("sequence").is_not_null()).select("object")
    ranked = readable.join(decided, on="object", how="anti")
    by_commit, by_publication = (
        ranked.sort(*order, "object_version").unique("object", keep="last", maintain_order=True)
        for order in (("ingested_at", "published_at"), ("published_at", "ingested_at"))
    )
    return by_commit.join(by_publication, on=["object", "object_version"], how="anti").sort("object").collect()


def numbered(
    rows: Iterable[Mapping[str, Any]], stored: Iterable[Mapping[str, Any]], *, answers: bool = False
) -> list[Entry]:
    """Returns those of `rows` that add to the `stored` entries of their objects, numbered in their order.

    A row adds nothing if the last entry of its object has the same version and reading and is not a failure, or is the
    same failure. Each of an API's `answers` is added once; one that arrives after a later one gets no number.
    """
    known: dict[str, list[Mapping[str, Any]]] = {}
    for entry in stored:
        known.setdefault(entry["object"], []).append(entry)
    found = []
    for given in rows:
        entries = known.setdefault(given["object"], [])
        same = [entry for entry in entries if entry["object_version"] == given["object_version"]]
        last = max(same if answers else entries, key=_rank, default=None)
        if last is not None and last["object_version"] == given["object_version"] and _says_same(last, given):
            continue
        number = None if answers and _overtaken(given, entries) else _next(entries)
        row: dict[str, Any] = {**given, "sequence": number}
        stored_parts = {_place(part) for entry in entries for part in entry["parts"]}
        found.append(Entry(row, frozenset(part["part"] for part in row["parts"] if _place(part) not in stored_parts)))
        entries.append(row)
    return found


def _rank(entry: Mapping[str, Any]) -> tuple[int, datetime, datetime]:
    return entry["sequence"] or 0, entry["ingested_at"] or _NEVER, entry["published_at"] or _NEVER


def _next(entries: Sequence[Mapping[str, Any]]) -> int:
    return max((entry["sequence"] or 0 for entry in entries), default=0) + 1


def _says_same(last: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    said = ("status", "error", "is_withheld", "is_refused")
    return last["status"] != "failed" or all(last.get(name) == row.get(name) for name in said)


def _overtaken(row: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a later answer to the same request was loaded before this one; answers are named in their order."""
    version = listed_version(row["object_version"])
    return not version.endswith(UNANSWERED) and any(
        entry["status"] != "failed" and listed_version(entry["object_version"]) > version for entry in entries
    )


def _place(part: Mapping[str, Any]) -> tuple[str, date]:
    return part["object_version"], part["part"]
