"""What tasks may read of the lake: rows of its tables, as of the lake's moment. They write nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from lakehouse.analyses.spec import AnalysisError
from lakehouse.analyses.values import column_fingerprints, fingerprint
from lakehouse.errors import did_you_mean
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.lake.lake import Lake

BLOCK_ROWS = 100


@dataclass(frozen=True)
class Reading:
    """Rows that a task read: of which table and version, how many, and their fingerprints: of all, of each column, and
    (shortened) of each block of `BLOCK_ROWS` rows.
    """

    table: str
    version: int | None
    where: Mapping[str, Sequence[str]]
    rows: int
    fingerprint: str
    columns: Mapping[str, str]
    blocks: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """The reading in JSON's types."""
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(self).items()}


class Tables:
    """The tables of a lake for tasks; keeps what was read. With `until`, rows of later dates are left out; with
    `scale_last`, the fractional numbers of the last row are multiplied.
    """

    def __init__(self, lake: Lake, until: date | None = None, scale_last: float | None = None) -> None:
        self._lake = lake
        self._until = until
        self._scale_last = scale_last
        self.readings: list[Reading] = []

    def read(
        self, name: str, columns: Sequence[str], where: Mapping[str, Collection[str]], *, order_by: str
    ) -> pl.DataFrame:
        """The columns of the rows whose values are among those of `where`, in the order of a column.

        Raises:
            AnalysisError: the lake has no such table or column.
        """
        known = {f"{schema}.{table}" for schema, table in self._lake.tables()}
        if name not in known:
            raise AnalysisError(
                f"the lake at {self._lake.uri} has no table {name}{did_you_mean(name, known)}; load its source, or "
                "name another table"
            )
        table = self._lake.table(name)
        for column in (*columns, *where, order_by):
            if column not in table.contract.column_names:
                raise AnalysisError(
                    f"{name} has no column {column!r}{did_you_mean(column, table.contract.column_names)}; "
                    f"it has {', '.join(table.contract.column_names)}"
                )
        wanted = [f'"{column}" IN ({", ".join(map(literal, values))})' for column, values in where.items()]
        if self._until is not None:
            wanted.append(f'"{order_by}" <= {literal(self._until)}')
        listed = ", ".join(f'"{column}"' for column in columns)
        entry = self._lake.registry.entry(table.name)
        version = table.snapshot().version if entry.query is None else None
        with self._lake.connect() as connection:
            rows = self._lake.select(table.name, connection)
            found = connection.sql(
                f'SELECT {listed} FROM ({rows}) WHERE {" AND ".join(wanted)} ORDER BY "{order_by}", {listed}'
            ).pl()
        kept = {column: list(values) for column, values in where.items()}
        self.readings.append(
            Reading(name, version, kept, found.height, fingerprint(found), column_fingerprints(found), _blocks(found))
        )
        return found if self._scale_last is None else _scaled(found, self._scale_last)


def _scaled(rows: pl.DataFrame, factor: float) -> pl.DataFrame:
    import polars as pl
    from polars import selectors

    last = pl.int_range(pl.len()) == pl.len() - 1
    return rows.with_columns(pl.when(last).then(selectors.float() * factor).otherwise(selectors.float()))


def _blocks(rows: pl.DataFrame) -> list[str]:
    return [fingerprint(block)[:8] for block in rows.iter_slices(BLOCK_ROWS)]
