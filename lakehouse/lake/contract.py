"""Contracts: the definition of each table of the lake.

A contract is a YAML file in a folder `contracts`. Columns, types, units, nullability, keys, partitions and rules are
defined there and nowhere else; the Arrow and DuckDB types, Dagster's column schema, the asset checks and the reasons in
the quarantine are derived from it. This module reads contracts and turns them into types and SQL predicates. Tables are
read and written by `snapshot`; rules of a field are predicates in the YAML files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lakehouse.errors import LakehouseError
from lakehouse.lake.sql import Relation, relation_of
from lakehouse.lake.standards import require_standard
from lakehouse.lake.strict_yaml import yaml_documents
from lakehouse.lake.types import ColumnType, parse_type

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Classification = Literal["public", "internal", "confidential", "restricted", "pii"]
"""`pii`: personal data, which the lake stores as they come."""

TypeText = Annotated[ColumnType, BeforeValidator(lambda text: parse_type(text) if isinstance(text, str) else text)]
"""A type as a contract writes it."""


class ContractError(LakehouseError, ValueError):
    """A contract is missing or contradicts itself; the message names the file and the fix."""


class Column(BaseModel):
    """A column: its name, type, meaning and unit, if it has one."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True)

    name: str
    type: TypeText
    description: str
    unit: str | None = None
    nullable: bool = False
    format: Annotated[str, AfterValidator(require_standard)] | None = None
    """The standard that its values follow (see `standards`)."""
    references: str | None = Field(None, pattern=r"^([a-z][a-z0-9_]*\.){1,2}[a-z][a-z0-9_]*$")
    """Its foreign key: `table.column` of the same source, or `source.table.column` (see `references`)."""
    pii: bool = False
    """Whether it holds personal data that are hashed before they are stored."""
    classification: Classification | None = None
    """Who may see it; by default, the table's classification. This only describes the column."""
    made_from: tuple[str, ...] | None = Field(None, alias="from")
    """The columns that it is made from: `column` of the tables that this one is made from, `table.column` of the same
    source, or `schema.table.column`. Default: the columns of the same name. Empty: the lake itself makes its values.
    """

    @model_validator(mode="after")
    def _formats_are_of_texts(self) -> Column:
        if self.format is not None and self.type.kind != "string":
            raise ValueError(f"column {self.name} is a {self.type}; only a string has a format such as {self.format}")
        return self

    @property
    def is_personal(self) -> bool:
        """Whether only roles with the right may see its values: what is stored may be values or pseudonyms."""
        return self.pii or self.classification == "pii"


class Rule(BaseModel):
    """A rule for every row: `holds` is a DuckDB predicate over the columns, `reason` describes a row that breaks it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    holds: str
    reason: str
    waived_by: str | None = None
    """The source option (such as `negative_prices`) under which the rule does not apply."""


class Migration(BaseModel):
    """Turns the rows of one version of a contract into those of the next (see `lake.migration`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_version: int = Field(ge=1)
    changes: str
    """Describes the change to the person who applies it."""
    rows: str
    """A DuckDB query over `stored`, the table's rows with the columns that they have there. Its columns have the names
    and types of the next version; a nullable one may lack. `$name` is a parameter, which each source fills in.
    """
    derived: bool = False
    """Whether `rows` only approximates the next version, as a derived table's may: such a table is derived again
    instead, and `rows` serves reading past versions of it.
    """


class Contract(BaseModel):
    """A table's contract. `partition_by` names Delta's partition columns; `key` is unique over the stored rows.

    A nullable column may be added at any time. Removing, renaming or retyping a column, or changing the key or the
    partitions, raises `version` and adds to `migrations` how the stored rows are converted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    description: str
    key: tuple[str, ...]
    partition_by: tuple[str, ...]
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    classification: Classification | None = None
    owner: str | None = None
    """Who answers questions about it, as Dagster names people and teams; by default, the owners of its source."""
    made_from: tuple[str, ...] = ()
    """The tables that a view is made from: `table` of the same source, or `schema.table`. For a derived table, its
    source declares them.
    """
    version: int = Field(1, ge=1)
    migrations: tuple[Migration, ...] = ()
    parameters: Mapping[str, str] = {}
    """What a source fills in for the parameters of `migrations`, as SQL text."""
    domain: str = ""
    """The domain of the table, such as `market`; empty for tables of the lake itself."""
    by_ledger: bool = False
    """Whether a row counts only if the ledger names the object version that it came in."""
    dated_by: str | None = None
    """The column with the partition that a row belongs to, if it is not the storage partition itself."""
    known_at: str | None = None
    """The column with the moment when the lake learned of a row; reading as of a moment filters on it."""

    @model_validator(mode="after")
    def _names_exist(self) -> Contract:
        names = {column.name for column in self.columns}
        named = [name for name in (self.known_at, self.dated_by) if name]
        unknown = {*self.key, *self.partition_by, *named} - names
        if unknown:
            raise ContractError(
                f"contract of {self.table}: {sorted(unknown)} is not a column of it; add the column or correct the name"
            )
        for kind, of_kind in (("columns", self.columns), ("rules", self.rules)):
            if repeated := sorted(name for name, count in Counter(each.name for each in of_kind).items() if count > 1):
                raise ContractError(
                    f"contract of {self.table}: several {kind} are named {', '.join(repeated)}; rename all but one"
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
        self,
        formats: Mapping[str, str | None],
        waived: Collection[str] = (),
        *,
        required: Collection[str] = (),
        without: Collection[str] = (),
        parameters: Mapping[str, str] | None = None,
        **further: tuple[str, str],
    ) -> Contract:
        """The contract as it binds one source: with `formats` on some columns, without the rules and formats that it
        waives, with its `required` columns and `without` others, the `parameters` of its migrations, and its `further`
        rules (name -> predicate and reason).
        """

        def bound(column: Column) -> Column:
            kept = None if column.format in waived else column.format
            wanted = {
                "format": formats.get(column.name, kept),
                "nullable": column.nullable and column.name not in required,
            }
            changed = any(getattr(column, name) != value for name, value in wanted.items())
            return column.model_copy(update=wanted) if changed else column

        columns = tuple(bound(column) for column in self.columns if column.name not in without)
        rules = tuple(rule for rule in self.rules if rule.waived_by not in waived) + tuple(
            Rule(name=name, holds=holds, reason=reason) for name, (holds, reason) in further.items()
        )
        # A copy would keep the cached properties of the original columns and rules.
        fields: dict[str, Any] = {name: getattr(self, name) for name in Contract.model_fields}
        fields |= {"columns": columns, "rules": rules, "parameters": {**self.parameters, **(parameters or {})}}
        return Contract(**fields)

    @property
    def name(self) -> str:
        """`<domain>/<table>`, since two domains may have tables of the same name."""
        return f"{self.domain}/{self.table}" if self.domain else self.table

    @property
    def date_column(self) -> str:
        """The column with the partition that a row belongs to."""
        return self.dated_by or self.partition_by[0]

    def steps_from(self, version: int) -> tuple[Migration, ...] | None:
        """The migrations from a version to this one; None if any of them is missing."""
        steps = tuple(step for step in self.migrations if step.from_version >= version)
        return steps if len(steps) == self.version - version else None

    def lacks_parameters(self, steps: Iterable[Migration]) -> bool:
        """Whether some of the migrations have a parameter that no source has filled in."""
        return any(set(Template(step.rows).get_identifiers()) - self.parameters.keys() for step in steps)

    def migrated(self, stored: str, steps: Iterable[Migration]) -> str:
        """The DuckDB query of a query's rows after some migrations."""
        for step in steps:
            stored = f"WITH stored AS ({stored}) SELECT * FROM ({Template(step.rows).substitute(self.parameters)})"
        return stored

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
    def polars_schema(self) -> pl.Schema:
        """The table's schema in Polars."""
        import polars as pl

        return pl.Schema({column.name: column.type.polars for column in self.columns})

    @cached_property
    def predicates(self) -> dict[str, tuple[str, str]]:
        """Rule name -> (DuckDB predicate that a valid row fulfils, reason). Required columns, finite numbers and valid
        JSON are rules too.

        A predicate that is NULL, such as that of a nullable column, counts as fulfilled.
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
    """The contracts of a domain by table name, from the YAML files of a folder. Cached.

    Raises:
        ContractError: a file is not a contract, or two describe the same table.
    """
    found: dict[str, Contract] = {}
    for path in sorted(folder.rglob("contracts/*.yaml")):
        try:
            documents = yaml_documents(path.read_text())
        except (OSError, ValueError) as error:
            raise ContractError(f"{path}: {error}") from error
        said = documents[0] if documents else None
        if not isinstance(said, dict):
            raise ContractError(f"{path} is not a contract; begin it with `table:` and the table's name")
        try:
            contract = Contract.model_validate(said | {"domain": domain})
        except ValidationError as error:
            raise ContractError(f"{path}: {'; '.join(_problems(error))}") from error
        if contract.table in found:
            raise ContractError(f"{path}: {domain} has another contract of {contract.table}; rename one of them")
        found[contract.table] = contract
    return found


def _problems(error: ValidationError) -> Iterator[str]:
    """The faults of a contract's entries, each with where it is."""
    for problem in error.errors(include_url=False):
        where = ".".join(map(str, problem["loc"]))
        yield f"{where}: {problem['msg']}".removeprefix(": ").replace("Value error, ", "")


def shared_contracts() -> Mapping[str, Contract]:
    """The contracts of the lake's own tables, which all sources share."""
    return read_contracts(Path(__file__).parent)


def empty_relation(contract: Contract) -> Relation:
    """A DuckDB relation, as a parenthesised query, with the contract's columns and no rows."""
    columns = ", ".join(f'NULL::{column.type.duckdb} AS "{column.name}"' for column in contract.columns)
    return relation_of(f"SELECT {columns} WHERE false")
