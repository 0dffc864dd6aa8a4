"""Controls orders from outside a worker: submit, cancel, resume and fork them, and recover those of dead workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from lakehouse.domains.orders.database import steps
from lakehouse.domains.orders.database.requests import Request
from lakehouse.domains.orders.database.schema import ENGINE_SCHEMA, SCHEMA, prepare
from lakehouse.domains.orders.database.tracking import CarrierEvent, Tracking, track
from lakehouse.domains.orders.engine import client_of, engine_of, migrate_engine
from lakehouse.domains.orders.saga import APPLICATION, QUEUE, VERSION, WORKFLOW
from lakehouse.domains.orders.takeover import UNFINISHED, advice, first_foreign_step, lock_takeover, move, orphans
from lakehouse.errors import DatabaseUnavailable, LakehouseError
from lakehouse.servers.postgres import Place, database

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy
    from dbos import DBOSClient

DEAD_AFTER_S = 30.0
"""Age of a heartbeat from which a worker counts as dead."""
_DEAD = "stopped_at IS NULL AND heartbeat_at < clock_timestamp() - make_interval(secs => %s)"


class OrderRefused(LakehouseError):
    """An order can't be controlled as asked; the message says why."""


@dataclass(frozen=True)
class Submitted:
    """What became of a request: submitted, replayed, or refused with the reason."""

    key: str | None
    status: Literal["submitted", "replayed", "refused"]
    error: str | None = None


@dataclass(frozen=True)
class Tracked:
    """What became of an event of the carrier; refused with the reason."""

    event_id: str | None
    status: Tracking | Literal["refused"]
    error: str | None = None


@dataclass(frozen=True)
class Takeover:
    """What became of orders of other versions without a worker: moved to this version, forked, or left to a person."""

    moved: tuple[str, ...] = ()
    forked: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recovery:
    """Orders of dead workers that were handed to others."""

    executors: tuple[str, ...]
    orders: tuple[str, ...]
    takeover: Takeover = Takeover()


class Desk:
    """Where orders are handed in and overseen. Made by `open_desk`."""

    def __init__(self, engine: sqlalchemy.Engine, client: DBOSClient) -> None:
        self._engine = engine
        self._client = client

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        """A transaction of the database."""
        with self._engine.begin() as connection:
            yield _driver(connection)

    def submit(self, requests: Iterable[Request]) -> Iterator[Submitted]:
        """Hands in requests; the request and its place in the queue are one transaction.

        The same key and the same request again changes nothing; with another request it is refused. What is refused is
        kept in `rejected_requests`.
        """
        for request in requests:
            with self._engine.begin() as connection:
                yield self._submit(connection, request)

    def _submit(self, connection: sqlalchemy.Connection, request: Request) -> Submitted:
        from psycopg.types.json import Jsonb

        driver = _driver(connection)
        fault = request.fault
        if fault is None:
            new = driver.execute(
                "INSERT INTO orders.requests (order_id, request) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                [request.key, Jsonb(request.body)],
            )
            if new.rowcount:
                options: Any = {
                    "queue_name": QUEUE,
                    "workflow_name": WORKFLOW,
                    "workflow_id": request.key,
                    "app_version": VERSION,
                }
                self._client.enqueue_in_transaction(connection, options, request.key)
                return Submitted(request.key, "submitted")
            same = driver.execute(
                "SELECT request = %s FROM orders.requests WHERE order_id = %s", [Jsonb(request.body), request.key]
            ).fetchone()
            if same is not None and same[0]:
                return Submitted(request.key, "replayed")
            fault = "the key belongs to another request"
        steps.reject(driver, request.key, request.body, fault)
        return Submitted(request.key, "refused", fault)

    def track(self, events: Iterable[CarrierEvent | str]) -> Iterator[Tracked]:
        """Takes in events of the carrier, each in a transaction of its own; see `database.tracking`. Text instead of an
        event is why it couldn't be read.
        """
        for event in events:
            if isinstance(event, str):
                yield Tracked(None, "refused", event)
                continue
            with self.transaction() as connection:
                became = track(connection, event)
            if became is None:
                yield Tracked(event.event_id, "refused", "the event_id belongs to another event")
            else:
                yield Tracked(event.event_id, became)

    def cancel(self, key: str) -> None:
        """Cancels an order that isn't with the carrier yet; the saga gives back what it has taken.

        Raises:
            OrderRefused: it doesn't exist or it is too late.
        """
        with self.transaction() as connection:
            fault = steps.request_cancel(connection, key)
        if fault is not None:
            raise OrderRefused(f"Order {key} can't be cancelled: {fault}")

    def resume(self, key: str) -> str:
        """Lets an order go on that stopped: one of a dead worker, or one that ended with an error, from the step that
        failed. Returns the id of the workflow.

        Raises:
            OrderRefused: the order doesn't exist or has ended.
        """
        latest = self._latest(key)
        if latest.status in (*UNFINISHED, "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"):
            self._client.resume_workflows([latest.workflow_id], queue_name=QUEUE)
            return str(latest.workflow_id)
        if latest.status == "SUCCESS":
            raise OrderRefused(f"Order {key} has ended: {latest.output}")
        done = [step["function_id"] for step in self._steps(latest.workflow_id) if step["error"] is None]
        return self._fork(key, latest.workflow_id, max(done, default=0) + 1)

    def fork(self, key: str, step: str) -> str:
        """Runs an order again from a step, by this version of the saga; returns the id of the new workflow. Steps that
        are repeated find their rows and change nothing.

        Raises:
            OrderRefused: the order doesn't exist, or never came to that step.
        """
        latest = self._latest(key)
        numbers = {found["function_name"]: found["function_id"] for found in self._steps(latest.workflow_id)}
        if step not in numbers:
            came = ", ".join(numbers) or "none"
            raise OrderRefused(f"Order {key} never came to step {step!r}; its steps were {came}")
        if latest.status in UNFINISHED:
            self._client.cancel_workflow(latest.workflow_id)
        return self._fork(key, latest.workflow_id, numbers[step])

    def step_states(self, key: str) -> dict[str, str]:
        """The steps that an order came to, each done or failed.

        Raises:
            OrderRefused: the order doesn't exist.
        """
        steps_of = self._steps(self._latest(key).workflow_id)
        return {step["function_name"]: "failed" if step["error"] else "done" for step in steps_of}

    def _fork(self, key: str, workflow: str, number: int) -> str:
        from dbos import SetWorkflowID

        with self.transaction() as connection:
            steps.clear_attention(connection, key)
            (copies,) = connection.execute(
                f"SELECT count(*) FROM {ENGINE_SCHEMA}.workflow_status WHERE workflow_uuid LIKE %s".encode(),
                [f"{_pattern(key)}~%"],
            ).fetchone() or (0,)
        with SetWorkflowID(f"{key}~{copies + 1}"):
            return self._client.fork_workflow(
                workflow, number, application_version=VERSION, queue_name=QUEUE
            ).get_workflow_id()

    def _latest(self, key: str) -> Any:
        found = [
            each
            for each in self._client.list_workflows(workflow_id_prefix=key, sort_desc=True)
            if each.workflow_id == key or each.workflow_id.rpartition("~")[0] == key
        ]
        if not found:
            raise OrderRefused(f"There is no order {key}")
        return found[0]

    def _steps(self, workflow: str) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", self._client.list_workflow_steps(workflow))

    def recover(self, dead_after_s: float = DEAD_AFTER_S) -> Recovery:
        """Hands the orders of workers without a heartbeat to the others, each such worker once; and to this version
        those of versions without a worker.

        A worker that was only slow loses its orders to another; the engine lets only one of the two go on, and steps
        that both made are found.
        """
        executors, orders = self._recover(dead_after_s)
        return Recovery(executors, orders, self.take_over(dead_after_s))

    def _recover(self, dead_after_s: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
        with self.transaction() as connection:
            dead = [
                name
                for (name,) in connection.execute(
                    f"SELECT executor_id FROM orders.executors WHERE {_DEAD} ORDER BY 1 FOR UPDATE".encode(),
                    [dead_after_s],
                )
            ]
            if not dead:
                return (), ()
            orders = [
                found.workflow_id
                for found in self._client.list_workflows(status="PENDING", executor_id=dead, load_input=False)
            ]
            if orders:
                self._client.resume_workflows(orders, queue_name=QUEUE)
            # Marked after the orders are resumed: a crash between the two repeats it.
            connection.execute(
                "UPDATE orders.executors SET stopped_at = clock_timestamp() WHERE executor_id = ANY (%s)", [dead]
            )
        return tuple(dead), tuple(orders)

    def take_over(self, dead_after_s: float = DEAD_AFTER_S) -> Takeover:
        """Takes over the orders of other versions of the saga that have no worker; see `takeover`. A crash on the way
        leaves what the next call does.
        """
        with self.transaction() as connection:
            lock_takeover(connection)
            found = orphans(connection, VERSION, dead_after_s)
            untouched = [each.workflow for each in found if each.is_untouched and not each.is_superseded]
            if untouched:
                self._client.resume_workflows(untouched, queue_name=QUEUE)
            moved = move(connection, untouched, VERSION)
            forked, left = [], []
            for each in found:
                step = first_foreign_step(each.steps)
                if each.is_superseded:
                    self._client.cancel_workflow(each.workflow)
                elif each.is_untouched:
                    continue
                elif step is None:
                    # The fork first: without it a cancelled order would be lost.
                    forked.append(self._fork(each.key, each.workflow, each.last + 1))
                    self._client.cancel_workflow(each.workflow)
                else:
                    steps.need_attention(connection, each.key, advice(each, step, VERSION))
                    left.append(each.key)
        return Takeover(tuple(moved), tuple(forked), tuple(left))

    def live_workers(self, dead_after_s: float = DEAD_AFTER_S) -> list[str]:
        """The workers with a fresh heartbeat."""
        with self.transaction() as connection:
            found = connection.execute(
                "SELECT executor_id FROM orders.executors WHERE stopped_at IS NULL "
                "AND heartbeat_at >= clock_timestamp() - make_interval(secs => %s) ORDER BY 1",
                [dead_after_s],
            ).fetchall()
        return [name for (name,) in found]

    def mark_failed(self) -> list[str]:
        """Marks orders whose saga ended with an error for a person; returns their keys."""
        marked = []
        for found in self._client.list_workflows(status=["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"], load_input=False):
            key = found.workflow_id.rpartition("~")[0] or found.workflow_id
            why = f"the saga failed: {' '.join(str(found.error or found.status).split())[:500]}"
            with self.transaction() as connection:
                waiting = connection.execute(
                    "SELECT FROM orders.orders WHERE order_id = %(key)s AND attention IS NULL "
                    "AND order_status IN ('Pending', 'Processing') UNION ALL "
                    "SELECT FROM orders.waiting_requests WHERE order_id = %(key)s AND attention IS NULL",
                    {"key": key},
                ).fetchone()
                if waiting is not None and self._latest(key).workflow_id == found.workflow_id:
                    steps.need_attention(connection, key, why)
                    marked.append(key)
        return marked

    def unfinished(self) -> int:
        """How many sagas wait or run."""
        with self.transaction() as connection:
            found = connection.execute(
                f"SELECT count(*) FROM {ENGINE_SCHEMA}.workflow_status WHERE application_name = %s "
                "AND status = ANY (%s)".encode(),
                [APPLICATION, list(UNFINISHED)],
            ).fetchone()
        assert found is not None
        return int(found[0])


def has_dead_workers(connection: psycopg.Connection, dead_after_s: float = DEAD_AFTER_S) -> bool:
    """Whether `Desk.recover` has something to do."""
    found = connection.execute(f"SELECT FROM orders.executors WHERE {_DEAD} LIMIT 1".encode(), [dead_after_s])
    return found.fetchone() is not None


@contextmanager
def open_desk(place: Place) -> Iterator[Desk]:
    """The desk of the orders in a database, while the context lasts.

    Raises:
        DatabaseUnavailable: the server can't be started or reached, or it has no orders.
    """
    with database(place) as found:
        with found.connect() as connection:
            known = connection.execute(
                "SELECT to_regclass('orders.executors'), to_regclass(%s)", [f"{ENGINE_SCHEMA}.workflow_status"]
            ).fetchone()
        if known is None or None in known:
            raise DatabaseUnavailable(f"The database has no schema {SCHEMA}", "Run `lakehouse orders init`")
        engine = engine_of(place, 4)
        try:
            with client_of(engine) as client:
                yield Desk(engine, client)
        finally:
            engine.dispose()


def initialize(place: Place) -> list[str]:
    """Makes or updates the tables of the orders and of the engine; returns the revisions that were missing.

    Raises:
        DatabaseUnavailable: see `migrate`.
    """
    with database(place) as found:
        new = prepare(found)
        migrate_engine(place)
    return new


def _driver(connection: sqlalchemy.Connection) -> psycopg.Connection:
    return cast("psycopg.Connection", connection.connection.driver_connection)


def _pattern(text: str) -> str:
    """Text that LIKE takes as it is."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
