"""Tracks sources that are held back from publication because a blocking check of one of their tables failed.

The table `held_back` records this for every publication, whichever run it is part of. A failure is recorded with the
dates that were checked, and the source is published again only once all of them pass: a good day must not hide a bad
one. `warehouse.inputs` decides what a publication shows of a source in the meantime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from lakehouse.derive.source import Source
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.table import retry_when_stale

HELD_BACK = "held_back"


@dataclass(frozen=True)
class Hold:
    """A failed blocking check. `scope` are the dates that must pass; None means the whole table."""

    source: str
    table: str
    check: str
    scope: tuple[date, ...] | None
    found: str
    since: datetime

    def __str__(self) -> str:
        return f"{self.source} since {self.since:%Y-%m-%d %H:%M:%S} UTC, {self.table}: {self.check}: {self.found}"


@dataclass(frozen=True)
class _Verdict:
    """The outcome of a blocking check on the dates of `scope` (None: the whole table), which include all known failures
    (`of`).
    """

    table: str
    check: str
    passed: bool
    found: str
    scope: tuple[date, ...] | None
    of: Hold | None


def holds(lake: Lake, source: str | None = None) -> list[Hold]:
    """The holds on a source, or on any, sorted by source, table and check."""
    return _holds(lake.table(HELD_BACK).snapshot(), source)


def hold_back(
    lake: Lake,
    source: str,
    outcomes: Mapping[tuple[str, str], tuple[bool, str]],
    scope: Sequence[date] | None,
    look: Callable[[tuple[str, str], Sequence[date] | None], tuple[bool, str]],
) -> None:
    """Holds back a source while one of its blocking checks fails, until all failed dates pass.

    Args:
        outcomes: (table, check) -> whether the blocking check passed, and its finding, on the dates of `scope` (None:
            the whole table).
        look: runs a check on other dates that failed before, with the same kind of result.
    """
    held = {(hold.table, hold.check): hold for hold in holds(lake, source)}
    verdicts = []
    for key, (passed, found) in outcomes.items():
        before = held.get(key)
        if passed and before is None:
            continue
        others = _others(before.scope, scope) if before else ()
        if passed and others != ():
            passed, found = look(key, others)
            dates = others
        else:
            dates = None if scope is None or others is None else tuple(sorted({*scope, *others}))
        verdicts.append(_Verdict(*key, passed, found, dates, before))
    # A check that still passes causes no commit.
    if verdicts:
        _record(lake, source, verdicts)


def check_again(lake: Lake, source: Source) -> list[Hold]:
    """Repeats the blocking checks that hold back a source on the failed dates, for example after a rebuild; returns
    those that still fail.
    """
    by_name = {(check.table, check.name): check for check in source.checks}

    def look(name: tuple[str, str], scope: Sequence[date] | None) -> tuple[bool, str]:
        finding = by_name[name].run(lake, source, scope)
        return finding.passed, finding.summary

    for hold in holds(lake, source.name):
        name = (hold.table, hold.check)
        if name in by_name:
            hold_back(lake, source.name, {name: look(name, hold.scope)}, hold.scope, look)
    return holds(lake, source.name)


def _others(failed: tuple[date, ...] | None, scope: Sequence[date] | None) -> tuple[date, ...] | None:
    """The dates that failed before and are outside `scope`; None if the whole table must be checked."""
    if scope is None:
        return ()
    return None if failed is None else tuple(sorted({*failed} - {*scope}))


def _record(lake: Lake, source: str, verdicts: list[_Verdict]) -> None:
    import pyarrow as pa

    table = lake.table(HELD_BACK)

    def work() -> None:
        snapshot = table.snapshot()
        held = {(hold.table, hold.check): hold for hold in _holds(snapshot, source)}
        # A clock that was ahead must not hide what is found now.
        moment = max([datetime.now(UTC), *_after_last(snapshot, source)])
        rows = []
        for verdict in verdicts:
            before = held.get((verdict.table, verdict.check))
            scope = verdict.scope
            if before != verdict.of:
                # Another run has recorded a failure in the meantime that this one didn't check.
                if verdict.passed:
                    continue
                known = before.scope if before else ()
                scope = None if scope is None or known is None else tuple(sorted({*scope, *known}))
            since = before.since if before else moment
            after = Hold(source, verdict.table, verdict.check, scope, verdict.found, since)
            if verdict.passed or after != before:
                rows.append(
                    {
                        "source": source,
                        "table_name": verdict.table,
                        "check_name": verdict.check,
                        "passed": verdict.passed,
                        "scope": [day.isoformat() for day in scope or ()],
                        "found": verdict.found,
                        "since": since,
                        "recorded_at": moment,
                    }
                )
        if rows:
            snapshot.append(pa.Table.from_pylist(rows, schema=table.contract.arrow_schema), [f"{source}/{HELD_BACK}"])

    retry_when_stale(work)


def _holds(snapshot: Snapshot, source: str | None) -> list[Hold]:
    import polars as pl

    if snapshot.delta is None:
        return []
    rows = snapshot.scan().sort("recorded_at")
    if source is not None:
        rows = rows.filter(pl.col("source") == source)
    key = ["source", "table_name", "check_name"]
    newest = rows.unique(key, keep="last", maintain_order=True).filter(~pl.col("passed")).sort(key).collect()
    return [
        Hold(
            row["source"],
            row["table_name"],
            row["check_name"],
            tuple(date.fromisoformat(day) for day in row["scope"]) or None,
            row["found"],
            row["since"],
        )
        for row in newest.iter_rows(named=True)
    ]


def _after_last(snapshot: Snapshot, source: str) -> list[datetime]:
    import polars as pl

    if snapshot.delta is None:
        return []
    last = snapshot.scan().filter(pl.col("source") == source).select(pl.col("recorded_at").max()).collect().item()
    return [last + timedelta(microseconds=1)] if isinstance(last, datetime) else []
