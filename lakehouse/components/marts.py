"""The published marts as assets: one per dbt model, with dbt's tests as asset checks. The models of a part are
materialized together, since they are published together.

A new part needs no code here: its models, group, dependencies and automation follow from `warehouse.parts`. `_INPUTS`
lists the extra inputs of a domain's tables over all sources.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject, dbt_assets
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from lakehouse.api import Lake
from lakehouse.catalog import kinds, sources_of
from lakehouse.components.checks import record_results, with_history
from lakehouse.components.lineage import mart_lineage
from lakehouse.components.metadata import in_markdown
from lakehouse.derive.held_back import holds
from lakehouse.domains.market.quotes.feed import WINDOWS
from lakehouse.errors import LakehouseError, SourceError
from lakehouse.governance.publish_roles import publish_roles
from lakehouse.governance.quality import RUNS_SHOWN, checked_runs
from lakehouse.lake.releases import present_marts
from lakehouse.progress import progress
from lakehouse.settings import Settings, settings
from lakehouse.warehouse.dbt import Event, as_dict, manifest_path
from lakehouse.warehouse.parts import MARKET_MARTS, QUOTE_MARTS, Part, parts
from lakehouse.warehouse.publish import build_part, publication
from lakehouse.warehouse.sources import part_tables, tables_of

_SCHEMA = "marts"
_OWNERS = ["team:market-data"]
_CALENDAR = "calendar"
_COMPACTION = "compaction"
_NODE_BEGINS = "LogStartLine"
"""dbt's event when it begins a model or test."""
_RESULTS = ("LogModelResult", "LogTestResult")
"""dbt's events that Dagster is told of."""


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


class MartsTranslator(DagsterDbtTranslator):
    """Maps models to assets `marts/<model>`. dbt's source `market` holds each table over all sources, so its readers
    depend on the assets `<source>/<table>` of every configured source; likewise `feed` for the tables of every feed.
    dbt's other sources are assets of the same name. A translator knows the sources as they were when it was made.
    """

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_asset_checks=True, enable_source_tests_as_checks=False))
        self._in_every_source: dict[dg.AssetKey, list[dg.AssetDep]] = {}

    def _replaced(self, manifest: Mapping[str, Any], deps: Iterable[dg.AssetDep]) -> list[dg.AssetDep]:
        """The dependencies, with one on every source's own table for each on a table over all sources. Some forty
        tables are depended on a thousand times.
        """
        found: dict[dg.AssetKey, dg.AssetDep] = {}
        for dep in deps:
            if (replaced := self._in_every_source.get(dep.asset_key)) is None:
                replaced = self._in_every_source[dep.asset_key] = _in_every_source(manifest, dep)
            found |= {each.asset_key: each for each in replaced}
        return list(found.values())

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey([dbt_resource_props["source_name"], dbt_resource_props["name"]])
        return dg.AssetKey([_SCHEMA, dbt_resource_props["name"]])

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """The spec; a dependency on a table over all sources becomes one on every source's own table."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(deps=self._replaced(manifest, spec.deps))

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """The check's spec, with the dependencies that `get_asset_spec` describes."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None:
            return None
        return spec._replace(additional_deps=self._replaced(manifest, spec.additional_deps))

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        part = _part_of(dbt_resource_props)
        return part.group if part else None

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str] | None:
        return _OWNERS

    def get_partition_mapping(
        self, dbt_resource_props: Mapping[str, Any], dbt_parent_resource_props: Mapping[str, Any]
    ) -> dg.PartitionMapping | None:
        """A mart is one unpartitioned table; the fact model itself finds the sessions whose content changed, whatever
        partitions a run had.
        """
        if dbt_parent_resource_props["resource_type"] == "source":
            return dg.AllPartitionMapping()
        return None

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition | None:
        """Manually materialized sessions reach the marts too, once their blocking checks have run. A source whose
        checks failed doesn't trigger a publication and keeps its published rows, while those of other sources are
        published. Sessions and sources that were never loaded don't delay it.
        """
        part = _part_of(dbt_resource_props)
        if part is None:
            return None
        inputs = _inputs_of(part.schema)
        live = inputs.live() if inputs else []
        if live:
            ignored = dg.AssetSelection.assets(*live)
            return (
                dg.AutomationCondition.any_deps_updated().ignore(ignored).since_last_handled()
                & ~dg.AutomationCondition.any_deps_in_progress().ignore(ignored)
                & ~dg.AutomationCondition.in_progress()
            ).with_label("news of days that are over")
        passed = dg.AutomationCondition.all_checks_match(
            dg.AutomationCondition.check_passed() | dg.AutomationCondition.will_be_requested(), blocking_only=True
        )
        failed = dg.AutomationCondition.any_checks_match(dg.AutomationCondition.check_failed(), blocking_only=True)
        loaded = ~dg.AutomationCondition.missing()
        own_run = dg.AutomationCondition.executed_with_root_target()
        updated = (dg.AutomationCondition.newly_updated() & ~own_run) | dg.AutomationCondition.will_be_requested()
        # The marts' own tests run inside the run that builds them: only the lake's checks can hold it back.
        marts = dg.AssetSelection.groups(part.group)
        sound_news = dg.AutomationCondition.any_deps_match(loaded & passed & (updated | passed.newly_true()))
        news = sound_news.ignore(marts) | dg.AutomationCondition.any_deps_updated().allow(marts)
        unchecked = dg.AutomationCondition.any_deps_match(loaded & ~passed & ~failed).ignore(marts)
        return (
            news.since_last_handled()
            & ~unchecked
            & ~dg.AutomationCondition.any_deps_in_progress()
            & ~dg.AutomationCondition.in_progress()
        ).with_label("news of the lake")


def _part_of(dbt_resource_props: Mapping[str, Any]) -> Part | None:
    """The part of a model; None for a dbt source."""
    return next((part for part in parts() if part.has(dbt_resource_props["fqn"])), None)


def _in_every_source(manifest: Mapping[str, Any], dep: dg.AssetDep) -> list[dg.AssetDep]:
    """Expands a dependency on a table over all sources into ones on the sources' own tables; keeps any other."""
    schema = dep.asset_key.path[0]
    inputs = _inputs_of(schema)
    if inputs is None:
        return [dep]
    (table,) = (
        source
        for source in manifest["sources"].values()
        if source["source_name"] == schema and source["name"] == dep.asset_key.path[1]
    )
    tables = table["config"]["meta"].get("made_from", [table["name"]])
    keys = inputs.assets(tables)
    return [dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping()) for key in keys]


def mart_assets(part: Part, manifest: Path, translator: MartsTranslator | None = None) -> dg.AssetsDefinition:
    """The models of a part, and their tests as checks. Parts that are made together share a translator."""
    translator = translator or MartsTranslator()

    @dbt_assets(manifest=manifest, dagster_dbt_translator=translator, name=f"{part.name}_marts", select=part.selector)
    def marts(context: dg.AssetExecutionContext) -> Iterator[Any]:
        """Builds and tests the models of the part that changes of the lake reach in a copy of the published file, which
        replaces that file once all have passed. They are built whichever ones a run selects, since they are published
        together.
        """
        yield from _published(context, part, manifest, translator)

    return marts


def _published(
    context: dg.AssetExecutionContext, part: Part, manifest: Path, translator: MartsTranslator
) -> Iterator[Any]:
    config = settings()
    results: list[dict[str, Any]] = []
    show = progress(context.log.debug)

    def take(event: Event) -> None:
        if event.info.name == _NODE_BEGINS:
            show("models and tests", event.data.index - 1, event.data.total)
        elif event.info.name in _RESULTS:
            results.append(as_dict(event))

    try:
        with publication(config):
            failures = build_part(config, part, take)
            if failures:
                raise dg.Failure(
                    description="Not published: a model or test failed, and the published marts stay as they were.",
                    metadata={
                        "failed": dg.MetadataValue.md(
                            "\n".join(f"- {in_markdown(str(failure))}" for failure in failures)
                        )
                    },
                    allow_retries=False,
                )
    except SourceError as error:
        raise dg.Failure(description=f"Not published: {error}.", allow_retries=False) from error
    finally:
        checks, outputs = _sorted(context, results, manifest, translator)
        lake = Lake.present(config)
        record_results(lake, checks, context.run_id, "all")
        yield from with_history(checks, checked_runs(lake, "marts", newest=RUNS_SHOWN) if checks else [])
    sources = part_tables(part)
    for hold in holds(lake):
        if hold.source in sources:
            context.log.warning(f"The marts show the rows of {hold.source} as they were published before: {hold}")
    _publish_to_roles(context, config)
    published = present_marts(config)
    context.log.info(f"published {published} ({os.path.getsize(published):,} bytes)")
    built = {output.output_name: output for output in outputs}
    names = [key.path[-1] for key in _in_order(context) if key.to_python_identifier() in built]
    told = mart_lineage(lake, names, context.run_id)
    for key in _in_order(context):
        # A model that no change reached stands as it was published, with the results of its tests.
        unchanged: dg.MaterializeResult[Any] = dg.MaterializeResult(key, metadata={"unchanged": True})
        if (output := built.get(key.to_python_identifier())) is None:
            yield unchanged
        else:
            yield output.with_metadata({**output.metadata, **told.get(key.path[-1], {})})


def _publish_to_roles(context: dg.AssetExecutionContext, config: Settings) -> None:
    """Brings the files of roles, if there are any, in line with what was published. Their faults are people's to
    correct, and don't take back the marts.
    """
    if not config.roles_file.exists():
        return
    try:
        for done in publish_roles(Lake.open(config), config):
            context.log.info(f"role {done.role}: {len(done.made)} of {len(done.tables)} tables new in {done.path}")
    except LakehouseError as error:
        context.log.warning(f"The files of roles stay as they were published before: {error}")


def _in_order(context: dg.AssetExecutionContext) -> list[dg.AssetKey]:
    """The selected models, each after those that it reads, as Dagster asks for."""
    order = TopologicalSorter(context.assets_def.asset_deps).static_order()
    return [key for key in order if key in context.selected_asset_keys]


def _sorted(
    context: dg.AssetExecutionContext, results: Iterable[dict[str, Any]], manifest: Path, translator: MartsTranslator
) -> tuple[list[dg.AssetCheckResult], list[Any]]:
    """Translates dbt's results to Dagster's events: those of the selected checks, and the materializations of the
    selected models once they are published.
    """
    selected = {key.to_python_identifier() for key in context.selected_asset_keys}
    checks: list[dg.AssetCheckResult] = []
    outputs: list[Any] = []
    for raw in results:
        message = DbtCoreCliEventMessage(raw_event=raw, event_history_metadata={})
        for event in message.to_default_asset_events(manifest, translator, context, manifest.parent):
            if isinstance(event, dg.AssetCheckResult):
                if (
                    event.asset_key
                    and event.check_name
                    and dg.AssetCheckKey(event.asset_key, event.check_name) in context.selected_asset_check_keys
                ):
                    checks.append(event)
            # Drop the observations for checks outside the selection.
            elif isinstance(event, dg.Output) and event.output_name in selected:
                outputs.append(event)
    return checks, outputs


def _calendar_specs(manifest: Path, translator: MartsTranslator) -> list[dg.AssetSpec]:
    """The specs of dbt's inputs other than the lake's tables. Each build recreates them from the sources' YAML and
    exchange_calendars.
    """
    sources = json.loads(manifest.read_bytes())["sources"].values()
    return [
        dg.AssetSpec(
            translator.get_asset_key(source),
            description=source["description"],
            group_name=MARKET_MARTS.group,
            kinds={"duckdb"},
            owners=_OWNERS,
        )
        for source in sources
        if source["source_name"] == _CALENDAR
    ]


def mart_definitions() -> dg.Definitions:
    """The marts of every part, their inputs other than the lake, and the sensor that evaluates their automation
    condition, on by default.
    """
    manifest = manifest_path(settings())
    translator = MartsTranslator()
    marts = [mart_assets(part, manifest, translator) for part in parts()]
    automation = dg.AutomationConditionSensorDefinition(
        "marts_automation",
        target=dg.AssetSelection.assets(*marts),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
    )
    return dg.Definitions(assets=[*marts, *_calendar_specs(manifest, translator)], sensors=[automation])
