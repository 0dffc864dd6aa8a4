"""Deriving the second product: raw_daily becomes official_daily and corporate_actions. Only years that differ from
what is stored are written; the order of snapshots is that of `derive`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from functools import partial

from lakehouse.derive.incremental import DeriveResult, derive_until_current, overwrite_changed
from lakehouse.derive.source import Source
from lakehouse.domains.market.corporate_actions import rules as official
from lakehouse.ingest.ledger import LEDGER
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Query, Relation, literal, relation_of
from lakehouse.progress import Progress

_RULES: dict[str, Callable[[Relation, Relation], Query]] = {
    "official_daily": official.official_daily,
    "corporate_actions": official.corporate_actions,
}
OFFICIAL_TABLES = tuple(_RULES)


def derive_official(
    table: str,
    lake: Lake,
    source: Source,
    partitions: Sequence[date] = (),
    *,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings official_daily or corporate_actions in line with raw_daily and the ledger, over its whole history.
    With `verify` nothing is written, and the result says what would be.
    """
    return derive_until_current(partial(_derived, lake, source, table, verify))


def _derived(lake: Lake, source: Source, table: str, verify: bool) -> tuple[DeriveResult, Sequence[Snapshot]]:
    target = lake.table(source.table(table)).snapshot()
    columns = ", ".join(f'"{name}"' for name in target.table.contract.column_names)
    with lake.connect() as connection:
        ledger = lake.table(LEDGER).snapshot()
        entered = ledger.select({"source": [source.name]})
        known = relation_of(f"SELECT * FROM ({entered}) WHERE product = {literal('official_daily')}")
        raw = relation_of(lake.table(source.table("raw_daily")).snapshot().select())
        connection.execute(f"CREATE TEMP TABLE fresh AS SELECT {columns} FROM ({_RULES[table](raw, known)})")
        stored = connection.execute("SELECT DISTINCT year FROM fresh").fetchall()
        years = sorted({str(year) for (year,) in stored} | set(target.partition_values("year")))
        order = "instrument_id, currency, year" if table == "corporate_actions" else "session, instrument_id"
        return overwrite_changed(connection, target, "year", years, order, verify=verify), (ledger,)
