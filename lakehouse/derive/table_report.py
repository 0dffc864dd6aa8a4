"""A report of any table or view for other systems: a Delta table, a table of PostgreSQL, or a Parquet or CSV object.

Belongs here: what a report's `defs.yaml` may say, and writing one. The report that a source writes per partition
belongs to its domain. A report is the whole table under the target's column names, or its rows by partition; what
wouldn't change isn't written.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from lakehouse.errors import SourceError
from lakehouse.ingest.object_store import TARGET_PLACES, folder_of, put_if_changed, require_known, store_at
from lakehouse.ingest.strict import Strict
from lakehouse.lake.delta_copy import keep_equal
from lakehouse.lake.location import is_remote
from lakehouse.lake.sql import Query, predicate
from lakehouse.servers.postgres import Place, database
from lakehouse.servers.tables import Slice, TargetTable, write_rows

if TYPE_CHECKING:
    import duckdb
    import polars as pl

    from lakehouse.lake.lake import Lake

COMPONENT = "TableReport"


class ObjectTarget(Strict):
    """An object in a folder or bucket."""

    format: Literal["parquet", "csv"]
    url: str | None = Field(None, description="Target folder or s3:// URL. Default: <home>/reports.")
    key: str = Field(description="Name of the object.")

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str | None) -> str | None:
        if url is not None:
            require_known(url, TARGET_PLACES)
        return url


class TableTarget(Strict):
    """A table of the PostgreSQL of LAKEHOUSE_DATABASE_URL, or of the embedded one."""

    format: Literal["postgres"] = "postgres"
    schema_name: str = Field("reports", alias="schema", description="Schema of the table; made where it is missing.")
    table: str = Field(description="Name of the table; made where it is missing.")
    key: list[str] = Field(min_length=1, description="Target columns that identify a row.")

    @property
    def place(self) -> TargetTable:
        return TargetTable(self.schema_name, self.table, tuple(self.key))


class DeltaTarget(Strict):
    """A Delta table, which Spark, Trino, Polars, DuckDB and others read. What differs is replaced in one commit."""

    format: Literal["delta"]
    url: str = Field(description="Folder or s3:// URL of the table; made where it is missing.")
    by: str | None = Field(
        None,
        description="Target column of dates or moments: only months of it that differ are written, a month in memory "
        "at a time. Default: all rows, if one differs.",
    )

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        require_known(url, {"s3": TARGET_PLACES["s3"]})
        return url


class ReportConfig(Strict):
    """The attributes of a report's defs.yaml."""

    report: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Name of the report; its asset is reports/<name>.")
    description: str | None = None
    owners: tuple[str, ...] = ()
    of: str = Field(
        pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$",
        description="Table or view, such as alpha_vantage.daily_bars or marts.fct_daily_bar.",
    )
    where: str | None = Field(None, description="SQL condition of the rows that are reported.")
    columns: dict[str, str] = Field(min_length=1, description="Target column -> column of the table, in their order.")
    partition: str | None = Field(
        None,
        description="Column of the table with the partitions of its source, such as session: the report has the same, "
        "and a run writes the rows of its own. An object's key has {partition} then.",
    )
    target: Annotated[ObjectTarget | TableTarget | DeltaTarget, Field(discriminator="format")]

    @model_validator(mode="after")
    def _target_has_partitions(self) -> Self:
        if isinstance(self.target, ObjectTarget):
            if (self.partition is not None) != ("{partition}" in self.target.key):
                raise ValueError("an object per partition needs {partition} in the target's key, and another has none")
        elif isinstance(self.target, DeltaTarget):
            if self.partition is not None:
                raise ValueError("a Delta table is compared as a whole: remove `partition`, and name a date by `by`")
            if self.target.by is not None and self.target.by not in self.columns:
                raise ValueError(f"a table by {self.target.by} needs it among the columns")
        elif self.partition is not None and self.partition not in self.columns.values():
            raise ValueError(f"a table by {self.partition} needs it among the columns")
        return self

    @property
    def source(self) -> str:
        """The source, or schema, of the table."""
        return self.of.partition(".")[0]


@dataclass(frozen=True)
class Exported:
    """What was written: where to, the rows of the report, and how many of them were new or changed, or deleted."""

    target: str
    rows: int
    changed: int
    deleted: int = 0


def export(
    lake: Lake, report: ReportConfig, place: Place, folder: Path, partitions: Sequence[date] | None = None
) -> Exported:
    """Writes a report.

    Args:
        place: of the database.
        folder: for objects whose target has no URL.
        partitions: those that are written, of a report by partition.

    Raises:
        SourceError: the table or a column doesn't exist, or the target doesn't take the rows.
        SourceUnavailable: the target can't be written.
        DatabaseUnavailable: the database can't be started or reached.
    """
    if isinstance(report.target, DeltaTarget):
        return _copy(lake, report, report.target)
    if isinstance(report.target, TableTarget):
        rows = _rows(lake, report, partitions)
        part = None
        if partitions is not None:
            (column,) = (target for target, own in report.columns.items() if own == report.partition)
            part = Slice(column, partitions)
        with database(place) as found:
            written = write_rows(found, report.target.place, rows, part)
        return Exported(f"postgres:{report.target.place}", rows.height, written.upserted, written.deleted)
    url = report.target.url or str(folder)
    if partitions is None:
        return _put(_rows(lake, report, None), report.target, url, report.target.key)
    made = [
        _put(_rows(lake, report, [day]), report.target, url, report.target.key.format(partition=day))
        for day in partitions
    ]
    target = f"{url}/{report.target.key}"
    return Exported(target, sum(each.rows for each in made), sum(each.changed for each in made))


def _put(rows: pl.DataFrame, target: ObjectTarget, url: str, key: str) -> Exported:
    content = io.BytesIO()
    if target.format == "csv":
        rows.write_csv(content)
    else:
        rows.write_parquet(content)
    changed = put_if_changed(store_at(url), key, content.getvalue())
    return Exported(f"{url}/{key}", rows.height, rows.height if changed else 0)


def _copy(lake: Lake, report: ReportConfig, target: DeltaTarget) -> Exported:
    uri = target.url if is_remote(target.url) else str(folder_of(target.url))
    with _explained(report):
        copied = keep_equal(partial(_ask, lake), _query(report, None), target.by, uri)
    return Exported(uri, copied.rows, copied.written)


def _rows(lake: Lake, report: ReportConfig, partitions: Sequence[date] | None) -> pl.DataFrame:
    with _explained(report):
        return _ask(lake, f"{_query(report, partitions)} ORDER BY ALL").pl()


def _ask(lake: Lake, query: str) -> duckdb.DuckDBPyRelation:
    found = lake.sql(query)
    assert found is not None
    return found


def _query(report: ReportConfig, partitions: Sequence[date] | None) -> Query:
    columns = ", ".join(f'"{column}" AS "{target}"' for target, column in report.columns.items())
    conditions = [f"({report.where})"] if report.where else []
    if partitions is not None and report.partition is not None:
        conditions.append(predicate({f'"{report.partition}"': partitions}))
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return Query(f"SELECT {columns} FROM {report.of} {where}")


@contextmanager
def _explained(report: ReportConfig) -> Iterator[None]:
    """Turns an error of DuckDB into one that names the report."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise SourceError(f"report {report.report}: {str(error).partition(chr(10))[0]}") from None
