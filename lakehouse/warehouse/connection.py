"""What dbt's models see of the lake: views over its tables, and the calendars and venues of the sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.lake.engine import prepare
from lakehouse.lake.lake import SHARED_SCHEMA, Lake
from lakehouse.settings import Settings, settings
from lakehouse.sources.config import BarFileConfig, configured_sources

if TYPE_CHECKING:
    import duckdb
    import polars as pl

SHOWN = ("bars", "daily_bars")
"""The tables of each source that models may read."""


def attach_lake(connection: duckdb.DuckDBPyConnection, catalog: str = "lakehouse") -> None:
    """Attaches an in-memory catalog to `connection` in which the lake can be read, once; a second call on the
    same database does nothing.

    In it: `<source>.bars` and `<source>.daily_bars` of every configured source (empty where nothing was
        loaded), `lake.ingest_ledger`, `calendar.sessions` (calendar, session, open_at, close_at,
        is_early_close) and `calendar.venues` (source, mic, name, country, time_zone, currency, calendar). With
        `LAKEHOUSE_AS_OF` set, all of it as of that moment.
    """
    if connection.execute("SELECT 1 FROM duckdb_databases() WHERE database_name = ?", [catalog]).fetchone():
        return
    config = settings()
    lake = Lake.open(config, as_of=config.as_of)
    prepare(connection, lake.uri)
    connection.execute(f"ATTACH ':memory:' AS {catalog}")
    sources = configured_sources()
    lake.attach(
        connection,
        [(SHARED_SCHEMA, "ingest_ledger"), *((source, table) for source in sources for table in SHOWN)],
        catalog,
    )
    connection.execute(f"CREATE SCHEMA {catalog}.calendar")
    for name, frame in (
        ("sessions", _sessions(list(sources.values()), config)),
        ("venues", _venues(list(sources.values()))),
    ):
        connection.register("attached_frame", frame)
        connection.execute(f"CREATE TABLE {catalog}.calendar.{name} AS FROM attached_frame")
        connection.unregister("attached_frame")


def _sessions(sources: list[BarFileConfig], config: Settings) -> pl.DataFrame:
    import polars as pl

    frames = [source.calendar_frame(config).frame for source in sources]
    return pl.concat(frames).unique(["calendar", "session"], keep="first", maintain_order=True)


def _venues(sources: list[BarFileConfig]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(
        [{"source": source.source, "calendar": source.calendar, **source.venue.model_dump()} for source in sources]
    )
