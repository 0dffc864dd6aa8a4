"""Orders in flight that another version of the saga began, and that no worker of that version is left to end.

An order without a step moves to the present version as it is. One with steps is forked behind the last of them, if the
present saga comes to the same steps in the same way; else it is left to a person. Effects are idempotent by order and
stage, so a worker that was only taken for dead does nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from lakehouse.domains.orders.database.schema import ENGINE_SCHEMA
from lakehouse.domains.orders.graph import START, TRANSITIONS
from lakehouse.domains.orders.saga import APPLICATION, WORKFLOW

if TYPE_CHECKING:
    import psycopg

UNFINISHED = ("PENDING", "ENQUEUED", "DELAYED")
_ENGINE_STEPS = "DBOS."
"""What the names of the engine's own steps, such as its pauses, begin with."""
_ORPHANS = f"""
SELECT w.workflow_uuid, coalesce(r.order_id, regexp_replace(w.workflow_uuid, '~[0-9]+$', '')), w.application_version,
    EXISTS (SELECT FROM {ENGINE_SCHEMA}.workflow_status f WHERE f.forked_from = w.workflow_uuid),
    (SELECT coalesce(max(o.function_id), 0) FROM {ENGINE_SCHEMA}.operation_outputs o
        WHERE o.workflow_uuid = w.workflow_uuid),
    ARRAY (SELECT o.function_name FROM {ENGINE_SCHEMA}.operation_outputs o
        WHERE o.workflow_uuid = w.workflow_uuid AND NOT starts_with(o.function_name, '{_ENGINE_STEPS}')
        ORDER BY o.function_id)
FROM {ENGINE_SCHEMA}.workflow_status w LEFT JOIN orders.requests r ON r.order_id = w.workflow_uuid
WHERE w.application_name = '{APPLICATION}' AND w.name = '{WORKFLOW}' AND w.status = ANY (%(unfinished)s)
    AND w.application_version <> %(version)s
    AND w.application_version NOT IN (SELECT application_version FROM living)
    AND EXISTS (SELECT FROM living WHERE application_version = %(version)s)
ORDER BY w.created_at, w.workflow_uuid
"""
_LIVING = """
WITH living AS (
    SELECT application_version FROM orders.executors
    WHERE stopped_at IS NULL AND heartbeat_at >= clock_timestamp() - make_interval(secs => %(dead_after)s)
)
"""
# A worker of the old version that came back has made an order PENDING, and it keeps it.
_MOVE = f"""
UPDATE {ENGINE_SCHEMA}.workflow_status w SET application_version = %(version)s
WHERE w.workflow_uuid = ANY (%(orders)s) AND w.status = 'ENQUEUED'
    AND NOT EXISTS (SELECT FROM {ENGINE_SCHEMA}.operation_outputs o WHERE o.workflow_uuid = w.workflow_uuid)
RETURNING w.workflow_uuid
"""


@dataclass(frozen=True)
class Orphan:
    """An unfinished run of an order, of a version without a worker."""

    workflow: str
    key: str
    version: str
    is_superseded: bool
    """A fork of it exists: the process that made it died before it ended this one."""
    last: int
    """Number of its last recorded step, 0 without any."""
    steps: tuple[str, ...]

    @property
    def is_untouched(self) -> bool:
        return not self.last


def lock_takeover(connection: psycopg.Connection) -> None:
    """Lets one process at a time take orders over, until its transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('orders takeover'))")


def orphans(connection: psycopg.Connection, version: str, dead_after_s: float) -> list[Orphan]:
    """The orders of other versions that have no worker, oldest first. None while no worker of this version lives: two
    versions without workers would take orders from each other for ever.
    """
    found = connection.execute(
        f"{_LIVING} {_ORPHANS}".encode(),
        {"unfinished": list(UNFINISHED), "version": version, "dead_after": dead_after_s},
    ).fetchall()
    return [
        Orphan(workflow, key, of, is_superseded, last, tuple(names))
        for workflow, key, of, is_superseded, last, names in found
    ]


def move(connection: psycopg.Connection, orders: Sequence[str], version: str) -> list[str]:
    """Gives waiting orders without a step to a version; returns those that were."""
    moved = connection.execute(_MOVE.encode(), {"orders": list(orders), "version": version}).fetchall()
    return sorted(order for (order,) in moved)


def first_foreign_step(steps: Sequence[str]) -> str | None:
    """The first of an order's steps to which the present saga doesn't come this way, or None."""
    return next((after for before, after in pairwise([START, *steps]) if (before, after) not in TRANSITIONS), None)


def advice(orphan: Orphan, step: str, version: str) -> str:
    """Why an order is left to a person, and what to do."""
    return (
        f"version {orphan.version} of the saga has no worker, and version {version} doesn't come to {step} that way: "
        f"start a worker of version {orphan.version}, or run `lakehouse orders fork {orphan.key} --from {step}`"
    )
