"""NATS JetStream as a real broker: one nats-server, its streams in a temporary folder.

Debian package: nats-server. Up in about 0.1 s; what it has acknowledged survives its being killed.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from assets_tests.support.servers.process import ServerProcess, WhileEntered, free_port, require_binary


class NatsServer(WhileEntered):
    """A nats-server with JetStream on 127.0.0.1 that runs while the `with` block does.

    Args:
        options: more of its options, such as `--user`.

    Attributes:
        url: `nats://127.0.0.1:<port>`, the same after a restart.

    Raises (on entering):
        MissingBinary: the Debian package is missing.
        ServerError: it did not start; with the end of its log.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self.url = ""
        self._process: ServerProcess | None = None

    def _enter(self, started: ExitStack) -> None:
        self._binary = require_binary("nats-server", "nats-server")
        self._port = free_port()
        self.url = f"nats://127.0.0.1:{self._port}"
        folder = TemporaryDirectory(prefix="lakehouse-nats-", ignore_cleanup_errors=True)
        self._folder = Path(started.enter_context(folder))
        started.callback(self.kill)
        self.start()

    def start(self) -> None:
        """Start it, again if it was killed: on the same port, with the same streams.

        Raises:
            ServerError: with the end of its log.
        """
        store = str(self._folder / "store")
        command = [self._binary, "-a", "127.0.0.1", "-p", str(self._port), "-js", "-sd", store, *self._options]
        self._process = ServerProcess(command, log=self._folder / "nats-server.log", env=dict(os.environ))
        self._process.wait_until(self._answers, what="greeting on its port")

    def kill(self) -> None:
        """End it as a power failure would: SIGKILL, without a word to anybody."""
        if self._process is not None:
            self._process.stop()

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self._port), timeout=2) as probe:
            return probe.recv(4096).startswith(b"INFO ")
