"""Evaluates checks, and remembers what they found.

The result of a check on a partition belongs to what it read: the partition's content in the table and in those that it
is made from, the ledger's entries about it, and the code. The table `check_results` keeps it; a run evaluates the
partitions whose content or code is another one, in batches that may be tasks on a cluster, and reports all. Checks that
look at more than that (at other partitions, the clock, the settings) are always evaluated, on the run's partitions and
in this process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lakehouse.derive.checks import CONSERVATION, SHOWN, found
from lakehouse.derive.conservation import COUNTS
from lakehouse.derive.fingerprints import contents, digest, of_references, said_by
from lakehouse.derive.source import Check, Finding, Offences, Source
from lakehouse.ingest.ledger import LEDGER
from lakehouse.lake.compute import divided, fitting
from lakehouse.lake.lake import Lake
from lakehouse.lake.maintenance import compact_if_many
from lakehouse.lake.sql import literal, relation_of
from lakehouse.progress import Progress

RESULTS = "check_results"
_LEAST_PARTITIONS = 10
"""Of a task on a cluster that checks a table."""
_MOST_ROWS = 4_000_000
"""Of a batch of partitions: with four million bars DuckDB needs about 1 GB."""
_CODE = ("lake", "ingest", "derive", "domains")
"""The packages that a check's code may be in."""

Remembered = Mapping[str, Mapping[date, Offences]]
"""Check -> partition -> what was found in it."""

Row = Mapping[str, Any]
"""A row of `check_results`, column -> value; columns may lack that are NULL."""


def evaluate(
    lake: Lake, source: Source, table: str, checks: Iterable[Check], partitions: Sequence[date] | None, description: str
) -> dict[str, Finding]:
    """The findings of checks of a table on some partitions (None: all, evaluated afresh), by check. Keeps what was
    evaluated now.

    Args:
        description: the source's, as text: a result that another one led to doesn't count.
    """
    findings, rows = evaluated(lake, source, table, checks, partitions, description)
    keep(lake, rows)
    return findings


def evaluated(
    lake: Lake, source: Source, table: str, checks: Iterable[Check], partitions: Sequence[date] | None, description: str
) -> tuple[dict[str, Finding], list[Row]]:
    """The same findings, and the rows to `keep`."""
    known = list(checks)
    remembering = [check for check in known if check.counted is not None]
    if partitions is None or not remembering:
        return {check.name: check.run(lake, source, partitions) for check in known}, []
    content = contents_read(lake, source, table, partitions)
    code = digest(code_digest(), description)
    stored = _results(lake, source.name, table, content, code)
    outdated = {
        check.name: [day for day in partitions if day not in stored.get(check.name, {})] for check in remembering
    }
    now = _evaluated(lake, source, table, remembering, outdated)
    findings, made = {}, {}
    for check in known:
        if check.counted is None:
            findings[check.name] = check.run(lake, source, partitions)
            continue
        before = stored.get(check.name, {})
        if stale := outdated[check.name]:
            finding = now[check.name]
            made[check.name] = {day: finding.by_partition.get(day, Offences()) for day in stale}
            is_explained = _is_explained(finding, made[check.name])
            if not is_explained:
                # A row belongs to no partition that was asked for: the finding tells of it, and is not remembered.
                del made[check.name]
            if len(stale) == len(partitions) or not is_explained:
                findings[check.name] = _counted(finding, len(stale), len(partitions))
                continue
        findings[check.name] = _counted(
            _united(check, {**before, **made.get(check.name, {})}, partitions), len(stale), len(partitions)
        )
    rows = _rows(source.name, table, made, content, code)
    return {check.name: findings[check.name] for check in known}, rows


def keep(lake: Lake, rows: Sequence[Row]) -> None:
    """Appends rows to `check_results` in one commit. Two runs may evaluate the same: then it is there twice."""
    if not rows:
        return
    table = lake.table(RESULTS)
    table.append_rows(rows)
    for source in {row["source"] for row in rows}:
        compact_if_many(table, "source", source)


def _evaluated(
    lake: Lake, source: Source, table: str, checks: Sequence[Check], outdated: Mapping[str, Sequence[date]]
) -> dict[str, Finding]:
    """The findings of checks that remember, by check: of each on its outdated partitions, in batches of them."""
    asked = [check for check in checks if outdated[check.name]]
    days = sorted({day for check in asked for day in outdated[check.name]})
    read = (lake.table(source.table(name)).snapshot() for name in source.made_of(table))
    most = fitting(read, days, _MOST_ROWS)
    batches = divided(days, lake.compute, least=_LEAST_PARTITIONS, most=most)
    task = partial(_run_checks, source, asked, outdated)
    found_in = lake.compute.map(lake, task, batches, f"partitions of {table} checked", lambda *_: None)
    if len(found_in) < 2:
        return found_in[0] if found_in else {}
    united = {}
    for check in asked:
        stale = {*outdated[check.name]}
        by_partition: dict[date, Offences] = {}
        is_explained = True
        for batch, findings in zip(batches, found_in, strict=True):
            if (finding := findings.get(check.name)) is not None:
                inside = {day: finding.by_partition.get(day, Offences()) for day in batch if day in stale}
                by_partition |= inside
                is_explained = is_explained and _is_explained(finding, inside)
        if is_explained:
            whole = _united(check, by_partition, outdated[check.name])
            united[check.name] = replace(whole, by_partition=by_partition)
        else:
            # A row that belongs to no partition is one of the whole.
            united[check.name] = check.run(lake, source, outdated[check.name])
    return united


def _run_checks(
    source: Source,
    checks: Sequence[Check],
    outdated: Mapping[str, Sequence[date]],
    lake: Lake,
    partitions: Sequence[date],
    progress: Progress,
) -> dict[str, Finding]:
    asked = {*partitions}
    days = {check.name: [day for day in outdated[check.name] if day in asked] for check in checks}
    return {check.name: check.run(lake, source, days[check.name]) for check in checks if days[check.name]}


def conservation_totals(
    lake: Lake, source: Source, partitions: Sequence[date] | None, description: str
) -> dict[str, int]:
    """The conservation law's counts for `partitions` (None: for all), by name, over the tables that are derived by
    partition; over all rows if the source has only whole tables. They are those of the check, which counts what it
    hasn't counted yet; a source that doesn't take in datasets counts its rows itself.
    """
    if source.conserved is not None:
        with lake.connect() as connection:
            terms = connection.sql(source.conserved(lake, connection, source)).to_arrow_table().to_pylist()
        return {name: sum(row[name] for row in terms) for name in COUNTS}
    keeping = [table for table in source.tables if table.keeps is not None]
    stepwise = [table for table in keeping if not table.is_whole]
    totals = dict.fromkeys(COUNTS, 0)
    for table in stepwise or keeping:
        checks = [check for check in source.checks if (check.table, check.name) == (table.name, CONSERVATION)]
        for finding in evaluate(lake, source, table.name, checks, partitions, description).values():
            totals = {name: totals[name] + finding.facts.get(name, 0) for name in COUNTS}
    return totals


def unevaluated(lake: Lake, source: Source, partitions: Sequence[date], description: str) -> set[date]:
    """The partitions on whose present content some check that remembers was never evaluated."""
    code, found_in = digest(code_digest(), description), set()
    for table in dict.fromkeys(check.table for check in source.checks if check.counted is not None):
        content = contents_read(lake, source, table, partitions)
        stored = _results(lake, source.name, table, content, code)
        for check in source.checks:
            if check.table == table and check.counted is not None:
                found_in |= {*partitions} - stored.get(check.name, {}).keys()
    return found_in


def contents_read(lake: Lake, source: Source, table: str, partitions: Sequence[date]) -> dict[date, int]:
    """A digest of what the checks of a table read about each partition."""
    names = [str(day) for day in partitions]
    parts = []
    for name in source.made_of(table):
        snapshot = lake.table(source.table(name)).snapshot()
        parts.append((said_by(snapshot.table.contract), contents(snapshot, names)))
    entered = _entered(lake, source.name)
    return {
        day: digest(entered.get(str(day)), *((said, number[str(day)]) for said, number in parts)) for day in partitions
    }


def _entered(lake: Lake, source: str) -> Mapping[str, int]:
    """A digest of what the ledger says of the rows of each partition of a source."""
    ledger = lake.table(LEDGER).snapshot()

    def made() -> Mapping[str, int]:
        with lake.connect() as connection:
            return of_references(connection, relation_of(ledger.select({"source": [source]})))

    return ledger.remembered(("entered", source), made)


@cache
def code_digest() -> str:
    """A digest of the code that checks may run, and of the contracts beside it."""
    hashed, root = blake2b(digest_size=16), Path(__file__).parents[1]
    for package in _CODE:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                hashed.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return hashed.hexdigest()


def _results(lake: Lake, source: str, table: str, content: Mapping[date, int], code: int) -> Remembered:
    """The stored results about the present content, by the present code."""
    snapshot = lake.table(RESULTS).snapshot()
    if snapshot.delta is None:
        return {}
    with lake.connect() as connection:
        rows = connection.execute(
            f"""
            SELECT check_name, session, content, offenders, rows, facts FROM ({snapshot.select({"source": [source]})})
            WHERE table_name = {literal(table)} AND code = {code}
            """
        ).fetchall()
    known: dict[str, dict[date, Offences]] = {}
    for check, day, number, count, offending, facts in rows:
        if content.get(day) == number:
            known.setdefault(check, {})[day] = Offences(count, json.loads(offending), json.loads(facts))
    return known


def _rows(source: str, table: str, made: Remembered, content: Mapping[date, int], code: int) -> list[Row]:
    moment = datetime.now(UTC)
    return [
        {
            "source": source,
            "table_name": table,
            "check_name": check,
            "session": day,
            "content": content[day],
            "code": code,
            "passed": offences.count == 0,
            "offenders": offences.count,
            "rows": json.dumps(offences.rows, default=str),
            "facts": json.dumps(offences.facts),
            "evaluated_at": moment,
        }
        for check, by_partition in made.items()
        for day, offences in by_partition.items()
    ]


def _is_explained(finding: Finding, by_partition: Mapping[date, Offences]) -> bool:
    return finding.passed == (not any(offences.count for offences in by_partition.values()))


def _united(check: Check, by_partition: Mapping[date, Offences], partitions: Sequence[date]) -> Finding:
    """What was found in all of the partitions."""
    assert check.counted is not None
    of_all = [by_partition[day] for day in partitions]
    rows = [row for offences in of_all for row in offences.rows][:SHOWN]
    facts: dict[str, int] = {}
    for offences in of_all:
        for name, number in offences.facts.items():
            facts[name] = facts.get(name, 0) + number
    one, several = check.counted
    return found(rows, one, several, count=sum(offences.count for offences in of_all), **facts)


def _counted(finding: Finding, evaluated: int, of: int) -> Finding:
    """Says on how many partitions the check was evaluated now."""
    facts: dict[str, Any] = {"partitions_checked": of, "partitions_evaluated_now": evaluated}
    return replace(finding, facts={**finding.facts, **facts})
