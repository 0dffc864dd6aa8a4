"""Checks of what a captured database promises, whatever its tables are about."""

from __future__ import annotations

from collections.abc import Collection

from lakehouse.derive.captured import CapturedSource, conserved
from lakehouse.derive.checks import found, of_every_table, over_all
from lakehouse.derive.conservation import COUNTS
from lakehouse.derive.source import Check, Finding, Partitions
from lakehouse.errors import DatabaseUnavailable, SourceError
from lakehouse.ingest.postgres.captured import LEDGER, CapturedDatabase
from lakehouse.ingest.postgres.ledger import last_batch
from lakehouse.ingest.postgres.server import serving
from lakehouse.ingest.postgres.verify import verify
from lakehouse.lake.contract import Contract
from lakehouse.lake.lake import Lake


def capture_checks(of: CapturedDatabase, known: Collection[Contract]) -> tuple[Check, ...]:
    """The checks of a capture's tables, whose contracts are `known`."""
    return (
        *(over_all(check) for contract in known for check in of_every_table(contract)),
        Check(
            LEDGER,
            "conservation",
            "Changes received = rows kept + superseded + quarantined.",
            _conservation,
            blocking=True,
        ),
        Check(
            LEDGER,
            "source_equals_lake",
            "Every row of the database is in the lake, and no other, at the position up to which it was captured.",
            _source_equals_lake,
            blocking=True,
        ),
        Check(
            LEDGER,
            "tables_captured",
            "Every table has the columns of its contract, so that it is captured.",
            _tables_captured,
            severity="error",
        ),
        Check(LEDGER, "slot_lag", "Little of the log is left to capture.", _slot_lag, severity="warn"),
    )


def _conservation(lake: Lake, source: CapturedSource, partitions: Partitions) -> Finding:
    with lake.connect() as connection:
        rows = connection.sql(conserved(lake, connection, source)).to_arrow_table().to_pylist()
    wrong = [row for row in rows if row["received"] != sum(row[name] for name in COUNTS[1:])]
    totals = {name: sum(row[name] for row in rows) for name in COUNTS}
    return found(wrong, "the changes of 1 table do not add up", "tables' changes do not add up", **totals)


def _source_equals_lake(lake: Lake, source: CapturedSource, partitions: Partitions) -> Finding:
    try:
        compared = verify(lake, source.of)
    except (DatabaseUnavailable, SourceError) as error:
        return Finding(False, f"they can't be compared: {error}")
    rows = [vars(each) for table in compared.tables for each in table.shown]
    differing = sum(table.differing for table in compared.tables)
    facts = {
        "rows_in_database": sum(table.there for table in compared.tables),
        "rows_in_lake": sum(table.here for table in compared.tables),
        "rows_pending": sum(table.pending for table in compared.tables),
    }
    first = f"; first {rows[0]['table']} {rows[0]['key']}: {rows[0]['found']}" if rows else ""
    at = f"at {compared.position}{first}"
    return found(rows, f"1 row differs {at}", f"rows differ {at}", count=differing, **facts)


def _tables_captured(lake: Lake, source: CapturedSource, partitions: Partitions) -> Finding:
    with lake.connect() as connection:
        last = last_batch(lake, connection, source.name)
    rows = [{"table": name, "reason": reason} for name, reason in (last.stopped if last else {}).items()]
    said = f"{rows[0]['table']}: {rows[0]['reason']}" if rows else ""
    return found(rows, f"1 table has stopped, {said}", f"tables have stopped, the first is {said}")


def _slot_lag(lake: Lake, source: CapturedSource, partitions: Partitions) -> Finding:
    try:
        with serving(source.of, locked=False) as server:
            slot = server.slot()
    except (DatabaseUnavailable, SourceError) as error:
        return Finding(False, f"the slot can't be looked at: {error}")
    if slot is None:
        return Finding(True, "there is no slot")
    said = f"{slot.lag:,} bytes of the log were not captured yet"
    return Finding(slot.lag <= source.lag_warning_bytes and not slot.is_lost, said, facts={"lag_bytes": slot.lag})
