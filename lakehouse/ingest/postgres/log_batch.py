"""Rows of the log's transactions, table by table, in files, so that a transaction may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import SourceError
from lakehouse.ingest.postgres.captured import CapturedDatabase, CapturedTable, has_other_text, plain_text
from lakehouse.ingest.postgres.pgoutput import (
    Begin,
    Commit,
    Message,
    Row,
    RowChange,
    Table,
    Truncate,
    Unchanged,
    full_row,
)
from lakehouse.ingest.postgres.rows import META
from lakehouse.lake.sql import Relation, literal

if TYPE_CHECKING:
    import duckdb

_ROWS_IN_MEMORY = 50_000
_FULL = "f"
_META = ("op", "begun", "seq", "xid", "committed_at")


@dataclass
class _Rows:
    """Changes of a table: those in memory, and the files of earlier ones."""

    table: CapturedTable
    pending: list[tuple[Any, ...]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class _Layout:
    """Where the log has the columns of a captured table.

    Args:
        values: takes the captured columns, in their order, from a row of the log.
        other_texts: places, among these, and types of values that the log writes in another way.
        key: takes the key from a row of the log.
    """

    table: CapturedTable
    values: Callable[[Row], Row]
    other_texts: tuple[tuple[int, int], ...]
    key: Callable[[Row], Row]

    @classmethod
    def of(cls, table: CapturedTable, there: Table) -> _Layout:
        at = {column.name: place for place, column in enumerate(there.columns)}
        kinds = [there.columns[at[column.name]].type_oid for column in table.columns]
        other_texts = tuple((place, oid) for place, oid in enumerate(kinds) if has_other_text(oid))
        values = _taker([at[column.name] for column in table.columns])
        return cls(table, values, other_texts, _taker([at[name] for name in table.contract.key]))

    def texts(self, row: Row) -> Row:
        """The row's values in the order of the captured columns."""
        taken = self.values(row)
        if Unchanged.VALUE in taken:
            raise SourceError("the log lacks a value that an update left as it was: set REPLICA IDENTITY FULL")
        if not self.other_texts:
            return taken
        texts = list(taken)
        for place, oid in self.other_texts:
            value = texts[place]
            if isinstance(value, str):
                texts[place] = plain_text(oid, value)
        return tuple(texts)


def _taker(places: Sequence[int]) -> Callable[[Row], Row]:
    """Takes the values at some places of a row; `itemgetter` gives no tuple of one."""
    if len(places) == 1:
        (only,) = places
        return lambda row: (row[only],)
    return itemgetter(*places)


class LogBatch:
    """Takes the messages of the log after a position, and sorts their rows by table."""

    def __init__(self, of: CapturedDatabase, folder: Path, after: int, stopped: Mapping[str, str]) -> None:
        """Makes an empty batch.

        Args:
            folder: for the files; the caller deletes it.
            after: position up to which the lake has the log.
            stopped: tables that are not captured, with the reasons.
        """
        self._of, self._folder, self._after = of, folder, after
        self.stopped = dict(stopped)
        self.transactions, self.lsn = 0, after
        self.committed_at: datetime | None = None
        self._rows: dict[str, _Rows] = {}
        self._layouts: dict[int, _Layout] = {}
        self._begun: Begin | None = None
        self._seq = 0
        self._ends: list[tuple[int, int]] = []
        self._in_memory = 0

    @property
    def tables(self) -> list[CapturedTable]:
        """The tables with changes."""
        return [rows.table for rows in self._rows.values()]

    def add(self, message: Message) -> None:
        """Takes the next message."""
        if isinstance(message, RowChange):
            self._add_change(message)
        elif isinstance(message, Begin):
            # Transactions lie in the log in the order of their commits, so one that begins its commit before the
            # position also ended there: a capture was killed before it moved the slot.
            self._begun, self._seq = (message if message.final_lsn >= self._after else None), 0
        elif isinstance(message, Commit):
            if self._begun is not None:
                self._ends.append((message.lsn, message.end_lsn))
                self.transactions += 1
                self.lsn, self.committed_at = message.end_lsn, message.committed_at
            self._begun = None
        elif isinstance(message, Table):
            self._describe(message)
        elif isinstance(message, Truncate):
            for oid in message.tables:
                if (layout := self._layouts.get(oid)) is not None:
                    self._append(layout, "truncate", (None,) * len(layout.table.columns))

    def relation(self, connection: duckdb.DuckDBPyConnection, table: CapturedTable) -> Relation:
        """The table's changes in the batch, with `META` and texts (see `rows.images`)."""
        import pyarrow as pa

        rows = self._rows[table.name]
        self._flush(rows)
        ends = pa.table({"begun": [begun for begun, _ in self._ends], "lsn": [end for _, end in self._ends]})
        connection.register("commit_ends", ends)
        meta = "op := op, lsn := lsn, seq := seq, xid := xid, committed_at := committed_at"
        columns = ", ".join(f'texts."{column.name}"' for column in table.columns)
        files = ", ".join(literal(str(path)) for path in rows.files)
        stored = f"read_parquet([{files}]) JOIN commit_ends USING (begun)"
        return Relation(f"(SELECT struct_pack({meta}) AS {META}, {columns} FROM {stored})")

    def _describe(self, there: Table) -> None:
        self._layouts.pop(there.oid, None)
        table = self._of.table(there.name) if there.schema == self._of.schema else None
        if table is None or table.name in self.stopped:
            return
        difference = table.differences(there.columns)
        if difference is None and there.identity != _FULL:
            name = f"{there.schema}.{there.name}"
            difference = f"its REPLICA IDENTITY isn't FULL: ALTER TABLE {name} REPLICA IDENTITY FULL"
        if difference is None:
            self._layouts[there.oid] = _Layout.of(table, there)
        else:
            self.stopped[table.name] = difference

    def _add_change(self, change: RowChange) -> None:
        layout, row = self._layouts.get(change.table), full_row(change)
        if layout is None or row is None or self._begun is None:
            return
        if change.op == "update" and change.before is not None and layout.key(change.before) != layout.key(row):
            self._append(layout, "delete", layout.texts(change.before))
            self._append(layout, "insert", layout.texts(row))
            return
        self._append(layout, change.op, layout.texts(row))

    def _append(self, layout: _Layout, op: str, texts: Row) -> None:
        begun = self._begun
        if begun is None:
            return
        self._seq += 1
        rows = self._rows.setdefault(layout.table.name, _Rows(layout.table))
        rows.pending.append((op, begun.final_lsn, self._seq, begun.xid, begun.committed_at, *texts))
        self._in_memory += 1
        if self._in_memory >= _ROWS_IN_MEMORY:
            for each in self._rows.values():
                self._flush(each)
            self._in_memory = 0

    def _flush(self, rows: _Rows) -> None:
        """Writes the rows in memory to a file. The texts are in a struct: a column may be called `op`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not rows.pending:
            return
        columns = list(zip(*rows.pending, strict=True))
        types = (pa.string(), pa.int64(), pa.int64(), pa.int64(), pa.timestamp("us", "UTC"))
        meta = [pa.array(values, kind) for values, kind in zip(columns[: len(types)], types, strict=True)]
        texts = [pa.array(values, pa.string()) for values in columns[len(types) :]]
        names = [column.name for column in rows.table.columns]
        made = pa.table([*meta, pa.StructArray.from_arrays(texts, names=names)], names=[*_META, "texts"])
        path = self._folder / f"{rows.table.name}-{len(rows.files)}.parquet"
        pq.write_table(made, path, compression="snappy")
        rows.files.append(path)
        rows.pending.clear()
