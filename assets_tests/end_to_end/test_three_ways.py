"""The three ways in which people update the lake, against a running Dagster: by hand, by a backfill, by a sensor.

Each goes through `lakehouse dev` by the requests that its UI sends; what counts is what the stored tables and the
published marts hold afterwards.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.exchange_lake import SESSIONS, simulated_exchange
from assets_tests.support.patience import RUN_PATIENCE_S, wait_until
from assets_tests.support.servers.lakehouse_dev import LakehouseDev
from assets_tests.support.servers.process import MissingBinary, ServerError
from lakehouse.api import Lake
from lakehouse.settings import settings
from lakehouse.simulators.exchange import Exchange

CHAIN = ("xetra/raw_bars", "xetra/bars", "xetra/daily_bars", "xetra/daily_report")
BY_HAND, BACKFILLED, SENSED = SESSIONS[:1], SESSIONS[1:3], SESSIONS[3:]
KEY = ["instrument_id", "currency", "session"]
LOADER, PUBLISHER, IDENTIFIER = "xetra_objects", "marts_automation", "openfigi_subjects"


@dataclass
class House:
    """A running Dagster, its lake, and the exchange that publishes into `feed`."""

    dagster: LakehouseDev
    home: Path
    exchange: Exchange

    def publish(self, sessions: list[date], stage: str = "first") -> None:
        """The exchange publishes a stage's objects of some sessions."""
        published = self.home / "published"
        self.exchange.write(published, stage)  # type: ignore[arg-type]
        for session in sessions:
            shutil.copytree(published / str(session), self.home / "feed" / str(session), dirs_exist_ok=True)
        shutil.rmtree(published)

    def daily_bars(self) -> pl.DataFrame:
        return Lake(str(self.home / "lake")).table("xetra/daily_bars").to_polars()

    def assert_succeeded(self, run_id: str) -> None:
        status = self.dagster.wait_for_run(run_id)
        assert status == "SUCCESS", self.dagster.failures(run_id)

    def runs_of(self, sensor: str) -> list[str]:
        """The ids of the runs that a sensor asked for."""
        runs = self.dagster.runs(tags=[{"key": "dagster/sensor_name", "value": sensor}])
        return [run["runId"] for run in runs]

    def ticks(self, sensor: str) -> list[float]:
        """When a sensor's last evaluations began, in seconds since 1970."""
        return [tick["timestamp"] for tick in self._state(sensor, "ticks(limit: 5) { timestamp }")["ticks"]]

    def statuses(self, sensor: str) -> list[str]:
        """How a sensor's last evaluations ended, or STARTED."""
        return [tick["status"] for tick in self._state(sensor, "ticks(limit: 5) { status }")["ticks"]]

    def stop_sensor(self, sensor: str) -> None:
        """Turns a sensor off, as its switch in the UI does, until it is: the daemon stores the state of a sensor, too,
        at its first look and as each evaluation begins, with a status that it may have read before the switch.
        """
        mutation = "mutation($id: String!) { stopSensor(id: $id) { __typename ... on PythonError { message } } }"

        def is_off() -> bool:
            # An evaluation that had begun watches the folder for seconds, and would ask for a run of what comes then.
            is_evaluated = "STARTED" in self.statuses(sensor)
            state = self._state(sensor, "id status")
            if state["status"] == "STOPPED":
                return not is_evaluated
            # Dagster refuses the second of two that store a sensor's first state.
            with suppress(ServerError):
                stopped = self.dagster.graphql(mutation, {"id": state["id"]})["stopSensor"]
                assert stopped["__typename"] == "StopSensorMutationResult", stopped
            return False

        until(is_off, f"{sensor} to be off")

    def _state(self, sensor: str, fields: str) -> dict[str, Any]:
        query = f"""query($selector: SensorSelector!) {{ sensorOrError(sensorSelector: $selector) {{
            ... on Sensor {{ sensorState {{ {fields} }} }}
        }} }}"""
        location = {"repositoryName": "__repository__", "repositoryLocationName": "lakehouse"}
        answer = self.dagster.graphql(query, {"selector": location | {"sensorName": sensor}})
        return answer["sensorOrError"]["sensorState"]

    def truth(self, sessions: list[date], *stages: str) -> pl.DataFrame:
        """What the daily bars of these sessions should be after these stages."""
        truth = self.exchange.truth.daily_bars(*stages).rename({"isin": "instrument_id"})  # type: ignore[arg-type]
        return truth.filter(pl.col("session").is_in(sessions)).sort(KEY)

    def assert_stored(self, sessions: list[date], *stages: str) -> None:
        wanted = self.truth(sessions, *stages)
        stored = self.daily_bars().filter(pl.col("session").is_in(sessions))
        assert_frame_equal(stored.select(wanted.columns).sort(KEY), wanted, check_exact=True)

    def are_published(self, sessions: list[date], *stages: str) -> bool:
        """Whether the marts hold these sessions as they should be."""
        published = self.home / "warehouse.duckdb"
        if not published.exists():
            return False
        listed = ", ".join(f"'{session}'" for session in sessions)
        columns = [*KEY, "close", "volume"]
        query = f"SELECT {', '.join(columns)} FROM marts.fct_daily_bar WHERE session IN ({listed}) ORDER BY ALL"
        with duckdb.connect(str(published), read_only=True) as connection:
            return connection.execute(query).fetchall() == self.truth(sessions, *stages).select(columns).rows()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("house")
    (home / "feed").mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "LAKEHOUSE_XETRA_URL": str(home / "feed"),
        "PYTHON_DOTENV_DISABLED": "1",
    }
    with pytest.MonkeyPatch.context() as own:
        own.setenv("LAKEHOUSE_HOME", str(home))
        settings.cache_clear()
        exchange = simulated_exchange()
    settings.cache_clear()
    with LakehouseDev(PROJECT_ROOT, home=home, env=environment) as dagster:
        house = House(dagster, home, exchange)
        # Until its own test the sensor is off, so that it doesn't take in what others publish.
        house.stop_sensor(LOADER)
        # Its runs would ask an API about made-up instruments, and publish what the marts' automation should.
        house.stop_sensor(IDENTIFIER)
        yield house


def until(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, RUN_PATIENCE_S, about=lambda: f"For {what}", every=0.5)


def test_nothing_is_warned_of_that_nobody_can_mend(house: House) -> None:
    told = house.dagster.log.read_text()
    assert "Launching Dagster services" in told
    assert "Supersession" not in told
    assert "dagster.yaml" not in told


def test_the_partitions_that_people_choose_from_are_the_sessions(house: House) -> None:
    partitions = house.dagster.partitions("xetra/daily_bars")
    assert partitions[0] == "2017-06-19"
    assert [key for key in partitions if "2024-03-26" <= key <= "2024-04-03"] == [str(day) for day in SESSIONS]
    today = datetime.now(UTC).date()
    assert date(2017, 6, 19) < date.fromisoformat(partitions[-1]) <= today.replace(year=today.year + 1)
    assert len(partitions) == len(set(partitions))


@dataclass(frozen=True)
class Launched:
    """What was launched by hand: the id of a run, and that of a backfill."""

    run: str
    backfill: str


@pytest.fixture(scope="module")
def launched(house: House) -> Launched:
    """Both at once: the daemon looks at backfills and at the marts' automation but every half a minute."""
    house.publish([*BY_HAND, *BACKFILLED])
    run = house.dagster.materialize(*CHAIN, partition=str(BY_HAND[0]))
    backfill = house.dagster.backfill(*CHAIN, partitions=[str(session) for session in BACKFILLED])
    return Launched(run, backfill)


def test_a_partition_materialized_by_hand_reaches_the_marts(house: House, launched: Launched) -> None:
    house.assert_succeeded(launched.run)

    house.assert_stored(BY_HAND, "first")
    assert (house.home / "reports/xetra" / f"xetra_daily_report_{BY_HAND[0]}.parquet").exists()
    until(lambda: house.are_published(BY_HAND, "first"), "the marts' own automation")


def test_a_backfill_of_a_range_is_one_run(house: House, launched: Launched) -> None:
    # Its run ends half a minute before the daemon looks at the backfill again and calls it completed.
    tag = {"key": "dagster/backfill", "value": launched.backfill}
    until(lambda: bool(house.dagster.runs(tags=[tag])), "the backfill's run")
    (run,) = house.dagster.runs(tags=[tag])
    house.assert_succeeded(run["runId"])
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert tags["dagster/asset_partition_range_start"] == str(BACKFILLED[0])
    assert tags["dagster/asset_partition_range_end"] == str(BACKFILLED[-1])
    house.assert_stored(BACKFILLED, "first")
    until(lambda: house.are_published(BACKFILLED, "first"), "the marts' own automation")
    assert len(house.dagster.runs(tags=[tag])) == 1


@dataclass(frozen=True)
class Sensed:
    """When the sensor's run had ended, and the runs of the marts' automation until then."""

    ended: float
    publishers: list[str]


@pytest.fixture(scope="module")
def sensed(house: House, launched: Launched) -> Sensed:
    """A new file, after everything else has been published, and the run of the sensor that finds it."""
    before = [*BY_HAND, *BACKFILLED]
    until(lambda: house.are_published(before, "first"), "what was launched by hand")
    house.publish(SENSED)
    publishers = house.runs_of(PUBLISHER)
    for run in publishers:
        house.assert_succeeded(run)
    house.dagster.start_sensor(LOADER)
    house.assert_succeeded(house.dagster.wait_for_sensor_run(LOADER))
    return Sensed(time.time(), publishers)


def test_a_new_file_makes_the_sensor_run_through_to_the_marts(house: House, sensed: Sensed) -> None:
    house.assert_stored(SENSED, "first")
    assert house.are_published(SENSED, "first")


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("/assets/xetra/daily_bars", "One row per instrument, currency and session"),
        ("/assets/xetra/daily_bars?view=partitions&partition=2024-03-26", "session_in_pictures"),
        ("/assets/xetra/raw_bars?view=checks", "Every stored row fulfils the table's contract."),
        ("/locations/__repository__@lakehouse/sensors/xetra_objects", "new, changed or late objects"),
    ],
)
def test_the_pages_that_people_look_at(house: House, launched: Launched, tmp_path: Path, page: str, words: str) -> None:
    house.assert_succeeded(launched.run)
    try:
        picture = house.dagster.screenshot(page, tmp_path / "page.png", wait_for=words)
    except MissingBinary as missing:
        pytest.skip(str(missing))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_sensors_run_is_one_and_no_publication_follows_it(house: House, sensed: Sensed) -> None:
    """The run has published: the next look of the marts' automation finds nothing left to do."""
    until(lambda: any(tick > sensed.ended for tick in house.ticks(PUBLISHER)), "the next tick")
    assert len(house.runs_of(LOADER)) == 1
    assert house.runs_of(PUBLISHER) == sensed.publishers
