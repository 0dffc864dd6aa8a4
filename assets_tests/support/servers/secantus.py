"""SecantusDB as a real server of MongoDB's wire protocol, with change streams: one process.

Python package: secantusdb. Up in about 1.2 s; what it has acknowledged survives its being killed.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from assets_tests.support.servers.process import MissingBinary, ServerProcess, WhileEntered, free_port


class MongoServer(WhileEntered):
    """A server on 127.0.0.1 that runs while the `with` block does.

    Attributes:
        url: `mongodb://127.0.0.1:<port>/shop`, the same after a restart.

    Raises (on entering):
        MissingBinary: the package is missing.
        ServerError: it did not start; with the end of its log.
    """

    def _enter(self, started: ExitStack) -> None:
        self._binary = Path(sys.executable).with_name("secantusd-py")
        if not self._binary.exists():
            raise MissingBinary("secantusd-py is not installed (Python package: secantusdb)")
        self._port = free_port()
        self.url = f"mongodb://127.0.0.1:{self._port}/shop?directConnection=true"
        folder = TemporaryDirectory(prefix="lakehouse-mongo-", ignore_cleanup_errors=True)
        self._folder = Path(started.enter_context(folder))
        started.callback(self.kill)
        self.start()

    def start(self) -> None:
        """Start it, again if it was killed: on the same port, with the same data.

        Raises:
            ServerError: with the end of its log.
        """
        store = str(self._folder / "store")
        command = [str(self._binary), "--port", str(self._port), "--storage-path", store, "--sync-on-commit"]
        self._process = ServerProcess(command, log=self._folder / "secantusd.log", env=dict(os.environ))
        self._process.wait_until(self._answers, what="accepting connections")

    def kill(self) -> None:
        """End it as a power failure would."""
        if getattr(self, "_process", None) is not None:
            self._process.stop()

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self._port), timeout=2):
            return True
