"""Deriving the second product: raw_daily becomes official_daily and corporate_actions. Only years that differ from
what is stored are written; the order of snapshots is that of `derive`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from functools import partial

from lakehouse.derive.fingerprints import WHOLE, of_whole, outdated
from lakehouse.derive.incremental import DeriveResult, derive_until_current, overwrite_differing
from lakehouse.derive.source import Source
from lakehouse.domains.market.corporate_actions import rules as official
from lakehouse.ingest.ledger import LEDGER
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Query, Relation, literal
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
    afresh: bool = False,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings official_daily or corporate_actions in line with raw_daily and the ledger, over its whole history (see
    `lakehouse.derive.source.Derive`).
    """
    return derive_until_current(partial(_derived, lake, source, table, afresh, verify))


def _derived(
    lake: Lake, source: Source, table: str, afresh: bool, verify: bool
) -> tuple[DeriveResult, Sequence[Snapshot]]:
    target = lake.table(source.table(table)).snapshot()
    columns = ", ".join(f'"{name}"' for name in target.table.contract.column_names)
    with lake.connect() as connection:
        ledger = lake.table(LEDGER).snapshot()
        entered = ledger.select({"source": [source.name]})
        connection.execute(
            f"CREATE TEMP TABLE entries AS SELECT * FROM ({entered}) WHERE product = {literal('official_daily')}"
        )
        raw = lake.table(source.table("raw_daily")).snapshot().select()
        connection.execute(f"CREATE TEMP VIEW raw_rows AS {raw}")
        rows = _RULES[table](Relation("raw_rows"), Relation("entries"))
        made_from = {WHOLE: of_whole(connection, Relation("entries"), rows, target, ["raw_rows"])}
        if not afresh and not verify and not outdated(target, made_from):
            return DeriveResult(target.row_count()), ()
        order = "instrument_id, currency, year" if table == "corporate_actions" else "session, instrument_id"
        query = f"SELECT {columns} FROM ({rows})"
        return overwrite_differing(connection, target, query, order, made_from, verify=verify), (ledger,)
