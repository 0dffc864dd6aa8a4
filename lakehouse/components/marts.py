"""The published marts as assets: one per dbt model, with dbt's tests as asset checks. The models of a part are
materialized together, since they are published together.

A new part needs no code here: its models, group, dependencies and automation follow from `warehouse.parts` and dbt's
manifest (`mart_specs`).
"""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import dagster as dg

from lakehouse.api import Lake
from lakehouse.components.mart_automation import automation_of
from lakehouse.components.mart_specs import OWNERS, mart_checks, mart_spec, models, source_assets
from lakehouse.components.metadata import in_markdown
from lakehouse.derive.held_back import holds
from lakehouse.errors import SourceError
from lakehouse.lake.releases import present_marts
from lakehouse.settings import settings
from lakehouse.warehouse.dbt import Event, manifest_path
from lakehouse.warehouse.parts import MARKET_MARTS, Part, parts
from lakehouse.warehouse.publish import build_part, publication
from lakehouse.warehouse.sources import part_tables

_CALENDAR = "calendar"
_RESULTS = ("LogModelResult", "LogTestResult")
"""dbt's events with the outcome of a model or test."""


def mart_assets(part: Part, manifest: Mapping[str, Any]) -> dg.AssetsDefinition:
    """The models of a part, and their tests as checks."""
    automation = automation_of(part)
    nodes = models(manifest, part)

    @dg.multi_asset(
        name=f"{part.name}_marts",
        specs=[mart_spec(manifest, node, part, automation).replace_attributes(skippable=True) for node in nodes],
        check_specs=[check for node in nodes for check in mart_checks(manifest, node)],
        can_subset=True,
    )
    def marts(context: dg.AssetExecutionContext) -> Iterator[Any]:
        """Builds and tests the models of the part that changes of the lake reach in a copy of the published file, which
        replaces that file once all have passed. They are built whichever ones a run selects, since they are published
        together.
        """
        yield from _published(context, part)

    return marts


def _published(context: dg.AssetExecutionContext, part: Part) -> Iterator[Any]:
    config = settings()
    outcomes: dict[str, Event] = {}

    def note(event: Event) -> None:
        if event["info"]["name"] in _RESULTS:
            outcomes[event["data"]["node_info"]["node_name"]] = event

    try:
        with publication(config):
            failures = build_part(config, part, note)
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
    except dg.Failure:
        yield from (_check(key, outcomes[key.name]) for key in _checks(context) if key.name in outcomes)
        raise
    sources = part_tables(part)
    for hold in holds(Lake.present(config)):
        if hold.source in sources:
            context.log.warning(f"The marts show the rows of {hold.source} as they were published before: {hold}")
    published = present_marts(config)
    context.log.info(f"published {published} ({os.path.getsize(published):,} bytes)")
    for asset in sorted(context.selected_asset_keys):
        yield dg.MaterializeResult(asset, metadata=_facts(outcomes.get(asset.path[-1])))
    yield from (_check(key, outcomes.get(key.name)) for key in _checks(context))


def _checks(context: dg.AssetExecutionContext) -> list[dg.AssetCheckKey]:
    return sorted(context.selected_asset_check_keys)


def _facts(outcome: Event | None) -> dict[str, Any]:
    """The metadata of a model or test; without an outcome, no change reached it."""
    if outcome is None:
        return {"unchanged": True}
    node = outcome["data"]["node_info"]
    began, ended = (datetime.fromisoformat(node[name]) for name in ("node_started_at", "node_finished_at"))
    return {"unique_id": node["unique_id"], "status": node["node_status"], "seconds": (ended - began).total_seconds()}


def _check(key: dg.AssetCheckKey, outcome: Event | None) -> dg.AssetCheckResult:
    """The result of a test; one that no change reached has passed, since only what passes is published."""
    status = outcome["data"]["node_info"]["node_status"] if outcome else "pass"
    failures = int(outcome["data"].get("num_failures") or 0) if outcome else 0
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=status == "pass",
        severity=dg.AssetCheckSeverity.WARN if status == "warn" else dg.AssetCheckSeverity.ERROR,
        metadata={**_facts(outcome), **({"failed_rows": failures} if failures else {})},
    )


def _calendar_specs(manifest: Mapping[str, Any]) -> list[dg.AssetSpec]:
    """The specs of dbt's inputs other than the lake's tables. Each build recreates them from the sources' YAML and
    exchange_calendars.
    """
    return [
        dg.AssetSpec(
            key,
            description=source["description"],
            group_name=MARKET_MARTS.group,
            kinds={"duckdb"},
            owners=OWNERS,
        )
        for source in manifest["sources"].values()
        if source["source_name"] == _CALENDAR
        for key in source_assets(source)
    ]


def mart_definitions() -> dg.Definitions:
    """The marts of every part, their inputs other than the lake, and the sensor that evaluates their automation
    condition, on by default.
    """
    manifest = json.loads(manifest_path(settings()).read_bytes())
    marts = [mart_assets(part, manifest) for part in parts()]
    automation = dg.AutomationConditionSensorDefinition(
        "marts_automation",
        target=dg.AssetSelection.assets(*marts),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
    )
    return dg.Definitions(assets=[*marts, *_calendar_specs(manifest)], sensors=[automation])
