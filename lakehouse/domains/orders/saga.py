"""The saga of an order, run by DBOS: five services forward, compensation backward.

Belongs here: the order of the steps, and what happens when one is refused, fails, or isn't answered. What a step writes
belongs in `database.steps`, which knows no engine.

Each service is one transaction, in which the step's result is kept beside the service's rows (see `durable`): a step
that is repeated after a crash finds either both or none. A call to the provider or the carrier is a step of its own,
with the key `order:step`, repeated for a while with the same key. The carrier's acceptance is the pivot: compensation
happens before it only, and never gives up.

DBOS 3.4.0 needs some care: retries are off by default; the application's version has to be our own, or each change of
the code would leave orders behind; and results of unknown classes are pickled, so steps return plain values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

from lakehouse.domains.orders.database import steps
from lakehouse.domains.orders.durable import transaction
from lakehouse.domains.orders.services import Services, ServiceUnavailable

if TYPE_CHECKING:
    import psycopg

APPLICATION = "orders"
QUEUE = "orders"
WORKFLOW = "order"
VERSION = "1"
"""Version of the saga, changed with the order or meaning of its steps. Workers take orders of their version only; see
`takeover` for those of a version without workers.
"""
_ATTEMPTS = 8
"""Attempts of a call before an order is marked for a person; with growing pauses, some 20 s."""
_FIRST_PAUSE_S = 0.1
_ROUND_PAUSE_S = 5.0


def register_saga(services: Services) -> None:
    """Registers the saga with DBOS in this process, once, before its launch."""
    from dbos import DBOS
    from dbos._error import DBOSMaxStepRetriesExceeded

    def call(function: Callable[..., Any]) -> Callable[..., Any]:
        return DBOS.step(
            name=function.__name__,
            retries_allowed=True,
            interval_seconds=_FIRST_PAUSE_S,
            max_attempts=_ATTEMPTS,
            should_retry=lambda error: isinstance(error, ServiceUnavailable),
        )(function)

    @transaction
    def acknowledge(connection: psycopg.Connection, order: str) -> dict[str, Any]:
        return asdict(steps.acknowledge(connection, order))

    @transaction
    def pay(connection: psycopg.Connection, order: str, reference: str) -> bool:
        return steps.pay(connection, order, reference)

    @transaction
    def book(connection: psycopg.Connection, order: str) -> str:
        return steps.book(connection, order)

    @transaction
    def ship(connection: psycopg.Connection, order: str, tracking: str, service: str, expected_on: str) -> None:
        steps.ship(connection, order, tracking, service, date.fromisoformat(expected_on))

    @transaction
    def release(connection: psycopg.Connection, order: str) -> None:
        steps.release(connection, order, "released")

    @transaction
    def restock(connection: psycopg.Connection, order: str) -> None:
        steps.release(connection, order, "restocked")

    @transaction
    def refunded(connection: psycopg.Connection, order: str, reference: str) -> None:
        steps.refund(connection, order, reference)

    @transaction
    def cancel(connection: psycopg.Connection, order: str, reason: str, text: str) -> None:
        steps.cancel(connection, order, reason, text)

    @transaction
    def need_attention(connection: psycopg.Connection, order: str, why: str) -> None:
        steps.need_attention(connection, order, why)

    @call
    def charge(order: str, amount: str, method: str) -> dict[str, Any]:
        body = {"order_id": order, "amount": amount, "method": method}
        return asdict(services.provider.post("/charges", f"{order}:charge", body))

    @call
    def void(order: str) -> dict[str, Any]:
        body = {"order_id": order, "charge_key": f"{order}:charge"}
        return asdict(services.provider.post("/voids", f"{order}:void", body))

    @call
    def refund(order: str, amount: str) -> dict[str, Any]:
        body = {"order_id": order, "amount": amount, "charge_key": f"{order}:charge"}
        return asdict(services.provider.post("/refunds", f"{order}:refund", body))

    @call
    def deliver(order: str) -> dict[str, Any]:
        return asdict(services.carrier.post("/deliveries", f"{order}:delivery", {"order_id": order}))

    def until_answered(step: Callable[..., dict[str, Any]], *arguments: str) -> dict[str, Any]:
        """Repeats a call for ever, and marks the order for a person when a round of attempts brings no answer."""
        while True:
            try:
                return step(*arguments)
            except DBOSMaxStepRetriesExceeded:
                need_attention(arguments[0], f"{step.__name__} gets no answer after {_ATTEMPTS} attempts")
                DBOS.sleep(_ROUND_PAUSE_S)

    def give_back(order: str, amount: str) -> None:
        reply = until_answered(refund, order, amount)
        refunded(order, reply["body"]["reference"])

    @DBOS.workflow(name=WORKFLOW)
    def order_saga(order: str) -> str:
        taken = acknowledge(order)
        if "reason" in taken:
            return "Rejected"
        try:
            reply = charge(order, taken["amount"], taken["method"])
        except DBOSMaxStepRetriesExceeded:
            # Unknown outcome: end the key at the provider, which tells of a charge that was made all the same.
            reply = until_answered(void, order)
        if not reply["accepted"]:
            release(order)
            cancel(order, f"payment: {reply['body']['reason']}", steps.PAYMENT_FAILED)
            return "Cancelled"
        outcome = "cancelled" if pay(order, reply["body"]["reference"]) else book(order)
        if outcome != "booked":
            release(order)
            give_back(order, taken["amount"])
            reason = "the customer cancelled" if outcome == "cancelled" else outcome
            cancel(order, reason, steps.FAILED)
            return "Cancelled"
        reply = until_answered(deliver, order)
        if not reply["accepted"]:
            restock(order)
            give_back(order, taken["amount"])
            cancel(order, f"delivery: {reply['body']['reason']}", steps.FAILED)
            return "Cancelled"
        ship(order, *(reply["body"][name] for name in ("tracking_number", "service", "expected_on")))
        return "Shipped"
