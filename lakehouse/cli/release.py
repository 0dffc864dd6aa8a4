"""`lakehouse release`: states of the lake with a name, to which readers, or the lake itself, can return."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lakehouse.cli.explained import console, explained

release_app = typer.Typer(
    name="release",
    help="Keep the lake as it is under a name, serve it to readers later, or return to it.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the release, such as 2024-q1.")]


@release_app.command()
def create(name: NameArgument) -> None:
    """Keep the tables and the published marts as they are now, under a name. Nothing is copied."""
    from lakehouse.settings import settings
    from lakehouse.warehouse.releases import create as create_release

    with explained():
        made = create_release(settings(), name)
    marts = "with the published marts" if made.marts else "without marts, as none are published"
    console.print(f"release {escape(made.name)}: {len(made.versions):,} tables, {marts}", highlight=False)


@release_app.command(name="list")
def list_releases() -> None:
    """List the releases, the oldest first, and say which one readers are served."""
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
    """Serve a release to readers: SQL, charts, the Python API and the marts file, until another use.

    The tables stay as they are. Loads, derivations and publications go on, unseen until `lakehouse release use latest`.
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
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before undoing what came later.")] = False,
) -> None:
    """Make the tables what they were in a release, by new commits, and publish the marts again.

    What was loaded since is undone: the next load takes it again from the sources, as they are then. If this command is
    stopped, run it again.
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
    """Forget a release. The tables stay; what it alone kept goes with the next housekeeping."""
    from lakehouse.settings import settings
    from lakehouse.warehouse.releases import drop as drop_release

    with explained():
        drop_release(settings(), name)
    console.print(f"Dropped release {escape(name)}.", highlight=False)
