"""Inputs of dbt's market models besides the sources' own tables: adjustment factors and splits over all sources, closed
windows of feeds, calendars and venues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from lakehouse.domains.market.bars import source as bars
from lakehouse.domains.market.bars.config import Venue
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.contracts import contracts
from lakehouse.domains.market.corporate_actions import adjustment, splits
from lakehouse.domains.market.quotes import feed as quotes
from lakehouse.domains.market.quotes.feed import WINDOWS, Feed
from lakehouse.lake.contract import empty_relation
from lakehouse.lake.lake import Lake
from lakehouse.lake.published import noted
from lakehouse.lake.sql import Query, Relation, literal, relation_of

if TYPE_CHECKING:
    import duckdb
    import polars as pl

CALENDAR = "calendar"
"""The SQL schema of calendars and venues."""
CONVENTION = "'crsp'"
"""The convention by which the marts' returns count dividends."""
_CONVENTION_OF_VENDORS = "'reinvest'"

Tables = Callable[[str], Relation]
"""Returns the relation of one source's table, by the table's name."""


def attach_market(
    sources: Sequence[BarSource], lake: Lake, connection: duckdb.DuckDBPyConnection, catalog: str
) -> None:
    """Attaches, with the source's name as first column, over the sources that have corporate actions:
    `market.adjustment_factors` (source, instrument_id, currency, ex_date, split_factor, dividend_factor,
    dividend_convention, skipped), `market.closes_as_traded` (source, instrument_id, currency, session, close) and
    `market.session_splits` (source, instrument_id, currency, session, split_factor, suspected_split; only where one of
    the two says something). Further `calendar.sessions` (calendar, session, open_at, close_at, is_early_close) and
    `calendar.venues` (source, mic, name, country, time_zone, currency, calendar, is_main: false for the further markets
    of a source with several).
    """
    schema = f"{catalog}.{bars.KIND}"
    having = [source for source in sources if source.official_daily is not None]

    def over_all(query: Callable[[Tables], Query], having: Sequence[BarSource]) -> str:
        """The union of a query over some sources; without any, over empty tables."""
        of_sources: dict[str, Tables] = {source.name: partial(_named, catalog, source.name) for source in having}
        return " UNION ALL ".join(
            f"SELECT {literal(name)} AS source, * FROM ({query(tables)})"
            for name, tables in (of_sources or {"": _empty}).items()
        )

    session_splits = splits.session_splits(
        relation_of(f"""
            SELECT * REPLACE (coalesce(as_traded.close, bars.close) AS close)
            FROM (
                SELECT {splits.SERIES}, session, close, volume, adjusted_as_of FROM {schema}.daily_bars
            ) AS bars LEFT JOIN {schema}.closes_as_traded AS as_traded USING ({splits.SERIES}, session)
        """),
        Relation(f"{schema}.adjustment_factors"),
    )
    connection.execute(f"CREATE VIEW {schema}.adjustment_factors AS {over_all(partial(_factors, CONVENTION), having)}")
    both = [source for source in having if source.has_bars]
    connection.execute(f"CREATE VIEW {schema}.closes_as_traded AS {over_all(_closes_as_traded, both)}")
    # Where only changes are built, they are computed already (see `model_reach`).
    known = noted(connection, "session_splits")
    connection.execute(f"CREATE VIEW {schema}.session_splits AS {f'FROM {known}' if known else session_splits}")
    connection.execute(f"CREATE SCHEMA {catalog}.{CALENDAR}")
    for name, frame in (("sessions", _sessions(sources)), ("venues", _venues(sources))):
        connection.register("attached_frame", frame)
        connection.execute(f"CREATE TABLE {catalog}.{CALENDAR}.{name} AS FROM attached_frame")
        connection.unregister("attached_frame")


def attach_feeds(feeds: Sequence[Feed], lake: Lake, connection: duckdb.DuckDBPyConnection, catalog: str) -> None:
    """Attaches, over every feed: `feed.quote_windows`, of the days (UTC) that are over and the lengths that its YAML
    lists, and `feed.resolutions` (source, resolution_minutes, period_s, offset_s, lateness_s, top_ranks).
    """
    today = literal((lake.as_of or datetime.now(UTC)).astimezone(UTC).date())
    windows = [f"SELECT NULL::VARCHAR AS source, * FROM {_empty(WINDOWS)}"]
    lengths = [
        "SELECT NULL::VARCHAR AS source, NULL::BIGINT AS resolution_minutes, NULL::BIGINT AS period_s, "
        "NULL::BIGINT AS offset_s, NULL::BIGINT AS lateness_s, NULL::BIGINT AS top_ranks WHERE false"
    ]
    for feed in feeds:
        wanted = feed.config.windows
        minutes = ", ".join(map(str, wanted.resolutions_minutes))
        windows.append(
            f"SELECT {literal(feed.name)}, * FROM ({lake.select(feed.table(WINDOWS), connection)}) "
            f"WHERE day < {today} AND resolution_minutes IN ({minutes})"
        )
        lengths.append(
            f"SELECT {literal(feed.name)}, unnest([{minutes}]), {wanted.period_s}, {wanted.offset_s}, "
            f"{wanted.lateness_s}, {wanted.top}"
        )
    for name, queries in ((WINDOWS, windows), ("resolutions", lengths)):
        connection.execute(f"CREATE VIEW {catalog}.{quotes.KIND}.{name} AS {' UNION ALL '.join(queries)}")


def _factors(convention: str, of: Tables) -> Query:
    """The factors of a source's corporate actions; a dividend is weighed against the official closes."""
    return adjustment.factors(of("corporate_actions"), of("official_daily"), convention)


def _closes_as_traded(of: Tables) -> Query:
    """The closes of a source's daily bars as they were traded: adjustments that the vendor made are taken out, as
    far as the corporate actions are known.
    """
    closes = relation_of(f"SELECT instrument_id, currency, session, close, adjusted_as_of FROM {of('daily_bars')}")
    factors = Relation("factors_of_the_vendor")
    as_traded = adjustment.adjusted(
        closes,
        factors,
        "'none'",
        "NULL::DATE",
        prices=("close",),
        volumes=(),
        basis="adjusted_as_of",
        basis_factors=factors,
    )
    return Query(f"""
        WITH {factors} AS MATERIALIZED ({_factors(_CONVENTION_OF_VENDORS, of)})
        SELECT instrument_id, currency, session, close FROM ({as_traded})
    """)


def _named(catalog: str, source: str, table: str) -> Relation:
    return Relation(f'{catalog}."{source}".{table}')


def _empty(table: str) -> Relation:
    return empty_relation(contracts()[table])


def _sessions(sources: Sequence[BarSource]) -> pl.DataFrame:
    import polars as pl

    moment = pl.Datetime("us", "UTC")
    columns: dict[str, Any] = {"calendar": pl.String, "session": pl.Date, "open_at": moment, "close_at": moment}
    frames = [pl.DataFrame(schema=columns | {"is_early_close": pl.Boolean})]
    frames += [source.calendar.frame.select(frames[0].columns) for source in sources]
    return pl.concat(frames).unique(["calendar", "session"], keep="first", maintain_order=True)


def _venues(sources: Sequence[BarSource]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(
        [
            {
                "source": source.name,
                "calendar": source.calendar.name,
                **venue.model_dump(),
                "is_main": venue == source.config.venue,
            }
            for source in sources
            for venue in source.config.markets
        ],
        schema=dict.fromkeys(("source", "calendar", *Venue.model_fields), pl.String) | {"is_main": pl.Boolean},
    )
