"""The payment provider and the carrier: calls over HTTP, each under a key, and the simulators' processes.

A refusal is a result. Everything else that isn't an answer is `ServiceUnavailable`, and asking again with the same key
does no harm.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lakehouse.errors import LakehouseError
from lakehouse.simulators import order_services

NAMES = ("provider", "carrier")
_TIMEOUT_S = 1.0
_START_S = 15.0
_POLL_S = 0.02


class ServiceUnavailable(LakehouseError):
    """The provider or the carrier didn't answer; what it did is unknown."""


@dataclass(frozen=True)
class Reply:
    """An answer: accepted, or refused for a reason."""

    accepted: bool
    body: dict[str, Any]

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", "no reason given"))


class Service:
    """One of the two, with a connection a thread.

    Args:
        name: provider or carrier.
        folder: where its simulator keeps its files.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self._local = threading.local()

    def post(self, path: str, key: str, body: dict[str, Any]) -> Reply:
        """Asks for something, once per key.

        Raises:
            ServiceUnavailable: no answer; it may have been done all the same.
        """
        return self._request("POST", path, {"Idempotency-Key": key}, json.dumps(body))

    def statement(self) -> list[dict[str, Any]]:
        """Everything that the service has done, by key.

        Raises:
            ServiceUnavailable: no answer.
        """
        return self._request("GET", "/statement", {}, None).body["rows"]

    def process(self) -> int | None:
        """The id of its process, or None where it doesn't answer."""
        try:
            return int(self._request("GET", "/health", {}, None).body["process"])
        except ServiceUnavailable:
            return None

    def _request(self, method: str, path: str, headers: dict[str, str], body: str | None) -> Reply:
        try:
            connection = self._connection()
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            status, document = response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._local.connection = None
            raise ServiceUnavailable(f"The {self.name} doesn't answer: {error}") from None
        if status not in (200, 402):
            raise ServiceUnavailable(f"The {self.name} answers with status {status}")
        return Reply(status == 200, document if isinstance(document, dict) else {"rows": document})

    def _connection(self) -> http.client.HTTPConnection:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            address = urlsplit((self._folder / f"{self.name}.url").read_text())
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_S)
            self._local.connection = connection
        return connection


@dataclass(frozen=True)
class Services:
    """Both, and the folder of their simulators."""

    folder: Path
    provider: Service
    carrier: Service

    def ensure_running(self) -> None:
        """Starts the simulators that don't answer.

        Raises:
            ServiceUnavailable: one doesn't start.
        """
        for service in (self.provider, self.carrier):
            if service.process() is not None:
                continue
            with (self.folder / "start.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if service.process() is None:
                    self._start(service)

    def _start(self, service: Service) -> None:
        url = self.folder / f"{service.name}.url"
        url.unlink(missing_ok=True)
        program = [sys.executable, "-m", order_services.__name__, service.name, str(self.folder), "0"]
        with (self.folder / f"{service.name}.log").open("ab") as log:
            child = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        _children.append(child)
        deadline = time.monotonic() + _START_S
        while service.process() is None:
            if child.poll() is not None or time.monotonic() > deadline:
                raise ServiceUnavailable(f"The simulated {service.name} doesn't start; see {log.name}")
            time.sleep(_POLL_S)


_children: list[subprocess.Popen[bytes]] = []
"""Simulators that this process started, which it has to reap."""


@contextmanager
def services(folder: Path) -> Iterator[Services]:
    """The provider and the carrier, simulated on loopback, while the context lasts.

    Raises:
        ServiceUnavailable: one doesn't start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "users.lock").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        found = Services(folder, *(Service(name, folder) for name in NAMES))
        found.ensure_running()
        yield found
        fcntl.flock(users, fcntl.LOCK_UN)
    for child in list(_children):
        if child.poll() is not None:
            _children.remove(child)


def provider_statement(folder: Path) -> list[dict[str, Any]] | None:
    """What the provider has charged and refunded; None where none has ever run.

    Raises:
        ServiceUnavailable: it can't be started, or doesn't answer.
    """
    if not order_services.store_of(folder, NAMES[0]).exists():
        return None
    with services(folder) as outside:
        return outside.provider.statement()
