"""Contracts: what a table of the lake holds, said once.

A contract is a YAML file beside this module. Columns, types, units, nullability, keys, partitions and rules
stand there and nowhere else; the Arrow and DuckDB types, Dagster's column schema, the asset checks and the
reasons in the quarantine are derived from it. This module reads contracts and turns them into types and SQL
predicates. It does not read or write tables (see `table`), and it knows no market rule: those are the
predicates in the YAML files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lakehouse.errors import LakehouseError
from lakehouse.lake.standards import require_standard
from lakehouse.lake.types import ColumnType, parse_type

if TYPE_CHECKING:
    import pyarrow as pa

Classification = Literal["public", "internal", "confidential", "restricted"]

TypeText = Annotated[ColumnType, BeforeValidator(lambda text: parse_type(text) if isinstance(text, str) else text)]
"""A type as a contract writes it."""


class ContractError(LakehouseError, ValueError):
    """A contract is missing or contradicts itself; the message names the file and the fix."""


class Column(BaseModel):
    """One column: its name, type, meaning, and the unit it is measured in (None where there is none)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    type: TypeText
    description: str
    unit: str | None = None
    nullable: bool = False
    format: Annotated[str, AfterValidator(require_standard)] | None = None
    """The standard that its texts follow (see `standards`)."""
    references: str | None = Field(None, pattern=r"^([a-z][a-z0-9_]*\.){1,2}[a-z][a-z0-9_]*$")
    """The column whose values its own are, as `table.column` of the same source or `source.table.column` (see
    `references`).
    """
    pii: bool = False
    """Whether it says something of a person. Like the classification, this only describes the column."""
    classification: Classification | None = None
    """Who may see it; as the table's, where it says nothing."""

    @model_validator(mode="after")
    def _formats_are_of_texts(self) -> Column:
        if self.format is not None and self.type.kind != "string":
            raise ValueError(f"column {self.name} is a {self.type}; only a string has a format such as {self.format}")
        return self


class Rule(BaseModel):
    """A property of every row: `holds` is a DuckDB predicate over the columns, `reason` what is said of a row
    that breaks it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    holds: str
    reason: str
    waived_by: str | None = None
    """The source option (such as `negative_prices`) under which the rule does not apply."""


class Migration(BaseModel):
    """What turns the rows that one version of a contract stored into those of the next (see `lake.migration`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_version: int = Field(ge=1)
    changes: str
    """What a person reads before it is done."""
    rows: str
    """A DuckDB query over `stored`, the table's rows with the columns that they have there. Its columns have the names
    and types of the next version; a nullable one may lack.
    """


class Contract(BaseModel):
    """A table's contract. `partition_by` names Delta's partition columns; `key` is unique over the stored rows.

    A nullable column may be added at any time. Removing, renaming or retyping a column, or changing the key or the
    partitions, raises `version`, and `migrations` says how the stored rows follow.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    description: str
    key: tuple[str, ...]
    partition_by: tuple[str, ...]
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    classification: Classification | None = None
    version: int = Field(1, ge=1)
    migrations: tuple[Migration, ...] = ()
    domain: str = ""
    """Whose table it is: `market`, ...; empty for those of the lake itself."""
    by_ledger: bool = False
    """Whether a row counts only where the ledger names the object version that it came in."""
    dated_by: str | None = None
    """The column with the partition that a row counts to, where it is not the storage partition itself."""
    known_at: str | None = None
    """The column that says when a row became known to the lake: reading as of a moment filters on it."""

    @model_validator(mode="after")
    def _names_exist(self) -> Contract:
        names = {column.name for column in self.columns}
        named = [name for name in (self.known_at, self.dated_by) if name]
        unknown = {*self.key, *self.partition_by, *named} - names
        if unknown:
            raise ContractError(
                f"contract of {self.table}: {sorted(unknown)} is no column of it; add the column or mend the name"
            )
        for name in self.partition_by:
            if self.column(name).type.kind not in ("string", "date"):
                raise ContractError(
                    f"contract of {self.table}: it can't partition by '{name}', a {self.column(name).type}; partition "
                    "by a string or a date"
                )
        steps = [step.from_version for step in self.migrations]
        if steps != list(range(self.version - len(steps), self.version)):
            raise ContractError(
                f"contract of {self.table}: its migrations are from the versions {steps}; write one from each version "
                f"to the next, in order, the last from {self.version - 1}"
            )
        return self

    def bound(
        self, formats: Mapping[str, str | None], waived: Collection[str] = (), **further: tuple[str, str]
    ) -> Contract:
        """The contract as it binds one source: with `formats` on some columns, without the rules and formats that it
        waives, and with its `further` rules (name -> predicate and reason).
        """

        def bound(column: Column) -> Column:
            kept = None if column.format in waived else column.format
            wanted = formats.get(column.name, kept)
            return column if wanted == column.format else column.model_copy(update={"format": wanted})

        columns = tuple(bound(column) for column in self.columns)
        rules = tuple(rule for rule in self.rules if rule.waived_by not in waived) + tuple(
            Rule(name=name, holds=holds, reason=reason) for name, (holds, reason) in further.items()
        )
        # A copy would keep what was derived from the unbound columns and rules.
        return Contract(
            **{name: getattr(self, name) for name in Contract.model_fields} | {"columns": columns, "rules": rules}
        )

    @property
    def name(self) -> str:
        """`<domain>/<table>`: two domains may have tables of one name."""
        return f"{self.domain}/{self.table}" if self.domain else self.table

    @property
    def date_column(self) -> str:
        """The column with the partition that a row counts to."""
        return self.dated_by or self.partition_by[0]

    def steps_from(self, version: int) -> tuple[Migration, ...] | None:
        """The migrations from a version to this one; None where there are not all of them."""
        steps = tuple(step for step in self.migrations if step.from_version >= version)
        return steps if len(steps) == self.version - version else None

    @cached_property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The table's Arrow schema. Every field is nullable in storage, since a check enforces nullability."""
        import pyarrow as pa

        return pa.schema([pa.field(column.name, column.type.arrow) for column in self.columns])

    @cached_property
    def predicates(self) -> dict[str, tuple[str, str]]:
        """Rule name -> (DuckDB predicate that a good row fulfils, reason). Required columns, finite numbers and valid
        JSON are rules too.

        A predicate may be NULL where a nullable column is; NULL counts as fulfilled.
        """
        found: dict[str, tuple[str, str]] = {}
        for column in self.columns:
            if not column.nullable:
                found[f"{column.name}_present"] = (
                    f'"{column.name}" IS NOT NULL',
                    f"{column.name} is missing or not a {column.type}",
                )
            verb = "is" if column.type.is_simple else "holds a value that is"
            for name, (holds, what) in column.type.predicates(f'"{column.name}"').items():
                found[f"{column.name}_{name}"] = (holds, f"{column.name} {verb} {what}")
        for rule in self.rules:
            found[rule.name] = (rule.holds, rule.reason)
        return found

    @cached_property
    def formats(self) -> dict[str, str]:
        """Column -> the standard its values follow (an identifier with a check digit, a currency code)."""
        return {column.name: column.format for column in self.columns if column.format}


@cache
def read_contracts(folder: Path, domain: str = "") -> Mapping[str, Contract]:
    """Every contract of a domain by its table's name, from the YAML files of a folder; they are read once.

    Raises:
        ContractError: a file is not a contract, or two are of the same table.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: dict[str, Contract] = {}
    for path in sorted(folder.rglob("contracts/*.yaml")):
        try:
            contract = Contract.model_validate(yaml.load(path.read_text(), loader) | {"domain": domain})
        except (ValueError, yaml.YAMLError) as error:
            raise ContractError(f"{path.name}: {error}") from error
        if contract.table in found:
            raise ContractError(f"{path}: {domain} has another contract of {contract.table}; rename one of them")
        found[contract.table] = contract
    return found


def shared_contracts() -> Mapping[str, Contract]:
    """The contracts of the lake's own tables, which all sources share."""
    return read_contracts(Path(__file__).parent)


def empty_relation(contract: Contract) -> str:
    """A DuckDB relation, as a parenthesised query, with the contract's columns and no rows."""
    columns = ", ".join(f'NULL::{column.type.duckdb} AS "{column.name}"' for column in contract.columns)
    return f"(SELECT {columns} WHERE false)"
