"""Rehearses a load: lists what a dataset's place offers, and reads the first rows of some objects as a load would,
without storing anything.

Names, bytes and rows are read by the code that loads (`discover`, `formats`, `stage`). What the rows mean is judged in
the domains; a report of all datasets of a source is made in `lakehouse.derive.source_check`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakehouse.errors import LakehouseError, ObjectReplaced, ObjectUnreadable
from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.discover import ObjectVersion, discover, store_of
from lakehouse.ingest.formats import Received
from lakehouse.ingest.landing import Landing
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.reading_ahead import reader_of
from lakehouse.ingest.refused import Refusal
from lakehouse.ingest.shape import mistakes_in
from lakehouse.ingest.skipped import Skipped
from lakehouse.ingest.stage import OUTSIDE_FILE, Chunk, rows_of
from lakehouse.ingest.unpacked import CorruptObject
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa

MOST_OBJECTS = 24
"""How many objects are read: as many as a session has where each holds an hour."""
MOST_BYTES = 64_000_000
"""Packed bytes of the objects that are read; one is always read."""


@dataclass(frozen=True)
class ReadObject:
    """What the first rows of an object (up to 100,000 lines or 16 MB) would be in the lake.

    Args:
        rows: the accepted ones, with the raw table's columns; None if the object can't be read.
        refused: row_number, reasons and row (its text) of the others.
        received: how many rows were read.
        error: why the object can't be read.
        mistakes: what its look says against the YAML, where rows were refused.
    """

    item: ObjectVersion
    rows: pl.DataFrame | None
    refused: pl.DataFrame | None
    received: int = 0
    error: str | None = None
    mistakes: Sequence[str] = ()

    @property
    def reasons(self) -> list[list[str]]:
        """The reasons against each refused row."""
        return [] if self.refused is None else self.refused["reasons"].to_list()


@dataclass(frozen=True)
class Rehearsal:
    """What a load of a dataset would find.

    Args:
        found: the objects that it would load, oldest partition first.
        skipped: those that match no pattern or can't be listed.
        read: the newest objects that were read.
    """

    dataset: Dataset
    found: Sequence[ObjectVersion]
    skipped: Sequence[Skipped]
    read: Sequence[ReadObject]

    @property
    def rows(self) -> pl.DataFrame:
        """The accepted rows of all objects that were read."""
        import polars as pl

        frames = [each.rows for each in self.read if each.rows is not None]
        return pl.concat(frames) if frames else pl.DataFrame(schema=pl.Schema(self.dataset.contract.arrow_schema))

    @property
    def refusal(self) -> Refusal:
        """The refused rows, counted as those of a load: without rows of days that have no partition."""
        counts: Counter[str] = Counter()
        received = refused = 0
        kept_none = []
        for each in self.read:
            of_object = [reasons for reasons in each.reasons if self.dataset.partitioning.without not in reasons]
            inside = each.received - (len(each.reasons) - len(of_object))
            received, refused = received + inside, refused + len(of_object)
            counts.update(reason for reasons in of_object for reason in reasons)
            if of_object and len(of_object) == inside:
                kept_none.append(each.item.name)
        return Refusal(received, refused, dict(counts.most_common()), kept_none)

    @property
    def outside(self) -> int:
        """How many rows are of days that have no partition."""
        return sum(self.dataset.partitioning.without in reasons for each in self.read for reasons in each.reasons)


def rehearse(empty: Lake, dataset: Dataset) -> Rehearsal:
    """Lists the objects of a dataset and reads the newest ones.

    Args:
        empty: a lake without tables, so that every object is new.

    Raises:
        SourceError: the settings name no place, or a credential is not set.
        SourceUnavailable: the place can't be listed or read.
    """
    listed = discover(empty, dataset, retry_failed=True)
    store = store_of(empty, dataset)
    with empty.connect() as connection:
        read = [each for item in _newest(listed.pending) for each in read_first(store, [item], dataset, connection)]
    return Rehearsal(dataset, listed.pending, [each for each in listed.skipped if each.objects], read)


def read_first(
    store: ObjectSource | Landing,
    items: Sequence[ObjectVersion],
    dataset: Dataset,
    connection: duckdb.DuckDBPyConnection,
    *,
    chosen: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows,
    explain: bool = True,
) -> list[ReadObject]:
    """Reads the first rows of objects, typed and judged as in a load; all of them are in memory together.

    Args:
        chosen: picks rows of an object, as text.
        explain: look for the mistakes in the YAML, where rows are refused.

    Raises:
        SourceUnavailable: no object can be read.
    """
    read = [_first_block(store, item, dataset, chosen) for item in items]
    sound = [(item, each) for item, each in zip(items, read, strict=True) if isinstance(each, Received)]
    chunk = Chunk.of(dataset, [item for item, _ in sound], [each for _, each in sound], datetime.now(UTC))
    found = rows_of(chunk, connection, {}, None)
    raw, refused = (_by_object(table) for table in (found.raw, found.refused))
    made = []
    for item, each in zip(items, read, strict=True):
        if isinstance(each, Received):
            rows, bad = raw(item.name), refused(item.name)
            misdated = {OUTSIDE_FILE, dataset.partitioning.without}
            is_misdated = any(misdated.intersection(reasons) for reasons in bad["reasons"])
            mistakes = _mistakes(store, item, dataset, is_misdated) if explain and bad.height else ()
            made.append(ReadObject(item, rows, bad, each.rows, None, mistakes))
        else:
            mistakes = _mistakes(store, item, dataset, False) if explain and isinstance(each, CorruptObject) else ()
            made.append(ReadObject(item, None, None, 0, str(each), mistakes))
    return made


def _first_block(
    store: ObjectSource | Landing,
    item: ObjectVersion,
    dataset: Dataset,
    chosen: Callable[[pl.DataFrame], pl.DataFrame],
) -> Received | LakehouseError:
    try:
        reader = reader_of(store, item, dataset)
        with reader.file:
            first = next(iter(reader))
    except (CorruptObject, ObjectUnreadable, ObjectReplaced) as error:
        return error
    if first.frame is None or (frame := chosen(first.frame)).height == first.frame.height:
        return first
    return replace(first, rows=frame.height, frame=frame, malformed={})


def _by_object(table: pa.Table) -> Callable[[str], pl.DataFrame]:
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(table))
    parts = frame.partition_by("object", as_dict=True)
    return lambda name: parts.get((name,), frame.clear())


def _mistakes(store: ObjectSource | Landing, item: ObjectVersion, dataset: Dataset, is_misdated: bool) -> Sequence[str]:
    try:
        with store.fetch(item.path, item.tag) as file:
            return mistakes_in(dataset.rows, item.path, file, is_misdated=is_misdated)
    except (ObjectUnreadable, ObjectReplaced):
        return ()


def _newest(found: Sequence[ObjectVersion]) -> list[ObjectVersion]:
    chosen: list[ObjectVersion] = []
    size = 0
    for item in sorted(found, key=lambda item: (item.last_partition, item.published_at, item.name), reverse=True):
        size += item.size
        if chosen and (len(chosen) == MOST_OBJECTS or size > MOST_BYTES):
            break
        chosen.append(item)
    return chosen


def ledger_rows(found: Sequence[ObjectVersion], product: str) -> pl.DataFrame:
    """The ledger's entries that a load would leave behind, as far as they say which partitions are complete."""
    import polars as pl

    text, day = pl.String(), pl.Date()
    columns = {
        "object": pl.Series([item.name for item in found], dtype=text),
        "product": pl.Series([product] * len(found), dtype=text),
        "status": pl.Series(["loaded"] * len(found), dtype=text),
        "published_at": pl.Series([item.published_at for item in found], dtype=pl.Datetime("us", "UTC")),
        "first_session": pl.Series([item.first_partition for item in found], dtype=day),
        "last_session": pl.Series([item.last_partition for item in found], dtype=day),
    }
    return pl.DataFrame(columns)
