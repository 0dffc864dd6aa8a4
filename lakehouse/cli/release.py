"""`lakehouse release`: named states of the lake, which can be served to readers or restored."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lakehouse.cli.explained import console, explained

release_app = typer.Typer(
    name="release",
    help="Name the lake's present state, serve it to readers later, or restore it.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the release, such as 2024-q1.")]


@release_app.command()
def create(name: NameArgument) -> None:
    """Name the present state of the tables and the published marts. Nothing is copied."""
    from lakehouse.settings import settings
    from lakehouse.warehouse.releases import create as create_release

    with explained():
        made = create_release(settings(), name)
    marts = "with the published marts" if made.marts else "without marts, as none are published"
    console.print(f"release {escape(made.name)}: {len(made.versions):,} tables, {marts}", highlight=False)


@release_app.command(name="list")
def list_releases() -> None:
    """List the releases, oldest first, and the one that is served to readers."""
    from lakehouse.api import Lake
    from lakehouse.lake.releases import release_in_use, releases
    from lakehouse.settings import settings

    with explained():
        found, served = releases(Lake.present()), release_in_use(settings())
    if not found:
        console.print("There are no releases.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("release", "made (UTC)", "tables", "marts", ""):
        table.add_column(heading, justify="right" if heading == "tables" else "left")
    for each in found:
        table.add_row(
            escape(each.name),
            f"{each.created_at:%Y-%m-%d %H:%M:%S}",
            f"{len(each.versions):,}",
            "yes" if each.marts else "none",
            "in use" if each.name == served else "",
        )
    console.print(table)


@release_app.command()
def use(
    name: Annotated[str, typer.Argument(metavar="NAME|latest", help="The release, or latest for the present.")],
) -> None:
    """Serve a release to readers: SQL, charts, the Python API and the marts file, until the next `use`.

    The tables don't change. Loads, derivations and publications continue, hidden until `lakehouse release use latest`.
    """
    from lakehouse.settings import settings
    from lakehouse.warehouse.releases import LATEST
    from lakehouse.warehouse.releases import use as use_release

    with explained():
        use_release(settings(), name)
    served = "the present" if name == LATEST else f"release {escape(name)}"
    console.print(f"Readers are served {served}.", highlight=False)


@release_app.command()
def restore(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before undoing later changes.")] = False,
) -> None:
    """Restore the tables of a release, by new commits, and publish the marts again.

    Later loads are undone: the next load reads the sources again, as they are then. If this command is interrupted, run
    it again.
    """
    from lakehouse.api import Lake
    from lakehouse.lake.releases import changes, release_named
    from lakehouse.settings import settings
    from lakehouse.warehouse.releases import restore as restore_release

    with explained():
        lake = Lake.present()
        release = release_named(lake, name)
        undone = changes(lake, release)
        made = f"{release.created_at:%Y-%m-%d %H:%M:%S} UTC"
        if undone:
            console.print(f"Returning to release {escape(name)}, made {made}, undoes in", highlight=False)
            for change in undone:
                rows = f"{change.rows_now:,} rows become {change.rows_then:,}"
                commits = f"{change.commits_since:,} {'commit' if change.commits_since == 1 else 'commits'}"
                console.print(f"  {escape(change.path)}: {commits}, {rows}", highlight=False)
        else:
            console.print(f"The tables are those of release {escape(name)}, made {made}.", highlight=False)
        if undone and not yes and not typer.confirm("Undo this?"):
            console.print("Nothing was changed.")
            raise typer.Exit(1)
        restore_release(settings(), name)
    console.print(f"Restored release {escape(name)}, and published its marts.", highlight=False)


@release_app.command()
def drop(name: NameArgument) -> None:
    """Delete a release. The tables stay; files that only it kept are removed by the next housekeeping."""
    from lakehouse.settings import settings
    from lakehouse.warehouse.releases import drop as drop_release

    with explained():
        drop_release(settings(), name)
    console.print(f"Dropped release {escape(name)}.", highlight=False)
