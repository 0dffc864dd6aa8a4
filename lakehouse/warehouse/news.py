"""What a part of the marts must be built from, compared with what the published file was built from.

The file records, beside the versions of tables (see `inputs`), each part's recipe and the content of each table that
its models read, by partition: `publication.recipes` and `publication.contents`. Equal ones mean equal marts, whatever
was committed in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.catalog import kinds
from lakehouse.derive.held_back import Hold
from lakehouse.lake.contents import Content, Stored, content_of, differing
from lakehouse.lake.lake import Lake
from lakehouse.lake.published import recorded
from lakehouse.lake.sql import literal
from lakehouse.lake.stored_table import Pin
from lakehouse.settings import Settings
from lakehouse.warehouse.inputs import Inputs
from lakehouse.warehouse.parts import Part
from lakehouse.warehouse.recipe import recipe_of

if TYPE_CHECKING:
    import duckdb

Changes = Mapping[str, Collection[tuple[str, str]]]
"""Name of a table over all sources -> the partitions (source, day) of it that changed."""


@dataclass(frozen=True)
class News:
    """What changed for a part since a file was published.

    Attributes:
        changes: None if everything must be built, since the recipe is another one, or the file has no record of it.
        is_recorded: whether the file says the same of sources that are held back.
    """

    part: Part
    recipe: str
    contents: Mapping[tuple[str, str], Content]
    changes: Changes | None
    is_recorded: bool

    @property
    def is_whole(self) -> bool:
        """Whether all models are to be built from all rows."""
        return self.changes is None

    @property
    def is_any(self) -> bool:
        """Whether the file differs from what would be published now."""
        return self.changes is None or any(self.changes.values()) or not self.is_recorded


def news_of(lake: Lake, config: Settings, parts: Sequence[Part], inputs: Inputs, start: Path | None) -> list[News]:
    """What changed for each of the parts since `start` was published; everything, without a file to start from."""
    published = _published(start, parts)
    return [_news_of(lake, part, recipe_of(part, config), inputs, published[part.name]) for part in parts]


def _news_of(lake: Lake, part: Part, recipe: str, inputs: Inputs, published: _Published) -> News:
    is_comparable = published.recipe == recipe
    known = published.contents if is_comparable else {}
    of_days_over = kinds()[part.schema].of_days_over
    until = datetime.now(UTC).date() if of_days_over else None
    contents = {
        (source, name): _content(lake, name, version, known.get((source, name), {}), until)
        for (of_part, source), versions in inputs.versions.items()
        if of_part == part.name
        for name, version in versions.items()
    }
    if not is_comparable:
        return News(part, recipe, contents, None, is_recorded=False)
    changes: dict[str, set[tuple[str, str]]] = {}
    for source, name in known.keys() | contents.keys():
        days = differing(known.get((source, name), {}), contents.get((source, name), {}))
        changes.setdefault(name.rpartition("/")[2], set()).update((source, day) for day in days)
    held = {_row(hold) for hold in inputs.held if (part.name, hold.source) in inputs.versions}
    return News(part, recipe, contents, changes, is_recorded=published.held == held)


def _content(lake: Lake, name: str, version: int | None, known: Content, until: date | None) -> Content:
    snapshot = lake.table(name).pinned(Pin(version)).snapshot()
    if snapshot.delta is None:
        return {}
    with lake.connect() as connection:
        return content_of(snapshot, connection, known, until)


@dataclass
class _Published:
    """What a file says that a part was built from."""

    recipe: str | None = None
    contents: dict[tuple[str, str], dict[str, Stored]] = field(default_factory=dict)
    held: set[tuple[Any, ...]] = field(default_factory=set)


def _published(start: Path | None, parts: Iterable[Part]) -> dict[str, _Published]:
    """What a file says of the parts, by their names; nothing without a file."""
    found = {part.name: _Published() for part in parts}
    if start is None or not found:
        return found
    of_parts = f"WHERE part IN ({', '.join(map(literal, found))})"
    rows = recorded(
        start,
        {
            "recipes": f"SELECT part, recipe FROM published.publication.recipes {of_parts}",
            "contents": f"""
                SELECT part, source, table_name, storage, any_value(files), list(day), list(rows)
                FROM published.publication.contents {of_parts} GROUP BY ALL
            """,
            "inputs": f"""
                SELECT part, source, epoch_us(since), table_name, check_name, found
                FROM published.marts.held_back {of_parts}
            """,
        },
    )
    for part, recipe in rows["recipes"] or []:
        found[part].recipe = recipe
    for part, source, name, storage, files, days, of_rows in rows["contents"] or []:
        of_days = {day: each for day, each in zip(days, of_rows, strict=True) if day is not None}
        found[part].contents.setdefault((source, name), {})[storage] = Stored(files, of_days)
    for part, *hold in rows["inputs"] or []:
        found[part].held.add(tuple(hold))
    return found


def _row(hold: Hold) -> tuple[Any, ...]:
    since = (hold.since - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
    return (hold.source, since, hold.table, hold.check, hold.found)


def record_contents(connection: duckdb.DuckDBPyConnection, found: Iterable[News]) -> None:
    """Records in the private file what each part was built from."""
    connection.execute(
        """
        CREATE SCHEMA IF NOT EXISTS publication;
        CREATE TABLE IF NOT EXISTS publication.recipes (part VARCHAR, recipe VARCHAR);
        CREATE TABLE IF NOT EXISTS publication.contents (
            part VARCHAR, source VARCHAR, table_name VARCHAR, storage VARCHAR, files VARCHAR, day VARCHAR, rows VARCHAR
        )
        """
    )
    for news in found:
        part = literal(news.part.name)
        connection.execute(f"DELETE FROM publication.recipes WHERE part = {part}")
        connection.execute(f"DELETE FROM publication.contents WHERE part = {part}")
        connection.execute(f"INSERT INTO publication.recipes VALUES ({part}, {literal(news.recipe)})")
        _insert(connection, news.part.name, news.contents)


def _insert(connection: duckdb.DuckDBPyConnection, part: str, contents: Mapping[tuple[str, str], Content]) -> None:
    import pyarrow as pa

    rows: list[Sequence[str | None]] = [
        (part, source, name, storage, stored.files, day, of_rows)
        for (source, name), content in contents.items()
        for storage, stored in content.items()
        for day, of_rows in (stored.rows.items() or [(None, None)])
    ]
    names = ("part", "source", "table_name", "storage", "files", "day", "rows")
    columns = [pa.array([row[place] for row in rows], pa.string()) for place in range(len(names))]
    connection.register("recorded_contents", pa.table(columns, names))
    connection.execute("INSERT INTO publication.contents FROM recorded_contents")
    connection.unregister("recorded_contents")
