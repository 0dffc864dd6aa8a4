"""The lake as a role sees it: its published file, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from lakehouse.governance.role_file import OWN_SCHEMA, attached, role_path
from lakehouse.governance.roles import Role, RoleError, role_named
from lakehouse.lake.engine import connect
from lakehouse.lake.locked import LimitedRelation, Limits, check_query, lock
from lakehouse.settings import Settings

if TYPE_CHECKING:
    import duckdb

_CATALOG = "of_role"


class RoleLake:
    """What a role sees. Its queries are restricted as those of a locked lake, and can't reach other files."""

    def __init__(self, role: str, path: Path, key: str | None, limits: Limits) -> None:
        self.role = role
        self.path = path
        self._key = key
        self.limits = limits

    def __repr__(self) -> str:
        return f"RoleLake({self.role!r}, {str(self.path)!r})"

    @classmethod
    def open(cls, name: str, config: Settings) -> RoleLake:
        """The lake of a role. A reader needs its file and, if it is encrypted, its key; `roles.yaml` is asked only
        where it is there.

        Raises:
            RoleError: the role doesn't exist, its file isn't published, or its key is missing or wrong.
        """
        role = role_named(config.roles_file, name) if config.roles_file.exists() else Role(role=name)
        path = role_path(config, name)
        if not path.is_file():
            raise RoleError(f"nothing is published for role {name}: run `lakehouse roles publish {name}`")
        opened = cls(name, path, config.secret(role.key_variable), Limits(config.locked_memory, config.locked_seconds))
        opened.tables()
        return opened

    def tables(self) -> list[tuple[str, str]]:
        """Every (schema, table) that the role sees, sorted."""
        with self._connection() as connection:
            return _tables(connection)

    def sql(self, query: str) -> duckdb.DuckDBPyRelation | None:
        """Runs a query over what the role sees, by the names that the tables have in the lake.

        Raises:
            duckdb.Error: the query is wrong; if a table is unknown, the message lists the role's.
            QueryNotAllowed: the query does more than select from the role's tables.
            QueryLimitReached: it takes too long or too much memory. The relation's methods raise it too.
        """
        import duckdb

        connection = self._connection()
        tables = _tables(connection)
        check_query(query, {schema for schema, _ in tables}, [])
        limits = self.limits
        lock(connection, None, limits)
        try:
            with limits.explained():
                found = connection.sql(query)
        except duckdb.CatalogException as error:
            names = ", ".join(f"{schema}.{table}" for schema, table in tables)
            raise duckdb.CatalogException(f"{error}\nRole {self.role} sees {names or 'no table'}.") from None
        return None if found is None else cast("duckdb.DuckDBPyRelation", LimitedRelation(found, limits))

    def _connection(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        connection = connect(str(self.path.parent))
        try:
            try:
                connection.execute(attached(self.path, _CATALOG, self._key))
            except duckdb.CatalogException as error:
                if self._key is None or "is not encrypted" not in str(error):
                    raise
                connection.execute(attached(self.path, _CATALOG, None))
        except duckdb.Error as error:
            connection.close()
            variable = Role(role=self.role).key_variable
            raise RoleError(
                f"the file of role {self.role} can't be opened: {error}", f"{variable} has to hold its key"
            ) from error
        connection.execute(f"USE {_CATALOG}")
        return connection


def _tables(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() "
        f"WHERE database_name = '{_CATALOG}' AND schema_name <> '{OWN_SCHEMA}' ORDER BY ALL"
    ).fetchall()
