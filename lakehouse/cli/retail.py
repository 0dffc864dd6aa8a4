"""`lakehouse retail seed`: fills a shop's systems from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lakehouse.cli.explained import console, explained

if TYPE_CHECKING:
    from lakehouse.domains.retail.config import RetailConfig

retail_app = typer.Typer(name="retail", no_args_is_help=True, help="The systems of a shop.")


@retail_app.callback()
def _each_command() -> None:
    """Makes Typer keep the name of a single command."""


@retail_app.command()
def seed(
    folder: Annotated[
        Path, typer.Option("--from", metavar="FOLDER", help="Folder with daily files of lines, and PDF documents.")
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop the collection first; without it, it must be empty.")
    ] = False,
) -> None:
    """Fill the collection of LAKEHOUSE_RETAIL_URL with the lines of daily files, and put PDF documents on the file
    server of LAKEHOUSE_DOCUMENTS_URL. For development: a shop that works has both.
    """
    from lakehouse.catalog import descriptions
    from lakehouse.domains.retail.seed import daily_files
    from lakehouse.errors import SourceError

    with explained():
        if not folder.is_dir():
            raise SourceError(f"{folder} is not a folder: name one with YYYY-MM-DD.csv[.gz] or PDF files by --from")
        descriptions().require("retail", "source", descriptions().found)
        config = cast("RetailConfig", descriptions().found["retail"][1])
        lines, documents = daily_files(config, folder), sorted(folder.glob("*.[pP][dD][fF]"))
        if not lines and not documents:
            raise SourceError(f"{folder} has neither daily files, such as 2010-12-01.csv, nor PDF files")
        if lines:
            _fill_collection(config, lines, replace=replace)
        if documents:
            _upload(documents)


def _fill_collection(config: RetailConfig, files: list[Path], *, replace: bool) -> None:
    from lakehouse.domains.retail.resolve import MONGO, collection_at
    from lakehouse.domains.retail.seed import documents_of
    from lakehouse.errors import SourceError
    from lakehouse.settings import settings

    url = settings().source_variable("retail", "url") or ""
    described = config.collection
    if described is None or not url.startswith(MONGO):
        raise SourceError(
            "no collection to fill: set LAKEHOUSE_RETAIL_URL to mongodb://host/database, and collection in the "
            "defs.yaml of retail"
        )
    collection = collection_at(url, described)
    documents = (document for path in files for document in documents_of(config, described, path))
    count = collection.fill(documents, replaces=replace)
    console.print(f"{collection}: {count:,} documents of {len(files):,} files", highlight=False, markup=False)


def _upload(files: list[Path]) -> None:
    from lakehouse.errors import SourceError
    from lakehouse.ingest.file_server import FileServer
    from lakehouse.settings import settings

    url = settings().source_variable("documents", "url") or ""
    if not url.startswith(("http://", "https://")):
        raise SourceError("no file server to fill: set LAKEHOUSE_DOCUMENTS_URL to its address, such as http://host")
    server = FileServer(url.rstrip("/"))
    for path in files:
        server.upload(path.name, path.read_bytes())
    console.print(f"{url}: {len(files):,} documents", highlight=False, markup=False)
