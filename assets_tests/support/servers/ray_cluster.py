"""A Ray cluster of two nodes on this machine: a head and a second raylet, each with an object store of its own. Workers
and the second node can be killed.

Python package: ray. Up in about ten seconds.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from assets_tests.support.servers.process import MissingBinary, ServerError, ServerProcess, WhileEntered, free_port

_STORE_BYTES = 100 * 2**20
_STARTS = 3
"""Ray gives a node 30 s to start, which may be too few beside other tests."""


class RayCluster(WhileEntered):
    """Two nodes of one CPU on 127.0.0.1 while the `with` block runs.

    Args:
        env: further variables of the nodes' environment, such as LAKEHOUSE_HOME.

    Attributes:
        address: host:port of the head.

    Raises (on entering):
        MissingBinary: the package is missing, or can't be used from its folder.
        ServerError: a node did not start; with the end of its log.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        # Beside other tests a node may take long to answer; it is dead only when it ends.
        patience = {"RAY_health_check_timeout_ms": "60000", "RAY_health_check_failure_threshold": "20"}
        self._env = dict(os.environ) | dict(env) | patience | {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}

    def _enter(self, started: ExitStack) -> None:
        if find_spec("ray") is None:
            raise MissingBinary("Ray is not installed (Python package: ray)")
        if " " in sys.executable:
            raise MissingBinary("Ray 2.60 can't start its processes where Python's path has a space")
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        # Ray's sockets have names of 107 bytes at most, so its folder has a short one.
        self._folder = Path(started.enter_context(TemporaryDirectory(prefix="ray-", dir="/tmp")))
        started.callback(self._end)
        self.nodes: list[ServerProcess] = []
        # The server of Ray's own client isn't used, but without a port of its own it takes that of another cluster.
        ports = (f"--port={port}", f"--ray-client-server-port={free_port()}")
        self._start("head", "--head", *ports, "--include-dashboard=false", f"--temp-dir={self._folder}")
        self._start("second", f"--address={self.address}")

    def _start(self, name: str, *options: str, env: Mapping[str, str] | None = None) -> None:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--node-ip-address=127.0.0.1"]
        command += ["--num-cpus=1", f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats", *options]
        log = self._folder / f"{name}.log"
        for left in reversed(range(_STARTS)):
            node = ServerProcess(command, log=log, env=self._env | dict(env or {}))
            self.nodes.append(node)
            try:
                node.wait_until(lambda: "--block" in log.read_text(), what="running")
                return
            except ServerError:
                self.nodes.pop().stop()
                if not left:
                    raise

    @contextmanager
    def joined_by(self, name: str, env: Mapping[str, str]) -> Iterator[None]:
        """A further node in the block, with other variables of its environment."""
        self._start(name, f"--address={self.address}", env=env)
        joined = self.nodes[-1]
        try:
            yield
        finally:
            self.nodes.remove(joined)
            joined.stop()

    def working(self) -> list[int]:
        """The workers that run a task of Lakehouse's at this moment."""
        return [pid for pid in self._workers() if _command(pid) == "ray::_run"]

    def kill_worker(self, chance: random.Random) -> bool:
        """Kills a worker that runs a task; False if there is none."""
        working = self.working()
        if working:
            os.kill(chance.choice(working), signal.SIGKILL)
        return bool(working)

    def kill_second_node(self) -> None:
        """Kills the raylet of the second node, and with it the node."""
        (raylet,) = [pid for pid in _children(self.nodes[1].pid) if Path(_command(pid).split("\0")[0]).name == "raylet"]
        os.kill(raylet, signal.SIGKILL)

    def replace_second_node(self) -> None:
        """Starts another second node in the place of one that was killed."""
        self.nodes.pop().stop()
        self._start("second", f"--address={self.address}")

    def _workers(self) -> list[int]:
        raylets = [child for node in self.nodes for child in _children(node.pid)]
        return [worker for raylet in raylets for worker in _children(raylet)]

    def _end(self) -> None:
        for node in reversed(self.nodes):
            node.stop()


def _children(pid: int) -> list[int]:
    """The processes that a process has started, and that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(stat.parent.name))
    return found


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
    return ""
