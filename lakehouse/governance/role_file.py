"""A role's DuckDB file: where it is, how it is opened, and what it says of itself.

It holds tables only, never views, so that nothing in it leads to the lake. Its schema `publication` says from what each
table was made, which tells `lakehouse.governance.publish` what changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.governance.roles import Role, RoleError
from lakehouse.lake.published import has_table
from lakehouse.lake.sql import literal
from lakehouse.settings import Settings

if TYPE_CHECKING:
    import duckdb

OWN_SCHEMA = "publication"


@dataclass(frozen=True)
class TableInFile:
    """A table of a role's file.

    Args:
        query: digest of the query that selected it, with the key of its masks.
        state: of the table that it was selected from.
        digest: of its rows, whatever their order.
    """

    table: str
    query: str
    state: str
    rows: int = 0
    digest: str = ""

    def is_as(self, wanted: TableInFile) -> bool:
        """Whether it was made from what the wanted table would be made from."""
        return (self.query, self.state) == (wanted.query, wanted.state)


@dataclass(frozen=True)
class PublishedFile:
    """What a role's file says of itself.

    Args:
        marts: the published file that its marts were selected from (see `RoleInputs.marts`).
    """

    publication: str
    marts: str
    tables: dict[str, TableInFile]


def roles_folder(config: Settings) -> Path:
    """The folder with the files of roles."""
    return config.home / "roles"


def role_path(config: Settings, role: str) -> Path:
    """The file of a role."""
    return roles_folder(config) / f"{role}.duckdb"


def file_key(config: Settings, role: Role) -> str | None:
    """The key of a role's file; None if it isn't encrypted.

    Raises:
        RoleError: it is to be encrypted, and there is no key.
    """
    if not role.encrypted:
        return None
    if (key := config.secret(role.key_variable)) is None:
        raise RoleError(
            f"role {role.role} has an encrypted file, and no key: set {role.key_variable}, or put the key into "
            f"{config.secret_file(role.key_variable)}"
        )
    return key


def attached(path: Path, name: str, key: str | None, *, read_only: bool = True) -> str:
    """The statement that attaches a role's file."""
    options = (["READ_ONLY"] if read_only else []) + ([f"ENCRYPTION_KEY {literal(key)}"] if key else [])
    return f"ATTACH {literal(str(path))} AS {name}" + (f" ({', '.join(options)})" if options else "")


def published_file(
    connection: duckdb.DuckDBPyConnection, path: Path, name: str, key: str | None
) -> PublishedFile | None:
    """Attaches a role's file as `name`; returns what it says of itself. None, and nothing is attached, if there is no
    file, it has another key, or isn't one that was published: then it is made from scratch.
    """
    import duckdb

    if not path.is_file():
        return None
    try:
        connection.execute(attached(path, name, key))
    except duckdb.Error:
        return None
    if not has_table(connection, name, OWN_SCHEMA, "tables"):
        connection.execute(f"DETACH {name}")
        return None
    rows = connection.execute(f"SELECT * FROM {name}.{OWN_SCHEMA}.tables").fetchall()
    ((publication, marts),) = connection.execute(f"SELECT id, marts FROM {name}.{OWN_SCHEMA}.publication").fetchall()
    return PublishedFile(publication, marts, {row[0]: TableInFile(*row) for row in rows})


def describe(connection: duckdb.DuckDBPyConnection, name: str, file: PublishedFile) -> None:
    """Writes into the file that is attached as `name` what it says of itself."""
    texts = f"{literal(file.publication)} AS id, {literal(file.marts)} AS marts"
    connection.execute(
        f"""
        CREATE SCHEMA {name}.{OWN_SCHEMA};
        CREATE TABLE {name}.{OWN_SCHEMA}.publication AS SELECT {texts};
        CREATE TABLE {name}.{OWN_SCHEMA}.tables (
            table_name VARCHAR, query VARCHAR, state VARCHAR, rows BIGINT, digest VARCHAR
        )
        """
    )
    for each in file.tables.values():
        values = [literal(each.table), literal(each.query), literal(each.state), str(each.rows), literal(each.digest)]
        connection.execute(f"INSERT INTO {name}.{OWN_SCHEMA}.tables VALUES ({', '.join(values)})")
