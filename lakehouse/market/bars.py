"""From revisions to bars, from bars to daily bars: the rules, as DuckDB queries over named relations.

Every function takes the names of relations (or parenthesised queries) and returns a query. None of them reads
or writes a table, so they serve the current lake, the lake as of a past moment, and a rebuild alike.
"""

from __future__ import annotations

BAR_KEY = ("instrument_id", "currency", "interval", "start_at")

BAR_CONTENT = (
    "symbol",
    "name",
    "instrument_type",
    "vendor_id",
    "end_at",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "trades",
    "vwap",
    "vendor_revision",
)
"""What two revisions of a bar are compared by: equal content is an exact duplicate, different content a
superseded revision.
"""

DAILY_KEY = ("instrument_id", "currency", "session")


def current_versions(ledger: str) -> str:
    """The version of each object that counts: the newest that could be read. A newer version replaces the older
    one as a whole.

    Args:
        ledger: relation of one source's rows of the ingest ledger.

    Returns: object, object_version.
    """
    return f"""
        SELECT object, object_version FROM {ledger} WHERE status <> 'failed'
        QUALIFY row_number() OVER (
            PARTITION BY object ORDER BY published_at DESC, ingested_at DESC, object_version DESC
        ) = 1
    """


def winners(raw: str, ledger: str) -> str:
    """The winning revision of each bar, with all columns of raw_bars.

    Of several revisions the highest wins by (vendor's revision, published_at, ingested_at, object, row_number).
    Most bars have one revision, and ranking costs more than all else, so only keys whose hash occurs more than
    once are ranked.
    """
    key = ", ".join(BAR_KEY)
    return f"""
        WITH known AS NOT MATERIALIZED (
            SELECT raw.* FROM {raw} AS raw SEMI JOIN ({current_versions(ledger)}) USING (object, object_version)
        ),
        several AS MATERIALIZED ({_repeated_keys("known")})
        SELECT * FROM known WHERE hash({key}) NOT IN (FROM several)
        UNION ALL
        SELECT * FROM known WHERE hash({key}) IN (FROM several)
        QUALIFY row_number() OVER (
            PARTITION BY {key}
            ORDER BY vendor_revision DESC NULLS LAST, published_at DESC, ingested_at DESC, object DESC, row_number DESC
        ) = 1
    """


def _repeated_keys(rows: str) -> str:
    """Hashes of the keys that `rows` may have more than once: two keys may share a hash, no repeated key is
    left out.
    """
    return f"SELECT hash({', '.join(BAR_KEY)}) AS key_hash FROM {rows} GROUP BY key_hash HAVING count(*) > 1"


def bars(raw: str, ledger: str, hours: str) -> str:
    """The rows of the table bars.

    Args:
        raw: relation of raw_bars.
        ledger: relation of the source's ledger.
        hours: relation of (session, open_at, regular_end_at); the regular segment is
            open_at <= start_at < regular_end_at.
    """
    return f"""
        SELECT instrument_id, symbol, name, instrument_type, currency, interval, start_at, end_at, session,
            CASE
                WHEN start_at < open_at THEN 'pre' WHEN start_at < regular_end_at THEN 'regular' ELSE 'post'
            END AS segment,
            open, high, low, close, volume, trades, vwap, volume > 0 AS is_traded,
            object, object_version, row_number, published_at, ingested_at
        FROM ({winners(raw, ledger)}) JOIN {hours} USING (session)
    """


def daily(bars_relation: str, completeness: str) -> str:
    """Daily bars without what depends on earlier sessions: one row an instrument, currency and session with a
    traded regular bar.

    Sums of prices run in the order of time, so that they don't depend on the order in which threads add.

    Args:
        bars_relation: relation of the table bars.
        completeness: relation of (session, is_complete).
    """
    return f"""
        SELECT date_trunc('month', session)::DATE AS month, instrument_id,
            arg_max_null(symbol, start_at) AS symbol, arg_max_null(name, start_at) AS name,
            arg_max_null(instrument_type, start_at) AS instrument_type,
            currency, session,
            arg_min(open, start_at) AS open, max(high) AS high, min(low) AS low, arg_max(close, start_at) AS close,
            sum(volume)::BIGINT AS volume, sum(trades)::BIGINT AS trades,
            sum(close * volume ORDER BY start_at) AS turnover,
            CASE WHEN count(vwap) = count(*) THEN sum(vwap * volume ORDER BY start_at) / sum(volume) END AS vwap,
            count(*) AS bar_count, min(start_at) AS first_bar_at, max(start_at) AS last_bar_at,
            any_value(is_complete) AS is_complete
        FROM {bars_relation} JOIN {completeness} USING (session)
        WHERE is_traded AND segment = 'regular'
        GROUP BY instrument_id, currency, session
    """


def with_previous(rows: str, closes: str) -> str:
    """Adds prev_session, prev_close and change_pct to daily rows.

    Args:
        rows: relation of daily rows without these three columns.
        closes: relation of (instrument_id, currency, session, close), of every session that may come before one
            of `rows`.
    """
    return f"""
        SELECT rows.*, earlier.session AS prev_session, earlier.close AS prev_close,
            (rows.close / earlier.close - 1) * 100 AS change_pct
        FROM {rows} AS rows ASOF LEFT JOIN {closes} AS earlier
            ON rows.instrument_id = earlier.instrument_id AND rows.currency = earlier.currency
            AND rows.session > earlier.session
    """


def losers(raw: str, ledger: str) -> str:
    """The rows of raw_bars that did not win, with `fate`: duplicate (the winner of its key says the same) or
    superseded (it says something else, or was withdrawn).
    """
    same = " AND ".join(f"raw.{column} IS NOT DISTINCT FROM won.{column}" for column in BAR_CONTENT)
    on = " AND ".join(f"raw.{column} = won.{column}" for column in BAR_KEY)
    # A current row whose key occurs once has won; all others are few.
    return f"""
        WITH readable AS NOT MATERIALIZED (
            SELECT * FROM {raw} SEMI JOIN (
                SELECT object, object_version FROM {ledger} WHERE status <> 'failed'
            ) USING (object, object_version)
        ),
        several AS MATERIALIZED ({_repeated_keys("readable")}),
        contested AS (
            SELECT * FROM readable
            WHERE hash({", ".join(BAR_KEY)}) IN (FROM several)
            OR (object, object_version) NOT IN (SELECT (object, object_version) FROM ({current_versions(ledger)}))
        )
        SELECT raw.*, CASE WHEN won.object IS NOT NULL AND {same} THEN 'duplicate' ELSE 'superseded' END AS fate
        FROM contested AS raw LEFT JOIN ({winners("contested", ledger)}) AS won ON {on}
        WHERE won.object IS NULL
        OR (raw.object, raw.object_version, raw.row_number) <> (won.object, won.object_version, won.row_number)
    """
