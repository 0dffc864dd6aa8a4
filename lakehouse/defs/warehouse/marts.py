"""The published marts as assets: dbt's models, their tests as asset checks, materialized together since they
are published together.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject, dbt_assets
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from lakehouse.components.metadata import in_markdown
from lakehouse.domains.market.bars.config import SourceError, configured_sources
from lakehouse.domains.market.quotes.config import WINDOWS, configured_feeds
from lakehouse.settings import settings
from lakehouse.warehouse.dbt import Event, manifest_path
from lakehouse.warehouse.publish import FEED_TAG, OF_BARS, OF_FEEDS, build_part, publication
from lakehouse.warehouse.sources import FEED, MARKET, tables_of

_SCHEMA = "marts"
GROUP = "warehouse"
FEED_GROUP = "feed_warehouse"
_OWNERS = ["team:market-data"]
_CALENDAR = "calendar"
_COMPACTION = "compaction"


class MartsTranslator(DagsterDbtTranslator):
    """Models are `marts/<model>`. dbt's source `market` has each table over all sources: what reads it depends on the
    assets `<source>/<table>` of every configured source, and likewise those of `feed` on the tables of every feed. Its
    other sources are assets of the same name.
    """

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_asset_checks=True, enable_source_tests_as_checks=False))

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey([dbt_resource_props["source_name"], dbt_resource_props["name"]])
        return dg.AssetKey([_SCHEMA, dbt_resource_props["name"]])

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """The spec, depending on the assets of every source where dbt knows only the table over all of them."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        deps = [replaced for dep in spec.deps for replaced in _in_every_source(manifest, dep)]
        return spec.replace_attributes(deps=list({dep.asset_key: dep for dep in deps}.values()))

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """The check's spec, with the dependencies that `get_asset_spec` describes."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None:
            return None
        deps = [replaced for dep in spec.additional_deps for replaced in _in_every_source(manifest, dep)]
        return spec._replace(additional_deps=list({dep.asset_key: dep for dep in deps}.values()))

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return FEED_GROUP if _is_of_feeds(dbt_resource_props) else GROUP

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str] | None:
        return _OWNERS

    def get_partition_mapping(
        self, dbt_resource_props: Mapping[str, Any], dbt_parent_resource_props: Mapping[str, Any]
    ) -> dg.PartitionMapping | None:
        """A mart is one table over every session; the fact finds the sessions whose content changed by itself,
        whatever partitions a run had.
        """
        if dbt_parent_resource_props["resource_type"] == "source":
            return dg.AllPartitionMapping()
        return None

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition:
        """Sessions that people materialize by hand reach the marts too, once their blocking checks have passed.
        Sessions and sources never loaded are no reason to wait.

        Windows have news all day long, but only days that are over are published. Their news is the compaction of a
        day, the last step of the run that closes it: it comes only after windows that passed their blocking checks.
        """
        if _is_of_feeds(dbt_resource_props):
            live = dg.AssetSelection.assets(*([feed, WINDOWS] for feed in configured_feeds()))
            return (
                dg.AutomationCondition.any_deps_updated().ignore(live).since_last_handled()
                & ~dg.AutomationCondition.any_deps_in_progress().ignore(live)
                & ~dg.AutomationCondition.in_progress()
            ).with_label("news of days that are over")
        news = dg.AutomationCondition.any_deps_updated().since_last_handled()
        passed = dg.AutomationCondition.all_checks_match(
            dg.AutomationCondition.check_passed() | dg.AutomationCondition.will_be_requested(), blocking_only=True
        )
        # The marts' own tests run inside the run that makes them: only the lake's checks can hold it back.
        unsound = dg.AutomationCondition.any_deps_match(~dg.AutomationCondition.missing() & ~passed).ignore(
            dg.AssetSelection.groups(GROUP)
        )
        return (
            news & ~unsound & ~dg.AutomationCondition.any_deps_in_progress() & ~dg.AutomationCondition.in_progress()
        ).with_label("news of the lake")


def _is_of_feeds(dbt_resource_props: Mapping[str, Any]) -> bool:
    return FEED_TAG in dbt_resource_props.get("tags", [])


def _in_every_source(manifest: Mapping[str, Any], dep: dg.AssetDep) -> list[dg.AssetDep]:
    """A dependency on a table over all sources as those on the sources' own tables; any other as it is."""
    schema = dep.asset_key.path[0]
    if schema not in (MARKET, FEED):
        return [dep]
    (table,) = (
        source
        for source in manifest["sources"].values()
        if source["source_name"] == schema and source["name"] == dep.asset_key.path[1]
    )
    tables = table["config"]["meta"].get("made_from", [table["name"]])
    if schema == FEED:
        # The compaction of a day says that its windows are done (see the automation condition).
        names = [*tables, _COMPACTION] if tables else []
        keys = [[feed, name] for feed in configured_feeds() for name in names]
        return [dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping()) for key in keys]
    keys = [
        [source.source, name]
        for source in configured_sources().values()
        for name in tables
        if name in tables_of(source)
    ]
    if "daily_bars" in tables:
        # A reconciliation whose breaks block holds back what would be published.
        keys += [[source.source, "reconciliation"] for source in configured_sources().values() if source.reconciliation]
    return [dg.AssetDep(key, partition_mapping=dg.AllPartitionMapping()) for key in keys]


_TRANSLATOR = MartsTranslator()
_MANIFEST = manifest_path(settings())


@dbt_assets(manifest=_MANIFEST, dagster_dbt_translator=_TRANSLATOR, name="marts", exclude=OF_BARS[1])
def marts(context: dg.AssetExecutionContext) -> Iterator[Any]:
    """Builds and tests all models but those of feeds in a private file and publishes it when all passed. Whatever part
    of them a run selects, all are built, since they are published as one file.
    """
    yield from _published(context, OF_BARS)


@dbt_assets(manifest=_MANIFEST, dagster_dbt_translator=_TRANSLATOR, name="feed_marts", select=OF_FEEDS[1])
def feed_marts(context: dg.AssetExecutionContext) -> Iterator[Any]:
    """Likewise the models of feeds, into a copy of what is published."""
    yield from _published(context, OF_FEEDS)


def _published(context: dg.AssetExecutionContext, part: tuple[str, ...]) -> Iterator[Any]:
    config = settings()
    raw_events: list[Event] = []
    try:
        with publication(config):
            failures = build_part(config, part, raw_events.append)
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
        checks, outputs = _sorted(context, raw_events)
        yield from checks
    context.log.info(f"published {config.warehouse} ({os.path.getsize(config.warehouse):,} bytes)")
    yield from outputs


def _sorted(context: dg.AssetExecutionContext, raw_events: list[Event]) -> tuple[list[dg.AssetCheckResult], list[Any]]:
    """dbt's events as Dagster's: the results of the selected checks, and what the selected models say once they
    are published.
    """
    selected = {key.to_python_identifier() for key in context.selected_asset_keys}
    checks: list[dg.AssetCheckResult] = []
    outputs: list[Any] = []
    for raw in raw_events:
        message = DbtCoreCliEventMessage(raw_event=raw, event_history_metadata={})
        for event in message.to_default_asset_events(_MANIFEST, _TRANSLATOR, context, _MANIFEST.parent):
            if isinstance(event, dg.AssetCheckResult):
                if (
                    event.asset_key
                    and event.check_name
                    and dg.AssetCheckKey(event.asset_key, event.check_name) in context.selected_asset_check_keys
                ):
                    checks.append(event)
            # Besides there are observations of what checks outside the selection read; nobody asked for these.
            elif isinstance(event, dg.Output) and event.output_name in selected:
                outputs.append(event)
    return checks, outputs


def _calendar_specs() -> list[dg.AssetSpec]:
    """What dbt reads beside the lake's tables: it is made anew from the sources' YAML and exchange_calendars
    for every build.
    """
    sources = json.loads(_MANIFEST.read_bytes())["sources"].values()
    return [
        dg.AssetSpec(
            _TRANSLATOR.get_asset_key(source),
            description=source["description"],
            group_name=GROUP,
            kinds={"duckdb"},
            owners=_OWNERS,
        )
        for source in sources
        if source["source_name"] == _CALENDAR
    ]


@dg.definitions
def warehouse() -> dg.Definitions:
    """The marts, what they read beside the lake, and the sensor that lets their automation condition run from
    the start.
    """
    automation = dg.AutomationConditionSensorDefinition(
        "marts_automation",
        target=dg.AssetSelection.assets(marts, feed_marts),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
    )
    return dg.Definitions(assets=[marts, feed_marts, *_calendar_specs()], sensors=[automation])
