"""Daily balances: what each account had at the beginning and at the end of each day.

An entry counts on the day of its transaction's `effective_at`, on the bank's clock. The balance of a day follows from
the entries of all days up to it, so an entry that is dated back restates the days since. A day's fingerprint covers
just that; days whose fingerprint is the same are left as they are. The versions of its inputs say whether anything can
have changed at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lakehouse.derive.fingerprints import WHOLE, digest, marks_of, outdated, said_by
from lakehouse.derive.incremental import DeriveResult, derive_until_current, overwrite_changed
from lakehouse.derive.source import DerivedTable, Source
from lakehouse.ingest.postgres.ledger import last_batch
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Query, Relation, literal, predicate, relation_of
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb

BALANCES = "balances_daily"
INPUTS = ("account", "transaction", "entry")
_ROWS_AT_ONCE = 500_000


def balances_table(zone: str) -> DerivedTable:
    """The table of a bank whose day is on a clock."""
    return DerivedTable(
        name=BALANCES,
        description="Balance of each account at the end of each day.",
        depends_on=INPUTS,
        derive=partial(derive_balances, zone),
        as_of=partial(balances_as_of, zone),
        is_whole=True,
    )


def movements(zone: str, account: Relation, transaction: Relation, entry: Relation, last_day: date) -> Query:
    """The query for the entries by account and day, and for each account the day with which its balances begin."""
    day = "({} AT TIME ZONE " + literal(zone) + ")::DATE"
    return Query(f"""
        SELECT entry.account_id, {day.format("header.effective_at")} AS day,
            sum(entry.amount) FILTER (entry.amount > 0) AS credits,
            sum(entry.amount) FILTER (entry.amount < 0) AS debits, count(*) AS entry_count,
            sum(hash(entry.transaction_id, entry.line, entry.amount)::HUGEINT) AS hashed
        FROM {entry} AS entry JOIN {transaction} AS header ON header.id = entry.transaction_id
        WHERE {day.format("header.effective_at")} <= {literal(last_day)}::DATE GROUP BY ALL
    """)


def spans(zone: str, account: Relation, moved: Relation, last_day: date) -> Query:
    """The query for the first and the last day of each account's balances."""
    day = "({} AT TIME ZONE " + literal(zone) + ")::DATE"
    return Query(f"""
        SELECT account.id AS account_id, number, currency,
            least({day.format("opened_at")}, min(moved.day)) AS first_day,
            greatest(least({day.format("closed_at")}, {literal(last_day)}::DATE), max(moved.day)) AS last_day
        FROM {account} AS account LEFT JOIN {moved} AS moved ON moved.account_id = account.id
        GROUP BY account.id, number, currency, opened_at, closed_at
    """)


def balances(moved: Relation, span: Relation, days: str) -> Query:
    """The query for the balances of some days.

    Args:
        days: the query of the days, as `day`.
    """
    return Query(f"""
        SELECT day, account_id, number, currency, coalesce(before, 0)::DECIMAL(20, 4) AS opening_balance,
            coalesce(credits, 0)::DECIMAL(20, 4) AS credits, coalesce(debits, 0)::DECIMAL(20, 4) AS debits,
            coalesce(entry_count, 0)::BIGINT AS entry_count,
            (coalesce(before, 0) + coalesce(credits, 0) + coalesce(debits, 0))::DECIMAL(20, 4) AS balance
        FROM (
            SELECT days.day, span.*, own.credits, own.debits, own.entry_count, earlier.total AS before
            FROM ({days}) AS days JOIN {span} AS span ON days.day BETWEEN span.first_day AND span.last_day
            LEFT JOIN {moved} AS own ON own.account_id = span.account_id AND own.day = days.day
            ASOF LEFT JOIN (
                SELECT account_id, day, sum(coalesce(credits, 0) + coalesce(debits, 0))
                    OVER (PARTITION BY account_id ORDER BY day) AS total FROM {moved}
            ) AS earlier ON earlier.account_id = span.account_id AND earlier.day < days.day
        )
    """)


def balances_as_of(zone: str, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for the table's rows as of `lake.as_of`."""
    given = [relation_of(lake.select(source.table(name), connection)) for name in INPUTS]
    last_day = _last_day(zone, lake, connection, source)
    if last_day is None:
        return f"SELECT * FROM ({lake.table(source.table(BALANCES)).snapshot().select()}) WHERE false"
    moved = relation_of(movements(zone, given[0], given[1], given[2], last_day))
    span = relation_of(spans(zone, given[0], moved, last_day))
    return balances(moved, span, _days_between(f"(SELECT min(first_day) FROM {span})", last_day))


def derive_balances(
    zone: str,
    lake: Lake,
    source: Source,
    partitions: Sequence[date] = (),
    *,
    afresh: bool = False,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings all days in line with the entries (see `lakehouse.derive.source.Derive`): one that is dated back reaches
    days that were not asked for.
    """
    made = derive_until_current(partial(_derive, zone, lake, source, afresh, verify))
    progress(BALANCES, 1, 1)
    return made


def _derive(
    zone: str, lake: Lake, source: Source, afresh: bool, verify: bool
) -> tuple[DeriveResult, Sequence[Snapshot]]:
    target = lake.table(source.table(BALANCES)).snapshot()
    inputs = [lake.table(source.table(name)).snapshot() for name in INPUTS]
    with lake.connect() as connection:
        last_day = _last_day(zone, lake, connection, source)
        if last_day is None:
            return DeriveResult(), ()
        versions = (snapshot.version for snapshot in inputs)
        whole = {WHOLE: digest(*versions, *_rules(zone, last_day), said_by(target.table.contract))}
        if not afresh and not verify and not outdated(target, whole):
            return DeriveResult(target.row_count()), ()
        account, transaction, entry = (relation_of(snapshot.select()) for snapshot in inputs)
        connection.execute(f"CREATE TEMP TABLE moved AS {movements(zone, account, transaction, entry, last_day)}")
        moved, span = Relation("moved"), Relation("span")
        connection.execute(f"CREATE TEMP TABLE span AS {spans(zone, account, moved, last_day)}")
        first = connection.execute("SELECT min(first_day), count(*) FROM span").fetchone()
        assert first is not None
        first_day, accounts = first
        days = _days_between(literal(first_day or last_day) + "::DATE", last_day)
        made_from = _fingerprints(connection, days, said_by(target.table.contract))
        stored = target.partition_values("day")
        gone = [day for day in stored if day not in made_from]
        wanted = [*made_from] if afresh or verify else outdated(target, made_from)
        wanted = sorted({*wanted, *gone})
        if not wanted and not verify:
            target.mark(marks_of(target, whole, ()))
        at_once = max(1, _ROWS_AT_ONCE // max(1, accounts))
        result = DeriveResult()
        for start in range(0, len(wanted), at_once):
            part = wanted[start : start + at_once]
            inside = f"SELECT day FROM ({days}) WHERE {predicate({'day': part})}"
            connection.execute(f"CREATE OR REPLACE TEMP TABLE fresh AS {balances(moved, span, inside)}")
            numbers = {day: made_from.get(day, digest("no rows")) for day in part}
            if start + at_once >= len(wanted):
                numbers |= whole
            # One commit per block of days: the snapshot of the next is the newest.
            result += overwrite_changed(connection, target, "day", part, "day, account_id", numbers, verify=verify)
            target = target.refreshed() if target.delta is not None else lake.table(source.table(BALANCES)).snapshot()
        return result, () if verify else inputs


def _rules(zone: str, last_day: date) -> tuple[Query, Query, Query]:
    """The queries that make the balances, up to a day."""
    account, transaction, entry = map(Relation, INPUTS)
    moved, span = Relation("moved"), Relation("span")
    return (
        movements(zone, account, transaction, entry, last_day),
        spans(zone, account, moved, last_day),
        balances(moved, span, "days"),
    )


def _fingerprints(connection: duckdb.DuckDBPyConnection, days: str, said: str) -> dict[str, int]:
    """What each day follows from: the entries of all days up to it, and the accounts that have balances on it."""
    rule = balances(Relation("moved"), Relation("span"), "days")
    rows = connection.execute(
        f"""
        SELECT day::VARCHAR, sum(coalesce(entries, 0)) OVER (ORDER BY day)::VARCHAR, accounts::VARCHAR FROM (
            SELECT days.day, any_value(of_day.hashed) AS entries,
                sum(hash(span.account_id, number, currency)::HUGEINT) AS accounts
            FROM ({days}) AS days LEFT JOIN (
                SELECT day, sum(hash(account_id, hashed)::HUGEINT) AS hashed FROM moved GROUP BY day
            ) AS of_day ON of_day.day = days.day
            LEFT JOIN span ON days.day BETWEEN span.first_day AND span.last_day GROUP BY days.day
        )
        """
    ).fetchall()
    return {day: digest(entries, accounts, rule, said) for day, entries, accounts in rows}


def _last_day(zone: str, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> date | None:
    """The day up to which the lake knows the bank: that of the last batch."""
    last = last_batch(lake, connection, source.name)
    return None if last is None else last.captured_at.astimezone(ZoneInfo(zone)).date()


def _days_between(first: str, last: date) -> str:
    return f"SELECT unnest(generate_series({first}, {literal(last)}::DATE, INTERVAL 1 DAY))::DATE AS day"
