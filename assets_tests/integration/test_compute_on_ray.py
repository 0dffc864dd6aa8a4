"""The same loads and derivations on a Ray cluster of two nodes give the same tables."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.support.servers.process import MissingBinary
from assets_tests.support.servers.ray_cluster import RayCluster
from assets_tests.support.soak import ONLY_IN_A_SOAK
from assets_tests.support.taken import rows_of, say, take_everything
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.compute import ComputeError, Node
from lakehouse.derive.evaluation import evaluate
from lakehouse.derive.rebuild import rebuild
from lakehouse.derive.source import Finding
from lakehouse.errors import SourceUnavailable
from lakehouse.ingest import load as loading
from lakehouse.settings import PROJECT_ROOT, settings
from lakehouse.simulators.exchange import Exchange

FIRST, LAST = date(2024, 3, 1), date(2024, 3, 19)
TABLES = ("xetra/raw_bars", "xetra/bars", "xetra/daily_bars", "quarantine", "ingest_ledger")


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


def findings() -> dict[str, tuple[bool, str, dict[str, int]]]:
    """What the checks of the tables found, by check."""
    lake, source = Lake.present(), source_named("xetra")
    found: dict[str, Finding] = {}
    for table in ("bars", "daily_bars"):
        checks = [check for check in source.checks if check.table == table]
        of_table = evaluate(lake, source, table, checks, source.partitions_stored(lake), "xetra")
        found |= {f"{table}.{name}": finding for name, finding in of_table.items()}
    return {name: (finding.passed, finding.summary, finding.facts) for name, finding in found.items()}


def test_ray__gives_the_tables_of_one_process(
    on_ray: Path, feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_LEAST_BYTES", 1)
    take_everything(source_named("xetra"))
    made, found = rows_of(Lake.open(), *TABLES), findings()
    assert Lake.open().compute.slots == 2
    verified = rebuild(Lake.open(), source_named("xetra"), verify=True)
    assert not any(each.changed for each in verified.tables.values())
    monkeypatch.setenv("LAKEHOUSE_COMPUTE", "local")
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(feed))
    (tmp_path / "home" / "lake").mkdir(parents=True)
    settings.cache_clear()
    take_everything(source_named("xetra"))
    expected = rows_of(Lake.open(), *TABLES)
    assert findings() == found
    assert not all(passed for passed, _, _ in found.values())
    assert expected["xetra/bars"].height > 1_000
    for name in TABLES:
        assert_frame_equal(made[name], expected[name])


def test_ray__brings_what_tasks_log_and_raise(on_ray: Path, caplog: pytest.LogCaptureFixture) -> None:
    lake, told = Lake.present(), []
    found = lake.compute.map(lake, say, [[1, 2], [3]], "numbers", lambda *each: told.append(each))
    assert sorted(record.getMessage().split(" (on ")[0] for record in caplog.records) == ["got 3", "got 3"]
    nodes = {re.search(r"\(on [\d.]+ \(\w{8}\)\)$", record.getMessage()) for record in caplog.records}
    assert None not in nodes
    assert told[-1] == ("numbers", 3, 3)
    assert all(Path(folder).name.startswith(f"lakehouse-task-{process}-") for process, folder in found)
    caplog.clear()
    with pytest.raises(SourceUnavailable, match="13 can't be used"):
        lake.compute.map(lake, say, [[6], [13]], "numbers", lambda *_: None)
    assert re.search(r"got 13 \(on [\d.]+ \(\w{8}\)\)", caplog.text)


AN_HOUR_BEHIND = SimpleNamespace(time=lambda: time.time() - 3_600)


@pytest.mark.parametrize(
    ("fact", "here", "sentence"),
    [
        (
            "version",
            lambda _: "0.0.9",
            r"it has Lakehouse [\w.]+, and this process 0\.0\.9: install the same",
        ),
        ("code_digest", lambda: "another", "it has other code or contracts of the same version: install the same"),
        ("time", AN_HOUR_BEHIND, r"its clock is 3,[56]\d\d s ahead: synchronize the clocks \(NTP\)"),
    ],
)
def test_ray__refuses_both_nodes_where_this_process_differs(
    on_ray: Path, monkeypatch: pytest.MonkeyPatch, fact: str, here: Any, sentence: str
) -> None:
    monkeypatch.setattr(f"lakehouse.compute.{fact}", here)
    with pytest.raises(ComputeError) as refused:
        _ = Lake.present().compute.slots
    lines = str(refused.value).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.match(rf"node [\d.]+ \(\w{{8}}\): {sentence}", line)


def test_ray__refuses_nodes_with_another_lake(on_ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_LAKE_URI", str(tmp_path))
    settings.cache_clear()
    with pytest.raises(ComputeError, match=f"its lake is {on_ray}/lake, and this process' is {tmp_path}"):
        _ = Lake.present().compute.slots


CLOCK_AHEAD = """
import time
from pathlib import Path

if "default_worker" in Path("/proc/self/cmdline").read_text():
    right = time.time
    time.time = lambda: right() + 3_600
"""


OTHER_PACKAGE = """
import sys
from importlib.machinery import PathFinder
from pathlib import Path


class Other:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [str(Path(__file__).parent)]) if name == "lakehouse" else None


sys.meta_path.insert(0, Other)  # workers have the folders of the process that asks first in their path
"""


@pytest.mark.soak
@ONLY_IN_A_SOAK
def test_ray__refuses_nodes_that_really_differ_and_no_others(
    cluster: tuple[RayCluster, Path], on_ray: Path, tmp_path: Path
) -> None:
    """Nodes whose Python finds another installation first, or has another clock.

    The last one on the cluster: for a minute Ray takes nodes that have gone for present.
    """
    other_version, other_code, other_clock = (tmp_path / name for name in ("version", "code", "clock"))
    described = other_version / "lakehouse-0.0.9.dist-info" / "METADATA"
    described.parent.mkdir(parents=True)
    described.write_text("Metadata-Version: 2.1\nName: lakehouse\nVersion: 0.0.9\n")
    shutil.copytree(PROJECT_ROOT / "lakehouse", other_code / "lakehouse", ignore=shutil.ignore_patterns("__pycache__"))
    contract = other_code / "lakehouse/domains/market/bars/contracts/bars.yaml"
    contract.write_text(contract.read_text().replace("volume >= 0", "volume >= 1"))
    (other_code / "sitecustomize.py").write_text(OTHER_PACKAGE)
    other_clock.mkdir()
    (other_clock / "sitecustomize.py").write_text(CLOCK_AHEAD)
    started, _ = cluster
    with ExitStack() as nodes:
        for folder in (other_version, other_code, other_clock):
            nodes.enter_context(started.joined_by(folder.name, {"PYTHONPATH": str(folder)}))
        with pytest.raises(ComputeError) as refused:
            _ = Lake.present().compute.slots
    said = sorted(re.sub(r"^node [\d.]+ \(\w{8}\): ", "", line) for line in str(refused.value).splitlines())
    assert len(said) == 3
    assert said[0].startswith("it has Lakehouse 0.0.9, and this process ")
    assert said[1] == "it has other code or contracts of the same version: install the same on every node"
    assert re.match(r"its clock is 3,[56]\d\d s ahead: synchronize the clocks \(NTP\)", said[2])


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
