"""Brings a schema of PostgreSQL up to date: SQL files in a folder, run in order by Alembic.

A file is `<revision>_<what>.sql`, such as `0001_tables.sql`. Each schema has its own version table,
`<schema>.alembic_version`. All missing files run in one transaction; two processes at once wait for each other.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from lakehouse.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationStep
    from alembic.script import Script
    from alembic.script.revision import RevisionMap
    from sqlalchemy import Connection

    from lakehouse.servers.postgres import Database

_FILE = re.compile(r"(\d{4})_\w+\.sql")


def migrate(database: Database, schema: str, folder: Path) -> list[str]:
    """Runs the files of a folder that a schema hasn't had yet.

    Returns:
        Their revisions.

    Raises:
        DatabaseUnavailable: the server doesn't answer or refuses a statement, or a newer release wrote the schema.
    """
    import psycopg
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import NullPool, create_engine

    revisions = _revisions(folder)
    ran: list[str] = []

    def missing(current: Any, _: MigrationContext) -> list[MigrationStep]:
        steps = _steps_after(current[0] if current else None, revisions, schema)
        ran.extend(step.revision.revision for step in steps)
        return steps

    engine = create_engine("postgresql+psycopg://", creator=database.connect, poolclass=NullPool)
    with engine.connect() as connection:
        try:
            with connection.begin():
                _prepare(connection, schema)
                # No environment of Alembic's is needed: the files are its revisions.
                context = MigrationContext.configure(
                    connection, opts={"fn": missing, "version_table_schema": schema, "transactional_ddl": True}
                )
                context.run_migrations(connection=connection)
        except psycopg.Error as error:
            raise DatabaseUnavailable(
                f"{database} doesn't take the tables of schema {schema}: {' '.join(str(error).split())}",
                "Let LAKEHOUSE_DATABASE_URL name a user that may create schemas, roles and publications",
            ) from None
    return ran


def _prepare(connection: Connection, schema: str) -> None:
    _run(connection, f"SELECT pg_advisory_xact_lock(hashtext('lakehouse migrations of {schema}'))")
    _run(connection, f"CREATE SCHEMA IF NOT EXISTS {schema}")


def _run(connection: Connection, statements: str) -> None:
    """Runs SQL as the server's own tools do: several statements at once, and no sign stands for a parameter."""
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute(statements)


def _revisions(folder: Path) -> RevisionMap:
    from alembic.script import Script
    from alembic.script.revision import RevisionMap

    files = {found[1]: path for path in sorted(folder.iterdir()) if (found := _FILE.fullmatch(path.name))}
    scripts, before = [], None
    for revision, path in files.items():
        module = ModuleType(path.stem)
        module.__dict__.update(down_revision=before, upgrade=_upgrade(path))
        scripts.append(Script(module, revision, path))
        before = revision
    return RevisionMap(lambda: scripts)


def _upgrade(path: Path) -> Any:
    def upgrade(connection: Connection) -> None:
        _run(connection, path.read_text(encoding="utf-8"))

    return upgrade


def _steps_after(current: str | None, revisions: RevisionMap, schema: str) -> list[Any]:
    from alembic.runtime.migration import MigrationStep
    from alembic.script.revision import ResolutionError

    try:
        found = cast("list[Script]", list(revisions.iterate_revisions("head", current or "base", implicit_base=True)))
    except ResolutionError:
        raise DatabaseUnavailable(
            f"Schema {schema} is at revision {current}, which a newer release of Lakehouse wrote", "Update Lakehouse"
        ) from None
    return [MigrationStep.upgrade_from_script(revisions, script) for script in reversed(found)]
