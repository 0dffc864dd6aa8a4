"""`lakehouse status`, `rebuild` and `migrate`: the state of the lake, and how to put it right."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from lakehouse.cli.explained import console, errors, explained, print_error
from lakehouse.cli.options import SourceArgument
from lakehouse.cli.render import print_feed_status, print_source_status, print_status


def status() -> None:
    """Show per source what is loaded, missing and failed, and quarantined rows with reasons; also what is held back
    from the marts, and the last publication.
    """
    from lakehouse.api import Lake
    from lakehouse.catalog import sources, sources_of
    from lakehouse.derive.held_back import holds
    from lakehouse.derive.status import source_status
    from lakehouse.domains.market.bars.status import publication_of, status
    from lakehouse.domains.market.quotes.status import feed_status
    from lakehouse.errors import SourceError, TableDamaged, TableOutdated
    from lakehouse.lake.migration import due
    from lakehouse.lake.releases import release_in_use
    from lakehouse.settings import settings

    with explained():
        lake = Lake.present()
        console.print(f"lake: {escape(lake.uri)}", highlight=False, soft_wrap=True)
        try:
            outdated = [table.name for table in due(lake)]
        except TableDamaged as error:
            outdated = []
            print_error(error)
        if outdated:
            owners = ", ".join(sorted({name.rpartition("/")[0] or "the lake" for name in outdated}))
            said = f"migration due: {len(outdated)} tables of {owners}: run lakehouse migrate"
            console.print(said, highlight=False, soft_wrap=True)
        loaded = set(lake.sources())
        for source in sources_of("market"):
            if source.name in loaded:
                try:
                    print_status(console, status(lake, source))
                except (SourceError, TableOutdated) as error:
                    print_error(error)
        for feed in sources_of("feed"):
            if feed.name in loaded:
                print_feed_status(console, feed_status(lake, feed))
        for other in sources().values():
            if other.kind not in ("market", "feed") and other.name in loaded:
                print_source_status(console, source_status(lake, other))
        if empty := sorted(sources().keys() - loaded):
            console.print(f"nothing loaded: {', '.join(empty)}", highlight=False, soft_wrap=True)
        for hold in holds(lake):
            console.print(f"held back: {escape(str(hold))}", highlight=False, soft_wrap=True)
        if (served := release_in_use(settings())) is not None:
            console.print(f"release in use: {escape(served)}; the rest is about the present", highlight=False)
        console.print(f"marts: {escape(str(publication_of(lake)))}", highlight=False, soft_wrap=True)


def rebuild(
    source: SourceArgument,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Only compare; exit 1 if the stored tables differ from what raw_bars gives."),
    ] = False,
) -> None:
    """Derive everything again from raw_bars (for a feed: from its quotes), and the marts; write what differs."""
    from lakehouse.api import Lake
    from lakehouse.catalog import described_source
    from lakehouse.derive.held_back import check_again, holds
    from lakehouse.derive.rebuild import rebuild as rebuild_tables
    from lakehouse.lake.releases import present_marts
    from lakehouse.local_dagster.display import Display
    from lakehouse.settings import settings
    from lakehouse.warehouse.parts import part_of
    from lakehouse.warehouse.publish import differing_marts, publish

    with explained():
        known = described_source(source)
        with Display(console) as display:
            result = rebuild_tables(Lake.present(), known, verify=verify, progress=display.show)
            held = holds(Lake.present(), source) if verify else check_again(Lake.present(), known)
            display.show("marts", 0, 0)
            published = present_marts(settings()).exists()
            marts = differing_marts(settings(), part_of(known.kind)) if published or not verify else []
            if marts and not verify:
                publish(settings(), full_refresh=True)
        if result.objects_reordered:
            console.print(
                f"{source}: the version that was loaded last counts anew for {result.objects_reordered:,} objects",
                highlight=False,
            )
        for name, derived in result.tables.items():
            console.print(
                f"{source}.{name}: {derived.rows:,} rows, {derived.rows_changed:,} rows differ",
                highlight=False,
            )
        for hold in held:
            console.print(f"held back from the marts: {escape(str(hold))}", highlight=False)
        about = f"{', '.join(marts)} differ" if marts else "nothing differs" if published else "never published"
        console.print(f"marts: {about}", highlight=False)
    if verify and (result.differs or marts):
        errors.print(
            "[bold red]The stored tables are not what a rebuild gives.[/] "
            "Run the command without --verify to correct them."
        )
        raise typer.Exit(1)


def migrate(
    apply: Annotated[
        bool, typer.Option("--apply", help="Rewrite the tables; without it, they are only listed.")
    ] = False,
) -> None:
    """List the tables that an older version of Lakehouse wrote, and the changes they need; with --apply, make them.

    Each table is rewritten in one commit, so the command can be stopped at any time and run again.
    """
    from lakehouse.api import Lake
    from lakehouse.lake.migration import due, migrate_table
    from lakehouse.local_dagster.display import Display

    with explained():
        lake = Lake.present()
        found = due(lake)
        for table in found:
            console.print(str(table), highlight=False, soft_wrap=True, markup=False)
        if not found:
            console.print("Every table is as its contract says.")
        elif not apply:
            console.print("Nothing was changed; run [bold]lakehouse migrate --apply[/] to change it.", highlight=False)
        for table in found if apply else []:
            if table.obstacle is None:
                with Display(console) as display:
                    rows = migrate_table(lake, table.name, progress=display.show)
                console.print(f"{table.name}: {rows:,} rows rewritten", highlight=False, soft_wrap=True, markup=False)
    if apply and any(table.obstacle for table in found):
        raise typer.Exit(1)
