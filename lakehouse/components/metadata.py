"""Metadata of a table for Dagster's pages: its columns from the definition, and figures of each run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from lakehouse.api import Lake
from lakehouse.components.lineage import table_lineage
from lakehouse.lake.contract import Column, Contract
from lakehouse.printable import printable

_SAMPLE_ROWS = 5
_MARKUP = re.compile(r"[`\[\]<>|\\&*~]|\b_|_\b|://|www\.|\w@\w|^(#|[-+=]+$|\d+[.)]$)")
"""Text that may start a Markdown construct, including URLs that become links automatically."""


def table_schema(contract: Contract) -> dg.TableSchema:
    """The contract as Dagster's column schema."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                str(column.type),
                description=column.description,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable,
                    other=[
                        f"{name}: {value}"
                        for name, value in (("unit", column.unit), ("references", column.references))
                        if value
                    ],
                ),
                tags=_tags(column, contract),
            )
            for column in contract.columns
        ],
        constraints=dg.TableConstraints(other=[f"{rule.name}: {rule.holds}" for rule in contract.rules]),
    )


def _tags(column: Column, contract: Contract) -> dict[str, str]:
    classification = column.classification or contract.classification
    return ({"pii": "true"} if column.is_personal else {}) | (
        {"classification": classification} if classification else {}
    )


def definition_metadata(contract: Contract, lake: Lake, name: str) -> dict[str, Any]:
    """Metadata of an asset's definition: columns, location, SQL name, key and storage partition."""
    return {
        "dagster/column_schema": table_schema(contract),
        "dagster/table_name": sql_name(name),
        "dagster/uri": lake.table(name).uri,
        "key": ", ".join(contract.key),
        "storage_partition": ", ".join(contract.partition_by),
        **({"classification": contract.classification} if contract.classification else {}),
    }


def sql_name(table: str) -> str:
    """A table's name in SQL: `xetra/bars` is `xetra.bars`, the shared `quarantine` is `lake.quarantine`."""
    return table.replace("/", ".") if "/" in table else f"lake.{table}"


def stored_metadata(
    lake: Lake, name: str, sessions: Sequence[date] | None, duration: float, run_id: str
) -> dict[str, Any]:
    """Metadata of a run's materializations, read from the stored table: version, files, bytes, a sample of `sessions`
    (None: of all), and the lineage of its columns, of which it sends the events.
    """
    snapshot = lake.table(name).snapshot()
    with lake.connect() as connection:
        sample = connection.execute(
            f"SELECT COLUMNS(*)::VARCHAR FROM ({snapshot.select_dates(sessions)} LIMIT {_SAMPLE_ROWS})"
        )
        columns, rows = [field[0] for field in sample.description or []], sample.fetchall()
    metadata: dict[str, Any] = {
        "duration_s": round(duration, 3),
        "sample": dg.MetadataValue.md(markdown_table(columns, rows)),
    }
    if snapshot.delta is not None:
        metadata |= {"table_version": snapshot.version, **_sizes(snapshot.delta)}
    return metadata | table_lineage(lake, name, run_id)


def partition_metadata(
    lake: Lake, name: str, partitions: Sequence[date], span: tuple[str, str] | None
) -> dict[date, dict[str, Any]]:
    """Metadata of each partition: its rows and the time that they span. Of a table with a file or more for each
    partition, Delta's statistics say so.

    Args:
        span: the columns with the start and the end of a row's time.
    """
    snapshot = lake.table(name).snapshot()
    dated = snapshot.table.contract.date_column
    if dated == snapshot.table.contract.partition_by[0]:
        rows, spans = snapshot.rows_by(dated), snapshot.spans_by(dated, *span) if span else {}
        return {
            partition: {"dagster/partition_row_count": rows.get(str(partition), 0), **_times(spans.get(str(partition)))}
            for partition in partitions
        }
    first, last = span or ("NULL", "NULL")
    with lake.connect() as connection:
        stored = connection.execute(
            f"""
            SELECT {dated}, count(*), min({first}), max({last})
            FROM ({snapshot.select_dates(partitions)}) GROUP BY {dated}
            """
        ).fetchall()
    found: dict[date, dict[str, Any]] = {partition: {"dagster/partition_row_count": 0} for partition in partitions}
    for partition, count, time_from, time_to in stored:
        times = _times((time_from, time_to)) if span else {}
        found[partition] = {"dagster/partition_row_count": count, **times}
    return found


def _times(span: tuple[datetime, datetime] | None) -> dict[str, str]:
    names = ("time_from", "time_to")
    return {name: f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}+00" for name, at in zip(names, span or (), strict=False)}


def _sizes(delta: Any) -> dict[str, Any]:
    import pyarrow as pa

    actions = pa.table(delta.get_add_actions(flatten=True)).select(["size_bytes"])
    return {"table_files": actions.num_rows, "table_bytes": sum(actions["size_bytes"].to_pylist())}


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Formats rows as a Markdown table; texts are escaped (see `in_markdown`)."""
    if not rows:
        return "*no rows*"
    cells = [["" if value is None else in_markdown(str(value)) for value in row] for row in rows]
    names = [in_markdown(column) for column in columns]
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}", *(f"| {' | '.join(row)} |" for row in cells)]
    return "\n".join(lines)


def in_markdown(text: str) -> str:
    """Escapes a vendor's text for Markdown: words that could be an image, a link, HTML or another construct become
    code spans, in which nothing is interpreted.
    """
    return " ".join(_as_code(word) if _MARKUP.search(word) else word for word in printable(text).split(" "))


def _as_code(word: str) -> str:
    # A bar would end the table's cell even in a code span.
    word = word.replace("|", "\\x7c")
    fence = "`" * (1 + max(map(len, re.findall("`+", word)), default=0))
    room = " " if "`" in (word[0], word[-1]) else ""
    return f"{fence}{room}{word}{room}{fence}"


def records_table(records: Sequence[Mapping[str, object]]) -> str:
    """Records of equal keys as a Markdown table."""
    return markdown_table(list(records[0]), [list(record.values()) for record in records]) if records else "*none*"
