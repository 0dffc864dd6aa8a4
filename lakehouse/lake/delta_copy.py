"""Keeps a Delta table outside the lake equal to a query, for engines that read Delta: months that changed are replaced.

Each commit says by a digest which rows every month has, so that the table isn't read to find out what changed. Where
another program has changed its rows since, or its columns are others, it is written whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from lakehouse.errors import SourceError, SourceUnavailable, in_one_line
from lakehouse.lake.location import Location, storage_options
from lakehouse.lake.parquet import writer_properties
from lakehouse.lake.sql import Query, literal

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from deltalake import DeltaTable

Ask = Callable[[str], "duckdb.DuckDBPyRelation"]
Digests = Mapping[str, int]
"""Month -> digest of its rows."""

_KEPT = "lakehouse.digests"
_OURS = "Kept equal to a query by a report of Lakehouse, which replaces what others write."
"""The description of such tables. One without it is another program's, or the lake's own, and is left alone."""
_UNCHANGING = {"OPTIMIZE", "VACUUM START", "VACUUM END", "FSCK"}
"""Commits of other programs that leave the rows as they are."""


@dataclass(frozen=True)
class Copied:
    """How many rows the table has now, and how many of them were written."""

    rows: int
    written: int


def keep_equal(ask: Ask, query: Query, by: str | None, uri: str) -> Copied:
    """Makes the Delta table at `uri` equal to a query, by one commit, or by none where it is.

    Args:
        ask: runs a query, as `Lake.sql` does.
        query: its columns become the table's.
        by: a column of dates or moments, by whose months rows are compared and replaced. None: all at once.
        uri: a folder or s3://bucket/prefix; made where it is missing.

    Raises:
        duckdb.Error: the query fails.
        SourceError: the place has a Delta table that isn't such a copy.
        SourceUnavailable: the table can't be read or written, or another writer came first.
    """
    from deltalake import CommitProperties, write_deltalake
    from deltalake.exceptions import DeltaError

    month = f"coalesce(strftime(\"{by}\", '%Y-%m'), '')" if by else "''"
    found = ask(
        f"""
        SELECT month, count(*), ((sum(row_digest) + count(*)) % {2**62})::BIGINT
        FROM (SELECT {month} AS month, hash(*COLUMNS(*)) AS row_digest FROM ({query}))
        GROUP BY ALL
        """
    ).fetchall()
    counts, digests = {name: rows for name, rows, _ in found}, {name: digest for name, _, digest in found}
    schema = ask(f"FROM ({query}) LIMIT 0").to_arrow_table().schema
    location, options = Location(uri), storage_options(uri)
    try:
        location.open()
        delta = _opened(location, uri, options)
        known = _digests_in(delta, schema)
        wanted = sorted(digests) if known is None else sorted(dict(digests.items() ^ known.items()))
        if known is None or wanted:
            location.create()
            write_deltalake(
                delta or location.uri,
                _read(ask, query, month, wanted, schema),
                mode="overwrite",
                schema_mode="overwrite" if known is None else None,
                predicate=None if known is None else " OR ".join(_within(by, name) for name in wanted),
                description=_OURS,
                writer_properties=writer_properties(schema),
                # A retry would put these rows beside those of another writer.
                commit_properties=CommitProperties({_KEPT: json.dumps(digests)}, max_commit_retries=0),
                storage_options=options,
            )
    except (OSError, DeltaError) as error:
        raise SourceUnavailable(f"the Delta table {uri} can't be written: {in_one_line(error)}") from error
    return Copied(sum(counts.values()), sum(counts.get(name, 0) for name in wanted))


def _opened(location: Location, uri: str, options: dict[str, str]) -> DeltaTable | None:
    """The copy of an earlier run; None if there is nothing.

    Raises:
        SourceError: the place has another Delta table.
    """
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(location.uri, options):
        return None
    delta = DeltaTable(location.uri, storage_options=options)
    if delta.metadata().description != _OURS:
        raise SourceError(
            f"{uri} is a Delta table that no report has made, and would lose its rows: name another place in the "
            "report's `url`"
        )
    return delta


def _digests_in(delta: DeltaTable | None, schema: pa.Schema) -> Digests | None:
    """What the table's rows are, by the last commit that changed them; None if that wasn't one of ours, or the columns
    are others.
    """
    from deltalake import Schema

    if delta is None or delta.schema() != Schema.from_arrow(schema):
        return None
    for commit in delta.history():
        if _KEPT in commit:
            kept: Digests = json.loads(commit[_KEPT])
            return kept
        if commit.get("operation") not in _UNCHANGING:
            break
    return None


def _read(ask: Ask, query: Query, month: str, months: Sequence[str], schema: pa.Schema) -> pa.RecordBatchReader:
    """The rows of some months in the order of their columns, a month in memory at a time."""
    import pyarrow as pa

    def batches() -> Iterator[pa.RecordBatch]:
        for name in months:
            rows = ask(f"FROM ({query}) WHERE {month} = {literal(name)} ORDER BY ALL")
            yield from rows.to_arrow_table().cast(schema).to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _within(by: str | None, month: str) -> str:
    """The condition of a month's rows in the table."""
    if by is None:
        return "true"
    if not month:
        return f'"{by}" IS NULL'
    first = date.fromisoformat(f"{month}-01")
    if (first.year, first.month) == (9999, 12):
        # Open ends are often written so, and no date follows its month.
        return f"\"{by}\" >= '{first}'"
    after = (first + timedelta(days=31)).replace(day=1)
    return f"(\"{by}\" >= '{first}' AND \"{by}\" < '{after}')"
