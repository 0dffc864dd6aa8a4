"""Derives tables that follow from other derived tables of their source, over their whole history.

For tables in which a row may follow from rows of any partition, such as versions of a dimension. The query is a rule of
the field over relations of the inputs; only partitions of the table whose rows differ are written. Tables whose
partitions follow from raw rows are derived by `by_partition`.

Where the rows of a subject, such as an item, follow from its own rows of one input alone, `by` names the subject's
columns, which both tables have. Then only the subjects whose input rows changed since the last derivation are derived:
the version of the input that it read is noted with its fingerprints, and the changed partitions are compared with those
of that version. If that version is gone, or the rule is another one, all subjects are derived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.fingerprints import MADE_FROM, WHOLE, contents, digest, marks_of, outdated, said_by
from lakehouse.derive.incremental import (
    DeriveResult,
    count,
    derive_until_current,
    differing_parts,
    overwrite_changed,
    overwrite_differing,
)
from lakehouse.derive.source import Source
from lakehouse.errors import LakeUnavailable, TableMissing
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Query, Relation, difference_of, predicate, relation_of
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Rule = Callable[..., Query]
"""Makes the query of a table from one relation per input, in their order."""
Compute = Callable[..., None]
"""Makes a table from a connection, the table's name, and one relation per input."""

_RULE, _VERSION = "rule", "version"
"""Stand, beside the partitions of the input, for what the rule was, and for the input's version."""


@dataclass(frozen=True)
class FromTables:
    """How a table follows from others.

    Args:
        inputs: names of the other tables.
        by: columns of the subjects, where each is derived by itself; only with one input.
        compute: makes, in a connection, a table of a given name from the inputs, for what SQL can't compute. The rule
            gets it as its last relation.
    """

    table: str
    inputs: tuple[str, ...]
    rule: Rule
    by: Sequence[str] = ()
    compute: Compute | None = None

    @property
    def _computed(self) -> Relation:
        return Relation(f"computed_{self.table}")

    def query(self, *inputs: Relation) -> Query:
        """The table's query over its inputs."""
        return self.rule(*inputs) if self.compute is None else self.rule(*inputs, self._computed)

    def prepare(self, connection: duckdb.DuckDBPyConnection, *inputs: Relation) -> None:
        """Makes what `query` needs beside the inputs."""
        if self.compute is not None:
            self.compute(connection, self._computed, *inputs)


def derive_from_tables(
    how: FromTables,
    lake: Lake,
    source: Source,
    partitions: Sequence[date] = (),
    *,
    afresh: bool = False,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> DeriveResult:
    """Brings the table in line with its inputs, whatever `partitions` are (see `lakehouse.derive.source.Derive`)."""
    made = derive_until_current(partial(_derive, how, lake, source, afresh, verify))
    progress(how.table, 1, 1)
    return made


def tables_as_of(how: FromTables, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for the table's rows as of `lake.as_of`."""
    inputs = [relation_of(lake.select(source.table(name), connection)) for name in how.inputs]
    how.prepare(connection, *inputs)
    return how.query(*inputs)


def _derive(
    how: FromTables, lake: Lake, source: Source, afresh: bool, verify: bool
) -> tuple[DeriveResult, Sequence[Snapshot]]:
    target = lake.table(source.table(how.table)).snapshot()
    contract = target.table.contract
    columns = ", ".join(f'"{name}"' for name in contract.column_names)
    snapshots = [lake.table(source.table(name)).snapshot() for name in how.inputs]
    inputs = [Relation(f"stored_{name}") for name in how.inputs]
    query = f"SELECT {columns} FROM ({how.query(*inputs)})"
    made_from = {WHOLE: digest(*map(_content, snapshots), query, said_by(contract))}
    if not afresh and not verify and not outdated(target, made_from):
        return DeriveResult(target.row_count()), ()
    subjects = None
    if how.by:
        (own,) = snapshots
        made_from |= {_RULE: digest(query, said_by(contract)), _VERSION: own.version or 0, **_contents(own)}
        subjects = None if afresh or verify else _changed_subjects(lake, how, target, own, made_from)
    with lake.connect() as connection:
        for name, snapshot in zip(how.inputs, snapshots, strict=True):
            connection.execute(f"CREATE TEMP VIEW all_{name} AS {snapshot.select()}")
        if subjects is not None:
            connection.register("subjects", subjects)
            only = _of_subjects(f"all_{how.inputs[0]}", how.by, "SEMI")
            connection.execute(f"CREATE TEMP VIEW stored_{how.inputs[0]} AS {only}")
            how.prepare(connection, *inputs)
            return _derive_subjects(connection, how, target, query, made_from), snapshots
        for name in how.inputs:
            connection.execute(f"CREATE TEMP VIEW stored_{name} AS FROM all_{name}")
        how.prepare(connection, *inputs)
        return overwrite_differing(connection, target, query, _order(target), made_from, verify=verify), snapshots


def _changed_subjects(
    lake: Lake, how: FromTables, target: Snapshot, own: Snapshot, made_from: dict[str, int]
) -> pa.Table | None:
    """The subjects whose rows in the input differ from those that the table was made from; None if nothing says so."""
    stored = target.marks(MADE_FROM)
    if stored.get(_RULE) != made_from[_RULE] or not stored.get(_VERSION):
        return None
    part = own.table.contract.partition_by[0]
    known = {*own.partition_values(part), *stored} - {WHOLE, _RULE, _VERSION}
    changed = sorted(name for name in known if stored.get(name) != made_from.get(name))
    where = {part: changed}
    columns = ", ".join(f'"{name}"' for name in how.by)
    try:
        before = lake.table(own.table.name).at(version=stored[_VERSION])
        with lake.connect() as connection:
            connection.execute(f"CREATE TEMP TABLE old AS {before.select(where)}")
            connection.execute(f"CREATE TEMP TABLE new AS {own.select(where)}")
            return connection.sql(
                f"SELECT DISTINCT {columns} FROM {difference_of('FROM old', 'FROM new')}"
            ).to_arrow_table()
    except (TableMissing, LakeUnavailable):
        # Housekeeping has removed the version.
        return None


def _derive_subjects(
    connection: duckdb.DuckDBPyConnection, how: FromTables, target: Snapshot, query: str, made_from: dict[str, int]
) -> DeriveResult:
    """Puts the rows of the `subjects` in the place of their stored ones."""
    part = target.table.contract.partition_by[0]
    connection.execute(f"CREATE TEMP VIEW target AS {target.select()}")
    connection.execute(f"CREATE TEMP TABLE made AS {query}")
    connection.execute(f"CREATE TEMP TABLE replaced AS {_of_subjects('target', how.by, 'SEMI')}")
    total = target.row_count() - count(connection, "replaced") + count(connection, "made")
    values = differing_parts(connection, part, "made", "replaced")
    if not values:
        target.mark(marks_of(target, made_from, ()))
        return DeriveResult(total)
    where = predicate({part: values})
    kept = f"SELECT * FROM ({_of_subjects('target', how.by, 'ANTI')}) WHERE {where}"
    connection.execute(f"CREATE TEMP TABLE fresh AS FROM made WHERE {where} UNION ALL BY NAME {kept}")
    return replace(
        overwrite_changed(connection, target, part, values, _order(target), made_from, verify=False), rows=total
    )


def _of_subjects(relation: str, by: Sequence[str], join: str) -> str:
    """The rows of a relation that are of the `subjects` (SEMI) or of others (ANTI). NULL is a subject, too."""
    same = " AND ".join(f'own."{name}" IS NOT DISTINCT FROM subjects."{name}"' for name in by)
    return f"SELECT own.* FROM {relation} AS own {join} JOIN subjects ON {same}"


def _order(target: Snapshot) -> str:
    contract = target.table.contract
    return ", ".join(dict.fromkeys((contract.partition_by[0], *contract.key)))


def _contents(snapshot: Snapshot) -> dict[str, int]:
    """What the partitions of a table contain."""
    partitions = sorted(snapshot.partition_values(snapshot.table.contract.partition_by[0]))
    return contents(snapshot, partitions)


def _content(snapshot: Snapshot) -> int:
    """What a table contains: equal numbers mean equal rows."""
    return digest(*sorted(_contents(snapshot).items()))
