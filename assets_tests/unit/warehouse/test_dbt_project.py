"""The dbt project as dbt parses it: everything is described, contracted and checked. No warehouse is built."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from lakehouse.catalog import kinds, sources
from lakehouse.domains.market.contracts import contracts
from lakehouse.domains.market.model_reach import REFERENCE_DATA
from lakehouse.domains.market.quotes.feed import WINDOWS
from lakehouse.settings import PROJECT_ROOT, settings
from lakehouse.warehouse import dbt
from lakehouse.warehouse.parts import MARKET_MARTS, QUOTE_MARTS, parts
from lakehouse.warehouse.sources import attach_lake

MARKET, FEED = MARKET_MARTS.schema, QUOTE_MARTS.schema
TABLES = kinds()[MARKET].over_all

if TYPE_CHECKING:
    # Its import takes two seconds: of the workers only the one that runs these tests needs it.
    from dbt.contracts.graph.manifest import Manifest
    from dbt.contracts.graph.nodes import ModelNode

pytestmark = pytest.mark.slow

PROJECT = PROJECT_ROOT / "dbt_project"
VIEWS = {"top_stocks", "percentage_gains"}


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return dbt.manifest(settings())


def models(manifest: Manifest) -> list[ModelNode]:
    return [node for node in manifest.nodes.values() if node.resource_type == "model"]


def published(manifest: Manifest) -> list[ModelNode]:
    return [model for model in models(manifest) if model.fqn[1] == "marts"]


def test_models_are_the_ones_promised(manifest: Manifest) -> None:
    assert {model.name for model in published(manifest)} == {
        "dim_venue",
        "dim_session",
        "dim_instrument",
        "bridge_instrument_identifier",
        "dim_issuer",
        "fct_daily_bar",
        "fct_corporate_action",
        "daily_movers",
        "average_range",
        "most_traded_by_value",
        "daily_summary",
        "returns",
        *("dim_item", "dim_customer", "dim_country", "fct_sale_line", "fct_invoice"),
        *("revenue", "customer_value", "customer_cohort", "item_price_response"),
        *("dim_customers", "dim_items", "fact_transactions"),
        *("dim_document", "document_chunk", "document_posting"),
        *("dim_bank_customer", "dim_branch", "dim_account", "fct_entry", "fct_balance_daily", "fct_loan_payment"),
        *("fct_order", "fct_stock_movement", "order_funnel", "time_in_stage", "refunds_by_reason"),
        "dim_resolution",
        "fct_quote_window",
        "top_stocks",
        "percentage_gains",
    }


def test_every_model_and_column_is_described(manifest: Manifest) -> None:
    undescribed = [model.name for model in models(manifest) if not model.description.strip()]
    undescribed += [
        f"{model.name}.{column.name}"
        for model in models(manifest)
        for column in model.columns.values()
        if not column.description.strip()
    ]
    assert undescribed == []
    assert all(model.columns for model in models(manifest))


def test_every_source_table_is_described(manifest: Manifest) -> None:
    assert [source.unique_id for source in manifest.sources.values() if not source.description.strip()] == []


def test_published_models_are_contracted_tables_in_marts(manifest: Manifest) -> None:
    for model in published(manifest):
        assert model.schema == "marts", model.name
        assert model.config.materialized in {"table", "incremental"} or model.name in VIEWS, model.name
        assert model.config.contract.enforced, model.name


def test_a_part_is_a_folder_with_its_tag(manifest: Manifest) -> None:
    """Each domain's models are built, tested and published apart: they read other domains' tables only where they say
    so.
    """
    assert {part.name for part in parts() for model in published(manifest) if part.has(model.fqn)} == {
        model.fqn[2] for model in published(manifest)
    }
    joined = {kind for part in parts() for kind in part.joins}
    assert {model.fqn[2] for model in models(manifest)} == {*(part.name for part in parts()), *joined}
    made_from: dict[str, set[str]] = {key: {key.split(".")[2]} for key in manifest.sources}
    for key in TopologicalSorter(
        {model.unique_id: model.depends_on.nodes for model in models(manifest)}
    ).static_order():
        if key in manifest.nodes:
            made_from[key] = set().union(*(made_from[parent] for parent in manifest.nodes[key].depends_on.nodes))
    domains = {kind for part in parts() for kind in part.kinds}
    readable = {kind: {kind} for kind in joined} | {part.name: {*part.kinds} for part in parts()}
    for model in models(manifest):
        assert made_from[model.unique_id] & domains <= readable[model.fqn[2]], model.name


def test_joined_tables_are_made_of_what_their_kind_reads(manifest: Manifest) -> None:
    """What a table is made from is what its assets follow, and what tells that the marts are out of date."""
    for joined in {join.kind for kind in kinds().values() for join in kind.joins}:
        tables = [source for source in manifest.sources.values() if source.source_name == joined]
        made_from = {name for table in tables for name in table.config.meta["made_from"]}
        assert made_from == set(kinds()[joined].tables_read)


def test_reference_data_is_shown_by_the_models_that_say_so(manifest: Manifest) -> None:
    """News of it builds no others: these read neither its tables nor the columns that the dimensions have from it."""
    by_name = {model.name: model for model in models(manifest)}
    shows = set(REFERENCE_DATA.models)
    joined = by_name["dim_instrument"].columns.keys() - by_name["stg_instrument_versions"].columns.keys()
    assert {"isin", "figi", "issuer_lei", "issuer_name"} <= joined
    others = {model.name for model in published(manifest) if MARKET_MARTS.has(model.fqn)} - shows
    assert {"fct_daily_bar", "daily_summary"} <= others
    for name in others:
        parents = [manifest.nodes[key] for key in by_name[name].depends_on.nodes if key in manifest.nodes]
        assert REFERENCE_DATA.kind not in {parent.fqn[2] for parent in parents}, name
        assert shows & {parent.name for parent in parents} <= {"dim_instrument"}, name
        assert not re.search(rf"\b({'|'.join(joined)})\b", by_name[name].raw_code), name


def test_staging_leaves_no_relation_in_the_published_file(manifest: Manifest) -> None:
    staging = [model for model in models(manifest) if model not in published(manifest)]
    assert {model.config.materialized for model in staging} == {"ephemeral"}


@pytest.mark.parametrize("table", ["daily_bars", "official_daily", "corporate_actions", "quote_windows"])
def test_staging_carries_every_column_of_the_lakes_table(manifest: Manifest, table: str) -> None:
    (staging,) = (model for model in models(manifest) if model.name == f"stg_{table}")
    contract = contracts()[table]
    # The storage partition is nothing about the row, unless it is the day.
    assert set(staging.columns) == {"source", *contract.column_names} - ({*contract.partition_by} - {"day"})


def test_nothing_in_the_project_names_a_source() -> None:
    """A new vendor is a defs.yaml alone."""
    # The names of the reference domain's sources are words of the field, such as mic.
    known = [name for name, source in sources().items() if source.kind in (MARKET, FEED, "shop")]
    names = re.compile("|".join(known), re.IGNORECASE)
    texts = [
        path for path in PROJECT.rglob("*") if path.suffix in {".sql", ".yml", ".md"} and "target" not in path.parts
    ]
    assert texts
    assert [path.name for path in texts if names.search(path.read_text())] == []


def test_market_tables_are_those_that_models_can_read(manifest: Manifest) -> None:
    """Each is attached, and what is made from others names tables of the sources: the lineage follows from it."""
    market = {source.name: source for source in manifest.sources.values() if source.source_name == MARKET}
    with duckdb.connect() as connection:
        attach_lake(connection, settings())
        attached = connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE database_name = 'lakehouse' AND schema_name = 'market'"
        ).fetchall()
    assert sorted(market) == sorted(name for (name,) in attached)
    made_from = {name: table.config.meta.get("made_from", [name]) for name, table in market.items()}
    assert {table for tables in made_from.values() for table in tables} == set(TABLES)
    assert {name for name, tables in made_from.items() if tables == [name]} == set(TABLES)


def test_feed_tables_are_those_that_models_can_read(manifest: Manifest) -> None:
    """Of each feed only its windows are read; what else there is, its YAML says."""
    feed = {source.name: source for source in manifest.sources.values() if source.source_name == FEED}
    with duckdb.connect() as connection:
        attach_lake(connection, settings())
        attached = connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE database_name = 'lakehouse' AND schema_name = 'feed'"
        ).fetchall()
    assert sorted(feed) == sorted(name for (name,) in attached)
    assert {name for name, table in feed.items() if table.config.meta.get("made_from", [name])} == {WINDOWS}


def test_a_column_has_one_type_in_all_marts(manifest: Manifest) -> None:
    types = defaultdict(set)
    for model in published(manifest):
        for column in model.columns.values():
            types[column.name].add(column.data_type)
    assert {name: found for name, found in types.items() if len(found) > 1} == {}


def test_every_published_model_has_its_key_checked(manifest: Manifest) -> None:
    checked = {
        node.attached_node
        for node in manifest.nodes.values()
        if node.resource_type == "test" and node.test_metadata.name == "primary_key"
    }
    # Equal lines of an invoice are equal rows there: its columns are those of the warehouse that it replaces.
    assert checked == {model.unique_id for model in published(manifest) if model.name != "fact_transactions"}


def test_every_check_says_what_it_asserts(manifest: Manifest) -> None:
    checks = [node for node in manifest.nodes.values() if node.resource_type == "test"]
    assert checks
    # Dagster shows meta.description as the asset check's description.
    assert [check.name for check in checks if not check.meta.get("description")] == []
    assert [check.name for check in checks if check.attached_node is None] == []
    # dbt leaves out what reads a source that isn't there, and says nothing.
    assert manifest.disabled == {}


def test_only_the_marts_read_models_and_only_core_reads_staging(manifest: Manifest) -> None:
    staging = {model.unique_id for model in models(manifest) if model.fqn[1] == "staging"}
    for model in published(manifest):
        if model.fqn[3] == "analytics":
            reads = set(model.depends_on.nodes)
            assert not reads & staging, model.name
            assert not {node for node in reads if node.startswith("source.")}, model.name


def test_dbt__builds_from_the_lake_of_the_settings_without_variables(tmp_path: Path) -> None:
    made = shutil.ignore_patterns("target", "logs", ".user.yml")
    project = Path(shutil.copytree(PROJECT, tmp_path / "dbt_project", ignore=made))
    dbt_program = Path(sys.executable).with_name("dbt")
    subprocess.run([dbt_program, "run", "--quiet", "--select", "dim_session"], cwd=project, check=True)
    with duckdb.connect(str(project / "target" / "warehouse.duckdb"), read_only=True) as built:
        assert built.execute("SELECT count(*) > 1000 FROM marts.dim_session").fetchone() == (True,)
