"""Checks of the stored tables, one per rule. Dagster shows them as asset checks; a terminal or a notebook can run them
too.

Every check reads the stored tables, never a step's in-memory data, and takes the partitions to check (None: all), so
that a day's run checks only that day. Here are the checks of every source; a domain adds its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from lakehouse.derive.conservation import COUNTS, conservation_of
from lakehouse.derive.source import Check, DerivedTable, Finding, Offences, Partitions, Source
from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.entered import QUARANTINE, unentered_rows
from lakehouse.ingest.ledger import failed_objects, ledger_of
from lakehouse.ingest.refused import Refusal, refusal
from lakehouse.ingest.skipped import last_skipped
from lakehouse.ingest.stale_readings import read_otherwise
from lakehouse.ingest.unoffered import unoffered
from lakehouse.lake.contract import Contract
from lakehouse.lake.lake import Lake
from lakehouse.lake.references import dangling_rows
from lakehouse.lake.sql import Relation, literal, predicate, relation_of
from lakehouse.lake.validation import broken_rules, predicates_of

if TYPE_CHECKING:
    import duckdb
    import polars as pl

_BROKEN = ("1 rule is broken", "rules are broken")
_REPEATED = ("1 key occurs more than once", "keys occur more than once")
_NOT_ADDING_UP = ("1 session does not add up", "sessions do not add up")
CONSERVATION = "conservation"
"""Name of the check of the conservation law."""
SHOWN = 20
"""Maximum of rows that a finding lists; its count covers all."""


def over_all(check: Check) -> Check:
    """Makes a check ignore a run's partitions, for a table that is always derived over its whole history."""
    return replace(unremembered(check), run=lambda lake, source, _: check.run(lake, source, None))


def unremembered(check: Check) -> Check:
    """A check that is evaluated in every run."""
    return replace(check, counted=None)


def relation(lake: Lake, source: Source, table: str, partitions: Partitions) -> Relation:
    """A table's rows of some partitions."""
    return relation_of(lake.table(source.table(table)).snapshot().select_dates(partitions))


def found(rows: list[dict[str, Any]], one: str, several: str, *, count: int | None = None, **facts: int) -> Finding:
    """Makes a finding from the offending rows; `count` is their number if `rows` holds only the first ones."""
    count = len(rows) if count is None else count
    summary = "nothing found" if count == 0 else one if count == 1 else f"{count:,} {several}"
    return Finding(count == 0, summary, rows[:SHOWN], facts)


def offenders(lake: Lake, query: str, order: str, one: str, several: str, part: str | None = None) -> Finding:
    """Makes a finding from a query that returns the offending rows; lists the first by `order`.

    Args:
        part: column with an offender's partition, for a check that is evaluated by partition.
    """
    with lake.connect() as connection:
        connection.execute(f"CREATE TEMP TABLE offenders AS {query}")
        total = connection.execute("SELECT count(*) FROM offenders").fetchone()
        rows = connection.sql(f"FROM offenders ORDER BY {order} LIMIT {SHOWN}").to_arrow_table().to_pylist()
        by_partition = {}
        if part is not None and rows:
            counts = connection.execute(f"SELECT {part}, count(*) FROM offenders GROUP BY ALL").fetchall()
            ordered = f"SELECT *, row_number() OVER () AS place FROM (FROM offenders ORDER BY {order})"
            first = (
                f"SELECT * FROM ({ordered}) QUALIFY row_number() OVER (PARTITION BY {part} ORDER BY place) <= {SHOWN}"
            )
            listed = (
                connection.sql(f"SELECT * EXCLUDE (place) FROM ({first}) ORDER BY place").to_arrow_table().to_pylist()
            )
            by_partition = {
                value: Offences(number, [row for row in listed if row[part] == value]) for value, number in counts
            }
    return replace(found(rows, one, several, count=total[0] if total else 0), by_partition=by_partition)


def of_every_table(contract: Contract) -> list[Check]:
    """The checks that every table of a source has."""
    table = contract.table
    checks = [
        Check(
            table,
            "contract",
            "Every stored row fulfils the table's contract.",
            partial(_contract, table),
            blocking=True,
            counted=_BROKEN,
        ),
        Check(
            table,
            "key_is_unique",
            "No two stored rows have the same key.",
            partial(_key_is_unique, table),
            blocking=True,
            counted=_REPEATED,
        ),
    ]
    if any(column.references for column in contract.columns):
        what = "Every value of a column that refers to another table is there."
        checks.append(Check(table, "references", what, partial(_references, table), blocking=True))
    return checks


def of_every_dataset(contract: Contract, dataset: str) -> list[Check]:
    """The checks of loaded data, on the raw table."""
    table = contract.table
    return [
        *of_every_table(contract),
        Check(
            table,
            "objects_readable",
            "Every object's newest version could be read.",
            partial(_objects_readable, dataset),
        ),
        Check(
            table,
            "rows_entered",
            "The ledger names every stored row. Others are of a load that was killed or is running; nothing reads "
            "them.",
            partial(_rows_entered, dataset),
            severity="warn",
        ),
        Check(
            table,
            "readings_current",
            "Every object was read by what the source's YAML says now.",
            partial(_readings_current, dataset),
            severity="warn",
        ),
        Check(
            table,
            "few_rows_refused",
            "Few of the rows received were refused. Rows outside the calendar don't count.",
            partial(_refused, dataset, False),
            severity="warn",
        ),
    ]


def objects_known(table: str) -> Check:
    """For objects in a folder or bucket: whether each was listed and has a known name."""
    return Check(
        table,
        "objects_known",
        "Every object at the source could be listed, and has a name that one of the source's patterns matches.",
        _objects_known,
        severity="warn",
    )


def enough_rows_kept(table: str, dataset: str) -> Check:
    """A blocking check on the published table, so that the tables before it are still derived."""
    return Check(
        table,
        "enough_rows_kept",
        "Most of the rows received were kept, and some of every object. Rows outside the calendar don't count.",
        partial(_refused, dataset, True),
        blocking=True,
    )


def conservation_holds(table: DerivedTable) -> Check:
    """The check of the conservation law, on the table with the winning rows of a dataset."""
    return Check(
        table.name,
        CONSERVATION,
        "Rows received = kept + duplicates + superseded + quarantined.",
        partial(_conservation, table),
        blocking=True,
        counted=_NOT_ADDING_UP,
    )


def refusal_finding(refused: Refusal, passed: bool) -> Finding:
    """Makes a finding of the rejected rows."""
    rows = [{"reason": reason, "rows": count} for reason, count in refused.reasons.items()]
    rows += [{"reason": "no row was kept", "object": name} for name in refused.kept_none]
    counts = {"rows_received": refused.received, "rows_refused": refused.refused}
    facts = {**counts, "objects_kept_none": len(refused.kept_none)}
    return Finding(passed, str(refused), rows[:SHOWN], facts)


def unreadable_objects(
    datasets: Sequence[Dataset], ledger: pl.LazyFrame, partitions: Partitions = None
) -> list[dict[str, Any]]:
    """The objects of a source whose last load failed (see `failed_objects`), without those that the settings no longer
    request, as a mistyped subject or a series that was removed from the YAML, and those that the vendor has nothing for
    (see `unoffered`).
    """
    import polars as pl

    by_name = {dataset.name: dataset for dataset in datasets}
    wanted = ledger.filter(pl.col("product").is_in(list(by_name)))
    if partitions is not None:
        # One partition is enough for an object that covers many days.
        first, last = pl.lit(min(partitions)), pl.lit(max(partitions))
        wanted = wanted.filter((pl.col("first_session") <= last) & (pl.col("last_session") >= first))
    failed = failed_objects(wanted).to_dicts()
    nothing = {each.object for each in unoffered(datasets, ledger)} if failed else set()
    return [
        row for row in failed if row["object"] not in nothing and by_name[row["product"]].still_asks_for(row["object"])
    ]


def _contract(table: str, lake: Lake, source: Source, partitions: Partitions) -> Finding:
    with lake.connect() as connection:
        connection.execute(f"CREATE TEMP VIEW stored AS SELECT * FROM {relation(lake, source, table, partitions)}")
        predicates = predicates_of(source.contract(table), connection, "stored")
        broken = broken_rules(predicates, connection, "stored")
        rows = [{"rule": name, "reason": predicates[name][1], "rows": count} for name, count in broken.items()]
        by_partition = {}
        for part in _dates_in(connection, source.contract(table)) if broken else ():
            inside = f"(FROM stored WHERE {predicate({source.contract(table).date_column: [part]})})"
            counts = broken_rules({name: predicates[name] for name in broken}, connection, inside)
            within = [{"rule": name, "reason": predicates[name][1], "rows": count} for name, count in counts.items()]
            by_partition[part] = Offences(len(within), within)
    return replace(found(rows, *_BROKEN), by_partition=by_partition)


def _dates_in(connection: duckdb.DuckDBPyConnection, contract: Contract) -> list[date]:
    return [day for (day,) in connection.execute(f"SELECT DISTINCT {contract.date_column} FROM stored").fetchall()]


def _key_is_unique(table: str, lake: Lake, source: Source, partitions: Partitions) -> Finding:
    contract = source.contract(table)
    key, part = ", ".join(contract.key), contract.date_column
    dated = "" if part in contract.key else f", {part}"
    # Grouping numbers is faster than grouping texts: look only at keys whose hash occurs more than once.
    query = f"""
        WITH stored AS NOT MATERIALIZED (SELECT {key}{dated} FROM {relation(lake, source, table, partitions)}),
        several AS MATERIALIZED (SELECT hash({key}) AS key_hash FROM stored GROUP BY key_hash HAVING count(*) > 1)
        SELECT {key}{dated and f", any_value({part}) AS {part}"}, count(*) AS copies
        FROM stored WHERE hash({key}) IN (FROM several) GROUP BY {key} HAVING count(*) > 1
        """
    return offenders(lake, query, "ALL", *_REPEATED, part=part)


def _references(table: str, lake: Lake, source: Source, partitions: Partitions) -> Finding:
    rows = relation(lake, source, table, partitions)
    query = dangling_rows(lake, source.table(table), source.contract(table), rows)
    return offenders(lake, query, "ALL", "1 value is not where it refers to", "values are not where they refer to")


def _objects_readable(name: str, lake: Lake, source: Source, partitions: Partitions) -> Finding:
    rows = unreadable_objects([source.dataset(name)], ledger_of(lake, source.name), partitions)
    said = f"{rows[0]['object']}: {rows[0]['error']}" if rows else ""
    return found(rows, f"1 object could not be read: {said}", f"objects could not be read, the first is {said}")


def _objects_known(lake: Lake, source: Source, partitions: Partitions) -> Finding:
    passed_over = last_skipped(lake, source.name)
    rows = [{"reason": entry.reason, "object": name} for entry in passed_over for name in entry.examples]
    summary = "; ".join(map(str, passed_over)) or "nothing found"
    return Finding(not passed_over, summary, rows[:SHOWN], {"objects": sum(entry.objects for entry in passed_over)})


def _rows_entered(name: str, lake: Lake, source: Source, partitions: Partitions) -> Finding:
    dataset = source.dataset(name)
    column, is_stepwise = dataset.part.column, dataset.part.unit == "day"
    counted = "count(*) AS rows, min(ingested_at) AS first_ingested_at"
    with lake.connect() as connection:
        queries = []
        for path in (dataset.table, QUARANTINE):
            where = None if path == QUARANTINE or partitions is None else {column: partitions}
            rows = unentered_rows(lake, connection, path, source.name, where)
            of = "session" if path == QUARANTINE else column
            within = predicate({of: partitions}) if partitions is not None and is_stepwise else "true"
            queries.append(
                f"SELECT {literal(path)} AS stored_in, object, {counted} FROM ({rows}) WHERE {within} GROUP BY ALL"
            )
        left = connection.sql(f"{' UNION ALL '.join(queries)} ORDER BY ALL").to_arrow_table().to_pylist()
    one, several = "1 object has rows of a load that did not end", "objects have rows of loads that did not end"
    return found(left, one, several, rows_without_entry=sum(row["rows"] for row in left))


def _conservation(table: DerivedTable, lake: Lake, source: Source, partitions: Partitions) -> Finding:
    with lake.connect() as connection:
        query = conservation_of(lake, connection, source, table, partitions)
        counted = connection.sql(query).to_arrow_table().to_pylist()
    totals = {name: sum(row[name] for row in counted) for name in COUNTS}
    wrong = [row for row in counted if row["received"] != sum(row[name] for name in COUNTS[1:])]
    by_partition = {
        row["session"]: Offences(int(row in wrong), [row] if row in wrong else [], {name: row[name] for name in COUNTS})
        for row in counted
    }
    return replace(found(wrong, *_NOT_ADDING_UP, **totals), by_partition=by_partition)


def _refused(name: str, severe: bool, lake: Lake, source: Source, partitions: Partitions) -> Finding:
    """Whether the rejected share is below the warning threshold, or (`severe`) below the blocking one."""
    dataset = source.dataset(name)
    refused = refusal(lake, dataset, partitions)
    verdict = refused.verdict(dataset.refusals)
    judged = refusal_finding(refused, verdict == "good" or (severe and verdict == "warn"))
    if judged.passed:
        return judged
    advice = "Look at lake.quarantine; if the source's YAML is wrong, correct it and run lakehouse reload"
    return replace(judged, summary=f"{judged.summary}. {advice} {source.name}")


def _readings_current(name: str, lake: Lake, source: Source, partitions: Partitions) -> Finding:
    import polars as pl

    stale = read_otherwise([source.dataset(name)], ledger_of(lake, source.name))
    if partitions is not None:
        within = (pl.col("first_session") <= max(partitions)) & (pl.col("last_session") >= min(partitions))
        stale = stale.filter(within)
    advice = f"run lakehouse reload {source.name}"
    one, several = "1 object was read by other settings", "objects were read by other settings"
    rows = stale.head(SHOWN).to_dicts()
    return found(rows, f"{one}: {advice}", f"{several}: {advice}", count=stale.height)
