"""The same loads and derivations on a Ray cluster of two nodes give the same tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.support.servers.process import MissingBinary
from assets_tests.support.servers.ray_cluster import RayCluster
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.compute import ComputeError, Node
from lakehouse.derive.rebuild import rebuild
from lakehouse.ingest import load as loading
from lakehouse.ingest.load import load
from lakehouse.settings import settings
from lakehouse.simulators.exchange import Exchange

FIRST, LAST = date(2024, 3, 1), date(2024, 3, 14)
TABLES = ("xetra/raw_bars", "xetra/bars", "xetra/daily_bars", "quarantine", "ingest_ledger")
WHEN_AND_WHERE = {"ingested_at", "run_id", "sequence"}


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sessions = source_named("xetra").calendar.frame.select("session", "open_at", "close_at")
    wanted = sessions.filter(pl.col("session").is_between(FIRST, LAST)).rows()
    folder = tmp_path_factory.mktemp("exchange") / "feed"
    Exchange(wanted, instruments=8, dirt=True).write(folder)
    return folder


@pytest.fixture(scope="module")
def cluster(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RayCluster, Path]]:
    home = tmp_path_factory.mktemp("on-ray") / "home"
    (home / "lake").mkdir(parents=True)
    try:
        with RayCluster({"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_XETRA_URL": str(feed)}) as started:
            yield started, home
    except MissingBinary as missing:
        pytest.skip(str(missing))


@pytest.fixture
def on_ray(cluster: tuple[RayCluster, Path], feed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    import ray

    started, home = cluster
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(feed))
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    monkeypatch.setenv("LAKEHOUSE_COMPUTE", "ray")
    monkeypatch.setenv("LAKEHOUSE_RAY_ADDRESS", started.address)
    monkeypatch.setenv("LAKEHOUSE_RAY_MEMORY_MIB", "256")
    settings.cache_clear()
    yield home
    ray.shutdown()


def take() -> None:
    """Loads and derives all sessions, as a run does."""
    lake, source = Lake.open(), source_named("xetra")
    days = source.datasets[0].partitioning.between(FIRST, LAST)
    load(lake, source.datasets[0], days, run_id="a")
    for table in source.tables:
        table.derive(lake, source, days)


def contents(home: Path) -> dict[str, pl.DataFrame]:
    lake, found = Lake.open(home), {}
    for name in TABLES:
        rows = lake.table(name).to_polars()
        rows = rows.drop(WHEN_AND_WHERE & {*rows.columns})
        found[name] = rows.sort(pl.struct(pl.all()).struct.json_encode())
    return found


def test_ray__gives_the_tables_of_one_process(
    on_ray: Path, feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_LEAST_BYTES", 1)
    take()
    made = contents(on_ray)
    assert Lake.open().compute.slots == 2
    verified = rebuild(Lake.open(), source_named("xetra"), verify=True)
    assert not any(each.changed for each in verified.tables.values())
    monkeypatch.setenv("LAKEHOUSE_COMPUTE", "local")
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(feed))
    (tmp_path / "home" / "lake").mkdir(parents=True)
    settings.cache_clear()
    take()
    expected = contents(tmp_path / "home")
    assert expected["xetra/bars"].height > 1_000
    for name in TABLES:
        assert_frame_equal(made[name], expected[name])


def test_node__of_another_version_code_lake_or_clock_is_refused() -> None:
    here = Node("here", "1", "a", "/lake", 1_000.0)
    assert replace(here, name="there", clock=1_059.0).fault(here, 990.0) is None
    assert replace(here, name="there", clock=931.0).fault(here, 990.0) is None
    for other, expected in (
        (replace(here, version="2"), "Lakehouse 2"),
        (replace(here, code="b"), "other code or contracts"),
        (replace(here, lake="s3://b/lake"), "LAKEHOUSE_LAKE_URI"),
        (replace(here, clock=4_600.0), "its clock is 3,600 s ahead: synchronize the clocks (NTP)"),
        (replace(here, clock=390.0), "its clock is 600 s behind"),
    ):
        assert expected in (other.fault(here, 990.0) or "")


def test_ray__says_that_no_cluster_answers(own_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("LAKEHOUSE_COMPUTE", "ray")
    monkeypatch.setenv("LAKEHOUSE_RAY_ADDRESS", "127.0.0.1:1")
    settings.cache_clear()
    with pytest.raises(ComputeError, match="LAKEHOUSE_RAY_ADDRESS"):
        _ = Lake.present().compute.slots
