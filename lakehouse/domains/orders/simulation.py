"""Plays many orders through workers of their own, optionally killing what takes part, and counts what came out.

The i-th order meets the faults that `simulators.order_services` lists; the seed varies the keys, and with them the
pauses of the services, and what is killed when.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakehouse.domains.orders.control import Desk, initialize, open_desk
from lakehouse.domains.orders.database import steps
from lakehouse.domains.orders.database.requests import request_of
from lakehouse.domains.orders.engine import present_database
from lakehouse.domains.orders.invariants import broken_invariants, disagreements
from lakehouse.domains.orders.notices import send_left
from lakehouse.domains.orders.services import Services, ServiceUnavailable, services
from lakehouse.domains.orders.worker_process import WorkerProcess
from lakehouse.errors import DatabaseUnavailable, LakehouseError
from lakehouse.servers.postgres import Place, database
from lakehouse.sinks import Sink

_PRICES = {1: 10, 2: 25, 3: 5, 4: 100, 5: 15}
"""What the simulated orders pay for a piece of each product."""
_CUSTOMERS = 5
_POLL_S = 0.2
_DEAD_AFTER_S = 5.0
_STUCK_S = 180.0
"""Time without any progress after which a simulation gives up."""
_COUNTS = {
    "status": "SELECT order_status, count(*) FROM orders.orders WHERE order_id = ANY (%s) GROUP BY 1",
    "notification": "SELECT stage, count(*) FROM orders.order_notifications WHERE order_id = ANY (%s) GROUP BY 1",
    "event": "SELECT event, count(*) FROM orders.events WHERE order_id = ANY (%s) GROUP BY 1",
    "rejected": "SELECT 'all', count(DISTINCT order_id) FROM orders.rejected_requests WHERE order_id = ANY (%s)",
}
_SECONDS = """
SELECT extract(epoch FROM max(occurred_at) FILTER (WHERE event = 'shipped')
    - min(occurred_at) FILTER (WHERE event = 'acknowledged'))::float8
FROM orders.events WHERE order_id = ANY (%s)
"""


class SimulationStuck(LakehouseError):
    """The simulated orders don't come to an end."""


@dataclass(frozen=True)
class Plan:
    """What is played: so many orders on so many workers, and where their notices go."""

    orders: int
    seed: int
    workers: int = 2
    kill: bool = False
    scarce: bool = False
    sink: Sink | None = None

    @property
    def keys(self) -> list[str]:
        return [f"sim-{self.seed}-{i:06d}" for i in range(1, self.orders + 1)]


@dataclass(frozen=True)
class Outcome:
    """What came out of it: counts by name, and each invariant with the keys that break it."""

    counts: dict[str, int]
    broken: dict[str, list[str]]
    seconds: float
    killed: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        return not any(self.broken.values())


@dataclass
class _Scene:
    """What takes part in a simulation."""

    plan: Plan
    place: Place
    outside: Services
    workers: list[WorkerProcess]
    kills: list[tuple[int, str]]
    killed: list[str] = field(default_factory=list)

    def start_worker(self) -> None:
        name = f"simulated-{os.getpid()}-{len(self.workers) + len(self.killed) + 1}"
        self.workers.append(WorkerProcess.start(self.place, self.outside.folder, name, self.plan.sink))


def simulate(plan: Plan, place: Place, folder: Path, show: Callable[[int, int], None]) -> Outcome:
    """Plays a plan to its end. Repeating it finds its orders done, and counts them again.

    Args:
        folder: of the simulated services and the workers' logs.
        show: gets how many orders have ended, and how many there are.

    Raises:
        SimulationStuck: nothing ended for minutes; what was done stays.
        DatabaseUnavailable: the database can't be started or reached.
        SinkUnavailable: the sink doesn't take the notices that are left.
    """
    with database(place), services(folder) as outside:
        initialize(place)
        with open_desk(place) as desk:
            _submit(desk, plan)
            scene = _Scene(plan, place, outside, [], _kills(plan, place))
            try:
                if desk.unfinished():
                    for _ in range(plan.workers):
                        scene.start_worker()
                _play(scene, desk, show)
            finally:
                for worker in scene.workers:
                    worker.stop()
            if plan.sink is not None:
                # A worker that stops leaves what takes long to the others, of which none is left.
                send_left(place, plan.sink)
            outside.ensure_running()
            return _outcome(scene)


def request_number(plan: Plan, i: int) -> dict[str, Any]:
    """The i-th order, as a client would send it."""
    lines = {1 + i % 5: 1 + i % 3, 1 + (i + 2) % 5: 1}
    return {
        "key": plan.keys[i - 1],
        "customer_id": 1 + i % _CUSTOMERS,
        "products": {str(product): quantity for product, quantity in lines.items()},
        "payment_amount": sum(_PRICES[product] * quantity for product, quantity in lines.items()),
        "delivery_address": f"Broadway {i}",
    }


def _submit(desk: Desk, plan: Plan) -> None:
    keys = plan.keys
    requests = [request_number(plan, i) for i in range(1, len(keys) + 1)]
    if not plan.scarce:
        needed: Counter[int] = Counter()
        for request in requests:
            needed.update({int(product): quantity for product, quantity in request["products"].items()})
        with desk.transaction() as connection:
            for product, quantity in sorted(needed.items()):
                steps.restock(connection, f"sim-{plan.seed}-{plan.orders} {product}", product, quantity)
    for answer in desk.submit(request_of(request) for request in requests):
        assert answer.status != "refused", answer


def _kills(plan: Plan, place: Place) -> list[tuple[int, str]]:
    """What is killed, and after how many orders have ended."""
    if not plan.kill:
        return []
    random_source = random.Random(plan.seed)
    what = ["worker", "provider", "carrier", *(["database"] if place.url is None else [])]
    moments = [(round(plan.orders * random_source.uniform(0.02, 0.9)), each) for each in what]
    return sorted(moments)


def _play(scene: _Scene, desk: Desk, show: Callable[[int, int], None]) -> None:
    """Watches until every order has ended; kills what the plan says, and recovers orders of dead workers."""
    from sqlalchemy.exc import DBAPIError

    done, since = -1, time.monotonic()
    while True:
        try:
            ended = scene.plan.orders - desk.unfinished()
            if ended == scene.plan.orders:
                show(ended, ended)
                return
            desk.recover(_DEAD_AFTER_S)
            desk.mark_failed()
        except (DBAPIError, DatabaseUnavailable):
            # Killed: the workers start it again, and so do we.
            with suppress(DatabaseUnavailable), database(scene.place):
                time.sleep(_POLL_S)
            continue
        if ended != done:
            done, since = ended, time.monotonic()
            show(ended, scene.plan.orders)
        elif time.monotonic() - since > _STUCK_S:
            raise SimulationStuck(
                f"{scene.plan.orders - ended} orders don't end; the workers' logs are in {scene.outside.folder}"
            )
        while scene.kills and scene.kills[0][0] <= ended:
            _kill(scene, scene.kills.pop(0)[1])
        if not any(worker.process.poll() is None for worker in scene.workers):
            scene.start_worker()
        time.sleep(_POLL_S)


def _kill(scene: _Scene, what: str) -> None:
    if what == "worker":
        worker = scene.workers.pop(random.Random(scene.plan.seed).randrange(len(scene.workers)))
        worker.kill()
    else:
        process = _server_process(scene, what)
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    scene.killed.append(what)


def _server_process(scene: _Scene, what: str) -> int | None:
    if what == "database":
        return int((scene.place.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
    try:
        return (scene.outside.provider if what == "provider" else scene.outside.carrier).process()
    except ServiceUnavailable:
        return None


def _outcome(scene: _Scene) -> Outcome:
    charges, deliveries = scene.outside.provider.statement(), scene.outside.carrier.statement()
    keys = scene.plan.keys
    with present_database(scene.place).connect() as connection:
        found: dict[str, dict[str, int]] = {
            name: dict(connection.execute(query.encode(), [keys]).fetchall()) for name, query in _COUNTS.items()
        }
        broken = {**broken_invariants(connection), **disagreements(connection, charges, deliveries)}
        (seconds,) = connection.execute(_SECONDS.encode(), [keys]).fetchone() or (None,)
    own = set(keys)
    repeated = [row for row in charges if row["order_id"] in own and row["kind"] == "charge" and row["calls"] > 1]
    status, notification, event = found["status"], found["notification"], found["event"]
    counts = {
        "orders": scene.plan.orders,
        "shipped": status.get("Shipped", 0) + status.get("Delivered", 0),
        "cancelled": status.get("Cancelled", 0),
        "rejected": found["rejected"].get("all", 0),
        "unfinished": status.get("Pending", 0) + status.get("Processing", 0),
        **{
            f"notifications {stage}": notification.get(stage, 0)
            for stage in ("acknowledged", "paid", "booked", "shipped", "cancelled")
        },
        "refunds": event.get("refunded", 0),
        "releases": event.get("released", 0),
        "restocks": event.get("restocked", 0),
        "repeated provider calls absorbed": sum(bool(row["lost"]) for row in repeated),
        "repeated after kills, absorbed": sum(not row["lost"] for row in repeated),
    }
    return Outcome(counts, broken, seconds or 0.0, tuple(scene.killed))
