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
from itertools import groupby
from typing import TYPE_CHECKING

from lakehouse.derive.by_partition import (
    LEAST_PARTITIONS,
    ROWS_AT_ONCE,
    can_tell,
    derive_by_partition,
    differing_as_of,
    outdated_as_of,
    outdated_partitions,
    raw_and_ledger,
)
from lakehouse.derive.fingerprints import Fingerprints, contents, digest, marks_of, of_frames, outdated, said_by
from lakehouse.derive.incremental import DeriveResult, count, derive_until_current
from lakehouse.domains.market.bars import rules
from lakehouse.domains.market.bars.completeness import completeness
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.ledger import LEDGER, about
from lakehouse.lake.compute import after, divided, fitting
from lakehouse.lake.engine import add_frame
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Query, Relation, literal, predicate, relation_of
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa

_NEAR = timedelta(days=62)
"""How far before and after a session the neighbours of its rows are looked for first: few series pause longer."""
_SERIES = "instrument_id, currency"
_KEY = ", ".join(rules.DAILY_KEY)


def bar_rows(source: BarSource, connection: duckdb.DuckDBPyConnection, raw: Relation, ledger: Relation) -> str:
    """The query for the rows of bars, by their rules (see `derive.by_partition.Rules`)."""
    hours = f"hours_of_{source.name}"
    add_frame(connection, hours, session_hours(source))
    return rules.bars(raw, ledger, hours, by_market=source.by_market)


derive_bars = partial(derive_by_partition, "bars", "bars", bar_rows)
"""Brings the table bars of some sessions in line with raw_bars and the ledger."""
outdated_bars = partial(outdated_partitions, "bars", "bars", bar_rows)
"""The sessions whose bars were not made from the present raw_bars and ledger."""


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
        sessions = outdated_daily_bars(lake, source, sessions)
    result, ordered = DeriveResult(), sorted(sessions)
    # A year is a partition of daily_bars: several commits to one would each write all of its rows.
    for _, sessions_of_year in groupby(ordered, lambda session: session.year):
        batch = list(sessions_of_year)
        of_year = after(ordered.index(batch[0]), len(ordered), progress)
        result += derive_until_current(partial(_daily_batch, lake, source, batch, verify, of_year))
    return result


def outdated_daily_bars(lake: Lake, source: BarSource, sessions: Sequence[date]) -> list[date]:
    """The sessions whose daily bars were not made from the present bars, ascending."""
    target = lake.table(source.table("daily_bars")).snapshot()
    with lake.connect() as connection:
        ledger = lake.table(LEDGER).snapshot()
        bars = lake.table(source.table("bars")).snapshot()
        entries = about(ledger, source.name, source.bars.name, sessions)
        made_from = _prepared(connection, source, target, entries, bars, sessions)
    return sorted(date.fromisoformat(session) for session in outdated(target, made_from))


def daily_differing_as_of(lake: Lake, source: BarSource, target: Snapshot, sessions: Sequence[date]) -> list[date]:
    """Those of the sessions whose daily bars in `target` may not be those as of `lake.as_of` (see `differing_as_of`),
    apart from their prev_*, which follow from other sessions.
    """
    bars = lake.table(source.table("bars")).stored()
    differing = set(differing_as_of("bars", bar_rows, lake, source, bars, sessions))
    if not can_tell(lake, target):
        return list(sessions)

    def made_from() -> Fingerprints:
        with lake.connect() as connection:
            _, ledger = raw_and_ledger(source.bars.name, lake, connection, source)
            return _prepared(connection, source, target, Query(f"SELECT * FROM {ledger}"), bars, sessions)

    return sorted(differing.union(outdated_as_of(lake, target, sessions, made_from, bars)))


def _prepared(
    connection: duckdb.DuckDBPyConnection,
    source: BarSource,
    target: Snapshot,
    entries: Query,
    bars: Snapshot,
    sessions: Sequence[date],
) -> dict[str, int]:
    """The fingerprints of the sessions, made in the connection of the ledger's `entries`; it then has the relation
    `completeness`, which the daily rows follow from besides `stored_bars`. A row's prev_* follow from other sessions:
    what changes those writes them.
    """
    known = connection.sql(entries).pl()
    add_frame(connection, "completeness", completeness(source, known, sessions))
    daily = _daily_rows(source)
    made_of = contents(bars, map(str, sessions))
    came = of_frames(connection, "session", ["stored_bars"])
    facts = (daily, rules.with_previous("rows", "closes"), said_by(target.table.contract))
    return {session: digest(content, came.get(session), *facts) for session, content in made_of.items()}


def _daily_rows(source: BarSource) -> str:
    zone = source.config.venue.time_zone
    return rules.daily("stored_bars", "completeness", zone, by_market=source.by_market)


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
    lake: Lake, source: BarSource, sessions: list[date], verify: bool, progress: Progress
) -> tuple[DeriveResult, Sequence[Snapshot]]:
    import pyarrow as pa

    table = lake.table(source.table("daily_bars"))
    target = table.snapshot()
    with lake.connect() as connection:
        ledger = lake.table(LEDGER).snapshot()
        bars = lake.table(source.table("bars")).snapshot()
        connection.execute(f"CREATE TEMP VIEW stored_bars AS {bars.select({'session': sessions[:1]})}")
        entries = about(ledger, source.name, source.bars.name, sessions)
        made_from = _prepared(connection, source, target, entries, bars, sessions)
        came = connection.sql("FROM completeness").pl()
        most = fitting([bars], sessions, ROWS_AT_ONCE)
        batches = divided(sessions, lake.compute, least=LEAST_PARTITIONS, most=most)
        task = partial(_fresh_rows, source, came)
        made = lake.compute.map(lake, task, batches, "partitions of daily bars", progress)
        connection.register("made", pa.concat_tables(made))
        connection.execute("CREATE TEMP TABLE fresh AS FROM made")
        columns = ", ".join(f'"{name}"' for name in table.contract.column_names)
        _recompute(connection, target, sessions)
        # Duplicate rows don't change the set of rows, but must be rewritten all the same.
        changes = connection.sql(
            f"""
            SELECT {columns} FROM recomputed SEMI JOIN (
                SELECT {_KEY} FROM (SELECT {columns} FROM recomputed EXCEPT SELECT {columns} FROM before)
                UNION ALL SELECT {_KEY} FROM before_inside GROUP BY {_KEY} HAVING count(*) > 1
            ) USING ({_KEY})
            """
        ).to_arrow_table()
        connection.register("changes", changes)
        connection.execute(
            f"CREATE TEMP TABLE gone AS SELECT {_KEY}, year FROM before ANTI JOIN recomputed USING ({_KEY})"
        )
        years = connection.execute(
            "SELECT DISTINCT year FROM (SELECT year FROM changes UNION ALL SELECT year FROM gone) ORDER BY year"
        ).fetchall()
        if not years:
            if not verify and outdated(target, made_from):
                target.mark(marks_of(target, made_from, ()))
            return DeriveResult(count(connection, "fresh")), (ledger, bars)
        where = {"year": [year for (year,) in years]}
        # Sorted by instrument, so that the history of one is read from few row groups.
        rows = connection.sql(
            f"""
            SELECT {columns} FROM ({target.select(where)})
            ANTI JOIN changes USING ({_KEY}) ANTI JOIN gone USING ({_KEY})
            UNION ALL SELECT {columns} FROM changes ORDER BY year, {_KEY}
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
            # A row follows from its neighbours in other years, so that no two derivations may commit from one
            # snapshot, whatever years they write.
            marks = marks_of(target, made_from, sorted(result.changed))
            target.overwrite(rows, predicate(where), transactions=[table.name], checkpoints=marks)
        return result, (ledger, bars)


def _fresh_rows(
    source: BarSource, came: pl.DataFrame, lake: Lake, sessions: Sequence[date], progress: Progress
) -> pa.Table:
    """The daily rows of some sessions, without what links them to others.

    It reads the bars as they are now, which may be later ones than those of the fingerprints: then the derivation is
    repeated, since its inputs have a newer version.
    """
    bars = lake.table(source.table("bars")).snapshot()
    with lake.connect() as connection:
        add_frame(connection, "completeness", came)
        connection.execute(f"CREATE TEMP VIEW stored_bars AS {bars.select({'session': sessions})}")
        return connection.sql(_daily_rows(source)).to_arrow_table()


def _recompute(connection: duckdb.DuckDBPyConnection, target: Snapshot, sessions: list[date]) -> None:
    """Makes `recomputed` (the fresh rows and the later rows that follow a changed one, with prev_* filled in)
    and `before` (the same rows as stored).
    """
    first, last = sessions[0], sessions[-1]
    inside = predicate({"session": sessions})
    stored = target.select_where(f"session >= {literal(first)} AND session <= {literal(last)}")
    connection.execute(f"CREATE TEMP TABLE before_inside AS SELECT * FROM ({stored}) WHERE {inside}")
    _find_followers(connection, target, first, last, inside)
    connection.execute("CREATE TEMP VIEW before AS FROM before_inside UNION ALL FROM followers")
    connection.execute(
        "CREATE TEMP VIEW unlinked AS FROM fresh UNION ALL BY NAME "
        "FROM (SELECT * EXCLUDE (prev_session, prev_close, change_pct) FROM followers)"
    )
    row = connection.execute("SELECT max(session) FROM followers").fetchone()
    since, until = literal(first - _NEAR), literal(max(last, row[0]) if row and row[0] else last)
    near = target.select_where(f"session >= {since} AND session <= {until}")
    connection.execute(
        f"""
        CREATE TEMP TABLE closes AS
        SELECT {_KEY}, close FROM ({near}) WHERE NOT {inside} UNION ALL SELECT {_KEY}, close FROM fresh;
        CREATE TEMP TABLE without_close AS
        SELECT DISTINCT unlinked.instrument_id, unlinked.currency FROM unlinked ASOF LEFT JOIN closes AS earlier
        ON unlinked.instrument_id = earlier.instrument_id AND unlinked.currency = earlier.currency
        AND unlinked.session > earlier.session
        WHERE earlier.session IS NULL
        """
    )
    if count(connection, "without_close"):
        older = target.select_where(f"session < {since}")
        connection.execute(
            f"INSERT INTO closes SELECT {_KEY}, close FROM ({older}) SEMI JOIN without_close USING ({_SERIES})"
        )
    connection.execute(f"CREATE TEMP TABLE recomputed AS {rules.with_previous('unlinked', 'closes')}")


def _find_followers(
    connection: duckdb.DuckDBPyConnection, target: Snapshot, first: date, last: date, inside: str
) -> None:
    """Makes `followers`: the stored rows outside the sessions that follow a touched one. A row is touched if it
    appeared, went, or closes elsewhere.
    """
    near = literal(last + _NEAR)
    connection.execute(
        f"""
        CREATE TEMP TABLE touched AS SELECT {_KEY}, close FROM fresh EXCEPT SELECT {_KEY}, close FROM before_inside;
        INSERT INTO touched SELECT {_KEY}, close FROM before_inside ANTI JOIN fresh USING ({_KEY});
        CREATE TEMP TABLE spans AS
        SELECT {_SERIES}, min(session) AS first_touched, max(session) AS last_touched FROM touched GROUP BY {_SERIES};
        CREATE TEMP TABLE following AS
        {_following(target.select_where(f"session >= {literal(first)} AND session <= {near}"), inside)};
        DELETE FROM spans USING following WHERE spans.instrument_id = following.instrument_id
        AND spans.currency = following.currency AND following.session > spans.last_touched
        """
    )
    if count(connection, "spans"):
        connection.execute(f"INSERT INTO following {_following(target.select_where(f'session > {near}'), inside)}")
    years = [year for (year,) in connection.execute("SELECT DISTINCT year FROM following").fetchall()]
    connection.execute(
        f"""
        CREATE TEMP TABLE followers AS
        SELECT * FROM ({target.select({"year": years})}) SEMI JOIN following USING ({_KEY})
        """
    )


def _following(rows: Query, inside: str) -> Query:
    """The keys of the rows that follow the `spans` of their series: those within a span, and the first one after it."""
    return Query(
        f"""
        SELECT {_SERIES}, later.session, later.year FROM {relation_of(rows)} AS later JOIN spans USING ({_SERIES})
        WHERE NOT later.{inside} AND later.session > first_touched
        QUALIFY later.session <= last_touched
        OR row_number() OVER (PARTITION BY {_SERIES}, later.session > last_touched ORDER BY later.session) = 1
        """
    )
