"""Runs batches of work on an existing Ray cluster, where the settings say so (LAKEHOUSE_COMPUTE=ray).

Ray schedules, retries and replaces nodes; Delta's conditional commits make concurrent writers safe; and a task that
runs twice stores nothing twice. So nothing of a scheduler is here: a task is a function of the kernel and what it is
about, and opens the lake by the settings of the node where it runs.

Before the first task, every node is asked who it is: one with another version, other code, another lake or a clock that
is off is refused. A node that joins later compares itself with the process that asks, before its first task. What a
task logs comes back with its result, into the log of the run. https://docs.ray.io/en/latest/ray-core/tasks.html
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any

from lakehouse.derive.evaluation import code_digest
from lakehouse.errors import LakehouseError
from lakehouse.lake.compute import BatchT, InProcess, ResultT, Task
from lakehouse.lake.engine import limit_duckdb
from lakehouse.lake.task_folder import use_own_folder
from lakehouse.progress import Progress
from lakehouse.settings import Settings, settings

if TYPE_CHECKING:
    from lakehouse.lake.lake import Lake

MAX_CLOCK_SKEW_S = 60.0
"""How far a node's clock may be from this one's: publications and loads are ordered by clocks."""
_TRIES = 3
"""Further tries of a task whose process or node died."""
_ANSWER_S = 10.0
_LOOK_EVERY_S = 0.25
"""How often finished tasks are looked for while others run."""
_MIB = 2**20
_OF_DUCKDB = 0.75
"""The part of a task's memory that DuckDB may take before it spills; the rest is Python's and Arrow's."""
_LINES = "lakehouse_lines"
"""Attribute of a task's error with its node and what it had logged."""
_log = logging.getLogger(__name__)

Line = tuple[str, int, str]
"""Logger, level and message of a record."""


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

    def differs(self, here: Node) -> str | None:
        """Why its tasks would give other tables than this process, which is `here`; None if they would not."""
        if self.version != here.version:
            return f"it has Lakehouse {self.version}, and this process {here.version}: install the same on every node"
        if self.code != here.code:
            return "it has other code or contracts of the same version: install the same on every node"
        if self.lake != here.lake:
            return f"its lake is {self.lake}, and this process' is {here.lake}: set the same LAKEHOUSE_LAKE_URI"
        return None

    def fault(self, here: Node, asked_at: float) -> str | None:
        """Why tasks must not run on it; None if they may.

        Args:
            here: this process, now that the node has answered.
            asked_at: this process' clock when it asked.
        """
        if (found := self.differs(here)) is not None:
            return found
        ahead, behind = self.clock - here.clock, asked_at - self.clock
        if max(ahead, behind) > MAX_CLOCK_SKEW_S:
            way = "ahead" if ahead > behind else "behind"
            return f"its clock is {max(ahead, behind):,.0f} s {way}: synchronize the clocks (NTP)"
        return None


@dataclass(frozen=True)
class _Shared:
    """What all tasks of a call get."""

    open_lake: Callable[[], Lake]
    task: Task[Any, Any]
    asked_by: Node
    memory_mib: int
    threads: int


@dataclass(frozen=True)
class _Answer:
    """A task's result, the identifier of its node, how long it ran (seconds), and what it logged."""

    result: Any
    node: str
    seconds: float
    lines: list[Line] = field(default_factory=list)


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
        self._names: dict[str, str] = {}

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
        threads = max(int(self._config.ray_cpus), 1)
        shared = ray.put(
            _Shared(self._open_lake, task, this_node("here"), self._config.ray_memory_mib, threads),
        )
        waiting: dict[Any, int] = {}
        results: dict[int, ResultT] = {}
        left = iter(range(len(batches)))
        done, total = 0, sum(map(len, batches))
        try:
            while len(results) < len(batches):
                # Two for each slot: one runs, and the next one is there when it ends.
                for number in islice(left, 2 * self.slots - len(waiting)):
                    waiting[run.remote(shared, batches[number])] = number
                ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=_LOOK_EVERY_S)
                for each in ready:
                    answer: _Answer = ray.get(each)
                    number = waiting.pop(each)
                    results[number] = answer.result
                    done += len(batches[number])
                    where = self._name_of(answer.node)
                    _repeat(answer.lines, where)
                    _log.debug("%s, task %d: %.2f s on %s", what, number + 1, answer.seconds, where)
                    progress(what, done, total)
        except ray.exceptions.RayTaskError as failure:
            node, lines = getattr(failure.cause, _LINES, ("", ()))
            _repeat(lines, self._name_of(node))
            raise failure.cause from failure
        except ray.exceptions.RayError as failure:
            raise ComputeError(f"the cluster at {self._config.ray_address} gave a task up: {failure}") from failure
        finally:
            # What still runs when this process is interrupted, or another task failed.
            for each in waiting:
                ray.cancel(each, force=True)
        return [results[number] for number in range(len(batches))]

    def _name_of(self, identifier: str) -> str:
        if identifier not in self._names:
            self._names = _names(self._ray)
        return self._names.get(identifier, identifier)

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


def _run(shared: _Shared, batch: Any) -> _Answer:
    """A task, in a worker of a node.

    Raises:
        ComputeError: this node joined the cluster later, and must not be used.
    """
    import ray

    node: str = ray.get_runtime_context().get_node_id()
    _require_same(_name(socket.gethostname(), node), shared.asked_by)
    use_own_folder()
    limit_duckdb(int(shared.memory_mib * _OF_DUCKDB), shared.threads)
    begun = time.monotonic()
    with _recorded(node) as lines:
        lake = shared.open_lake()
        lake.compute = InProcess()
        result = shared.task(lake, batch, lambda *_: None)
    return _Answer(result, node, time.monotonic() - begun, lines)


def _name(address: str, identifier: str) -> str:
    return f"{address} ({identifier[:8]})"


def _names(ray: Any) -> dict[str, str]:
    """Identifier of a node that runs tasks -> its name."""
    return {
        node["NodeID"]: _name(node["NodeManagerAddress"], node["NodeID"])
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU")
    }


@lru_cache(1)
def _require_same(name: str, asked_by: Node) -> None:
    if (fault := this_node(name).differs(asked_by)) is not None:
        raise ComputeError(f"node {name}: {fault}")


class _Lines(logging.Handler):
    """Keeps what is logged as text: arguments of records need not be fit to be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.name, record.levelno, self.format(record)))


@contextmanager
def _recorded(node: str) -> Iterator[list[Line]]:
    """Collects what Lakehouse logs in the block; an error takes it along."""
    logger, kept = logging.getLogger("lakehouse"), _Lines()
    before = logger.level
    logger.addHandler(kept)
    logger.setLevel(settings().log_level)
    try:
        yield kept.lines
    except Exception as error:
        setattr(error, _LINES, (node, kept.lines))
        raise
    finally:
        logger.removeHandler(kept)
        logger.setLevel(before)


def _repeat(lines: Sequence[Line], where: str) -> None:
    """Logs here what a task has logged."""
    for name, level, message in lines:
        logging.getLogger(name).log(level, "%s (on %s)", message, where)


def _require_alike(ray: Any) -> None:
    """Refuses nodes that would work otherwise than this process. A node that goes meanwhile is left out.

    Raises:
        ComputeError: naming all of them.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked, asked_at = [], time.time()
    for identifier, name in _names(ray).items():
        there = NodeAffinitySchedulingStrategy(node_id=identifier, soft=False)
        asked.append((name, ray.remote(this_node).options(num_cpus=0, scheduling_strategy=there).remote(name)))
    faults = []
    for name, answer in asked:
        try:
            found: Node = ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            faults.append(f"node {name}: it can't run Lakehouse ({error.cause}): install the same on every node")
            continue
        except ray.exceptions.RayError:
            continue
        if fault := found.fault(this_node("here"), asked_at):
            faults.append(f"node {found.name}: {fault}")
    if faults:
        raise ComputeError("\n".join(faults))
