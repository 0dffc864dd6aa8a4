"""`lakehouse documents search`, `show` and `export`: the text of documents that were loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.explained import console, explained
from lakehouse.cli.options import AsOfOption
from lakehouse.cli.results import Format, format_of, print_result

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb

documents_app = typer.Typer(
    name="documents", no_args_is_help=True, help="Documents: search their pages, show one, export them all."
)
SourceOption = Annotated[
    str | None, typer.Option("--source", metavar="SOURCE", help="Source of documents; the only one by default.")
]


@documents_app.command()
def search(
    query: Annotated[str, typer.Argument(help="Words to look for; case and accents don't count.")],
    limit: Annotated[int, typer.Option("-k", "--limit", min=1, help="Show at most so many passages.")] = 10,
    by_meaning: Annotated[
        bool, typer.Option("--by-meaning", help="By the meaning of the text, with the model LAKEHOUSE_<SOURCE>_MODEL.")
    ] = False,
    source: SourceOption = None,
    as_of: AsOfOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this CSV, JSON or Parquet file.")
    ] = None,
) -> None:
    """List the passages that fit some words best (BM25), or whose meaning is nearest: document, page, score and
    excerpt.
    """
    from lakehouse.domains.documents import rules
    from lakehouse.lake.sql import literal

    with explained():
        words, name = literal(query), _source(source)
        passages = (
            _similar(query, limit, name, as_of)
            if by_meaning
            else _rows(f'FROM "{name}".search({words}, k := {limit})', as_of)
        )
        found = passages.project(f"name, page, score, {rules.excerpt('body', words)} AS excerpt")
        print_result(console, found, format_of(output), output)


@documents_app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of the file, such as 'terms of sale.pdf'.")],
    page: Annotated[int | None, typer.Option("--page", min=1, help="Only this page.")] = None,
    source: SourceOption = None,
    as_of: AsOfOption = None,
) -> None:
    """Show the text of a document, page by page."""
    with explained():
        for number, count, body in _pages(name, page, f'"{_source(source)}"', as_of):
            console.print(f"[bold]page {number} of {count}[/]", highlight=False)
            console.print(body or "(no text)", highlight=False, markup=False, soft_wrap=True)


@documents_app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV, JSON or Parquet file to write.")],
    source: SourceOption = None,
    as_of: AsOfOption = None,
) -> None:
    """Write the text of all documents to a file, a row per page."""
    if format_of(output) is Format.table:
        raise typer.BadParameter(f"'{output}' is none of the formats; name a file that ends in .csv, .json or .parquet")
    with explained():
        schema = f'"{_source(source)}"'
        pages = _rows(
            f"""
            SELECT files.name, page, files.page_count, body, sha256, files.published_at
            FROM {schema}.files AS files JOIN {schema}.pages USING (sha256) ORDER BY files.name, page
            """,
            as_of,
        )
        print_result(console, pages, format_of(output), output)


def _pages(name: str, page: int | None, schema: str, as_of: datetime | None) -> list[tuple[int, int, str | None]]:
    """(number, number of pages, text) of a document's pages, or of one of them.

    Raises:
        SourceError: there is no such document or page, or it can't be read.
    """
    from lakehouse.errors import SourceError, did_you_mean
    from lakehouse.lake.sql import literal

    files = {
        file: (status, reason)
        for file, status, reason in _rows(f"SELECT name, status, reason FROM {schema}.files", as_of).fetchall()
    }
    if name not in files:
        raise SourceError(f"no document is called '{name}'{did_you_mean(name, files)}")
    # Files with the same content are one document, whose pages have the name of one of them.
    pages = _rows(
        f"""
        SELECT page, files.page_count, body FROM {schema}.files AS files JOIN {schema}.pages USING (sha256)
        WHERE files.name = {literal(name)} ORDER BY page
        """,
        as_of,
    ).fetchall()
    if not pages:
        status, reason = files[name]
        raise SourceError(reason or f"{name} has no pages: it is {status}")
    found = [row for row in pages if page in (None, row[0])]
    if not found:
        raise SourceError(f"{name} has no page {page}: it has {len(pages):,}")
    return found


def _source(source: str | None) -> str:
    """The name of a source of documents, which is its SQL schema.

    Raises:
        SourceError: the name is unknown, none was named and there are several, or there is no source of documents.
    """
    from lakehouse.catalog import sources_of
    from lakehouse.domains.documents.tables import KIND
    from lakehouse.errors import SourceError, did_you_mean

    names = [each.name for each in sources_of(KIND)]
    if source in names or (source is None and len(names) == 1):
        return source or names[0]
    if source is None and names:
        raise SourceError(f"there are several sources of documents: name one of {', '.join(names)} by --source")
    raise SourceError(f"no source of documents is called '{source}'{did_you_mean(source or '', names)}")


def _similar(query: str, limit: int, source: str, as_of: datetime | None) -> duckdb.DuckDBPyRelation:
    from lakehouse.api import Lake

    with _explained_if_nothing_is_loaded():
        return Lake.open(as_of=as_of).similar_documents(query, limit=limit, source=source)


def _rows(query: str, as_of: datetime | None) -> duckdb.DuckDBPyRelation:
    """The rows of a query over the lake.

    Raises:
        SourceError: no documents were loaded.
    """
    from lakehouse.api import Lake

    with _explained_if_nothing_is_loaded():
        found = Lake.open(as_of=as_of).sql(query)
    assert found is not None
    return found


@contextmanager
def _explained_if_nothing_is_loaded() -> Iterator[None]:
    import duckdb

    from lakehouse.errors import SourceError

    try:
        yield
    except duckdb.CatalogException:
        raise SourceError("no documents were loaded yet: load them by lakehouse update documents") from None
