"""How far news reaches into the market's marts: which instruments may have other versions or show other reference data,
and in which sessions another split counts or is suspected, another dividend counts, or the close as traded is another.

What a row of the marts depends on besides its own session is found here, from the marts as they were published and the
changed sessions of the lake alone. The models find what else a change reaches from the rows that they replace (the
strategy `changed_groups` of the dbt project).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from lakehouse.derive.domain import Join
from lakehouse.domains.market.corporate_actions.splits import SERIES, USUAL_SESSIONS, session_splits
from lakehouse.lake.sql import Relation, difference_of, relation_of

if TYPE_CHECKING:
    import duckdb

_BEFORE = USUAL_SESSIONS + 2
"""Sessions before a change that say what is a split in it: the usual ones, and the close before the first of them."""

REFERENCE_DATA = Join("reference", ("bridge_instrument_identifier", "dim_instrument", "dim_issuer", "dim_venue"))
"""The other models join from these only what follows from sessions and YAML."""


def reach(connection: duckdb.DuckDBPyConnection, catalog: str, notes: str, is_joined_news: bool) -> Collection[str]:
    """Notes `instruments` (source, instrument_id, currency), which may have other versions than the published ones or
    show other reference data, `session_splits`, as the models read it, `changed_sessions` (source, session), where it
    or a close as traded differs, and `changed_dividends` (source, instrument_id, currency, ex_date), which count with
    another factor or no longer. See `derive.domain.Reach`.
    """
    _find_changed_actions(connection, catalog, notes)
    _note_dividends(connection, catalog, notes)
    _note_sessions(connection, catalog, notes)
    _note_instruments(connection, catalog, notes)
    if is_joined_news:
        # Which versions the news is about is not known before they are made again.
        connection.execute(f"""
            INSERT INTO {notes}.instruments SELECT {SERIES} FROM marts.dim_instrument EXCEPT FROM {notes}.instruments
        """)
        return ()
    if connection.execute(f"SELECT 1 FROM {notes}.instruments LIMIT 1").fetchone():
        return ()
    connection.execute(f"CREATE TABLE {notes}.dim_instrument AS FROM {notes}.instruments")
    return ("dim_instrument",)


def _changed(relation: str, notes: str) -> str:
    return f"FROM {relation} WHERE (source, session) IN (SELECT source, day FROM {notes}.daily_bars)"


def _find_changed_actions(connection: duckdb.DuckDBPyConnection, catalog: str, notes: str) -> None:
    """Finds the corporate actions that came, went or say something else, and the series whose factors may differ by
    them or by the official closes against which dividends are weighed: the last one before the ex-date, and that of
    the ex-date itself (see `adjustment.factors`).
    """
    action = f"{SERIES}, ex_date, kind, dividend_amount, split_coefficient"
    one, other = (
        f"SELECT {action} FROM {rows} WHERE source IN (SELECT source FROM {notes}.corporate_actions)"
        for rows in (f"{catalog}.market.corporate_actions", "marts.fct_corporate_action")
    )
    connection.execute(f"""
        CREATE TEMP TABLE changed_actions AS
        SELECT DISTINCT {SERIES}, kind FROM {difference_of(one, other)};
        CREATE TEMP TABLE weighed_anew AS
        WITH later AS (
            SELECT {SERIES}, ex_date FROM {catalog}.market.corporate_actions
            JOIN (SELECT source, min(day) AS since FROM {notes}.official_daily GROUP BY source) USING (source)
            WHERE ex_date >= since
        ), closes AS (
            SELECT {SERIES}, session FROM {catalog}.market.official_daily WHERE isfinite(close)
        )
        SELECT later.source, later.instrument_id, later.currency
        FROM later ASOF LEFT JOIN closes
            ON later.source = closes.source AND later.instrument_id = closes.instrument_id
            AND later.currency = closes.currency AND later.ex_date > closes.session
        SEMI JOIN {notes}.official_daily AS news
            ON later.source = news.source AND news.day <= later.ex_date
            AND (news.day >= closes.session OR closes.session IS NULL)
        UNION
        SELECT {SERIES} FROM changed_actions
    """)


def _note_dividends(connection: duckdb.DuckDBPyConnection, catalog: str, notes: str) -> None:
    """An ex-date without a dividend, or with one that is skipped, counts with the factor 1."""
    connection.execute(f"""
        CREATE TABLE {notes}.changed_dividends AS
        WITH fresh AS (
            SELECT {SERIES}, ex_date, dividend_factor
            FROM {catalog}.market.adjustment_factors SEMI JOIN weighed_anew USING ({SERIES})
        ), published AS (
            SELECT {SERIES}, ex_date, price_factor
            FROM marts.fct_corporate_action SEMI JOIN weighed_anew USING ({SERIES}) WHERE kind = 'dividend'
        )
        SELECT DISTINCT {SERIES}, ex_date FROM fresh FULL JOIN published USING ({SERIES}, ex_date)
        WHERE coalesce(dividend_factor, 1) <> coalesce(price_factor, 1)
    """)


def _note_sessions(connection: duckdb.DuckDBPyConnection, catalog: str, notes: str) -> None:
    """Computes the splits again from the first changed session of each series on, and of instruments of which a split
    changed from the first one on; the others are as published.
    """
    bars = f"{catalog}.market.daily_bars"
    columns = f"{SERIES}, session, close, volume, adjusted_as_of"
    one, other = (f"SELECT {columns} {_changed(rows, notes)}" for rows in (bars, "marts.fct_daily_bar"))
    connection.execute(f"""
        CREATE TEMP TABLE other_closes AS
        SELECT {SERIES}, session
        FROM marts.fct_daily_bar AS published SEMI JOIN weighed_anew USING ({SERIES})
        JOIN {catalog}.market.closes_as_traded AS as_traded USING ({SERIES}, session)
        WHERE close_as_traded IS DISTINCT FROM as_traded.close;
        CREATE TEMP TABLE moved AS
        SELECT {SERIES}, min(session) AS since
        FROM (
            SELECT {SERIES}, session FROM {difference_of(one, other)}
            UNION ALL
            FROM other_closes
            UNION ALL
            -- A split counts in other sources' series of the instrument, too.
            SELECT DISTINCT {SERIES}, DATE '-infinity' FROM {bars}
            WHERE instrument_id IN (SELECT instrument_id FROM changed_actions WHERE kind = 'split')
        ) GROUP BY ALL;
        CREATE TEMP TABLE windows AS
        SELECT {SERIES}, since, coalesce(list_min(max(session, {_BEFORE}) FILTER (session < since)), since) AS first
        FROM {bars} JOIN moved USING ({SERIES}) GROUP BY {SERIES}, since
    """)
    closes = relation_of(f"""
        SELECT {SERIES}, session, coalesce(as_traded.close, bars.close) AS close, volume, adjusted_as_of
        FROM (SELECT {columns} FROM {bars}) AS bars JOIN windows USING ({SERIES})
        LEFT JOIN {catalog}.market.closes_as_traded AS as_traded USING ({SERIES}, session) WHERE session >= first
    """)
    splits = session_splits(closes, Relation(f"{catalog}.market.adjustment_factors"))
    published = "source, instrument_id, currency, session, split_factor, suspected_split"
    connection.execute(f"""
        CREATE TEMP TABLE known AS
        SELECT {published} FROM marts.fct_daily_bar WHERE split_factor <> 1 OR suspected_split IS NOT NULL;
        CREATE TABLE {notes}.session_splits AS
        SELECT {published} FROM ({splits}) JOIN moved USING ({SERIES}) WHERE session >= since
        UNION ALL
        SELECT {published} FROM known LEFT JOIN moved USING ({SERIES}) WHERE since IS NULL OR session < since;
        CREATE TABLE {notes}.changed_sessions AS
        SELECT source, session FROM {difference_of("FROM known", f"FROM {notes}.session_splits")}
        UNION
        SELECT source, session FROM other_closes
    """)


def _note_instruments(connection: duckdb.DuckDBPyConnection, catalog: str, notes: str) -> None:
    """Finds the series whose versions may differ. A row leaves them as they are if it repeats the attributes of the
    version in force; so does one that goes, unless the version begins with it.
    """
    old, new = (_changed(rows, notes) for rows in ("marts.fct_daily_bar", f"{catalog}.market.daily_bars"))
    connection.execute(f"""
        CREATE TABLE {notes}.instruments AS
        WITH fresh AS (SELECT {SERIES}, session, symbol, name, instrument_type, mic {new}),
        gone AS (SELECT {SERIES}, session {old} EXCEPT SELECT {SERIES}, session FROM fresh)
        SELECT DISTINCT fresh.source, fresh.instrument_id, fresh.currency
        FROM fresh LEFT JOIN marts.dim_instrument AS versions
            ON fresh.source = versions.source AND fresh.instrument_id = versions.instrument_id
            AND fresh.currency = versions.currency AND session >= valid_from AND session < valid_to
        WHERE valid_from IS NULL OR fresh.symbol IS DISTINCT FROM versions.symbol
            OR fresh.name IS DISTINCT FROM versions.name
            OR fresh.instrument_type IS DISTINCT FROM versions.instrument_type
            OR fresh.mic <> versions.mic
        UNION
        SELECT {SERIES} FROM gone JOIN marts.dim_instrument USING ({SERIES}) WHERE session = valid_from
        UNION
        -- An instrument of corporate actions alone has a version from the first one to its first bar.
        SELECT {SERIES} FROM fresh SEMI JOIN {catalog}.market.corporate_actions USING ({SERIES})
        ANTI JOIN marts.fct_daily_bar USING ({SERIES})
        UNION
        SELECT {SERIES} FROM (
            SELECT {SERIES} FROM changed_actions
            UNION ALL
            SELECT {SERIES} FROM {catalog}.market.corporate_actions AS actions
            JOIN marts.dim_instrument AS versions USING ({SERIES})
            WHERE ex_date = valid_from AND actions.symbol IS DISTINCT FROM versions.symbol
        ) ANTI JOIN {catalog}.market.daily_bars USING ({SERIES})
    """)
