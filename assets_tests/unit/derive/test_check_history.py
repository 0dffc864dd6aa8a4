"""Results of checks are kept run by run, and shown failing first."""

from __future__ import annotations

import base64
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Barrier

import pytest
from typer.testing import CliRunner

from assets_tests.support.kernel_lake import lake_at, rows_of
from lakehouse.api import Lake as HomeLake
from lakehouse.cli.app import app
from lakehouse.derive.check_history import CheckResult, record, scope_of
from lakehouse.derive.evaluation import RESULTS
from lakehouse.derive.source import Source
from lakehouse.governance.quality import checked_runs, history_picture, states
from lakehouse.lake import maintenance
from lakehouse.lake.lake import Lake
from lakehouse.settings import settings

SHOP = Source(name="shop", kind="shops", contracts={})


def result(check: str, passed: bool, severity: str = "error", table: str = "lines") -> CheckResult:
    return CheckResult("shop", table, check, passed, severity, "" if passed else "2 keys repeat", {"offenders": 2.0})


def two_runs(lake: Lake) -> None:
    record(lake, [result("key", True), result("share", False, "warn")], "first", "all")
    record(lake, [result("key", False), result("share", False, "warn")], "second", "2024-01-02")


def test_checked_runs__tells_every_result_of_every_run(tmp_path: Path) -> None:
    lake = lake_at(tmp_path, SHOP)
    assert checked_runs(lake) == []
    two_runs(lake)
    found = [(run.run_id, run.check, run.outcome, run.scope) for run in checked_runs(lake, "shop", "lines")]
    assert found == [
        ("first", "key", "passed", "all"),
        ("first", "share", "warned", "all"),
        ("second", "key", "failed", "2024-01-02"),
        ("second", "share", "warned", "2024-01-02"),
    ]
    assert checked_runs(lake, "shop", "others") == []
    assert checked_runs(lake, "other") == []


def test_record__keeps_the_results_of_runs_that_write_the_first_ones_at_once(tmp_path: Path) -> None:
    """All but one found a table that another was creating, and their checks ended by an error."""
    start = Barrier(4)

    def run(name: str) -> None:
        lake = lake_at(tmp_path, SHOP)
        start.wait()
        record(lake, [result("key", True)], name, "all")

    with ThreadPoolExecutor(4) as runs:
        list(runs.map(run, "abcd"))
    assert sorted(each.run_id for each in checked_runs(lake_at(tmp_path, SHOP))) == [*"abcd"]


def test_record__leaves_few_files_however_many_runs_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run opened the files of all runs before it, until the housekeeping of all tables."""
    monkeypatch.setattr(maintenance, "_MANY_FILES", 4)
    for number in range(12):
        lake = lake_at(tmp_path, SHOP)
        record(lake, [result("key", True)], f"run {number:02}", "all")
        assert len(lake.table(RESULTS).snapshot().files({"source": ["shop"]})) <= 4
    assert [run.run_id for run in checked_runs(lake_at(tmp_path, SHOP))] == [f"run {number:02}" for number in range(12)]


def test_record__keeps_the_results_of_runs_that_compact_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_MANY_FILES", 2)
    start = Barrier(3)

    def run(name: str) -> None:
        start.wait()
        for number in range(5):
            record(lake_at(tmp_path, SHOP), [result("key", True)], f"{name}{number}", "all")

    with ThreadPoolExecutor(3) as runs:
        list(runs.map(run, "abc"))
    found = [each.run_id for each in checked_runs(lake_at(tmp_path, SHOP))]
    assert sorted(found) == [f"{name}{number}" for name in "abc" for number in range(5)]


def test_checked_runs__counts_a_repeated_step_once(tmp_path: Path) -> None:
    lake = lake_at(tmp_path, SHOP)
    record(lake, [result("key", False)], "first", "all")
    record(lake, [result("key", True)], "first", "all")
    assert [run.passed for run in checked_runs(lake)] == [True]
    assert len(rows_of(lake, RESULTS)) == 2


def test_checked_runs__reads_the_newest_runs_of_each_table(tmp_path: Path) -> None:
    lake = lake_at(tmp_path, SHOP)
    for run in ("first", "second", "third"):
        record(lake, [result("key", True), result("share", True), result("key", True, table="others")], run, "all")
    record(lake, [result("key", True)], "fourth", "all")
    found = checked_runs(lake, "shop", newest=2)
    assert sorted({(each.table, each.run_id) for each in found}) == [
        ("lines", "fourth"),
        ("lines", "third"),
        ("others", "second"),
        ("others", "third"),
    ]
    assert found == [each for each in checked_runs(lake, "shop") if each in found]


def test_checked_runs__reads_as_of_a_moment(tmp_path: Path) -> None:
    lake = lake_at(tmp_path, SHOP)
    two_runs(lake)
    moment = next(run.at for run in checked_runs(lake) if run.run_id == "first")
    then = lake_at(tmp_path, SHOP, as_of=moment)
    assert {run.run_id for run in checked_runs(then)} == {"first"}


def test_states__lists_failing_checks_first(tmp_path: Path) -> None:
    lake = lake_at(tmp_path, SHOP)
    record(lake, [result("a", True), result("b", False, "warn"), result("c", True)], "first", "all")
    record(lake, [result("a", True), result("b", False, "warn"), result("c", False)], "second", "all")
    found = states(checked_runs(lake))
    assert [(state.newest.check, state.newest.outcome, state.not_passed) for state in found] == [
        ("c", "failed", 1),
        ("b", "warned", 2),
        ("a", "passed", 0),
    ]
    first, second = sorted({run.at for run in checked_runs(lake)})
    assert [state.since for state in found] == [second, first, first]


def test_history_picture__has_a_square_per_check_and_run(tmp_path: Path) -> None:
    lake = lake_at(tmp_path, SHOP)
    record(lake, [result("key", True)], "first", "all")
    assert history_picture(checked_runs(lake)) is None
    record(lake, [result("key", False), result("<new>", True)], "second", "all")
    picture = history_picture(checked_runs(lake))
    assert picture is not None
    svg = base64.b64decode(picture.rpartition("base64,")[2].rstrip(")")).decode()
    squares = dict(re.findall(r'<path fill="(#\w+)" d="([^"]+)"', svg))
    assert {colour: each.count("M") for colour, each in squares.items()} == {"#3fb68b": 2, "#d1344b": 1, "#e8eaf0": 1}
    assert "&lt;new&gt;" in svg


@pytest.mark.parametrize(
    ("partitions", "text"),
    [
        (None, "all"),
        ([], "none"),
        ([date(2024, 1, 2)], "2024-01-02"),
        ([date(2024, 1, 3), date(2024, 1, 2)], "2024-01-02 to 2024-01-03 (2)"),
    ],
)
def test_scope_of__names_the_range(partitions: list[date] | None, text: str) -> None:
    assert scope_of(partitions) == text


def test_quality__shows_failing_checks_first(own_environment: None, tmp_path: Path) -> None:
    settings().home.mkdir(parents=True, exist_ok=True)
    runner = CliRunner()
    assert "No results" in runner.invoke(app, ["quality"]).output
    two_runs(HomeLake.open())
    lines = runner.invoke(app, ["quality", "shop.lines", "--runs", "1"], env={"COLUMNS": "160"}).output.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["failed", "warned"]
    assert "2 keys repeat" in lines[1]
    assert sum("second" in line for line in lines) == 2
    assert not any("first" in line for line in lines)
    assert datetime.now(UTC).strftime("%Y") in lines[1]
