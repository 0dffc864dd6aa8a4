"""Runs are executed by processes that stay, and end as they would in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.code_pointer import FileCodePointer, ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from assets_tests.support.patience import wait_until
from assets_tests.support.soak import ONLY_IN_A_SOAK
from lakehouse.definitions import present_definitions
from lakehouse.local_dagster.run_launcher import RunLauncher
from lakehouse.settings import PROJECT_ROOT, settings

ASSETS = """
import os
import time
from pathlib import Path

import dagster as dg


def made() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"process": os.getpid(), "edition": 1})


@dg.asset
def quick() -> dg.MaterializeResult:
    return made()


@dg.asset
def large() -> dg.MaterializeResult:
    bytearray(b"1") * 1_300_000_000
    return made()


@dg.asset
def failing() -> None:
    raise ValueError("the reason")


@dg.asset
def waiting() -> None:
    Path(__file__).parents[2].joinpath("begun").write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)
"""
OURS = ModuleCodePointer("lakehouse.definitions", "defs", None)
STATUS = dg.DagsterRunStatus


class Launched:
    """An instance with the project's dagster.yaml, and runs that its launcher has launched."""

    def __init__(self, instance: dg.DagsterInstance, module: Path) -> None:
        self.instance = instance
        self.module = module
        self.begun = module.parents[2] / "begun"

    def launch(self, asset: str) -> str:
        job = present_definitions().resolve_implicit_global_asset_job_def().get_subset(asset_selection={key(asset)})
        run = self.instance.create_run_for_job(
            job, asset_selection=frozenset({key(asset)}), status=STATUS.NOT_STARTED, job_code_origin=origin(OURS)
        )
        self.instance.launch_run(run.run_id, None)  # type: ignore[arg-type]  # the workspace is for other locations
        return run.run_id

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def end_of(self, run_id: str) -> dg.DagsterRunStatus:
        def is_over() -> bool:
            run = self.instance.get_run_by_id(run_id)
            return run is not None and run.is_finished

        wait_until(is_over, about=lambda: str(self.status(run_id)), every=0.1)
        # A process that goes on says so a moment later.
        wait_until(lambda: run_id not in {worker.run_id for worker in self.launcher._workers})
        return self.status(run_id)

    def made_by(self, asset: str) -> dict[str, object]:
        """What a run of an asset noted: its process, and the edition of its file."""
        run_id = self.launch(asset)
        assert self.end_of(run_id) is STATUS.SUCCESS
        (made,) = self.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
        materialization = made.event_log_entry.asset_materialization
        assert materialization is not None
        return {name: value.value for name, value in materialization.metadata.items() if "/" not in name}

    def begin_waiting(self) -> tuple[str, int]:
        """A run that goes on until it is ended, and its process."""
        self.begun.unlink(missing_ok=True)
        run_id = self.launch("waiting")
        wait_until(self.begun.exists, about=lambda: str(self.status(run_id)))
        wait_until(lambda: bool(self.begun.read_text()))
        return run_id, int(self.begun.read_text())

    def said(self, run_id: str) -> str:
        failed = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        return " ".join(entry.user_message or entry.message for entry in failed)

    @property
    def launcher(self) -> RunLauncher:
        assert isinstance(self.instance.run_launcher, RunLauncher)
        return self.instance.run_launcher


def key(asset: str) -> dg.AssetKey:
    return dg.AssetKey([asset])


def origin(pointer: FileCodePointer | ModuleCodePointer) -> JobPythonOrigin:
    return JobPythonOrigin("__ASSET_JOB", RepositoryPythonOrigin(sys.executable, pointer, None, None, None))


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def launching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    root = tmp_path_factory.mktemp("launching")
    module = root / "defs" / "own" / "assets.py"
    module.parent.mkdir(parents=True)
    module.write_text(ASSETS)
    (root / "dagster.yaml").write_bytes((PROJECT_ROOT / "dagster.yaml").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(root))
        with dg.DagsterInstance.from_config(str(root)) as instance:
            yield Launched(instance, module)


@pytest.fixture
def launched(launching: Launched, monkeypatch: pytest.MonkeyPatch) -> Launched:
    """With the variables that the processes and this one find the definitions by."""
    root = Path(launching.instance.root_directory)
    monkeypatch.setenv("DAGSTER_HOME", str(root))
    monkeypatch.setenv("LAKEHOUSE_HOME", str(root / "home"))
    monkeypatch.setenv("LAKEHOUSE_DEFS", str(root / "defs"))
    settings.cache_clear()
    return launching


def test_a_process_executes_one_run_after_another(launched: Launched) -> None:
    process = launched.made_by("quick")["process"]
    assert launched.made_by("quick")["process"] == process


@pytest.mark.soak
@ONLY_IN_A_SOAK
def test_after_a_run_that_took_much_memory_the_process_ends(launched: Launched) -> None:
    process = int(str(launched.made_by("large")["process"]))
    wait_until(lambda: not is_alive(process))


def test_a_run_beside_another_has_a_process_of_its_own__and_a_canceled_one_ends_its_process(launched: Launched) -> None:
    run_id, process = launched.begin_waiting()
    other = launched.made_by("quick")["process"]
    assert other != process
    assert launched.launcher.terminate(run_id)
    assert launched.end_of(run_id) is STATUS.CANCELED
    wait_until(lambda: not is_alive(process))
    assert not launched.launcher.terminate(run_id)
    assert launched.made_by("quick")["process"] == other


def test_a_run_whose_process_was_killed_fails_at_once__and_the_next_has_another(launched: Launched) -> None:
    run_id, process = launched.begin_waiting()
    os.kill(process, signal.SIGKILL)
    assert launched.end_of(run_id) is STATUS.FAILURE
    assert f"process {process} has ended with status -9" in launched.said(run_id)
    assert launched.made_by("quick")["process"] != process


def test_an_idle_process_that_was_killed_takes_no_run(launched: Launched) -> None:
    process = int(str(launched.made_by("quick")["process"]))
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: not is_alive(process))
    assert launched.made_by("quick")["process"] != process


def test_a_process_that_knows_other_files_of_the_project_takes_no_run(launched: Launched) -> None:
    before = launched.made_by("quick")
    assert before["edition"] == 1
    launched.module.write_text(ASSETS.replace('"edition": 1', '"edition": 2'))
    after = launched.made_by("quick")
    assert after["process"] != before["process"]
    assert after["edition"] == 2
    wait_until(lambda: not is_alive(int(str(before["process"]))))


def test_after_a_failed_run_the_process_ends(launched: Launched) -> None:
    process = int(str(launched.made_by("quick")["process"]))
    run_id = launched.launch("failing")
    assert launched.end_of(run_id) is STATUS.FAILURE
    wait_until(lambda: not is_alive(process))


def test_a_run_of_another_code_location_starts_as_dagster_starts_it(launched: Launched) -> None:
    pointer = FileCodePointer("elsewhere.py", "defs", None)
    run = launched.instance.create_run_for_job(
        present_definitions().resolve_implicit_global_asset_job_def(), job_code_origin=origin(pointer)
    )
    with pytest.raises(dg.DagsterInvariantViolationError, match="requires a workspace"):
        launched.launcher.launch_run(LaunchRunContext(run, None))


def test_the_last_processes_end_with_the_one_that_launched_them(launched: Launched) -> None:
    """Their run is interrupted, and says so itself."""
    idle = int(str(launched.made_by("quick")["process"]))
    run_id, process = launched.begin_waiting()
    assert process == idle
    launched.launcher.dispose()
    assert launched.end_of(run_id) is STATUS.FAILURE
    wait_until(lambda: not is_alive(process))
