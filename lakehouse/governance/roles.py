"""Roles: who may see what, as `roles.yaml` says it.

A role sees the tables of its domains, and further tables, each in whole or by columns and rows. What is personal is
masked, whether the file names it or not, unless a grant lists it as clear. Which tables and columns there are is in
`lakehouse.governance.visible`, and what a role sees of them in `lakehouse.governance.grants`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lakehouse.errors import LakehouseError, did_you_mean
from lakehouse.lake.strict_yaml import yaml_documents

EXAMPLE = Path(__file__).with_name("roles.yaml")
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class RoleError(LakehouseError, ValueError):
    """A role is unknown, or described wrongly; the message names it, the entry and the fix."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Grant(_Strict):
    """A table that a role sees, or what it sees of a table of its domains."""

    table: str = Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$", description="As in SQL: shop.customers.")
    columns: tuple[str, ...] | None = Field(None, description="The columns that it sees; all by default.")
    masked: tuple[str, ...] = Field((), description="Columns to mask besides the personal ones.")
    clear: tuple[str, ...] = Field((), description="Personal columns that the role sees as they are stored.")
    rows: str | None = Field(None, min_length=1, description="The rows that it sees: a predicate in DuckDB's SQL.")


class Role(_Strict):
    """A role."""

    role: Name
    description: str = ""
    encrypted: bool = Field(
        False, description="Whether its file is encrypted, by the key in LAKEHOUSE_ROLE_<NAME>_KEY."
    )
    domains: tuple[Name, ...] = Field((), description="Domains whose derived tables and marts it sees.")
    tables: tuple[Grant, ...] = ()

    @model_validator(mode="after")
    def _grants_are_one_per_table(self) -> Role:
        names = [grant.table for grant in self.tables]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(repeated)} stands here more than once; join the entries")
        return self

    @property
    def key_variable(self) -> str:
        """The variable, or file of this name in `secrets`, with the key of its encrypted file."""
        return f"LAKEHOUSE_ROLE_{self.role.upper()}_KEY"


class _Roles(_Strict):
    roles: tuple[Role, ...]


def read_roles(path: Path) -> dict[str, Role]:
    """The roles that a file describes, by name; none if there is no file.

    Raises:
        RoleError: the file can't be read, or describes a role twice.
    """
    try:
        documents = yaml_documents(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RoleError(f"{path}: {error}") from error
    try:
        found = _Roles.model_validate(documents[0] if documents else None).roles
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise RoleError(f"{path}: {said}") from error
    names = [role.role for role in found]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise RoleError(f"{path}: several roles are called {', '.join(repeated)}; rename all but one")
    return {role.role: role for role in found}


def role_named(path: Path, name: str) -> Role:
    """A role by its name.

    Raises:
        RoleError: the role doesn't exist, or see `read_roles`.
    """
    known = read_roles(path)
    if name not in known:
        have = f"it has {', '.join(known)}" if known else "`lakehouse roles init` writes an example there"
        raise RoleError(f"{path} has no role {name!r}; {have}{did_you_mean(name, known)}")
    return known[name]
