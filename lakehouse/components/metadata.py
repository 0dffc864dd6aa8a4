"""What Dagster's pages say of a table: its columns before the first run, and what a run made of it afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from lakehouse.lake import Lake
from lakehouse.lake.contract import Contract
from lakehouse.lake.table import literal

_SAMPLE_ROWS = 5


def table_schema(contract: Contract) -> dg.TableSchema:
    """The contract as Dagster's column schema."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type,
                description=column.description,
                constraints=dg.TableColumnConstraints(nullable=column.nullable, other=[f"unit: {column.unit}"] if column.unit else []),
            )
            for column in contract.columns
        ],
        constraints=dg.TableConstraints(other=[f"{rule.name}: {rule.holds}" for rule in contract.rules]),
    )


def definition_metadata(contract: Contract, lake: Lake, name: str) -> dict[str, Any]:
    """Metadata of an asset's definition: columns, where it is, its name in SQL, its key and storage partition."""
    return {
        "dagster/column_schema": table_schema(contract),
        "dagster/table_name": sql_name(name),
        "dagster/uri": lake.table(name).uri,
        "key": ", ".join(contract.key),
        "storage_partition": ", ".join(contract.partition_by),
    }


def sql_name(table: str) -> str:
    """A table's name in SQL: `xetra/bars` is `xetra.bars`, the shared `quarantine` is `lake.quarantine`."""
    return table.replace("/", ".") if "/" in table else f"lake.{table}"


def stored_metadata(lake: Lake, name: str, sessions: Sequence[date], duration: float) -> dict[str, Any]:
    """Metadata of a materialization, read from the stored table: rows and time range of `sessions`, version, files, bytes, a sample."""
    table = lake.table(name)
    snapshot = table.snapshot()
    partition = table.contract.partition_by[0]
    values = sorted({str(session.replace(day=1) if partition == "month" else session) for session in sessions})
    inside = f"session IN ({', '.join(map(literal, sessions))})" if sessions else "false"
    first, last = ("first_bar_at", "last_bar_at") if "first_bar_at" in table.contract.column_names else ("start_at", "end_at")
    query = f"SELECT * FROM ({snapshot.select({partition: values})}) WHERE {inside}"
    with lake.connect() as connection:
        facts = connection.execute(f"SELECT count(*), min({first})::VARCHAR, max({last})::VARCHAR FROM ({query})").fetchone()
        sample = connection.execute(f"SELECT COLUMNS(*)::VARCHAR FROM ({query} LIMIT {_SAMPLE_ROWS})")
        columns, rows = [field[0] for field in sample.description or []], sample.fetchall()
    assert facts is not None
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": facts[0],
        "duration_s": round(duration, 3),
        "sample": dg.MetadataValue.md(markdown_table(columns, rows)),
    }
    if facts[1]:
        metadata |= {"time_from": facts[1], "time_to": facts[2]}
    if snapshot.delta is not None:
        metadata |= {"table_version": snapshot.version, **_sizes(snapshot.delta)}
    return metadata


def _sizes(delta: Any) -> dict[str, Any]:
    import pyarrow as pa

    actions = pa.table(delta.get_add_actions(flatten=True)).select(["size_bytes"])
    return {"table_files": actions.num_rows, "table_bytes": sum(actions["size_bytes"].to_pylist())}


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as a Markdown table; bars in texts are escaped."""
    if not rows:
        return "*no rows*"
    cells = [[("" if value is None else str(value)).replace("|", "\\|") for value in row] for row in rows]
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}", *(f"| {' | '.join(row)} |" for row in cells)]
    return "\n".join(lines)


def records_table(records: Sequence[Mapping[str, object]]) -> str:
    """Records of equal keys as a Markdown table."""
    return markdown_table(list(records[0]), [list(record.values()) for record in records]) if records else "*none*"
