"""What stood in a chunk of objects becomes rows: good ones for raw_bars, refused ones for the quarantine, and
an answer for every object in the ledger.

Nothing is written here (see `load`). Which rows are good is said by the contract of raw_bars and by two rules
of the object itself: its rows are of its date, and that date is a session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lakehouse.lake.contract import contract_of
from lakehouse.lake.validation import Predicates, good, predicates_of, reasons
from lakehouse.market.calendar import SessionCalendar
from lakehouse.pipeline.pending import PendingObject
from lakehouse.sources.bar_files import ObjectDamaged, Received, typed, untyped_columns
from lakehouse.sources.config import BarFileConfig

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa

Read = Received | ObjectDamaged
"""What stood in an object, or why nobody can say."""


@dataclass(frozen=True)
class Chunk:
    """Objects that were read together, and the moment at which the lake comes to know them."""

    objects: Sequence[PendingObject]
    read: Sequence[Read]
    ingested_at: datetime


@dataclass(frozen=True)
class Rows:
    """The rows of a chunk for each table: raw_bars and quarantine as Arrow tables, the ledger as records."""

    bars: pa.Table
    refused: pa.Table
    ledger: list[dict[str, Any]]


def rows_of(
    chunk: Chunk,
    config: BarFileConfig,
    calendar: SessionCalendar,
    connection: duckdb.DuckDBPyConnection,
    run_id: str | None,
) -> Rows:
    """Sorts the rows of a chunk into good and refused ones, and answers for its objects."""
    import pyarrow as pa

    bars, reasons_by_object = _sorted_out(chunk, config, calendar, connection)
    refused = [
        row for number in range(len(chunk.objects)) for row in _refused(chunk, number, config, reasons_by_object)
    ]
    return Rows(
        bars,
        pa.Table.from_pylist(refused, schema=contract_of("quarantine").arrow_schema),
        _ledger(chunk, config, refused, run_id),
    )


def _sorted_out(
    chunk: Chunk, config: BarFileConfig, calendar: SessionCalendar, connection: duckdb.DuckDBPyConnection
) -> tuple[pa.Table, dict[int, dict[int, list[str]]]]:
    """The good rows, and for each object (by number) the reasons against the others (by row number)."""
    import polars as pl

    schema = config.contract("raw_bars").arrow_schema
    texts = [
        received.frame.with_columns(pl.lit(number, pl.UInt32).alias("object_number"))
        for number, received in enumerate(chunk.read)
        if isinstance(received, Received) and received.frame is not None
    ]
    if not texts:
        return schema.empty_table(), {}
    rows = typed(pl.concat(texts), config).join(_facts(chunk), on="object_number", maintain_order="left")
    rows = rows.with_columns(
        pl.col("start_at").dt.convert_time_zone(config.venue.time_zone).dt.date().alias("bar_day"),
        pl.lit(chunk.ingested_at).cast(pl.Datetime("us", "UTC")).alias("ingested_at"),
    )
    connection.register("received", rows.with_row_index("place").to_arrow())
    rules = _rules(config, calendar, connection)
    bad = connection.execute(
        f"SELECT place, object_number, row_number, {reasons(rules)} FROM received WHERE NOT ({good(rules)})"
    ).fetchall()
    connection.unregister("received")
    against: dict[int, dict[int, list[str]]] = {}
    for _, number, row_number, why in bad:
        against.setdefault(number, {})[row_number] = why
    if bad:
        places = pl.Series([place for place, *_ in bad], dtype=pl.Int64)
        rows = rows.filter(~pl.int_range(pl.len()).is_in(places.implode()))
    return rows.select(schema.names).to_arrow().cast(schema), against


def _facts(chunk: Chunk) -> pl.DataFrame:
    """What the rows of an object have in common."""
    import polars as pl

    return pl.DataFrame(
        {
            "object_number": range(len(chunk.objects)),
            "object": [item.name for item in chunk.objects],
            "object_version": [item.version for item in chunk.objects],
            "day": [item.day for item in chunk.objects],
            "session": [item.session for item in chunk.objects],
            "published_at": [item.published_at for item in chunk.objects],
        },
        schema_overrides={"object_number": pl.UInt32, "published_at": pl.Datetime("us", "UTC")},
    )


def _rules(config: BarFileConfig, calendar: SessionCalendar, connection: duckdb.DuckDBPyConnection) -> Predicates:
    contract = config.contract("raw_bars")
    return {
        **predicates_of(contract, connection, "received"),
        **{
            f"{name}_typed": (f"NOT untyped_{name}", f"{name} is not a {contract.column(name).type}")
            for name in untyped_columns(config)
        },
        "within_file": ("bar_day = day", "the time is outside its file's date"),
        "in_session": ("day = session", f"the day is no session of {calendar.name}"),
    }


def _refused(
    chunk: Chunk, number: int, config: BarFileConfig, reasons_by_object: dict[int, dict[int, list[str]]]
) -> list[dict[str, Any]]:
    """The quarantine's rows of one object, by row number."""
    received, item = chunk.read[number], chunk.objects[number]
    if not isinstance(received, Received):
        return []
    against = reasons_by_object.get(number, {})
    found = {row_number: ([why], text) for row_number, (text, why) in received.malformed.items()}
    if against:
        texts = received.text(list(against))
        found |= {row_number: (why, text) for (row_number, why), text in zip(against.items(), texts, strict=True)}
    return [
        {
            "source": config.source,
            "load_date": chunk.ingested_at.date(),
            "object": item.name,
            "object_version": item.version,
            "row_number": row_number,
            "session": item.session,
            "reasons": why,
            "row": text,
            "published_at": item.published_at,
            "ingested_at": chunk.ingested_at,
        }
        for row_number, (why, text) in sorted(found.items())
    ]


def _ledger(
    chunk: Chunk, config: BarFileConfig, refused: list[dict[str, Any]], run_id: str | None
) -> list[dict[str, Any]]:
    quarantined = Counter((row["object"], row["object_version"]) for row in refused)
    rows = []
    for item, received in zip(chunk.objects, chunk.read, strict=True):
        error = str(received) if isinstance(received, ObjectDamaged) else None
        count = 0 if isinstance(received, ObjectDamaged) else received.rows
        rows.append(
            {
                "source": config.source,
                "object": item.name,
                "object_version": item.version,
                "size": item.size,
                "status": "failed" if error is not None else "loaded" if count else "empty",
                "error": error,
                "session": item.session,
                "rows_received": count,
                "rows_quarantined": quarantined[item.name, item.version],
                "sessions": [{"session": item.session, "rows": count}] if count else [],
                "published_at": item.published_at,
                "ingested_at": chunk.ingested_at,
                "run_id": run_id,
            }
        )
    return rows
