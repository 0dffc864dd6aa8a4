"""The marts as Dagster shows them: an asset per dbt model and a check per dbt test, from dbt's manifest.

We read the manifest ourselves: dagster-dbt imports dbt, sqlglot and networkx, which takes more time than all other
definitions, in every process that loads them. `marts` runs dbt, `mart_automation` says when.
"""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dagster as dg

from lakehouse.catalog import kinds, sources_of
from lakehouse.domains.market.quotes.feed import WINDOWS
from lakehouse.warehouse.parts import MARKET_MARTS, QUOTE_MARTS, Part
from lakehouse.warehouse.sources import tables_of

SCHEMA = "marts"
OWNERS = ["team:market-data"]
_COMPACTION = "compaction"
Node = Mapping[str, Any]
"""A model, test or source in dbt's manifest."""


@dataclass(frozen=True)
class _Inputs:
    """The inputs of a domain's tables over all sources.

    Attributes:
        assets: the assets of the sources' own tables, by table name.
        live: the assets whose updates are not published at once.
    """

    assets: Callable[[Sequence[str]], list[list[str]]]
    live: Callable[[], list[list[str]]] = list


def _market_assets(tables: Sequence[str]) -> list[list[str]]:
    keys = _own_assets(MARKET_MARTS.schema, tables)
    if "daily_bars" in tables:
        # A reconciliation with blocking breaks holds back the publication.
        sources = sources_of(MARKET_MARTS.schema)
        keys += [[source.name, "reconciliation"] for source in sources if source.config.reconciliation]
    return keys


def _feed_assets(tables: Sequence[str]) -> list[list[str]]:
    """Windows change all day, but only past days are published. So the marts follow the compaction of a day, the last
    step of the run that closes it: it runs only after the windows have passed their blocking checks.
    """
    names = [*tables, _COMPACTION] if tables else []
    return [[feed.name, name] for feed in sources_of(QUOTE_MARTS.schema) for name in names]


def _live_windows() -> list[list[str]]:
    return [[feed.name, WINDOWS] for feed in sources_of(QUOTE_MARTS.schema)]


_INPUTS = {
    MARKET_MARTS.schema: _Inputs(_market_assets),
    QUOTE_MARTS.schema: _Inputs(_feed_assets, _live_windows),
}
"""By kind of source, for the kinds with inputs other than their tables."""


def _own_assets(kind: str, tables: Sequence[str]) -> list[list[str]]:
    return [[source.name, name] for source in sources_of(kind) for name in tables_of(source, tables)]


def _inputs_of(schema: str) -> _Inputs | None:
    """Returns the inputs of a dbt source; None if it belongs to no kind of source: then its tables are assets of the
    same names.
    """
    if schema in kinds():
        return _INPUTS.get(schema) or _Inputs(partial(_own_assets, schema))
    return None


def live_inputs(part: Part) -> list[list[str]]:
    """The assets whose updates are not published at once."""
    inputs = _inputs_of(part.schema)
    return inputs.live() if inputs else []


def key_of(model: str) -> dg.AssetKey:
    """The asset of a model."""
    return dg.AssetKey([SCHEMA, model])


def models(manifest: Mapping[str, Any], part: Part) -> list[Node]:
    """The models of a part, by name."""
    nodes = [node for node in manifest["nodes"].values() if node["resource_type"] == "model" and part.has(node["fqn"])]
    return sorted(nodes, key=lambda node: str(node["name"]))


def mart_spec(manifest: Mapping[str, Any], node: Node, part: Part, automation: dg.AutomationCondition) -> dg.AssetSpec:
    """The asset of a model. It depends on the assets `<source>/<table>` of every configured source where dbt's source
    holds a table over all sources.
    """
    columns = [
        dg.TableColumn(name, column.get("data_type") or "?", column.get("description"))
        for name, column in node["columns"].items()
    ]
    code = textwrap.indent(node["raw_code"], "    ")
    return dg.AssetSpec(
        key_of(node["name"]),
        deps=_deps(manifest, node),
        description=f"{node['description']}\n\n#### Raw SQL:\n```sql\n{code}\n```",
        group_name=part.group,
        kinds={"dbt", "duckdb"},
        owners=OWNERS,
        code_version=hashlib.sha1(node["raw_code"].encode(), usedforsecurity=False).hexdigest(),
        automation_condition=automation,
        metadata={
            "dagster/column_schema": dg.TableSchema(columns),
            "dagster/table_name": ".".join((node["database"], node["schema"], node["alias"])),
        },
    )


def mart_checks(manifest: Mapping[str, Any], node: Node) -> list[dg.AssetCheckSpec]:
    """The checks of a model: its dbt tests."""
    tests = [
        test
        for test in manifest["nodes"].values()
        if test["resource_type"] == "test" and test.get("attached_node") == node["unique_id"]
    ]
    own = key_of(node["name"])
    return [
        dg.AssetCheckSpec(
            test["name"],
            asset=own,
            description=test["meta"].get("description") or test["config"]["meta"].get("description"),
            additional_deps=[dep for dep in _deps(manifest, test) if dep.asset_key != own],
            blocking=test["config"]["severity"].lower() == "error",
        )
        for test in sorted(tests, key=lambda test: str(test["name"]))
    ]


def _deps(manifest: Mapping[str, Any], node: Node) -> list[dg.AssetDep]:
    """The assets that a model or test reads, through ephemeral models."""
    found: dict[dg.AssetKey, dg.AssetDep] = {}
    for parent in manifest["parent_map"][node["unique_id"]]:
        for dep in _assets_of(manifest, parent):
            found[dep.asset_key] = dep
    return list(found.values())


def _assets_of(manifest: Mapping[str, Any], name: str) -> list[dg.AssetDep]:
    if source := manifest["sources"].get(name):
        keys = source_assets(source)
        # A mart is one unpartitioned table; the models themselves find the sessions whose content changed, whatever
        # partitions a run had.
        return [dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping()) for key in keys]
    node = manifest["nodes"][name]
    if node["config"]["materialized"] == "ephemeral":
        return _deps(manifest, node)
    return [dg.AssetDep(key_of(node["name"]))]


def source_assets(source: Node) -> list[dg.AssetKey]:
    """The assets of a dbt source: of a table over all sources, the sources' own tables."""
    inputs = _inputs_of(source["source_name"])
    if inputs is None:
        return [dg.AssetKey([source["source_name"], source["name"]])]
    tables = source["config"]["meta"].get("made_from", [source["name"]])
    return [dg.AssetKey(key) for key in inputs.assets(tables)]
