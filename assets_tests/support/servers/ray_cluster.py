"""A Ray cluster of two nodes on this machine: a head and a second raylet, each with an object store of its own.

Python package: ray. Up in about ten seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from assets_tests.support.servers.process import MissingBinary, ServerProcess, WhileEntered, free_port

_STORE_BYTES = 100 * 2**20


class RayCluster(WhileEntered):
    """Two nodes of one CPU on 127.0.0.1 while the `with` block runs.

    Args:
        env: further variables of the nodes' environment, such as LAKEHOUSE_HOME.

    Attributes:
        address: host:port of the head.

    Raises (on entering):
        MissingBinary: the package is missing.
        ServerError: a node did not start; with the end of its log.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        # Beside other tests a node may take long to answer; it is dead only when it ends.
        patience = {"RAY_health_check_timeout_ms": "60000", "RAY_health_check_failure_threshold": "20"}
        self._env = dict(os.environ) | dict(env) | patience | {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}

    def _enter(self, started: ExitStack) -> None:
        if find_spec("ray") is None:
            raise MissingBinary("Ray is not installed (Python package: ray)")
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        # Ray's sockets have names of 107 bytes at most, so its folder has a short one.
        self._folder = Path(started.enter_context(TemporaryDirectory(prefix="ray-", dir="/tmp")))
        started.callback(self._end)
        self.nodes: list[ServerProcess] = []
        self._start("head", "--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self._folder}")
        self._start("second", f"--address={self.address}")

    def _start(self, name: str, *options: str) -> None:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--node-ip-address=127.0.0.1"]
        command += ["--num-cpus=1", f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats", *options]
        log = self._folder / f"{name}.log"
        node = ServerProcess(command, log=log, env=self._env)
        self.nodes.append(node)
        node.wait_until(lambda: "--block" in log.read_text(), timeout=240, what="running")

    def _end(self) -> None:
        for node in reversed(self.nodes):
            node.stop()
