"""HTTP on loopback for a simulated vendor: connections, and the ways in which an answer fails to arrive whole.

Which answer a request gets belongs in `vendor_api`.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lakehouse.simulators.vendor_answers import Reply

_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing the socket resets the connection


class VendorServer(ThreadingHTTPServer):
    """Answers `GET /query` on a free port of 127.0.0.1, HTTP/1.1 with keep-alive, a thread a connection.

    Args:
        answer: from a query's parameters to its answer; called by several threads at once.
        now: the time in UTC for the `Date` header.
        slow_seconds: how long an answer takes whose manner is "slow".

    Raises:
        OSError: if no port can be had.
    """

    daemon_threads = True

    def __init__(
        self, answer: Callable[[dict[str, str]], Reply], now: Callable[[], datetime], slow_seconds: float
    ) -> None:
        self.answer, self.now, self.slow_seconds = answer, now, slow_seconds
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self) -> None:
        """Serve, in a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Take no more requests, also on connections that a client keeps in its pool."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._connections_lock:
            for connection in self._connections:
                with suppress(OSError):  # its client may have gone
                    connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._connections.discard(request)
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET)) == _RESET:
            # Without the usual farewell, which would reach the client before the reset.
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that gave up waiting is not an error of the vendor.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: VendorServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/query":
            self._send(self.server.answer(dict(parse_qsl(address.query))))
        else:
            self._send(Reply(b"Not found\n", "text/plain", status=404))

    def _send(self, reply: Reply) -> None:
        if reply.manner == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close_connection = True
            return
        if reply.manner == "slow":
            self.server.stopping.wait(self.server.slow_seconds)
        body = reply.body
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.manner != "cut_quietly":
            self.send_header("Content-Length", str(len(body)))
        if reply.manner in ("cut", "cut_quietly"):
            self.send_header("Connection", "close")
            # The first half, and never whole lines: they would pass for an answer.
            body = body[: len(body) // 2].rstrip(b"\r\n")
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return format_datetime(self.server.now(), usegmt=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request's address holds the key."""
