"""A simulated exchange of five sessions and the jobs that take it in: the ground of the tests above the lake.

The sessions lie around Easter, so that there are holidays, a weekend, a month's end and a change of clocks among them.
What a run should have done is asserted in the tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
from dagster._core.definitions.sensor_definition import SensorExecutionData

from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.components.resources import lake_resources
from lakehouse.components.sources.run_tags import range_tags
from lakehouse.simulators.exchange import Exchange

SOURCE = "xetra"
FIRST, LAST = date(2024, 3, 26), date(2024, 4, 3)
SESSIONS = [date(2024, 3, 26), date(2024, 3, 27), date(2024, 3, 28), date(2024, 4, 2), date(2024, 4, 3)]
TABLES = ("xetra/raw_bars", "xetra/bars", "xetra/daily_bars", "ingest_ledger", "quarantine")
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
# What a run leaves behind; dbt's parsed project and the kept calendar stay, as they do between runs.
_STATE = ("lake", "feed", "reports", "warehouse.duckdb", "dagster", "cache/extents")


@cache
def code_location() -> dg.Definitions:
    """What Dagster loads, once a process: dbt's project is parsed for it."""
    from lakehouse.definitions import defs

    return defs()


@dataclass(frozen=True)
class ExchangeLake:
    """An exchange's feed and the lake that takes it in, both below `home`."""

    home: Path
    exchange: Exchange

    @property
    def feed(self) -> Path:
        """Where the exchange publishes."""
        return self.home / "feed"

    @property
    def warehouse(self) -> Path:
        """The published marts."""
        return self.home / "warehouse.duckdb"

    def run(
        self,
        instance: dg.DagsterInstance,
        first: date = FIRST,
        last: date = LAST,
        job: str = "xetra_update",
        assets: Sequence[str] | None = None,
        marts: bool = True,
    ) -> dg.ExecuteInProcessResult:
        """Runs a job, or those of its `assets`, over the sessions from `first` to `last` in this process. Without the
        `marts`, which take half of the time, where a test asks nothing of them.
        """
        definition = code_location().resolve_job_def(job)
        selection = None if assets is None else [dg.AssetKey(asset.split("/")) for asset in assets]
        if not marts:
            selection = [key for key in definition.asset_layer.selected_asset_keys if key.path[0] != "marts"]
        tags = range_tags(first, last)
        return definition.execute_in_process(
            instance=instance, tags=tags, asset_selection=selection, raise_on_error=False, run_config=_QUIET
        )

    def rows(self, table: str) -> pl.DataFrame:
        """A stored table."""
        return Lake.open().table(table).to_polars()

    def versions(self) -> dict[str, int | None]:
        """The version of every stored table."""
        return {name: Lake.open().table(name).snapshot().version for name in TABLES}

    def marts(self, query: str) -> list[tuple]:
        """The answer of the published marts to a query."""
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            connection.execute("SET search_path = 'marts'")
            return connection.execute(query).fetchall()

    def empty(self) -> None:
        """Forgets every load, as on the first day."""
        for name in _STATE:
            _remove(self.home / name)
        self.feed.mkdir(parents=True)

    def save(self, folder: Path) -> None:
        """Keeps the state as it is in `folder`."""
        for name in _STATE:
            _copy(self.home / name, folder / name)

    def restore(self, folder: Path) -> None:
        """Returns to the state kept in `folder`."""
        for name in _STATE:
            _remove(self.home / name)
            _copy(folder / name, self.home / name)


def simulated_exchange(instruments: int = 15) -> Exchange:
    """The exchange of SESSIONS; always the same."""
    calendar = source_named(SOURCE).calendar
    sessions = calendar.between(FIRST, LAST)
    assert sessions == SESSIONS
    return Exchange([(session, *calendar.hours(session)) for session in sessions], seed=3, instruments=instruments)


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[list[dg.RunRequest], str | None]:
    """What the source's sensor asks for, and what it says when it doesn't."""
    found = evaluated(instance, cursor)
    return list(found.run_requests or []), found.skip_message


def evaluated(instance: dg.DagsterInstance, cursor: str | None = None) -> SensorExecutionData:
    """A tick of the source's sensor."""
    resources = lake_resources()
    with dg.build_sensor_context(instance=instance, resources=resources, cursor=cursor) as context:
        return code_location().resolve_sensor_def("xetra_objects").evaluate_tick(context)


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """The checks of a run that failed, with what they found, by `<asset> <check>`."""
    return {
        f"{found.asset_key.to_user_string()} {found.check_name}": found.description or ""
        for found in result.get_asset_check_evaluations()
        if not found.passed
    }


def materialized(result: dg.ExecuteInProcessResult) -> dict[str, Sequence[str | None]]:
    """Asset -> the partitions for which a run reported it, in order."""
    found: dict[str, list[str | None]] = {}
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        found.setdefault(materialization.asset_key.to_user_string(), []).append(materialization.partition)
    return found


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
