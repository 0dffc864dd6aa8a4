"""Contracts for others: each table as a document of the Open Data Contract Standard, version 3.1
(https://bitol-io.github.io/open-data-contract-standard).

Our own contracts stay the source: an exported document is never read back, except to compare versions
(`differences`). What the standard has no word for (units, formats, when a row counts) is a custom property.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lakehouse.governance.described import DescribedColumn, DescribedTable
from lakehouse.lake.contract import Contract
from lakehouse.lake.types import ColumnType

Document = dict[str, Any]
VERSION = "v3.1.0"
SUFFIX = ".odcs.yaml"
_LOGICAL = {
    "string": "string",
    "json": "string",
    "binary": "string",
    "date": "date",
    "timestamp": "timestamp",
    "double": "number",
    "decimal": "number",
    "bigint": "integer",
    "boolean": "boolean",
    "list": "array",
    "struct": "object",
}
_OF_MARTS = {"varchar": "string", "timestamptz": "timestamp", "integer": "bigint"}
"""DuckDB's types, as dbt's models declare them, by the words of contracts; others are called the same."""


def odcs(table: DescribedTable, sources: Callable[[str], Sequence[str]] = lambda column: ()) -> Document:
    """The document of a table. `sources` returns the columns that a column is made from, by their SQL names."""
    return {
        "apiVersion": VERSION,
        "kind": "DataContract",
        "id": f"lakehouse.{table.sql_name}",
        "name": table.sql_name,
        "version": str(table.contract.version if table.contract else 1),
        "status": "active",
        **({"domain": table.domain} if table.domain else {}),
        "description": {"purpose": table.description},
        "team": {"name": table.owner},
        "schema": [_object(table, sources)],
        "slaProperties": [
            {"property": "frequency", "value": table.freshness, "description": "When it is brought up to date."}
        ],
    }


def odcs_text(documents: Iterable[Document]) -> str:
    """Documents as YAML."""
    import yaml

    # The writer in C is several times as fast; not every build has it.
    writer = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump_all(documents, Dumper=writer, sort_keys=False, allow_unicode=True, width=120)
    return text


def file_name(table: DescribedTable) -> str:
    """The name of a table's document."""
    return f"{table.sql_name}{SUFFIX}"


def _object(table: DescribedTable, sources: Callable[[str], Sequence[str]]) -> Document:
    return {
        "id": table.name,
        "name": table.name,
        "physicalName": table.sql_name,
        "logicalType": "object",
        "physicalType": "view" if table.kind == "view" else "table",
        "description": table.description,
        "customProperties": _custom(
            kind=table.kind,
            classification=table.classification,
            datedBy=table.contract.dated_by if table.contract else None,
            knownAt=table.contract.known_at if table.contract else None,
        ),
        "properties": [_property(table, column, sources(column.name)) for column in table.columns],
        "quality": [*_unique(table), *(_rule(table, *rule) for rule in table.rules if not _is_of_schema(rule))],
    }


def _is_of_schema(rule: tuple[str, str | None, str]) -> bool:
    """Whether the property says it already: it is required."""
    return rule[0].endswith("_present") and (rule[1] or "").endswith(" IS NOT NULL")


def _property(table: DescribedTable, column: DescribedColumn, sources: Sequence[str]) -> Document:
    key = {"primaryKey": True, "primaryKeyPosition": table.key.index(column.name) + 1} if column.is_key else {}
    part = (
        {"partitioned": True, "partitionKeyPosition": table.partition_by.index(column.name) + 1}
        if column.name in table.partition_by
        else {}
    )
    custom = _custom(unit=column.unit, format=column.format, pii=column.pii or None)
    return {
        "id": column.name,
        "name": column.name,
        "physicalType": column.type,
        **_logical(_type_of(table.contract, column)),
        "description": column.description,
        "required": not column.nullable,
        **key,
        **part,
        "classification": column.classification,
        **({"transformSourceObjects": list(sources)} if sources else {}),
        **({"relationships": [{"type": "foreignKey", "to": _target(table, column)}]} if column.references else {}),
        **({"customProperties": custom} if custom else {}),
    }


def _type_of(contract: Contract | None, column: DescribedColumn) -> ColumnType:
    if contract is not None:
        return contract.column(column.name).type
    word = column.type.lower()
    kind, _, _ = word.partition("(")
    inner = ColumnType(_OF_MARTS.get(kind.removesuffix("[]"), kind.removesuffix("[]")))
    return ColumnType("list", element=inner) if kind.endswith("[]") else inner


def _logical(kind: ColumnType) -> Document:
    found: Document = {"logicalType": _LOGICAL[kind.kind]}
    if kind.element is not None:
        found["items"] = _logical(kind.element)
    if kind.fields:
        found["properties"] = [{"name": name, **_logical(inner)} for name, inner in kind.fields]
    return found


def _target(table: DescribedTable, column: DescribedColumn) -> str:
    *schema, name, to = (column.references or "").split(".")
    return f"{schema[0] if schema else table.schema}.{name}{SUFFIX}#/schema/{name}/properties/{to}"


def _unique(table: DescribedTable) -> list[Document]:
    if not table.key:
        return []
    rule = {
        "name": "key_unique",
        "description": f"Each {', '.join(table.key)} is there once.",
        "type": "library",
        "metric": "duplicateValues",
        "arguments": {"properties": list(table.key)},
        "dimension": "uniqueness",
        "mustBe": 0,
        "unit": "rows",
    }
    return [rule]


def _rule(table: DescribedTable, name: str, holds: str | None, reason: str) -> Document:
    if holds is None:
        return {"name": name, "type": "text", "description": reason, "dimension": "conformity"}
    return {
        "name": name,
        "type": "sql",
        "description": f"No row where {reason}.",
        "dimension": "conformity",
        "query": f"SELECT count(*) FROM {table.sql_name} WHERE NOT ({holds})",
        "mustBe": 0,
    }


def _custom(**said: object) -> list[Document]:
    return [{"property": name, "value": value} for name, value in said.items() if value is not None]
