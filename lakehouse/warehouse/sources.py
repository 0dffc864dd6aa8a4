"""What dbt's models see of the lake: each table over all sources, and the calendars and venues of the sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.domains.market.bars.config import SourceConfig, configured_sources
from lakehouse.domains.market.corporate_actions import adjustment, splits
from lakehouse.domains.market.quotes.config import WINDOWS, broken_files, configured_feeds
from lakehouse.errors import SourceError
from lakehouse.lake.contract import contract_of
from lakehouse.lake.engine import prepare
from lakehouse.lake.lake import SHARED_SCHEMA, Lake
from lakehouse.lake.sql import literal
from lakehouse.settings import Settings, settings
from lakehouse.warehouse.parts import MARKET_MARTS, QUOTE_MARTS, Part
from lakehouse.warehouse.reading import pins_in

if TYPE_CHECKING:
    import duckdb
    import polars as pl

MARKET = MARKET_MARTS.schema
"""The SQL schema of the tables over all sources."""
FEED = QUOTE_MARTS.schema
"""The SQL schema of the tables over all feeds of quotes."""
_WITH_OFFICIAL_DAILY = ("official_daily", "corporate_actions")
TABLES = ("daily_bars", *_WITH_OFFICIAL_DAILY)
CONVENTION = "'crsp'"
"""By which convention the marts' returns count dividends."""
_CONVENTION_OF_VENDORS = "'reinvest'"

Relation = Callable[[str], str]
"""Makes the SQL name of one source's table, by the table's name."""

_TABLES_OF: dict[str, Callable[[], dict[str, list[str]]]] = {
    MARKET: lambda: {
        name: [config.table(table) for table in tables_of(config)] for name, config in configured_sources().items()
    },
    FEED: lambda: {name: [feed.table(WINDOWS)] for name, feed in configured_feeds().items()},
}
"""Domain -> source -> the tables that models read of it."""


def tables_of(source: SourceConfig) -> list[str]:
    """The tables of a source that models read."""
    return [table for table in TABLES if source.official_daily is not None or table not in _WITH_OFFICIAL_DAILY]


def part_tables(part: Part) -> dict[str, list[str]]:
    """The tables that a part's models read, by the sources that can be held back; as paths in the lake."""
    return {source: sorted(tables) for source, tables in _TABLES_OF.get(part.schema, dict)().items()}


def require_descriptions(lake: Lake, parts: Iterable[Part]) -> None:
    """Makes sure that no source or feed of the `parts` that the lake holds is left out, since its YAML is broken: the
    models would be built without its rows. One whose YAML was removed is left out on purpose.

    Raises:
        SourceError: a YAML can't be read, and the lake has tables of a source that no other YAML describes.
    """
    broken = broken_files()
    if not broken:
        return
    known = configured_sources().keys() | configured_feeds().keys()
    stored = {source for part in parts for source in lake.sources(part.schema)}
    if lost := sorted(stored - known):
        raise SourceError(
            f"the marts would lose the rows of {', '.join(lost)}: {'; '.join(map(str, broken.values()))}. "
            "Correct the file and publish again; the published file stays as it was"
        )


def attach_lake(connection: duckdb.DuckDBPyConnection, catalog: str = "lakehouse") -> None:
    """Attaches an in-memory catalog to `connection` in which the lake can be read, once; a second call on the
    same database does nothing.

    In it, with the source's name as first column, over every configured source that has them (typed and empty where
        none does): `market.daily_bars`, `market.official_daily`, `market.corporate_actions`; made from these,
        `market.adjustment_factors` (source, instrument_id, currency, ex_date, split_factor, dividend_factor,
        dividend_convention, skipped), `market.closes_as_traded` (source, instrument_id, currency, session,
        close; of the sources that have corporate actions) and `market.session_splits` (source, instrument_id, currency,
        session, split_factor, suspected_split; only where one of the two says something).
    Over every configured feed, likewise: `feed.quote_windows`, of the days (UTC) that are over and the lengths that its
        YAML lists, and `feed.resolutions` (source, resolution_minutes, period_s, offset_s, lateness_s, top_ranks).
    Further `<source>.<table>` of each of them, `lake.ingest_ledger`, `calendar.sessions` (calendar, session, open_at,
        close_at, is_early_close) and `calendar.venues` (source, mic, name, country, time_zone, currency, calendar).
        With `LAKEHOUSE_AS_OF` set, all of it as of that moment. Tables that the file which dbt builds names (see
        `reading`) are read at the versions given there.
    """
    if connection.execute("SELECT 1 FROM duckdb_databases() WHERE database_name = ?", [catalog]).fetchone():
        return
    config = settings()
    present = Lake.present(config, as_of=config.as_of)
    lake = present.pinned(pins_in(connection).get, present.warehouse)
    prepare(connection, lake.uri)
    connection.execute(f"ATTACH ':memory:' AS {catalog}")
    sources = list(configured_sources().values())
    tables = [(source.source, table) for source in sources for table in tables_of(source)]
    lake.attach(connection, [(SHARED_SCHEMA, "ingest_ledger"), *tables], catalog)
    connection.execute(f"CREATE SCHEMA {catalog}.{MARKET}")
    for name, query in _market(sources, catalog).items():
        connection.execute(f"CREATE VIEW {catalog}.{MARKET}.{name} AS {query}")
    connection.execute(f"CREATE SCHEMA {catalog}.{FEED}")
    for name, query in _feeds(lake, connection).items():
        connection.execute(f"CREATE VIEW {catalog}.{FEED}.{name} AS {query}")
    connection.execute(f"CREATE SCHEMA {catalog}.calendar")
    for name, frame in (("sessions", _sessions(sources, config)), ("venues", _venues(sources))):
        connection.register("attached_frame", frame)
        connection.execute(f"CREATE TABLE {catalog}.calendar.{name} AS FROM attached_frame")
        connection.unregister("attached_frame")


def _market(sources: list[SourceConfig], catalog: str) -> dict[str, str]:
    """The queries of the tables over all sources, by their names."""

    def over_all(needed: str, query: Callable[[Relation], str]) -> str:
        """The union of a query over the sources that have the needed table; without any, over empty tables."""
        having = [source.source for source in sources if needed in tables_of(source)]
        relations: dict[str, Relation] = {name: partial('{}."{}".{}'.format, catalog, name) for name in having}
        return " UNION ALL ".join(
            f"SELECT {literal(name)} AS source, * FROM ({query(relation)})"
            for name, relation in (relations or {"": _empty}).items()
        )

    made = {table: over_all(table, partial(_rows, table)) for table in TABLES}
    made["adjustment_factors"] = over_all("corporate_actions", partial(_factors, CONVENTION))
    made["closes_as_traded"] = over_all("corporate_actions", _closes_as_traded)
    made["session_splits"] = splits.session_splits(
        f"""(
            SELECT * REPLACE (coalesce(as_traded.close, bars.close) AS close)
            FROM (
                SELECT {splits.SERIES}, session, close, volume, adjusted_as_of FROM {catalog}.{MARKET}.daily_bars
            ) AS bars LEFT JOIN {catalog}.{MARKET}.closes_as_traded AS as_traded USING ({splits.SERIES}, session)
        )""",
        f"{catalog}.{MARKET}.adjustment_factors",
    )
    return made


def _rows(table: str, of: Relation) -> str:
    return f"FROM {of(table)}"


def _factors(convention: str, of: Relation) -> str:
    """The factors of a source's corporate actions; a dividend is weighed against the official closes."""
    return adjustment.factors(of("corporate_actions"), of("official_daily"), convention)


def _closes_as_traded(of: Relation) -> str:
    """The closes of a source's daily bars as they were traded: adjustments that the vendor made are taken out, as
    far as the corporate actions are known.
    """
    closes = f"(SELECT instrument_id, currency, session, close, adjusted_as_of FROM {of('daily_bars')})"
    as_traded = adjustment.adjusted(
        closes,
        "factors_of_the_vendor",
        "'none'",
        "NULL::DATE",
        prices=("close",),
        volumes=(),
        basis="adjusted_as_of",
        basis_factors="factors_of_the_vendor",
    )
    return f"""
        WITH factors_of_the_vendor AS MATERIALIZED ({_factors(_CONVENTION_OF_VENDORS, of)})
        SELECT instrument_id, currency, session, close FROM ({as_traded})
    """


def _feeds(lake: Lake, connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The queries of the tables over all feeds, by their names."""
    feeds = configured_feeds().values()
    today = literal((lake.as_of or datetime.now(UTC)).astimezone(UTC).date())
    windows = [f"SELECT NULL::VARCHAR AS source, * FROM {_empty(WINDOWS)}"]
    lengths = [
        "SELECT NULL::VARCHAR AS source, NULL::BIGINT AS resolution_minutes, NULL::BIGINT AS period_s, "
        "NULL::BIGINT AS offset_s, NULL::BIGINT AS lateness_s, NULL::BIGINT AS top_ranks WHERE false"
    ]
    for feed in feeds:
        wanted = feed.windows
        minutes = ", ".join(map(str, wanted.resolutions_minutes))
        windows.append(
            f"SELECT {literal(feed.source)}, * FROM ({lake.select(feed.table(WINDOWS), connection)}) "
            f"WHERE day < {today} AND resolution_minutes IN ({minutes})"
        )
        lengths.append(
            f"SELECT {literal(feed.source)}, unnest([{minutes}]), {wanted.period_s}, {wanted.offset_s}, "
            f"{wanted.lateness_s}, {wanted.top}"
        )
    return {WINDOWS: " UNION ALL ".join(windows), "resolutions": " UNION ALL ".join(lengths)}


def _empty(table: str) -> str:
    columns = contract_of(table).columns
    return f"(SELECT {', '.join(f'NULL::{each.type.duckdb} AS {each.name}' for each in columns)} WHERE false)"


def _sessions(sources: list[SourceConfig], config: Settings) -> pl.DataFrame:
    import polars as pl

    frames = [source.calendar_frame(config).frame for source in sources]
    return pl.concat(frames).unique(["calendar", "session"], keep="first", maintain_order=True)


def _venues(sources: list[SourceConfig]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(
        [{"source": source.source, "calendar": source.calendar, **source.venue.model_dump()} for source in sources]
    )
