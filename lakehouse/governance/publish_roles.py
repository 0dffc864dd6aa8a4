"""Publishes a DuckDB file per role, which holds only what the role may see.

A file is made anew, so that it has no blocks of what was there before: tables that would be made from the same as
before are copied from the role's present file, the others are selected from the lake and the published marts. If none
changed, nothing is written. The file replaces the present one in one step.

The audit (`lake.role_publications`) is written before the file is served, so that nothing is served without an entry.
If the publication is cut off between the two, the next one records that the entry's file was never served.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.governance.grants import Sight, sights
from lakehouse.governance.masks import mask_key, masked, role_key, rotate_mask_key
from lakehouse.governance.role_audit import Entry, close_last, record
from lakehouse.governance.role_file import (
    PublishedFile,
    TableInFile,
    attached,
    describe,
    file_key,
    published_file,
    role_path,
    roles_folder,
)
from lakehouse.governance.role_inputs import RoleInputs, content_of, digest
from lakehouse.governance.roles import Role, RoleError, read_roles
from lakehouse.governance.visible import visible_tables
from lakehouse.lake.engine import connect, load_httpfs
from lakehouse.lake.lake import MARTS_SCHEMA, Lake
from lakehouse.lake.location import database_folder
from lakehouse.lake.published import log_of
from lakehouse.settings import Settings
from lakehouse.warehouse.publish import replace_marts

if TYPE_CHECKING:
    import duckdb

_FORMAT = "1"
"""Part of what tables are made from: a change here makes every table anew."""


@dataclass(frozen=True)
class RolePublication:
    """The outcome for one role.

    Args:
        publication: identifier of the file that is served now.
        made: the tables that were made from the lake; none of them if nothing changed.
    """

    role: str
    path: Path
    publication: str
    tables: tuple[TableInFile, ...]
    made: tuple[str, ...]


def publish_roles(lake: Lake, config: Settings, names: Sequence[str] = ()) -> list[RolePublication]:
    """Publishes the files of the named roles, by default of all, from a lake as its readers see it. Files of roles that
    are gone are deleted.

    Raises:
        RoleError: a role is unknown, its description is wrong, or its key is missing.
        DbtFailed: see `visible_tables`.
    """
    roles = read_roles(config.roles_file)
    if unknown := sorted({*names} - roles.keys()):
        raise RoleError(f"{config.roles_file} has no role {unknown[0]!r}; it has {', '.join(roles) or 'none'}")
    known = visible_tables(lake, config)
    planned = {role: sights(role, known) for role in roles.values() if not names or role.role in names}
    with _publishing(config):
        if not names:
            _withdraw(lake, config, roles)
        inputs = RoleInputs(lake)
        return [_publish(inputs, config, role, seen) for role, seen in planned.items()]


def rotate_masks(lake: Lake, config: Settings) -> list[RolePublication]:
    """Replaces the key for masks, and publishes to all roles. If that is cut off, the next publication goes on: a table
    that was masked by another key is made anew.

    Raises:
        SettingsError, HomeUnavailable: see `rotate_mask_key`.
        RoleError: see `publish_roles`.
    """
    with _publishing(config):
        rotate_mask_key(config)
    return publish_roles(lake, config)


@contextmanager
def _publishing(config: Settings) -> Iterator[None]:
    """A lock: in the block, no other process publishes to roles."""
    from filelock import FileLock

    roles_folder(config).mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(roles_folder(config) / ".lock"):
        yield


def _publish(inputs: RoleInputs, config: Settings, role: Role, seen: Sequence[Sight]) -> RolePublication:
    key, masks = file_key(config, role), role_key(mask_key(config), role.role)
    path = role_path(config, role.role)
    with connect(inputs.lake.uri) as connection:
        if key is not None and not load_httpfs(connection):
            raise RoleError(
                f"the file of role {role.role} can't be encrypted: DuckDB's extension httpfs isn't packaged for this "
                "platform; set `encrypted: false`"
            )
        before = published_file(connection, path, "before", key)
        if before is not None or not path.exists():
            close_last(inputs.lake, role.role, "abandoned", before.publication if before else None)
        wanted = {
            sight: TableInFile(sight.table, digest(_FORMAT, _query(sight, masks)), state)
            for sight in seen
            if (state := inputs.state(sight.table, before)) is not None
        }
        known = before.tables if before else {}
        same = {sight for sight, table in wanted.items() if sight.table in known and known[sight.table].is_as(table)}
        if before is not None and len(same) == len(wanted) == len(known):
            return RolePublication(role.role, path, before.publication, tuple(known.values()), ())
        inputs.attach(connection, [sight for sight in wanted if sight not in same])
        with _private_file(config, role) as build:
            connection.execute(attached(build, "target", key, read_only=False))
            made = [
                _copied(connection, sight, known[sight.table])
                if sight in same
                else _selected(connection, sight, _query(sight, masks), table)
                for sight, table in wanted.items()
            ]
            publication = secrets.token_hex(8)
            describe(
                connection, "target", PublishedFile(publication, inputs.marts, {each.table: each for each in made})
            )
            connection.execute("CHECKPOINT target; DETACH target")
            entry = Entry(publication, "published", role.encrypted)
            record(inputs.lake, role.role, entry, list(zip(wanted, made, strict=True)))
            replace_marts(path, build)
    fresh = tuple(sight.table for sight in wanted if sight not in same)
    return RolePublication(role.role, path, publication, tuple(made), fresh)


@contextmanager
def _private_file(config: Settings, role: Role) -> Iterator[Path]:
    """The path of a new file, which is deleted unless it was moved."""
    folder = roles_folder(config) / "build"
    folder.mkdir(mode=0o700, exist_ok=True)
    build = database_folder(folder) / f"{role.role}.duckdb"

    def delete() -> None:
        for left in (build, log_of(build)):
            left.unlink(missing_ok=True)

    delete()
    try:
        yield build
    finally:
        delete()


def _query(sight: Sight, masks: bytes) -> str:
    """The query for what a role sees of a table. The predicate looks at the values, not at their masks."""
    columns = [f'{masked(name, masks)} AS "{name}"' if name in sight.masked else f'"{name}"' for name in sight.columns]
    database = "warehouse" if sight.schema == MARTS_SCHEMA else "memory"
    where = f"WHERE (\n{sight.rows}\n)" if sight.rows else ""
    # In an inner query, where the predicate's names are the table's columns.
    return f"SELECT {', '.join(columns)} FROM (FROM {database}.{_quoted(sight)} {where})"


def _quoted(sight: Sight) -> str:
    return f'"{sight.schema}"."{sight.name}"'


def _copied(connection: duckdb.DuckDBPyConnection, sight: Sight, table: TableInFile) -> TableInFile:
    """Copies a table of the role's present file."""
    _create(connection, sight, f"FROM before.{_quoted(sight)}")
    return table


def _selected(connection: duckdb.DuckDBPyConnection, sight: Sight, query: str, table: TableInFile) -> TableInFile:
    """Selects a table from the inputs.

    Raises:
        RoleError: the predicate can't be evaluated.
    """
    import duckdb

    try:
        _create(connection, sight, query)
    except (duckdb.BinderException, duckdb.ConversionException, duckdb.InvalidInputException) as error:
        raise RoleError(f"{sight.table} can't be selected for a role: {error}") from error
    rows, content = content_of(connection, f"target.{_quoted(sight)}")
    return replace(table, rows=rows, digest=digest(content))


def _create(connection: duckdb.DuckDBPyConnection, sight: Sight, query: str) -> None:
    connection.execute(f'CREATE SCHEMA IF NOT EXISTS target."{sight.schema}"')
    connection.execute(f"CREATE TABLE target.{_quoted(sight)} AS {query}")


def _withdraw(lake: Lake, config: Settings, roles: Mapping[str, Role]) -> None:
    """Deletes the files of roles that are gone."""
    for path in sorted(roles_folder(config).glob("*.duckdb")):
        if path.stem not in roles:
            path.unlink()
            close_last(lake, path.stem, "withdrawn")
