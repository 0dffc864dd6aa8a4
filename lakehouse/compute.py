"""Runs batches of work on an existing Ray cluster, where the settings say so (LAKEHOUSE_COMPUTE=ray).

Ray schedules, retries and replaces nodes; Delta's conditional commits make concurrent writers safe; and a task that
runs twice stores nothing twice. So nothing of a scheduler is here: a task is a function of the kernel and what it is
about, and opens the lake by the settings of the node where it runs.

Before the first task, every node is asked who it is: one with another version, other code, another lake or a clock that
is off is refused. https://docs.ray.io/en/latest/ray-core/tasks.html
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lakehouse.derive.evaluation import code_digest
from lakehouse.errors import LakehouseError
from lakehouse.lake.compute import BatchT, InProcess, ResultT, Task
from lakehouse.progress import Progress
from lakehouse.settings import Settings, settings

if TYPE_CHECKING:
    from lakehouse.lake.lake import Lake

MAX_CLOCK_SKEW_S = 60.0
"""How far a node's clock may be from this one's: publications and loads are ordered by clocks."""
_TRIES = 3
"""Further tries of a task whose process or node died."""
_ANSWER_S = 10.0
_MIB = 2**20


class ComputeError(LakehouseError):
    """The cluster can't be used; the message says which node, and why."""


@dataclass(frozen=True)
class Node:
    """What a node says of itself.

    Args:
        name: its address and identifier in the cluster.
        code: digest of the code and the contracts.
        lake: where its lake is.
        clock: its time, in seconds since 1970.
    """

    name: str
    version: str
    code: str
    lake: str
    clock: float

    def fault(self, here: Node) -> str | None:
        """Why tasks must not run on it when this process is `here`; None if they may."""
        if self.version != here.version:
            return f"it has Lakehouse {self.version}, and this process {here.version}: install the same on every node"
        if self.code != here.code:
            return "it has other code or contracts of the same version: install the same on every node"
        if self.lake != here.lake:
            return f"its lake is {self.lake}, and this process' is {here.lake}: set the same LAKEHOUSE_LAKE_URI"
        if abs(self.clock - here.clock) > MAX_CLOCK_SKEW_S:
            ahead = "ahead" if self.clock > here.clock else "behind"
            return f"its clock is {abs(self.clock - here.clock):,.0f} s {ahead}: synchronize the clocks (NTP)"
        return None


def this_node(name: str) -> Node:
    """What this process is."""
    return Node(name, version("lakehouse"), code_digest(), settings().lake, time.time())


def compute_of(config: Settings, open_lake: Callable[[], Lake]) -> InProcess | OnRay:
    """Where batches run by the settings.

    Args:
        open_lake: opens the lake by a node's own settings.
    """
    return OnRay(config, open_lake) if config.compute == "ray" else InProcess()


class OnRay:
    """Runs tasks on the cluster at LAKEHOUSE_RAY_ADDRESS."""

    def __init__(self, config: Settings, open_lake: Callable[[], Lake]) -> None:
        self._config = config
        self._open_lake = open_lake

    @cached_property
    def slots(self) -> int:
        """See `lakehouse.lake.compute.Compute`."""
        return max(int(self._ray.cluster_resources().get("CPU", 1) / self._config.ray_cpus), 1)

    def map(
        self, lake: Lake, task: Task[BatchT, ResultT], batches: Sequence[BatchT], what: str, progress: Progress
    ) -> list[ResultT]:
        """See `lakehouse.lake.compute.Compute`.

        Raises:
            ComputeError: the cluster can't be reached, or a node must not be used.
        """
        if not batches:
            return []
        ray = self._ray
        run = ray.remote(_run).options(
            num_cpus=self._config.ray_cpus, memory=self._config.ray_memory_mib * _MIB, max_retries=_TRIES
        )
        shared = ray.put((self._open_lake, task))
        waiting = {run.remote(shared, batch): number for number, batch in enumerate(batches)}
        results: dict[int, ResultT] = {}
        done, total = 0, sum(map(len, batches))
        try:
            while waiting:
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                number = waiting[ready]
                results[number] = ray.get(ready)
                del waiting[ready]
                done += len(batches[number])
                progress(what, done, total)
        except ray.exceptions.RayTaskError as failure:
            raise failure.cause from failure
        except ray.exceptions.RayError as failure:
            raise ComputeError(f"the cluster at {self._config.ray_address} gave a task up: {failure}") from failure
        finally:
            # What still runs when this process is interrupted, or another task failed.
            for left in waiting:
                ray.cancel(left, force=True)
        return [results[number] for number in range(len(batches))]

    @cached_property
    def _ray(self) -> Any:
        """Ray, connected to the cluster, whose nodes were asked.

        Raises:
            ComputeError: it isn't installed, the cluster can't be reached, or a node must not be used.
        """
        try:
            import ray
        except ImportError:
            raise ComputeError(
                "LAKEHOUSE_COMPUTE is ray, but Ray is not installed: install lakehouse[ray], or unset it"
            ) from None
        address = self._config.ray_address
        if not ray.is_initialized():
            try:
                _require_answer(address)
                ray.init(address=address, namespace="lakehouse", logging_level=logging.WARNING, log_to_driver=False)
            except (OSError, RuntimeError, ValueError) as error:
                raise ComputeError(
                    f"no Ray cluster answers at {address}: {error}; start one (`ray start --head`), or correct "
                    "LAKEHOUSE_RAY_ADDRESS"
                ) from error
        _require_alike(ray)
        return ray


def _require_answer(address: str) -> None:
    """Connects to a cluster's head and disconnects: Ray itself tries for minutes.

    Raises:
        OSError: nothing answers.
    """
    host, separator, port = address.rpartition(":")
    if separator and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()


def _run(shared: tuple[Callable[[], Lake], Task[Any, Any]], batch: Any) -> Any:
    """A task, in a worker of a node."""
    open_lake, task = shared
    lake = open_lake()
    lake.compute = InProcess()
    return task(lake, batch, lambda *_: None)


def _require_alike(ray: Any) -> None:
    """Refuses nodes that would work otherwise than this process.

    Raises:
        ComputeError: naming all of them.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = []
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU"):
            here = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            name = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
            asked.append(ray.remote(this_node).options(num_cpus=0, scheduling_strategy=here).remote(name))
    faults = []
    for answer in asked:
        found = ray.get(answer)
        if fault := found.fault(this_node("here")):
            faults.append(f"node {found.name}: {fault}")
    if faults:
        raise ComputeError("\n".join(faults))
