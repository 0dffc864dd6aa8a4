"""Dagster's pages begin with the first session in the lake; earlier ones can be loaded all the same."""

from __future__ import annotations

import json

import dagster as dg
from dagster._core.definitions.partitions.snap import TimeWindowPartitionsSnap
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from assets_tests.support.exchange_lake import SESSIONS, ExchangeLake
from lakehouse.api import Lake
from lakehouse.catalog import sources
from lakehouse.components.sources.extent import note_unknown_extents
from lakehouse.components.sources.run_tags import range_tags
from lakehouse.definitions import defs

RAW = dg.AssetKey(["xetra", "raw_bars"])


def shown(code: dg.Definitions) -> dg.TimeWindowPartitionsDefinition:
    """The partitions of raw_bars, as Dagster's webserver and daemon make them of their description."""
    windows = code.resolve_asset_graph().get(RAW).partitions_def
    assert isinstance(windows, dg.TimeWindowPartitionsDefinition)
    return TimeWindowPartitionsSnap.from_def(windows).get_partitions_definition()


def run(code: dg.Definitions, instance: dg.DagsterInstance, *, first: int, last: int) -> None:
    """Loads the raw bars of some of the sessions."""
    done = code.resolve_job_def("xetra_update").execute_in_process(
        instance=instance,
        tags=range_tags(SESSIONS[first], SESSIONS[last]),
        asset_selection=[RAW],
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    assert done.success


def filled(instance: dg.DagsterInstance, windows: dg.TimeWindowPartitionsDefinition) -> set[str]:
    """The partitions that the asset's page shows as materialized."""
    status = get_and_update_asset_status_cache_value(instance, RAW, windows)
    assert status is not None
    return set(status.deserialize_materialized_partition_subsets(windows).get_partition_keys())


def test_partitions__begin_with_the_first_session_in_the_lake(
    exchange_lake: ExchangeLake, instance: dg.DagsterInstance
) -> None:
    exchange_lake.exchange.write(exchange_lake.feed)
    code = defs()
    assert shown(code).get_first_partition_key() == "2017-06-19"
    run(code, instance, first=3, last=4)

    code = defs()
    late = shown(code)
    assert late.get_first_partition_key() == str(SESSIONS[3])
    assert filled(instance, late) == {str(session) for session in SESSIONS[3:]}
    # A session before those that are shown is loaded without a reload of the definitions, and shown after one.
    run(code, instance, first=1, last=2)
    assert filled(instance, late) == {str(session) for session in SESSIONS[3:]}
    early = shown(defs())
    assert early.get_first_partition_key() == str(SESSIONS[1])
    assert filled(instance, early) == {str(session) for session in SESSIONS[1:]}


def test_note_unknown_extents__reads_a_lake_that_this_home_has_not_loaded(
    exchange_lake: ExchangeLake, instance: dg.DagsterInstance
) -> None:
    exchange_lake.exchange.write(exchange_lake.feed)
    run(defs(), instance, first=2, last=2)
    note = exchange_lake.home / "cache" / "extents" / "xetra.json"
    note.unlink()
    note_unknown_extents(Lake.present(), sources().values())
    assert json.loads(note.read_text())["first"] == str(SESSIONS[2])
    assert [path.name for path in note.parent.iterdir()] == ["xetra.json"]
