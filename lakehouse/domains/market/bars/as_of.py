"""Tables as of a past moment: the stored rows of partitions whose inputs are still those of then, by their
fingerprints; the others are derived again, by the same rules, from the revisions known then.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.derive.by_partition import differing_as_of, raw_and_ledger
from lakehouse.domains.market.bars import rules
from lakehouse.domains.market.bars.completeness import completeness
from lakehouse.domains.market.bars.derive import bar_rows, daily_differing_as_of
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.corporate_actions import rules as official
from lakehouse.lake.engine import add_frame
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, relation_of

if TYPE_CHECKING:
    import duckdb


_PREVIOUS = "prev_session, prev_close, change_pct"


def bars(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource) -> str:
    """The query for `<source>.bars` as of `lake.as_of`."""
    sessions, stored = _sessions(lake, source), lake.table(source.table("bars")).stored()
    differing = differing_as_of("bars", bar_rows, lake, source, stored, sessions)
    kept = sorted(set(sessions) - set(differing))
    parts = [stored.select_dates(kept)] if kept else []
    if differing or not kept:
        parts.append(_derived(lake, connection, source, differing))
    return _columns(source, "bars", parts)


def daily_bars(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource) -> str:
    """The query for `<source>.daily_bars` as of `lake.as_of`."""
    # The rows are of the version whose fingerprints were compared, whatever is derived meanwhile.
    sessions, stored = _sessions(lake, source), lake.table(source.table("daily_bars")).stored()
    differing = daily_differing_as_of(lake, source, stored, sessions)
    kept = sorted(set(sessions) - set(differing))
    if kept and not differing:
        return _columns(source, "daily_bars", [stored.select_dates(kept)])
    _, ledger = raw_and_ledger("bars", lake, connection, source)
    known = f"completeness_of_{source.name}"
    loaded = connection.sql(f"FROM {ledger}").pl()
    add_frame(connection, known, completeness(source, loaded, differing))
    made = relation_of(_derived(lake, connection, source, differing))
    parts = [Query(rules.daily(made, known, source.config.venue.time_zone, by_market=source.by_market))]
    if kept:
        parts.append(Query(f"SELECT * EXCLUDE ({_PREVIOUS}) FROM ({stored.select_dates(kept)})"))
    daily = " UNION ALL BY NAME ".join(f"({part})" for part in parts)
    linked = Query(rules.with_previous("daily", "daily"))
    return f"WITH daily AS MATERIALIZED ({daily}) {_columns(source, 'daily_bars', [linked])}"


def _derived(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource, sessions: Collection[date]) -> Query:
    """The query for the bars of some sessions, made from the revisions known then."""
    _, ledger = raw_and_ledger("bars", lake, connection, source)
    raw = lake.table(source.table("raw_bars")).snapshot().select_dates(list(sessions))
    return Query(bar_rows(source, connection, relation_of(raw), ledger))


def _sessions(lake: Lake, source: BarSource) -> list[date]:
    """The sessions that have raw bars."""
    return lake.table(source.table("raw_bars")).snapshot().dates()


def _columns(source: BarSource, table: str, parts: list[Query]) -> Query:
    """The rows of several queries in the columns of a table's contract."""
    columns = ", ".join(f'"{name}"' for name in source.contract(table).column_names)
    return Query(f"SELECT {columns} FROM ({' UNION ALL BY NAME '.join(f'({part})' for part in parts)})")


def official_daily(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource) -> str:
    """The query for `<source>.official_daily` as of `lake.as_of`."""
    return official.official_daily(*raw_and_ledger("official_daily", lake, connection, source))


def corporate_actions(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource) -> str:
    """The query for `<source>.corporate_actions` as of `lake.as_of`: those that were known then."""
    return official.corporate_actions(*raw_and_ledger("official_daily", lake, connection, source))
