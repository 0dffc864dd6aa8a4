"""Loading: objects of a source become rows of raw_bars, of the quarantine, and of the ledger.

Three tables are written, one after the other, and no lock is held. A load that is killed between two of them, or that meets another load of the same objects, is
made whole by one rule: a table takes the rows of an object version only if it has none of them yet, and of two writers that decide so on the same
snapshot the second has to decide again (`Snapshot.append`). The ledger comes last: until an object version stands there, nobody reads its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from lakehouse.lake.lake import Lake
from lakehouse.lake.ledger import LEDGER, ledger_of, pending
from lakehouse.lake.table import literal, predicate, retry_when_stale
from lakehouse.lake.validation import good, predicates_of, reasons
from lakehouse.market.calendar import SessionCalendar
from lakehouse.progress import Progress
from lakehouse.sources.bar_files import ObjectDamaged, Received, read_object, typed, untyped_columns
from lakehouse.sources.config import BarFileConfig
from lakehouse.sources.objects import ObjectStoreSource

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa


# Memory follows the objects read at once: 32 MB of gzip are some 1.2 million bars and 1 GB at the peak.
_CHUNK_BYTES = 32_000_000
_THREADS = 4
_OUTSIDE = "the time is outside its file's date"


@dataclass
class Loaded:
    """What a load did: objects by status, rows, the sessions whose raw rows changed, and the errors by object."""

    objects: dict[str, int] = field(default_factory=lambda: {"loaded": 0, "empty": 0, "failed": 0})
    rows_received: int = 0
    rows_quarantined: int = 0
    sessions: set[date] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PendingObject:
    """An object version that is to be loaded."""

    name: str
    version: str
    size: int
    published_at: datetime
    tag: str | None
    day: date
    """The day, on the exchange's clock, that it is about."""
    session: date
    """The session whose partition takes it in: that of `day`, or the next one."""


def pending_objects(lake: Lake, config: BarFileConfig, calendar: SessionCalendar, *, retry_failed: bool) -> list[PendingObject]:
    """The object versions at the source that the lake hasn't taken yet, oldest session first."""
    listed = ObjectStoreSource(config.url()).list()
    waiting = pending(listed, ledger_of(lake, config.source), retry_failed=retry_failed)
    days = _days(config)
    found = []
    for row in waiting.iter_rows(named=True):
        day = days(row["name"])
        session = calendar.session_on_or_after(day) if day else None
        if day and session:
            found.append(PendingObject(row["name"], row["version"], row["size"], row["published_at"], row["tag"], day, session))
    return sorted(found, key=lambda item: (item.session, item.name))


def _days(config: BarFileConfig) -> Callable[[str], date | None]:
    """Object name -> the day on the exchange's clock that the object is about, or None for a foreign object."""
    zone, local = ZoneInfo(config.time.zone), ZoneInfo(config.venue.time_zone)

    def day(name: str) -> date | None:
        dated = config.object_hour(name)
        if dated is None:
            return None
        on, hour = dated
        return on if hour is None else datetime(on.year, on.month, on.day, hour, tzinfo=zone).astimezone(local).date()

    return day


def load(
    lake: Lake, config: BarFileConfig, sessions: Sequence[date], *, run_id: str | None = None, progress: Progress = lambda *_: None
) -> Loaded:
    """Loads every pending object of `sessions`, in chunks that fit into memory.

    An object that can't be read is recorded as failed, and the others go on. Nothing pending writes nothing.

    Raises:
        SourceUnavailable: the source doesn't answer; what was committed before stays, the rest is for the next try.
    """
    wanted = set(sessions)
    calendar = config.calendar_frame()
    objects = [item for item in pending_objects(lake, config, calendar, retry_failed=True) if item.session in wanted]
    result, done = Loaded(), 0
    source = ObjectStoreSource(config.url())
    for chunk in _chunks(objects):
        with ThreadPoolExecutor(_THREADS) as pool:
            read: list[Received | ObjectDamaged] = []
            for received in pool.map(lambda item: _read(source, item, config), chunk):
                read.append(received)
                done += 1
                progress("objects read", done, len(objects))
        _load_chunk(lake, config, calendar, chunk, read, run_id, result)
    return result


def _chunks(objects: Sequence[PendingObject]) -> Iterator[list[PendingObject]]:
    chunk: list[PendingObject] = []
    size = 0
    for item in objects:
        if chunk and size + item.size > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += item.size
    if chunk:
        yield chunk


def _read(source: ObjectStoreSource, item: PendingObject, config: BarFileConfig) -> Received | ObjectDamaged:
    try:
        return read_object(item.name, source.fetch(item.name, item.tag), config)
    except ObjectDamaged as damage:
        return damage


def _load_chunk(
    lake: Lake,
    config: BarFileConfig,
    calendar: SessionCalendar,
    objects: list[PendingObject],
    read: list[Received | ObjectDamaged],
    run_id: str | None,
    result: Loaded,
) -> None:
    ingested_at = datetime.now(UTC)
    names = [f"{config.source}/{session}" for session in sorted({item.session for item in objects})]
    with lake.connect() as connection:
        bars, refused = _sorted_out(connection, config, calendar, objects, read, ingested_at)
        _append_absent(lake, connection, config.table("raw_bars"), bars, "session", names)
        _append_absent(lake, connection, "quarantine", refused, "source", names)
    ledger = _ledger_rows(config, objects, read, refused, ingested_at, run_id)
    written = retry_when_stale(lambda: _append_ledger(lake, ledger, names))

    for row in written:
        result.objects[row["status"]] += 1
        result.rows_received += row["rows_received"]
        result.rows_quarantined += row["rows_quarantined"]
        result.sessions.add(row["session"])
        if row["error"]:
            result.errors[row["object"]] = row["error"]


def _sorted_out(
    connection: duckdb.DuckDBPyConnection,
    config: BarFileConfig,
    calendar: SessionCalendar,
    objects: list[PendingObject],
    read: list[Received | ObjectDamaged],
    ingested_at: datetime,
) -> tuple[pa.Table, pa.Table]:
    """The rows of a chunk as (rows for raw_bars, rows for the quarantine)."""
    import polars as pl
    import pyarrow as pa

    facts = pl.DataFrame(
        {
            "object_number": range(len(objects)),
            "object": [item.name for item in objects],
            "object_version": [item.version for item in objects],
            "day": [item.day for item in objects],
            "session": [item.session for item in objects],
            "published_at": [item.published_at for item in objects],
        },
        schema_overrides={"object_number": pl.UInt32, "published_at": pl.Datetime("us", "UTC")},
    )
    texts = [
        received.frame.with_columns(pl.lit(number, pl.UInt32).alias("object_number"))
        for number, received in enumerate(read)
        if isinstance(received, Received) and received.frame is not None
    ]
    raw_schema = config.contract("raw_bars").arrow_schema
    refused: list[dict[str, Any]] = []
    if texts:
        local_day = pl.col("start_at").dt.convert_time_zone(config.venue.time_zone).dt.date()
        rows = typed(pl.concat(texts), config).with_columns(
            local_day.alias("bar_day"), pl.lit(ingested_at).cast(pl.Datetime("us", "UTC")).alias("ingested_at")
        ).join(facts, on="object_number", maintain_order="left")  # fmt: skip
        connection.register("chunk", rows.with_row_index("place").to_arrow())
        rules = {
            **predicates_of(config.contract("raw_bars"), connection, "chunk"),
            **{f"{name}_typed": (f"NOT untyped_{name}", f"{name} is not a {config.contract('raw_bars').column(name).type}") for name in untyped_columns(config)},
            "within_file": ("bar_day = day", _OUTSIDE),
            "in_session": ("day = session", f"the day is no session of {calendar.name}"),
        }
        bad = connection.execute(f"SELECT place, object_number, row_number, {reasons(rules)} AS reasons FROM chunk WHERE NOT ({good(rules)}) ORDER BY place").fetchall()
        connection.unregister("chunk")
        places = pl.Series([place for place, *_ in bad], dtype=pl.Int64)
        kept = rows.filter(~pl.int_range(pl.len()).is_in(places.implode())) if bad else rows
        bars = kept.select(raw_schema.names).to_arrow()
        for _, number, row_number, why in bad:
            refused.append({"number": number, "row_number": row_number, "reasons": why})
    else:
        bars = raw_schema.empty_table()
    return bars.cast(raw_schema), _quarantined(config, objects, read, refused, ingested_at, pa)


def _quarantined(config: BarFileConfig, objects: list[PendingObject], read: list[Received | ObjectDamaged], refused: list[dict[str, Any]], ingested_at: datetime, pa: Any) -> Any:
    by_object: dict[int, list[dict[str, Any]]] = {}
    for entry in refused:
        by_object.setdefault(entry["number"], []).append(entry)
    rows = []
    for number, (item, received) in enumerate(zip(objects, read, strict=True)):
        if not isinstance(received, Received):
            continue
        entries = by_object.get(number, [])
        texts = received.text([entry["row_number"] for entry in entries]) if entries else []
        found = [(entry["row_number"], entry["reasons"], text) for entry, text in zip(entries, texts, strict=True)]
        found += [(row_number, [why], text) for row_number, (text, why) in received.malformed.items()]
        for row_number, why, text in sorted(found):
            rows.append(
                {
                    "source": config.source,
                    "load_date": ingested_at.date(),
                    "object": item.name,
                    "object_version": item.version,
                    "row_number": row_number,
                    "session": item.session,
                    "reasons": why,
                    "row": text,
                    "published_at": item.published_at,
                    "ingested_at": ingested_at,
                }
            )
    from lakehouse.lake.contract import contract_of

    return pa.Table.from_pylist(rows, schema=contract_of("quarantine").arrow_schema)


def _ledger_rows(
    config: BarFileConfig, objects: list[PendingObject], read: list[Received | ObjectDamaged], refused: pa.Table, ingested_at: datetime, run_id: str | None
) -> list[dict[str, Any]]:
    quarantined: dict[tuple[str, str], int] = {}
    for name, version in zip(refused["object"].to_pylist(), refused["object_version"].to_pylist(), strict=True):
        quarantined[name, version] = quarantined.get((name, version), 0) + 1
    rows = []
    for item, received in zip(objects, read, strict=True):
        damaged = isinstance(received, ObjectDamaged)
        count = 0 if isinstance(received, ObjectDamaged) else received.rows
        rows.append(
            {
                "source": config.source,
                "object": item.name,
                "object_version": item.version,
                "size": item.size,
                "status": "failed" if damaged else "loaded" if count else "empty",
                "error": str(received) if damaged else None,
                "session": item.session,
                "rows_received": count,
                "rows_quarantined": quarantined.get((item.name, item.version), 0),
                "sessions": [{"session": item.session, "rows": count}] if count else [],
                "published_at": item.published_at,
                "ingested_at": ingested_at,
                "run_id": run_id,
            }
        )
    return rows


def _append_absent(lake: Lake, connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table, partition: str, transactions: list[str]) -> None:
    """Appends the rows of those object versions of which the table has none yet."""
    if not rows.num_rows:
        return
    partitions = {partition: [str(value) for value in rows[partition].unique().to_pylist()]}

    def work() -> None:
        snapshot = lake.table(name).snapshot()
        connection.register("incoming", rows)
        fresh = rows
        if snapshot.files(partitions):
            fresh = connection.execute(
                f"SELECT * FROM incoming ANTI JOIN (SELECT DISTINCT object, object_version FROM ({snapshot.select(partitions)})) USING (object, object_version)"
            ).to_arrow_table()
        if fresh.num_rows:
            snapshot.append(fresh, transactions)

    retry_when_stale(work)


def _append_ledger(lake: Lake, rows: list[dict[str, Any]], transactions: list[str]) -> list[dict[str, Any]]:
    """Writes the rows that say something new, and returns them. A version that failed before gets its row replaced once it is read, or fails in another way."""
    import polars as pl
    import pyarrow as pa

    table = lake.table(LEDGER)
    snapshot = table.snapshot()
    wanted = [row["object"] for row in rows]
    kept = snapshot.scan().filter((pl.col("source") == rows[0]["source"]) & pl.col("object").is_in(wanted)).collect()
    known = {(row["object"], row["object_version"]): row for row in kept.iter_rows(named=True)}
    news, replaced = [], []
    for row in rows:
        old = known.get((row["object"], row["object_version"]))
        if old is None:
            news.append(row)
        elif old["status"] == "failed" and (row["status"], row["error"]) != (old["status"], old["error"]):
            news.append(row)
            replaced.append(row)
    if not news:
        return []
    arrow = pa.Table.from_pylist(news, schema=table.contract.arrow_schema)
    if replaced:
        keys = ("source", "object", "object_version")
        where = " OR ".join(f"({predicate({key: [row[key]] for key in keys})})" for row in replaced)
        touched = [row for row in news if row in replaced]
        snapshot.overwrite(pa.Table.from_pylist(touched, schema=table.contract.arrow_schema), where)
        arrow = pa.Table.from_pylist([row for row in news if row not in replaced], schema=table.contract.arrow_schema)
        snapshot = table.snapshot()
    if arrow.num_rows:
        snapshot.append(arrow, transactions)
    return news
