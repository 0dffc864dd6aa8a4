"""Notes in the private file what changed, and selects the models that the changes reach."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse.catalog import kinds
from lakehouse.lake.published import NOTES
from lakehouse.lake.sql import literal
from lakehouse.settings import Settings
from lakehouse.warehouse.dbt import manifest_path
from lakehouse.warehouse.news import Changes, News
from lakehouse.warehouse.parts import Part
from lakehouse.warehouse.sources import CATALOG, attach_lake

if TYPE_CHECKING:
    import duckdb


def selected(config: Settings, connection: duckdb.DuckDBPyConnection, found: Sequence[News]) -> list[str]:
    """What dbt must build in the private file, as its selectors: of parts with changes the models that these reach,
    and parts that must be built in full by one selector each.

    Args:
        connection: to the private file.
    """
    whole = [news.part.selector for news in found if news.is_whole]
    changed = [news for news in found if news.changes and any(news.changes.values())]
    models: list[str] = []
    manifest = json.loads(manifest_path(config).read_bytes()) if changed else {}
    for news in changed:
        assert news.changes is not None
        names = [name for name, partitions in news.changes.items() if partitions]
        joining = models_joining(news.part, names)
        unreached = _noted(config, connection, news.part, news.changes, is_joined_news=bool(joining))
        if unreached is None:
            whole.append(news.part.selector)
        else:
            models += sorted(joining.union(models_reached(manifest, news.part, names, unreached)))
    return [*whole, *models]


def _noted(
    config: Settings, connection: duckdb.DuckDBPyConnection, part: Part, changes: Changes, is_joined_news: bool
) -> Collection[str] | None:
    """Notes the changes of a part in the private file; returns what `derive.domain.Reach` does, and None if every model
    must be built in full.
    """
    kind = kinds()[part.schema]
    own = kind.tables_read
    joined = [name for join in kind.joins for name in kinds()[join.kind].tables_read]
    if kind.reach is None or any(changes[name] for name in changes.keys() - {*own, *joined}):
        # How far news of any other table reaches, the kind doesn't know.
        return None
    # Temporary tables go with the cursor.
    with connection.cursor() as cursor:
        attach_lake(cursor, config, CATALOG)
        for name in own:
            cursor.execute(f"CREATE TABLE {NOTES}.{name} (source VARCHAR, day DATE)")
            if partitions := changes.get(name):
                values = ", ".join(f"({literal(source)}, {literal(day)})" for source, day in partitions)
                cursor.execute(f"INSERT INTO {NOTES}.{name} VALUES {values}")
        return kind.reach(cursor, CATALOG, NOTES, is_joined_news)


def models_joining(part: Part, tables: Collection[str]) -> set[str]:
    """The models of a part that show what changed of the kinds that it joins.

    Args:
        tables: names of tables that changed, of all kinds.
    """
    return {
        model
        for join in kinds()[part.schema].joins
        if not set(kinds()[join.kind].tables_read).isdisjoint(tables)
        for model in join.models
    }


def models_reached(
    manifest: Mapping[str, Any], part: Part, tables: Collection[str], unreached: Collection[str] = ()
) -> list[str]:
    """The models of a part that are built from some tables over all sources, by dbt's graph.

    Args:
        tables: names of tables, also of those from which the lake's other tables for models are made (`made_from`).
        unreached: models that stay as they are, though they are built from them.
    """
    reached = [
        name
        for name, source in manifest["sources"].items()
        if source["source_name"] == part.schema and {source["name"], *_made_from(source)} & set(tables)
    ]
    models: dict[str, str] = {}
    while reached:
        for child in manifest["child_map"].get(reached.pop(), []):
            node = manifest["nodes"].get(child, {})
            if node.get("resource_type") == "model" and child not in models and node["name"] not in unreached:
                models[child] = node["name"] if part.has(node["fqn"]) else ""
                reached.append(child)
    return sorted(name for name in models.values() if name)


def _made_from(source: Mapping[str, Any]) -> Iterable[str]:
    found: Iterable[str] = source["config"]["meta"].get("made_from", [])
    return found
