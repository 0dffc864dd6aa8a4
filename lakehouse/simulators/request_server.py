"""HTTP on loopback for simulated APIs: hands each request to a function, and sends its response.

What a request is answered belongs in `mapping_api`, `permid_api` and `document_server`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class ApiRequest:
    """A request: its path, query, headers (by lower-case names) and body."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class ApiResponse:
    """The response to it."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class RequestServer:
    """A server on a free port of 127.0.0.1 while its context is open.

    Args:
        answer: from a request to its response; called by several threads, one at a time.
    """

    def __init__(self, answer: Callable[[ApiRequest], ApiResponse]) -> None:
        self._server = _Server(answer)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Callable[[ApiRequest], ApiResponse]) -> None:
        self.answer, self.lock = answer, threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._respond()

    def do_HEAD(self) -> None:
        self._respond(has_body=False)

    def do_POST(self) -> None:
        self._respond()

    def _respond(self, *, has_body: bool = True) -> None:
        address = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        with self.server.lock:
            response = self.server.answer(ApiRequest(address.path, dict(parse_qsl(address.query)), headers, body))
        self.send_response(response.status)
        for name, value in {"Content-Type": "application/json", **response.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if has_body:
            self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: headers hold keys."""
