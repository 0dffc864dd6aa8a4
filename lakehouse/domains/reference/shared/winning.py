"""Tables without days that hold the rows that count of a raw table."""

from __future__ import annotations

from functools import partial

from lakehouse.derive.by_partition import derive_whole, partitions_as_of
from lakehouse.derive.revisions import RevisionRule, winners
from lakehouse.derive.source import DerivedTable, Source, Winners
from lakehouse.domains.reference.contracts import contracts
from lakehouse.lake.sql import Relation


def winning(dataset: str, raw: str, name: str, description: str, rule: RevisionRule) -> DerivedTable:
    """The table with the winning rows of a dataset's raw table.

    Args:
        raw: name of the raw table, and `name` of the one that is derived.
    """

    def rows(source: Source, connection: object, raw: Relation, ledger: Relation) -> str:
        return f"SELECT {', '.join(contracts()[name].column_names)} FROM ({winners(raw, ledger, rule)})"

    return DerivedTable(
        name=name,
        description=description,
        depends_on=(raw,),
        derive=partial(derive_whole, dataset, name, rows),
        as_of=partial(partitions_as_of, dataset, rows),
        keeps=Winners(dataset, rule),
        is_whole=True,
    )
