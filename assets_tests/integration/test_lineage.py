"""What Dagster shows the marts to be made from: the tables of every configured source, and nothing that isn't there."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from assets_tests.support.exchange_lake import code_location
from lakehouse.catalog import sources_of
from lakehouse.domains.market.bars.source import BarSource


@pytest.fixture
def graph(own_environment: None) -> BaseAssetGraph:
    return code_location().resolve_asset_graph()


def upstream(graph: BaseAssetGraph, model: str) -> set[str]:
    node = graph.get(dg.AssetKey(["marts", model]))
    elsewhere = {"marts", "calendar", *(source.name for source in sources_of("reference"))}
    return {key.to_user_string() for key in node.parent_keys if key.path[0] not in elsewhere}


def tables(*names: str) -> set[str]:
    """The assets of these names of every source that delivers them."""
    return {source.table(name) for source in sources_of("market") for name in names if has(source, name)}


def has(source: BarSource, table: str) -> bool:
    if table == "daily_bars":
        return source.has_bars
    return (source.config.reconciliation if table == "reconciliation" else source.official_daily) is not None


def test_marts_depend_on_the_tables_of_every_source(graph: BaseAssetGraph) -> None:
    assert upstream(graph, "dim_instrument") == tables("daily_bars", "corporate_actions", "reconciliation")
    assert upstream(graph, "fct_daily_bar") == tables(
        "daily_bars", "official_daily", "corporate_actions", "reconciliation"
    )
    assert upstream(graph, "fct_corporate_action") == tables("corporate_actions", "official_daily")
    assert upstream(graph, "returns") == set()
    joined = {key.to_user_string() for key in graph.get(dg.AssetKey(["marts", "dim_instrument"])).parent_keys}
    assert {"openfigi/mapped_listings", "gleif/published_isins"} <= joined
    assert upstream(graph, "fct_quote_window") == {
        feed.table(name) for feed in sources_of("feed") for name in ("quote_windows", "compaction")
    }
    assert {"xetra/daily_bars", "alpha_vantage/corporate_actions"} <= tables("daily_bars", "corporate_actions")


def test_whatever_the_marts_and_their_checks_read_is_an_asset(graph: BaseAssetGraph) -> None:
    nodes = [node for node in graph.nodes if isinstance(node.key, dg.AssetKey | dg.AssetCheckKey)]
    reading = [node for node in nodes if asset_of(node.key).path[0] == "marts"]
    read = {asset_of(key) for node in reading for key in node.parent_entity_keys}
    assert dg.AssetCheckKey(dg.AssetKey(["marts", "fct_daily_bar"]), "fct_daily_bar_reconciles") in {
        node.key for node in reading
    }
    # Dagster makes an asset without a description of a key that is only depended on.
    assert sorted(key.to_user_string() for key in read if not graph.get(key).description) == []


def asset_of(key: dg.AssetKey | dg.AssetCheckKey) -> dg.AssetKey:
    return key if isinstance(key, dg.AssetKey) else key.asset_key
