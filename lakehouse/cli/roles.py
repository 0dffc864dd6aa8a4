"""`lakehouse roles`: who sees what, and the publication of a file per role."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from lakehouse.cli.explained import console, explained
from lakehouse.cli.next_steps import try_next

if TYPE_CHECKING:
    from lakehouse.governance.publish_roles import RolePublication

roles_app = typer.Typer(name="roles", help="Who sees what: list it, and publish a DuckDB file for each role.")


@roles_app.callback(invoke_without_command=True)
def roles(context: typer.Context) -> None:
    """List what each role of roles.yaml sees, masked columns included."""
    if context.invoked_subcommand is not None:
        return
    from lakehouse.api import Lake
    from lakehouse.governance.grants import sights
    from lakehouse.governance.role_file import role_path
    from lakehouse.governance.roles import read_roles
    from lakehouse.governance.visible import visible_tables
    from lakehouse.settings import settings

    with explained():
        config = settings()
        found = read_roles(config.roles_file)
        if not found:
            _print(f"No roles: {config.roles_file} isn't there. lakehouse roles init writes an example.")
        known = visible_tables(Lake.present(), config) if found else {}
        for role in found.values():
            path = role_path(config, role.role)
            state = f"{path}{', encrypted' if role.encrypted else ''}" if path.exists() else "not published yet"
            console.print(f"[bold]{role.role}[/]: {escape(role.description)} ({escape(state)})", highlight=False)
            for sight in sights(role, known):
                whole = len(sight.columns) == len(known[sight.table].columns)
                columns = [
                    f"{name} (masked)" if name in sight.masked else name
                    for name in sight.columns
                    if not whole or name in sight.masked
                ]
                told = ([", ".join(columns)] if columns else []) + ([f"where {sight.rows}"] if sight.rows else [])
                _print(f"  {sight.table}{': ' if told else ''}{'; '.join(told)}")


@roles_app.command()
def init() -> None:
    """Write the example to the place of roles.yaml, unless that exists."""
    from lakehouse.governance.roles import EXAMPLE, RoleError
    from lakehouse.settings import settings

    with explained():
        path = settings().roles_file
        if path.exists():
            raise RoleError(f"{path} is there already; edit it")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(EXAMPLE, path)
        _print(f"{path} has example roles, which are yours to edit.")
    try_next("roles publish", "roles")


@roles_app.command()
def publish(names: Annotated[list[str] | None, typer.Argument(help="Roles; all by default.")] = None) -> None:
    """Write the DuckDB file of each role, and record in lake.role_publications what it holds. Files of roles that are
    gone are deleted.
    """
    from lakehouse.api import Lake
    from lakehouse.governance.publish_roles import publish_roles
    from lakehouse.settings import settings

    with explained():
        config = settings()
        _print_all(publish_roles(Lake.open(config), config, names or ()))


@roles_app.command()
def rotate_key(
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask first.")] = False,
) -> None:
    """Replace the key of the masks, and publish to all roles: what a role has kept of its former masks can't be joined
    with the new ones.
    """
    from lakehouse.api import Lake
    from lakehouse.governance.publish_roles import rotate_masks
    from lakehouse.settings import settings

    with explained():
        if not yes:
            typer.confirm("Replace the key of all masks? This can't be undone.", abort=True)
        config = settings()
        _print_all(rotate_masks(Lake.open(config), config))


def _print_all(found: list[RolePublication]) -> None:
    for done in found:
        rows = sum(table.rows for table in done.tables)
        what = f"{len(done.made)} of {len(done.tables)} tables new" if done.made else "nothing new"
        _print(f"{done.role}: {len(done.tables)} tables, {rows:,} rows, {what}: {done.path}")


def _print(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
