"""A payment provider and a carrier as processes of their own on loopback, each with a store of its own.

`python -m lakehouse.simulators.order_services provider|carrier FOLDER PORT` serves until no process holds
`FOLDER/users.lock` any more, so that none is left behind. Both are idempotent by the request's key: what was answered
once is answered again, also after a kill, since an answer is in the store before it is sent.

Orders named `sim-<seed>-<i>` meet faults by i: i % 20 = 3 is declined, i % 20 = 7 refused by the carrier, and of
i % 50 = 11 the answer is lost after the charge; every second time the connection is reset, else the client has to time
out. All other orders go through.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import socket
import sqlite3
import struct
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SILENT_S = 2.0
"""How long an answer takes that the client shouldn't wait for."""
_SIMULATED = re.compile(r"sim-(\d+)-(\d+)")
_RESET = struct.pack("ii", 1, 0)
_LONGEST_PAUSE_S = 0.004
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, order_id TEXT NOT NULL, amount TEXT, status INTEGER NOT NULL,
    body TEXT NOT NULL, calls INTEGER NOT NULL, lost INTEGER NOT NULL
)
"""
Answer = tuple[int, dict[str, Any], bool]
"""Status, body, and whether the answer gets lost on its way."""


class Store:
    """What a service has answered, by key; the answer is on disk before it is sent."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing that it wrote; only a machine that fails would.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(_TABLES)
        self.lock = threading.Lock()

    def known(self, key: str) -> Answer | None:
        """The answer that was given under a key; counts the call."""
        found = self._connection.execute(
            "UPDATE answers SET calls = calls + 1 WHERE key = ? RETURNING status, body", [key]
        ).fetchall()
        return (found[0][0], json.loads(found[0][1]), False) if found else None

    def keep(self, key: str, kind: str, request: dict[str, Any], answer: Answer) -> Answer:
        status, body, lost = answer
        row = [key, kind, request["order_id"], request.get("amount"), status, json.dumps(body), 1, lost]
        self._connection.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return answer

    def rows(self) -> list[dict[str, Any]]:
        with closing(self._connection.execute("SELECT * FROM answers ORDER BY key")) as cursor:
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]


def store_of(folder: Path, name: str) -> Path:
    """The file of a service's store."""
    return folder / f"{name}.sqlite"


def number_of(order_id: str) -> int | None:
    """The i of a simulated order."""
    found = _SIMULATED.fullmatch(order_id)
    return int(found[2]) if found else None


class Provider:
    """A payment provider: charges, refunds, and voids of keys whose charge got no answer."""

    name = "provider"

    def answer(self, store: Store, path: str, key: str, request: dict[str, Any]) -> Answer:
        if (known := store.known(key)) is not None:
            return known
        match path:
            case "/charges":
                return store.keep(key, "charge", request, self._charge(request["order_id"]))
            case "/voids":
                return self._void(store, key, request)
            case "/refunds":
                return store.keep(key, "refund", request, (200, {"reference": f"re_{request['order_id']}"}, False))
        return 404, {"error": "not found"}, False

    def _charge(self, order_id: str) -> Answer:
        number = number_of(order_id)
        if number is not None and number % 20 == 3:
            return 402, {"reason": "card declined"}, False
        return 200, {"reference": f"ch_{order_id}"}, number is not None and number % 50 == 11

    def _void(self, store: Store, key: str, request: dict[str, Any]) -> Answer:
        """Ends a key without a charge, or tells of the charge that was made under it."""
        charge = store.known(request["charge_key"])
        if charge is not None:
            return charge
        store.keep(request["charge_key"], "void", request, (402, {"reason": "voided"}, False))
        return 402, {"reason": "voided"}, False


class Carrier:
    """A carrier: accepts deliveries under tracking numbers of its own, or refuses them."""

    name = "carrier"

    def answer(self, store: Store, path: str, key: str, request: dict[str, Any]) -> Answer:
        if (known := store.known(key)) is not None:
            return known
        if path != "/deliveries":
            return 404, {"error": "not found"}, False
        number = number_of(request["order_id"])
        if number is not None and number % 20 == 7:
            return store.keep(key, "delivery", request, (402, {"reason": "address not served"}, False))
        expected = datetime.now(UTC).date() + timedelta(days=3)
        tracking = f"DHL{random.getrandbits(48):015d}"
        body = {"tracking_number": tracking, "service": "DHL", "expected_on": expected.isoformat()}
        return store.keep(key, "delivery", request, (200, body, False))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, service: Provider | Carrier, store: Store, port: int) -> None:
        self.service, self.store = service, store
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A worker that was killed is not an error of the service.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(200, {"service": self.server.service.name, "process": os.getpid()})
        elif self.path == "/statement":
            with self.server.store.lock:
                rows = self.server.store.rows()
            self._send(200, rows)
        else:
            self._send(404, {"error": "not found"})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Idempotency-Key"]
        if number_of(request["order_id"]) is not None:
            time.sleep(random.Random(key).random() * _LONGEST_PAUSE_S)
        with self.server.store.lock:
            status, body, lost = self.server.service.answer(self.server.store, self.path, key, request)
        if lost:
            self._lose((number_of(request["order_id"]) or 0) % 100 == 11)
        else:
            self._send(status, body)

    def _lose(self, by_reset: bool) -> None:
        if by_reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        else:
            time.sleep(SILENT_S)
        self.close_connection = True

    def _send(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def serve(name: str, folder: Path, port: int) -> None:
    """Serves one of the two until no process holds the folder's `users.lock`."""
    # Ctrl-C in a terminal reaches all processes of its group, also those that others still use.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    service = Provider() if name == Provider.name else Carrier()
    server = _Server(service, Store(store_of(folder, name)), port)
    (folder / f"{name}.new").write_text(f"http://127.0.0.1:{server.server_address[1]}")
    (folder / f"{name}.new").rename(folder / f"{name}.url")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    with (folder / "users.lock").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_EX)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
