"""A worker: runs sagas from the queue, shows that it lives, and starts again what it needs on this machine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.domains.orders.control import has_dead_workers, open_desk
from lakehouse.domains.orders.database import steps
from lakehouse.domains.orders.database.schema import ENGINE_SCHEMA
from lakehouse.domains.orders.engine import engine_of, present_database
from lakehouse.domains.orders.notices import relayed
from lakehouse.domains.orders.saga import APPLICATION, QUEUE, VERSION, register_saga
from lakehouse.domains.orders.services import Services, ServiceUnavailable, services
from lakehouse.errors import DatabaseUnavailable, LakehouseError
from lakehouse.servers.postgres import Place, database, is_running
from lakehouse.sinks import Sink

if TYPE_CHECKING:
    import psycopg

_log = logging.getLogger(__name__)

ORDERS_AT_ONCE = 16
_CONNECTIONS = 24
_QUEUE_POLL_S = 0.1
HEARTBEAT_S = 1.0
_END_S = 10


class WorkerRunning(LakehouseError):
    """A worker of the same name runs already."""


def run_worker(place: Place, folder: Path, executor: str, sink: Sink | None, stop: threading.Event) -> None:
    """Runs a worker until it is told to stop.

    Args:
        place: the database.
        folder: of the simulated provider and carrier.
        executor: the worker's name, which stays the same when it is started again: it takes up its own orders then.
        sink: where notices go; without one they stay in the database.

    Raises:
        WorkerRunning: another process has that name.
        DatabaseUnavailable: the database can't be reached.
        ServiceUnavailable: a simulated service can't be started.
    """
    with (
        database(place),
        services(folder) as outside,
        _registered(place, executor),
        relayed(place, sink),
        _engine(place, outside, executor),
    ):
        _take_over(place)
        keeping = Housekeeping(place, outside, executor)
        was_up = True
        while not stop.wait(HEARTBEAT_S):
            is_up = keeping.run()
            if is_up and not was_up:
                _take_up_own(executor)
            was_up = is_up
        keeping.close()


@contextmanager
def _engine(place: Place, outside: Services, executor: str) -> Iterator[None]:
    """DBOS with the saga, while the context lasts."""
    from dbos import DBOS

    engine = engine_of(place, _CONNECTIONS)
    DBOS(
        config={
            "name": APPLICATION,
            "system_database_url": "postgresql://engine/lakehouse",
            "system_database_engine": engine,
            "dbos_system_schema": ENGINE_SCHEMA,
            "executor_id": executor,
            "application_version": VERSION,
            "log_level": "ERROR",
        }
    )
    try:
        register_saga(outside)
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=ORDERS_AT_ONCE, polling_interval_sec=_QUEUE_POLL_S)
        yield
    finally:
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=_END_S)
        engine.dispose()


@contextmanager
def _registered(place: Place, executor: str) -> Iterator[None]:
    """The worker's row, while the context lasts. A lock of the session keeps a second worker of that name away."""
    with present_database(place).connect(autocommit=True) as lock:
        got = lock.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [f"orders executor {executor}"]).fetchone()
        if got is None or not got[0]:
            raise WorkerRunning(f"A worker {executor} is running already", "Give this one another --id")
        beat(lock, executor, starts=True)
        yield
    with present_database(place).connect(autocommit=True) as connection:
        connection.execute(
            "UPDATE orders.executors SET stopped_at = clock_timestamp() WHERE executor_id = %s", [executor]
        )


def beat(connection: psycopg.Connection, executor: str, *, starts: bool = False) -> None:
    """Notes that a worker lives. One that was taken for dead is counted again."""
    connection.execute(
        "INSERT INTO orders.executors (executor_id, application_version) VALUES (%(id)s, %(version)s) "
        "ON CONFLICT (executor_id) DO UPDATE SET heartbeat_at = clock_timestamp(), stopped_at = NULL, "
        "application_version = excluded.application_version, "
        "started_at = CASE WHEN %(starts)s THEN clock_timestamp() ELSE executors.started_at END",
        {"id": executor, "version": VERSION, "starts": starts},
    )


def _take_over(place: Place) -> None:
    """Takes over orders of versions without a worker. Where the database goes away meanwhile, `Desk.recover` does."""
    from sqlalchemy.exc import DBAPIError

    try:
        with open_desk(place) as desk:
            taken = desk.take_over()
    except (DBAPIError, DatabaseUnavailable) as error:
        _log.warning("Orders of other versions weren't taken over: %s", error)
        return
    if taken.left:
        _log.warning("Orders for a person, see `lakehouse orders list --stuck`: %s", ", ".join(taken.left))


def _recover(place: Place) -> None:
    with open_desk(place) as desk:
        found = desk.recover()
    if found.executors:
        _log.warning("%d orders of %s were taken up", len(found.orders), ", ".join(found.executors))


def _take_up_own(executor: str) -> None:
    """Resumes the worker's own orders after its database was away, as some may have been given up with an error. Of
    those that still run, the engine lets only one execution go on.
    """
    from dbos import DBOS

    orders = [found.workflow_id for found in DBOS.list_workflows(status="PENDING", executor_id=executor)]
    if orders:
        DBOS.resume_workflows(orders, queue_name=QUEUE)


@dataclass
class Housekeeping:
    """A worker's housekeeping: its server and services run, its heartbeat is fresh, expired reservations are free, and
    the orders of workers that died are taken up, also where no sensor runs.

    It keeps its connection, since to make one costs more than all the rest.
    """

    place: Place
    outside: Services
    executor: str
    connection: psycopg.Connection | None = None

    def run(self) -> bool:
        """Does it once; returns whether the database answered all the time."""
        import psycopg
        from sqlalchemy.exc import DBAPIError

        is_up = True
        try:
            self.outside.ensure_running()
            if self.connection is None:
                is_up = self._start_again()
                self.connection = present_database(self.place).connect(autocommit=True)
            beat(self.connection, self.executor)
            while steps.release_expired(self.connection):
                pass
            if has_dead_workers(self.connection):
                _recover(self.place)
        except (DatabaseUnavailable, ServiceUnavailable, psycopg.Error, DBAPIError) as error:
            _log.warning("%s", error)
            if isinstance(error, ServiceUnavailable):
                return is_up
            self.close()
            return False
        return is_up

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def _start_again(self) -> bool:
        """Starts an embedded server that has ended; returns whether it was running."""
        if self.place.url is not None or is_running(self.place):
            return True
        with database(self.place):
            _log.warning("PostgreSQL had ended and was started again")
        return False
