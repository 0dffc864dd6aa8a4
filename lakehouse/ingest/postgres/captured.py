"""What is captured of a database: the tables, how, and how PostgreSQL's types correspond to those of contracts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lakehouse.ingest.postgres.pgoutput import Column as LogColumn
from lakehouse.lake.contract import Column, Contract, read_contracts

if TYPE_CHECKING:
    from lakehouse.servers.postgres import Database

Mode = Literal["log", "snapshot"]
"""`log`: by the log, or by snapshots where the server's wal_level isn't logical. `snapshot`: always by snapshots."""

LEDGER = "capture_ledger"
_BOOLEAN, _PADDED = 16, 1042
"""Identifiers of the types boolean and character(n)."""
_KINDS = {
    **dict.fromkeys((20, 21, 23), "bigint"),
    **dict.fromkeys((700, 701), "double"),
    **dict.fromkeys((114, 3802), "json"),
    **dict.fromkeys((1114, 1184), "timestamp"),
    _BOOLEAN: "boolean",
    17: "binary",
    1082: "date",
    1700: "decimal",
}
"""Identifier of a built-in type -> kind of a contract's column. Any other type is a string: text, uuid, an enum."""


@dataclass(frozen=True)
class CapturedTable:
    """A table of the database, and the lake's current table of the same name.

    Args:
        contract: of the lake's table: the database's columns, and the storage partition.
    """

    name: str
    contract: Contract

    @property
    def part(self) -> str:
        """The partition column: the day (UTC) of the transaction that inserted the row."""
        return self.contract.partition_by[0]

    @property
    def changes(self) -> str:
        """Name of the table of its changes."""
        return f"{self.name}_changes"

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns that the database has too."""
        return tuple(column for column in self.contract.columns if column.name not in self.contract.partition_by)

    def differences(self, columns: Sequence[LogColumn]) -> str | None:
        """How the database's columns differ from the contract; None if they don't."""
        there = {column.name: column for column in columns}
        wanted = {column.name: column for column in self.columns}
        found = [f"column {name} isn't there any more" for name in wanted if name not in there]
        found += [f"column {name} isn't in the contract" for name in there if name not in wanted]
        for name in wanted:
            if name in there and (difference := _type_difference(wanted[name], there[name])):
                found.append(difference)
        return "; ".join(found) or None


@dataclass(frozen=True)
class CapturedDatabase:
    """A schema of a database that a source captures.

    Args:
        database: opens the database, for the time of the context.
        pii_key: gives the key with which personal data are hashed (see `rows`).
    """

    source: str
    database: Callable[[], AbstractContextManager[Database]]
    schema: str
    publication: str
    slot: str
    mode: Mode
    tables: tuple[CapturedTable, ...]
    pii_key: Callable[[], bytes]

    def path(self, table: str) -> str:
        """The path of a table in the lake."""
        return f"{self.source}/{table}"

    def table(self, name: str) -> CapturedTable | None:
        """The captured table of that name."""
        return next((table for table in self.tables if table.name == name), None)


def capture_contracts(tables: Collection[str], domain: str) -> dict[str, Contract]:
    """The contracts of the tables that a capture of some tables writes besides the current ones."""
    known = read_contracts(Path(__file__).parent, domain)
    changes = known["changes"]
    of_tables = {
        f"{name}_changes": changes.model_copy(
            update={"table": f"{name}_changes", "description": f"{changes.description.strip()} Of {name}."}
        )
        for name in tables
    }
    return {**of_tables, LEDGER: known[LEDGER]}


def plain_text(type_oid: int, text: str) -> str:
    """A value's text as `value::text` gives it, which for these types is another than in the log."""
    if type_oid == _BOOLEAN:
        return "true" if text == "t" else "false"
    return text.rstrip(" ") if type_oid == _PADDED else text


def has_other_text(type_oid: int) -> bool:
    """Whether `plain_text` changes values of a type."""
    return type_oid in (_BOOLEAN, _PADDED)


def _type_difference(wanted: Column, there: LogColumn) -> str | None:
    kind, have = wanted.type.kind, _KINDS.get(there.type_oid, "string")
    if have != kind and not (kind == "string" and have in ("json", "string")):
        return f"column {wanted.name} is a {have}, not a {wanted.type}"
    if have == "decimal" and there.type_modifier >= 4:
        precision, scale = (there.type_modifier - 4) >> 16 & 0xFFFF, (there.type_modifier - 4) & 0x7FF
        if scale > wanted.type.scale or precision - scale > wanted.type.precision - wanted.type.scale:
            return f"column {wanted.name} is a decimal({precision},{scale}), not a {wanted.type}"
    return None
