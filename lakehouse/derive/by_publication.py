"""Deriving a table of what a source's newest publication says.

Each object of such a dataset is a whole publication: it has all rows that are true as of the day in its name, and what
the next one lacks is gone. Every publication is kept in the raw table, in the partition of its day; the derived table,
partitioned in the same way, has the rows of the newest one alone. The newest is the one of the latest day, whenever it
arrived: a late one changes nothing, and a corrected one replaces the object of its day.

The dataset is an ordinary one: its objects' names have a date, its `rows` say no time, and its `RevisionRule` has
`only_newest_publication`. Tables that keep rows of every partition are derived by `by_partition`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import partial

from lakehouse.derive.by_partition import Rules
from lakehouse.derive.fingerprints import WHOLE, of_whole, outdated
from lakehouse.derive.incremental import DeriveResult, derive_until_current, overwrite_changed
from lakehouse.derive.source import Source
from lakehouse.ingest.ledger import LEDGER
from lakehouse.ingest.versions import newest_publication
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Relation, literal, relation_of
from lakehouse.progress import Progress


def derive_by_publication(
    dataset: str,
    table: str,
    rules: Rules,
    lake: Lake,
    source: Source,
    partitions: Sequence[date],
    *,
    afresh: bool = False,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings the table in line with the newest publication, whatever `partitions` are (see
    `lakehouse.derive.source.Derive`).
    """
    made = derive_until_current(partial(_derive, dataset, table, rules, lake, source, afresh, verify))
    progress(f"publications of {table}", 1, 1)
    return made


def _derive(
    dataset: str, table: str, rules: Rules, lake: Lake, source: Source, afresh: bool, verify: bool
) -> tuple[DeriveResult, Sequence[Snapshot]]:
    # The ledger's snapshot comes before the raw table's, as a load writes the raw rows first. It comes before the
    # target's too: of two derivations that see different publications, either the one with the newer ledger finds what
    # the other wrote, or the other finds after its commit that the ledger has changed.
    ledger = lake.table(LEDGER).snapshot()
    target = lake.table(source.table(table)).snapshot()
    part = target.table.contract.partition_by[0]
    stored = set(target.dates())
    with lake.connect() as connection:
        raw = lake.table(source.dataset(dataset).table).snapshot()
        of_source = ledger.select({"source": [source.name]})
        connection.execute(
            f"CREATE TEMP TABLE entries AS SELECT * FROM ({of_source}) WHERE product = {literal(dataset)}"
        )
        known = Relation("entries")
        found = connection.execute(f"SELECT DISTINCT first_session FROM ({newest_publication(known)})").fetchall()
        parts = {source.dataset(dataset).part.of(day) for (day,) in found}
        connection.execute(f"CREATE TEMP VIEW raw_rows AS {raw.select({part: sorted(parts)})}")
        derived = rules(source, connection, Relation("raw_rows"), known)
        made_from = {WHOLE: of_whole(connection, relation_of(newest_publication(known)), derived, target, ["raw_rows"])}
        if not afresh and not verify and not outdated(target, made_from):
            return DeriveResult(target.row_count()), ()
        connection.execute(f"CREATE TEMP TABLE fresh AS {derived}")
        order = ", ".join(dict.fromkeys((part, *target.table.contract.key)))
        days = sorted(stored | parts)
        return overwrite_changed(connection, target, part, days, order, made_from, verify=verify), (ledger,)
