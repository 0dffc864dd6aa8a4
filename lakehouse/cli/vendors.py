"""`lakehouse vendors`: the vendors whose YAML ships with the project, and adding one to the sources.

A shipped YAML lies in `lakehouse/vendors` and costs nothing until it is added, which copies it to the folder of the
user's sources (docs/decisions/0020-shipped-vendors.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lakehouse.cli.explained import console, explained
from lakehouse.cli.next_steps import try_next
from lakehouse.errors import SourceError, did_you_mean

vendors_app = typer.Typer(name="vendors", help="Vendors whose YAML ships with the project: list them, add one.")
SHIPPED = Path(__file__).parents[1] / "vendors"


@vendors_app.callback(invoke_without_command=True)
def list_vendors(context: typer.Context) -> None:
    """List the vendors that can be added, and what each delivers."""
    if context.invoked_subcommand is not None:
        return
    from lakehouse.catalog import descriptions

    with explained():
        added = descriptions().files
        for name, described in shipped().items():
            mark = "added" if name in added else ""
            console.print(f"{name:<16} {mark:<6} {described}", highlight=False, markup=False, soft_wrap=True)
    console.print("\nAdd one with: lakehouse vendors add NAME", highlight=False, markup=False)


@vendors_app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the vendor, as `lakehouse vendors` lists it.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Folder of sources (default: LAKEHOUSE_DEFS, else lakehouse/defs/market)."),
    ] = None,
) -> None:
    """Copy a vendor's YAML to the folder of your sources, where it can be edited; it is a source from then on."""
    from lakehouse.catalog import new_defs_folder

    with explained():
        target = (to / name if to else new_defs_folder(name)) / "defs.yaml"
        copy_vendor(name, target)
    console.print(
        f"{name} is described by {target}. Its first lines say where the vendor's files or answers come from. Set "
        f"their place or the key.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    try_next("sources", f"update {name}")


def shipped() -> dict[str, str]:
    """The vendors that can be added, by name, with their descriptions."""
    import yaml

    return {
        path.stem: yaml.safe_load(path.read_text())["attributes"]["description"]
        for path in sorted(SHIPPED.glob("*.yaml"))
    }


def copy_vendor(name: str, target: Path) -> None:
    """Copies the YAML of a shipped vendor.

    Raises:
        SourceError: no such vendor ships, or the file exists, which may have been edited.
    """
    known = [path.stem for path in sorted(SHIPPED.glob("*.yaml"))]
    if name not in known:
        raise SourceError(f"no vendor '{name}' ships; there is {', '.join(known)}{did_you_mean(name, known)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x") as file:
            file.write((SHIPPED / f"{name}.yaml").read_text())
    except FileExistsError:
        raise SourceError(f"{target} exists; it may have been edited, so it is not replaced. Remove it first") from None
