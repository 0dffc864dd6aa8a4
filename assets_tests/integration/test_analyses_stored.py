"""What is stored of analyses: once, whatever happens in between; as of past moments; in the form of the contracts."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from assets_tests.support.four_tasks import ROWS, TASKS
from assets_tests.support.wiki_lake import load_prices, write_invented
from lakehouse.analyses import Analysis, store
from lakehouse.analyses.limited import Outcome
from lakehouse.analyses.registry import Registry, TaskError
from lakehouse.analyses.service import Finished
from lakehouse.analyses.spec import definition_of
from lakehouse.api import Lake
from lakehouse.lake.table import LakeTable

KEYS = {"a", "b", "c11", "c12", "c1", "c2"}


@pytest.fixture
def lake(own_environment: None) -> Lake:
    return Lake.present()


def finished(lake: Lake) -> Finished:
    """A run of the four tasks, in this process."""
    analyses = lake.analyses.with_tasks(TASKS)
    request = analyses.request(definition_of("four", ROWS))
    made = Analysis(request.definition, analyses.registry).run()
    return Finished(analyses.run_of(request, Outcome(made), 0.1), made)


def values(lake: Lake, query: str) -> list[Any]:
    found = lake.sql(query)
    assert found is not None
    return [row[0] for row in found.fetchall()]


def test_record_run__stores_equal_results_of_runs_at_once_and_once(lake: Lake) -> None:
    run = finished(lake)
    start = threading.Barrier(4)

    def record() -> None:
        start.wait()
        own = replace(run.run, run_id=store.new_run_id())
        store.record_definition(Lake.present(), definition_of("four", ROWS))
        store.record_run(Lake.present(), own, run.made)

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(lake, "SELECT count(*) FROM analyses.runs") == [4]
    assert values(lake, "SELECT count(*) FROM analyses.definitions") == [4]
    assert sorted(values(lake, "SELECT key FROM analyses.results")) == sorted(KEYS)
    assert values(lake, "SELECT value FROM analyses.results WHERE key = 'c11'") == [6.0]


def test_record_run__takes_the_results_of_a_run_that_was_killed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(lake)
    with monkeypatch.context() as patched:
        # The process ends after the first of the two commits.
        patched.setattr(LakeTable, "append_rows", _killed)
        with pytest.raises(KeyboardInterrupt):
            store.record_run(lake, run.run, run.made)
    assert values(lake, "SELECT count(*) FROM analyses.results") == [6]
    assert lake.analyses.runs() == []
    store.record_run(lake, run.run, run.made)
    assert values(lake, "SELECT count(*) FROM analyses.results") == [6]
    assert [each.run_id for each in lake.analyses.runs()] == [run.run.run_id]


def _killed(*_: Any) -> None:
    raise KeyboardInterrupt


def test_tables__keep_their_contracts(lake: Lake) -> None:
    run = finished(lake)
    store.record_definition(lake, definition_of("four", ROWS))
    store.record_run(lake, run.run, run.made)
    failed = replace(run.run, run_id="x", result_id=None, status="failed", error="no luck", outputs={})
    store.record_run(lake, failed, {})
    for name, contract in store.contracts().items():
        for rule, (holds, _) in contract.predicates.items():
            broken = values(lake, f"SELECT count(*) FROM analyses.{name} WHERE NOT coalesce({holds}, true)")
            assert broken == [0], (name, rule)
        key = ", ".join(f'"{column}"' for column in contract.key)
        assert values(
            lake, f"SELECT count(*) FROM (SELECT {key} FROM analyses.{name} GROUP BY ALL HAVING count(*) > 1)"
        ) == [0]


def test_run__as_of_a_moment_is_that_of_then(
    own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_invented(tmp_path / "prices", "AAA", seed=1)
    lake = load_prices(tmp_path / "prices", monkeypatch)
    before = lake.analyses.run("test_period", {"ticker": "AAA"}).run
    moment = datetime.now(UTC)
    write_invented(tmp_path / "prices", "AAA", seed=2)
    lake = load_prices(tmp_path / "prices", monkeypatch)
    after = lake.analyses.run("test_period", {"ticker": "AAA"}).run
    assert after.fingerprints["price"] != before.fingerprints["price"]
    then = Lake.present(as_of=moment).analyses.run("test_period", {"ticker": "AAA"}).run
    assert then.fingerprints == before.fingerprints
    assert (then.as_of, then.result_id) == (moment, before.result_id)


def test_installed__has_the_tasks_of_other_packages(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package offers a task by its entry point; runs in a child process find it, too."""
    (tmp_path / "site" / "averages-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "averages-1.0.dist-info" / "METADATA").write_text("Name: averages\nVersion: 1.0\n")
    entries = tmp_path / "site" / "averages-1.0.dist-info" / "entry_points.txt"
    entries.write_text("[lakehouse.tasks]\nmine = averages:TASKS\n")
    (tmp_path / "site" / "averages.py").write_text(
        "from lakehouse.analyses import Tasks\nTASKS = Tasks()\n"
        "@TASKS.task('mine.mean', version=3)\ndef mean(*values: float) -> float:\n"
        "    return sum(values) / len(values)\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    rows = [[0, "mine.mean", ["x", "y"], {}, "m"]]
    run = lake.analyses.run(definition_of("mean", rows, {"x": 1, "y": 4}))
    assert (run.made, run.run.steps[0]["function"]) == ({"m": 2.5}, "mine.mean@3")
    entries.write_text("[lakehouse.tasks]\nmine = averages:NOTHING\n")
    # What is installed is looked up once per path.
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with pytest.raises(TaskError, match="the entry point mine = averages:NOTHING can't be loaded"):
        Registry.installed()
