"""Gives notices to a sink, each once as far as the sink allows: it is sent first and marked then, so that a crash
between the two sends it again under its key.

One process at a time does so, decided by a lock of the database. Notices from before the first start with a sink stay
unsent.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.domains.orders.engine import present_database
from lakehouse.errors import DatabaseUnavailable
from lakehouse.servers.postgres import Place
from lakehouse.sinks import NoticeRefused, Outlet, Sink, SinkUnavailable

if TYPE_CHECKING:
    import psycopg

_log = logging.getLogger(__name__)

_POLL_S = 0.5
_PAUSE_S = 2.0
"""Pause after a fault of the sink or the database."""
_AT_ONCE = 100
_END_S = 30.0
_WAITING = """
SELECT n.notification_id, n.order_id, n.stage, n.notification_text, n.notification_date, c.customer_name, c.email
FROM orders.notice_relay r
JOIN orders.order_notifications n ON n.notification_id >= r.settled AND n.notification_date >= r.started_at
JOIN orders.orders o USING (order_id) JOIN orders.customers c USING (customer_id)
WHERE NOT EXISTS (SELECT FROM orders.notices_sent s WHERE s.notification_id = n.notification_id)
ORDER BY n.notification_id LIMIT %s
"""
_SETTLE = """
UPDATE orders.notice_relay r SET settled = coalesce((
    SELECT min(n.notification_id) FROM orders.order_notifications n
    WHERE n.notification_id >= r.settled AND n.notification_date >= r.started_at AND (
        -- A number may be committed after a higher one.
        n.notification_date > clock_timestamp() - interval '10 minutes'
        OR NOT EXISTS (SELECT FROM orders.notices_sent s WHERE s.notification_id = n.notification_id))
), r.settled)
"""


def begin(place: Place) -> None:
    """From now on, notices go to a sink.

    Raises:
        DatabaseUnavailable: the database can't be reached.
    """
    with present_database(place).connect(autocommit=True) as connection:
        connection.execute("INSERT INTO orders.notice_relay DEFAULT VALUES ON CONFLICT DO NOTHING")


@contextmanager
def relayed(place: Place, sink: Sink | None) -> Iterator[None]:
    """Gives notices to a sink, if there is one, in a thread while the context lasts, and those that are left then.

    Raises:
        DatabaseUnavailable: the database can't be reached.
    """
    if sink is None:
        yield
        return
    begin(place)
    stop = threading.Event()
    thread = threading.Thread(target=relay, args=(place, sink, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_END_S)


def relay(place: Place, sink: Sink, stop: threading.Event) -> None:
    """Gives notices to a sink until it is told to stop, and then those that are left."""
    import psycopg

    while not stop.is_set():
        try:
            with present_database(place).connect(autocommit=True) as connection:
                _relay(connection, sink, stop)
        except (psycopg.Error, DatabaseUnavailable, SinkUnavailable) as error:
            _log.warning("Notices wait: %s", error)
            stop.wait(_PAUSE_S)


def _relay(connection: psycopg.Connection, sink: Sink, stop: threading.Event) -> None:
    """Does so while the connection and the sink last, once it has the lock."""
    while not _locked(connection):
        if stop.wait(_POLL_S):
            return
    connection.execute(_SETTLE)
    _mark_quickly(connection)
    with sink.opened() as outlet:
        while True:
            # Asked before the look: what is committed before the stop is sent.
            is_last = stop.is_set()
            sent = send_waiting(connection, outlet)
            if not sent and (is_last or stop.wait(_POLL_S)) and is_last:
                return


def send_left(place: Place, sink: Sink) -> None:
    """Gives all notices that wait to a sink, once no worker does.

    Raises:
        DatabaseUnavailable: the database can't be reached.
        SinkUnavailable: the sink takes none now; those that are left wait for a worker.
    """
    with present_database(place).connect(autocommit=True) as connection, sink.opened() as outlet:
        _mark_quickly(connection)
        while send_waiting(connection, outlet):
            pass


def _mark_quickly(connection: psycopg.Connection) -> None:
    """Doesn't wait for the disk at each mark: a crash of the server sends the last notices again, under their keys."""
    connection.execute("SET synchronous_commit = off")


def _locked(connection: psycopg.Connection) -> bool:
    found = connection.execute("SELECT pg_try_advisory_lock(hashtext('orders notices'))").fetchone()
    return found is not None and bool(found[0])


@dataclass(frozen=True)
class OrderNotice:
    """A notification of an order, and whom it is for."""

    order_id: str
    stage: str
    text: str
    made_at: datetime
    recipient: str
    email: str
    origin: str = "orders"

    @property
    def key(self) -> str:
        return f"{self.order_id}:{self.stage}"

    @property
    def subject(self) -> str:
        return f"Your order {self.order_id}"

    @property
    def document(self) -> dict[str, str]:
        """The notice as JSON."""
        return {
            "key": self.key,
            "order_id": self.order_id,
            "stage": self.stage,
            "text": self.text,
            "made_at": self.made_at.isoformat(),
            "recipient": self.recipient,
            "email": self.email,
        }


def send_waiting(connection: psycopg.Connection, outlet: Outlet) -> int:
    """Sends some notices that wait, and marks each; returns how many there were.

    Raises:
        SinkUnavailable: the sink takes none now.
    """
    waiting = connection.execute(_WAITING, [_AT_ONCE]).fetchall()
    for number, *members in waiting:
        refusal = None
        try:
            outlet.send(OrderNotice(*members))
        except NoticeRefused as error:
            refusal = str(error)
            _log.warning("The notice %s:%s was refused: %s", members[0], members[1], error)
        connection.execute(
            "INSERT INTO orders.notices_sent (notification_id, refusal) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [number, refusal],
        )
    return len(waiting)
