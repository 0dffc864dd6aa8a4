"""A REST vendor on loopback that plays back scripted replies, good and bad: what a client makes of them is the
matter of its tests. A vendor with a market of its own is among the simulators.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qs, urlsplit

from lakehouse.ingest.http.client import Answer, ApiClient
from lakehouse.ingest.http.config import Api, Endpoint
from lakehouse.settings import settings

KEY = "Q7/x+Y 9ZKEYZ"
ASKED = {"function": "TIME_SERIES_INTRADAY", "symbol": "AAPL", "month": "2020-11", "datatype": "csv"}
QUOTA_WORDS = (r"rate limit is \d+ requests per day", r"is a premium (endpoint|feature)", r"demo\W+API key")
FORMS = re.compile(r"Q7.{1,5}x.{1,5}Y|9ZKEYZ")
ROWS = b"timestamp,open,high,low,close,volume\r\n2020-11-02 20:00:00,108.77,108.8,108.7,108.75,1102\r\n"


@dataclass
class Reply:
    body: bytes = ROWS
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    missing: int = 0
    """How many bytes fewer are sent than Content-Length, or the last chunk, says."""
    length: Literal["said", "chunks", "not said"] = "said"
    """Whether HTTP tells how long the body is; where it doesn't, the end of the connection ends the body."""
    silent_s: float = 0.0
    resets: bool = False
    drips: Literal["head", "body"] | None = None
    """Where a byte each hundredth of a second is sent until the client has had enough."""


class Vendor(ThreadingHTTPServer):
    """Answers request by request from `script`, then always with `otherwise`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/query"
        self.script: list[Reply] = []
        self.otherwise: Reply | Callable[[Any], Reply] = Reply()
        self.asked: list[Any] = []
        """The parameters of each GET request, and the JSON of each POST."""
        self.moments: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    def reply(self, asked: Any) -> Reply:
        with self.lock:
            self.asked.append(asked)
            self.moments.append(time.monotonic())
            if self.script:
                return self.script.pop(0)
        return self.otherwise(asked) if callable(self.otherwise) else self.otherwise


AnyServer = TypeVar("AnyServer", bound=ThreadingHTTPServer)


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    """Serves in a thread of its own, which ends with the block."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer on a kept connection waits some 40 ms
    server: Vendor

    def do_GET(self) -> None:
        self._answer({name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, asked: Any) -> None:
        self.server.headers.append(dict(self.headers.items()))
        reply = self.server.reply(asked)
        time.sleep(reply.silent_s)
        if reply.resets:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if reply.drips:
            self._drip(reply.drips)
            return
        self.send_response_only(reply.status)
        if reply.length == "said":
            self.send_header("Content-Length", str(len(reply.body)))
        elif reply.length == "chunks":
            self.send_header("Transfer-Encoding", "chunked")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # nobody waits any more for a reply that came too late
            body = reply.body
            if reply.length == "chunks":
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            self.wfile.write(body[: len(body) - reply.missing])
        self.close_connection = reply.missing > 0 or reply.length == "not said"

    def _drip(self, where: str) -> None:
        self.close_connection = True
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n"
        with suppress(OSError):
            self.wfile.write(head + (b"X-Slow: " if where == "head" else b"\r\n"))
            while True:
                self.wfile.write(b"x")
                time.sleep(0.01)

    def finish(self) -> None:
        with suppress(OSError, ValueError):  # the script told it to reset the connection
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def api(url: str = "https://vendor.example/query", **entries: Any) -> Api:
    given = {
        "url": url,
        "key": {"variable": "VENDOR_API_KEY"},
        "requests_per_minute": 60_000,
        "timeout_s": 5.0,
        "max_attempts": 3,
        "error_members": {"Error Message": "permanent", "Note": "rate", "Information": "rate"},
        "quota_patterns": QUOTA_WORDS,
    }
    return Api.model_validate(given | entries)


def client_of(api: Api, *, key: str | None = None, url: str | None = None) -> ApiClient:
    """A client of the vendor by the settings of now, with another key or address where they are given."""
    endpoint = Endpoint.of("vendor", api, settings())
    return ApiClient(replace(endpoint, key=key or endpoint.key, url=url or endpoint.url))


def ask(vendor: Vendor, asked: dict[str, str] | None = None, *, key: str = KEY, **entries: Any) -> Answer:
    with client_of(api(vendor.url, **entries), key=key) as client:
        return client.get(asked or ASKED)
