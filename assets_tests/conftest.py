"""The frame of the test suite: tiers, isolation from the user's environment, and the servers tests share.

Belongs here: what every test file may rely on. A fixture that one tier needs belongs in that tier's
`conftest.py`, the servers themselves in `assets_tests/servers`.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest
import typer.testing
from _pytest.faulthandler import fault_handler_stderr_fd_key
from xdist.remote import Producer

from assets_tests.support.environment import change_environment_in_place
from assets_tests.support.servers.ceph import CephS3
from assets_tests.support.servers.ministack import MinistackS3
from assets_tests.support.servers.nats import NatsServer
from assets_tests.support.servers.postgres import DebianPostgres, EmbeddedPostgres, new_database
from assets_tests.support.servers.process import MissingBinary
from assets_tests.support.servers.s3 import S3Server
from assets_tests.support.soak import soak_count
from assets_tests.support.worker_groups import FileGroupScheduling, place_of
from lakehouse.garbage import collect_garbage_rarely
from lakehouse.servers.postgres import Database

AnyServer = TypeVar("AnyServer", bound=S3Server | NatsServer | EmbeddedPostgres | DebianPostgres)

TESTS = Path(__file__).parent
PROJECT_ROOT = TESTS.parent

TIERS = {
    "unit": "one module, no server and no process beside it",
    "integration": "several modules with real tables, real servers or a real DuckDB",
    "end_to_end": "the product as people use it: `lakehouse dev`, its UI, the command line",
    "real_data": "market data as its publishers gave it; needs ../shared/data",
    "faults": "crashes, races, broken input and servers that go away",
}

hypothesis.settings.register_profile("dev", deadline=None, max_examples=soak_count(12, 200))
hypothesis.settings.register_profile(
    "ci", hypothesis.settings.get_profile("dev"), derandomize=True, database=None, print_blob=True
)
hypothesis.settings.load_profile("ci" if "CI" in os.environ else "dev")

change_environment_in_place()
# As the program does: a worker has millions of objects that stay, and scans them for a tenth of its time otherwise.
collect_garbage_rarely()

# Typer makes the program's commands of their functions for every call in a test.
typer.testing._get_command = cache(typer.testing._get_command)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    # A worker has dozens of threads; of a crash in native code the one that crashed is worth reading.
    faulthandler.enable(config.stash[fault_handler_stderr_fd_key], all_threads=False)
    # A run that is told to end, as by a time limit of CI, ends its servers as it does on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for tier, meaning in TIERS.items():
        config.addinivalue_line("markers", f"{tier}: {meaning}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test with the tier of its folder, and properties as what a soak looks at; a test outside the tiers
    stops the run. Files that go to a worker together come first.
    """
    homeless = []
    for item in items:
        if not item.path.is_relative_to(TESTS):
            continue
        tier = item.path.relative_to(TESTS).parts[0]
        if tier in TIERS:
            item.add_marker(tier)
            if hypothesis.is_hypothesis_test(getattr(item, "obj", None)):
                item.add_marker(pytest.mark.soak)
        else:
            homeless.append(item.nodeid)
    items.sort(key=lambda item: place_of(item.nodeid))
    if homeless:
        raise pytest.UsageError(f"Tests outside a tier ({', '.join(TIERS)}): {', '.join(homeless)}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileGroupScheduling:
    return FileGroupScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the output with a plain `N passed, N failed` for scripts: pytest's own line is decorated."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput") or config.option.collectonly:
        return

    def count(*outcomes: str) -> int:
        return sum(len(reporter.stats.get(outcome, ())) for outcome in outcomes)

    line = f"{count('passed', 'xpassed')} passed, {count('failed', 'error')} failed"
    if skipped := count("skipped", "xfailed"):
        line += f", {skipped} skipped"
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _forget_settings() -> None:
    if module := sys.modules.get("lakehouse.settings"):
        module.settings.cache_clear()


@pytest.fixture
def restored_environment() -> Iterator[None]:
    """After a test the environment is what it was before: a `monkeypatch` that has set a variable in the block of
    another one gives it that one's value at the test's end.
    """
    before = os.environ.copy()
    yield
    for name in os.environ.keys() - before.keys() - {"PYTEST_CURRENT_TEST"}:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, restored_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test has a lake of its own (LAKEHOUSE_HOME in its folder) and nothing of the user's settings."""
    for variable in list(os.environ):
        if variable.startswith(("LAKEHOUSE_", "AWS_")) or variable == "DAGSTER_HOME":
            monkeypatch.delenv(variable)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "lakehouse"))
    # A `.env` file or a shared credentials file of the user's is part of the environment, too.
    monkeypatch.setenv("PYTHON_DOTENV_DISABLED", "1")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    _forget_settings()
    yield
    _forget_settings()


def _serve(server: AnyServer) -> Iterator[AnyServer]:
    with ExitStack() as running:
        try:
            running.enter_context(server)
        except MissingBinary as missing:
            pytest.skip(str(missing))
        yield server


@pytest.fixture(scope="session")
def ceph_s3() -> Iterator[CephS3]:
    """Ceph's object gateway, one for all tests of a process; each test makes a bucket of its own."""
    yield from _serve(CephS3())


@pytest.fixture(scope="session")
def ministack_s3() -> Iterator[MinistackS3]:
    """ministack's S3, one for all tests of a process; each test makes a bucket of its own."""
    yield from _serve(MinistackS3())


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    """A NATS server with JetStream, new for every test: tests kill it."""
    yield from _serve(NatsServer())


@pytest.fixture(scope="session")
def embedded_postgres() -> Iterator[EmbeddedPostgres]:
    """The embedded PostgreSQL, one for all tests of a process; each test has a database of its own."""
    yield from _serve(EmbeddedPostgres())


@pytest.fixture(scope="session")
def debian_postgres() -> Iterator[DebianPostgres]:
    """Debian's PostgreSQL 15, one for all tests of a process; each test has a database of its own."""
    yield from _serve(DebianPostgres())


@pytest.fixture
def empty_database(embedded_postgres: EmbeddedPostgres) -> Iterator[Database]:
    """An empty database on the embedded PostgreSQL."""
    with new_database(embedded_postgres.server) as made:
        yield made


@pytest.fixture(params=["embedded_postgres", "debian_postgres"])
def any_postgres(request: pytest.FixtureRequest) -> Database:
    """Each PostgreSQL that is supported; a test makes a database of its own there."""
    server: EmbeddedPostgres | DebianPostgres = request.getfixturevalue(request.param)
    return server.server


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real market data beside the checkout; its tests are skipped where it is absent."""
    folder = PROJECT_ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real market data: ../shared/data is absent")
    return folder
