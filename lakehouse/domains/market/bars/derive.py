"""Deriving: raw_bars become bars, bars become daily bars. Only what differs from what is stored is written.

Each derivation takes the target's snapshot before it reads the inputs, so that a result made from older inputs
can't be committed over a newer one (see `lakehouse.lake.table`). Running one again changes nothing, and no table gets
a new version. After a commit it looks whether its inputs are still the ones it read (`derive_until_current`): another
derivation may meanwhile have found that newer inputs ask for what was stored before, and have written nothing that
would meet this commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.by_partition import derive_by_partition, in_batches
from lakehouse.derive.fingerprints import contents, digest, marks_of, of_frames, outdated, said_by
from lakehouse.derive.incremental import DeriveResult, count
from lakehouse.domains.market.bars import rules
from lakehouse.domains.market.bars.completeness import completeness
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.ledger import LEDGER, about
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Relation, predicate
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb
    import polars as pl

_LOOK_BACK = timedelta(days=62)


def bar_rows(source: BarSource, connection: duckdb.DuckDBPyConnection, raw: Relation, ledger: Relation) -> str:
    """The query for the rows of bars, by their rules (see `derive.by_partition.Rules`)."""
    hours = f"hours_of_{source.name}"
    connection.register(hours, session_hours(source))
    return rules.bars(raw, ledger, hours)


derive_bars = partial(derive_by_partition, "bars", "bars", bar_rows)
"""Brings the table bars of some sessions in line with raw_bars and the ledger."""


def derive_daily_bars(
    lake: Lake,
    source: BarSource,
    sessions: Sequence[date],
    *,
    afresh: bool = False,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings the daily bars of `sessions` in line with bars, and the later rows whose prev_close comes from them (see
    `lakehouse.derive.source.Derive`).
    """
    if not afresh and not verify:
        sessions = _outdated_daily(lake, source, sessions)
    return in_batches(partial(_daily_batch, lake, source), "daily bars", sessions, verify, progress)


def _outdated_daily(lake: Lake, source: BarSource, sessions: Sequence[date]) -> list[date]:
    """The sessions whose daily bars were not made from the present bars."""
    target = lake.table(source.table("daily_bars")).snapshot()
    with lake.connect() as connection:
        ledger = lake.table(LEDGER).snapshot()
        bars = lake.table(source.table("bars")).snapshot()
        _, made_from = _prepared(connection, source, target, ledger, bars, sessions)
    return [date.fromisoformat(session) for session in outdated(target, made_from)]


def _prepared(
    connection: duckdb.DuckDBPyConnection,
    source: BarSource,
    target: Snapshot,
    ledger: Snapshot,
    bars: Snapshot,
    sessions: Sequence[date],
) -> tuple[str, dict[str, int]]:
    """The query for the daily rows of the sessions' `stored_bars`, whose other input it makes in the connection, and
    the sessions' fingerprints. A row's prev_* follow from other sessions: whoever changes those writes them.
    """
    known = connection.execute(about(ledger, source.name, source.bars.name, sessions)).pl()
    connection.register("completeness", completeness(source, known, sessions))
    daily = rules.daily("stored_bars", "completeness", source.config.venue.time_zone)
    made_of = contents(bars, map(str, sessions))
    came = of_frames(connection, "session", ["stored_bars"])
    facts = (daily, rules.with_previous("rows", "closes"), said_by(target.table.contract))
    return daily, {session: digest(content, came.get(session), *facts) for session, content in made_of.items()}


def session_hours(source: BarSource) -> pl.DataFrame:
    """(session, open_at, close_at, regular_end_at): the regular segment of each session, which ends with the closing
    auction.
    """
    import polars as pl

    return source.calendar.frame.select(
        "session",
        "open_at",
        "close_at",
        (pl.col("close_at") + source.sessions.after_close).alias("regular_end_at"),
    )


def _daily_batch(
    lake: Lake, source: BarSource, sessions: list[date], verify: bool
) -> tuple[DeriveResult, Sequence[Snapshot]]:
    table = lake.table(source.table("daily_bars"))
    target = table.snapshot()
    with lake.connect() as connection:
        ledger = lake.table(LEDGER).snapshot()
        bars = lake.table(source.table("bars")).snapshot()
        connection.execute(f"CREATE TEMP VIEW stored_bars AS {bars.select({'session': sessions})}")
        daily, made_from = _prepared(connection, source, target, ledger, bars, sessions)
        connection.execute(f"CREATE TEMP TABLE fresh AS {daily}")
        columns = ", ".join(f'"{name}"' for name in table.contract.column_names)
        _recompute(connection, target, sessions)
        key = ", ".join(rules.DAILY_KEY)
        # Duplicate rows don't change the set of rows, but must be rewritten all the same.
        changes = connection.execute(
            f"""
            SELECT {columns} FROM recomputed SEMI JOIN (
                SELECT {key} FROM (SELECT {columns} FROM recomputed EXCEPT SELECT {columns} FROM before)
                UNION ALL SELECT {key} FROM before_inside GROUP BY {key} HAVING count(*) > 1
            ) USING ({key})
            """
        ).to_arrow_table()
        connection.register("changes", changes)
        connection.execute(
            f"CREATE TEMP TABLE gone AS SELECT {key}, month FROM before ANTI JOIN recomputed USING ({key})"
        )
        months = connection.execute(
            "SELECT DISTINCT month FROM (SELECT month FROM changes UNION ALL SELECT month FROM gone) ORDER BY month"
        ).fetchall()
        if not months:
            if not verify and outdated(target, made_from):
                target.mark(marks_of(target, made_from, ()))
            return DeriveResult(count(connection, "fresh")), (ledger, bars)
        where = {"month": [month for (month,) in months]}
        rows = connection.execute(
            f"""
            SELECT {columns} FROM ({target.select(where)}) ANTI JOIN changes USING ({key}) ANTI JOIN gone USING ({key})
            UNION ALL SELECT {columns} FROM changes ORDER BY session, instrument_id, currency
            """
        ).to_arrow_table()
        by_session = connection.execute(
            "SELECT session, count(*) FROM (SELECT session FROM changes UNION ALL SELECT session FROM gone) "
            "GROUP BY session"
        ).fetchall()
        result = DeriveResult(
            count(connection, "fresh"),
            frozenset(session for session, _ in by_session),
            changes.num_rows + count(connection, "gone"),
            int(not verify),
            dict(by_session),
        )
        if not verify:
            # A row follows from its neighbours in other months, so that no two derivations may commit from one
            # snapshot, whatever months they write.
            marks = marks_of(target, made_from, sorted(result.changed))
            target.overwrite(rows, predicate(where), transactions=[table.name], checkpoints=marks)
        return result, (ledger, bars)


def _recompute(connection: duckdb.DuckDBPyConnection, target: Snapshot, sessions: list[date]) -> None:
    """Makes `recomputed` (the fresh rows and the later rows that follow a changed one, with prev_* filled in)
    and `before` (the same rows as stored).
    """
    inside = predicate({"session": sessions})
    key = ", ".join(rules.DAILY_KEY)
    series = "instrument_id, currency"
    months = [date.fromisoformat(month) for month in target.partition_values("month")]
    later = [month for month in months if month >= sessions[0].replace(day=1)]
    recent = [month for month in months if month >= (sessions[0] - _LOOK_BACK).replace(day=1)]
    older = [month for month in months if month not in recent]
    near = f"({target.select({'month': recent})})"

    connection.execute(f"CREATE TEMP TABLE before_inside AS SELECT * FROM {near} WHERE {inside}")
    # A later row is touched when the row before it appeared, went, or closes elsewhere: it is the next row of
    # its series outside the sessions.
    connection.execute(
        f"""
        CREATE TEMP TABLE touched AS SELECT {key}, close FROM fresh EXCEPT SELECT {key}, close FROM before_inside;
        INSERT INTO touched SELECT {key}, close FROM before_inside ANTI JOIN fresh USING ({key})
        """
    )
    # Their keys first: in a long history few of the later months have any.
    connection.execute(
        f"""
        CREATE TEMP TABLE following AS SELECT {series}, later.session, later.month
        FROM ({target.select({"month": later})}) AS later
        JOIN (
            SELECT {series}, min(session) AS first_touched, max(session) AS last_touched FROM touched GROUP BY {series}
        ) AS span USING ({series})
        WHERE NOT later.{inside} AND later.session > span.first_touched
        QUALIFY later.session <= last_touched
        OR row_number() OVER (PARTITION BY {series}, later.session > last_touched ORDER BY later.session) = 1
        """
    )
    found = [month for (month,) in connection.execute("SELECT DISTINCT month FROM following").fetchall()]
    after = target.select({"month": found})
    connection.execute(f"CREATE TEMP TABLE followers AS SELECT * FROM ({after}) SEMI JOIN following USING ({key})")
    connection.execute("CREATE TEMP VIEW before AS FROM before_inside UNION ALL FROM followers")
    connection.execute(
        "CREATE TEMP VIEW unlinked AS FROM fresh UNION ALL BY NAME "
        "FROM (SELECT * EXCLUDE (prev_session, prev_close, change_pct) FROM followers)"
    )
    closes = f"SELECT {key}, close FROM {near} WHERE NOT {inside} UNION ALL SELECT {key}, close FROM fresh"
    connection.execute(f"CREATE TEMP TABLE closes AS {closes}")
    if older:
        # Only the series that have no close in the last two months are looked up in the rest of the history.
        connection.execute(
            f"""
            INSERT INTO closes SELECT {key}, close FROM ({target.select({"month": older})}) SEMI JOIN (
                SELECT DISTINCT unlinked.instrument_id, unlinked.currency FROM unlinked ASOF LEFT JOIN closes AS earlier
                ON unlinked.instrument_id = earlier.instrument_id AND unlinked.currency = earlier.currency
                AND unlinked.session > earlier.session
                WHERE earlier.session IS NULL
            ) USING ({series})
            """
        )
    connection.execute(f"CREATE TEMP TABLE recomputed AS {rules.with_previous('unlinked', 'closes')}")
