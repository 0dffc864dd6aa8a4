"""The registry of functions that the rows of an analysis may name.

A row's `funcPath` is compared with the registered names and never imported. Functions are registered as `name@version`
by the decorator `Tasks.task`; other packages offer theirs by the entry point `lakehouse.tasks`, which names a `Tasks`.
The code version of a function is in `code`; what a row's arguments must be is checked by `signatures`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from lakehouse.errors import LakehouseError, did_you_mean

ENTRY_POINTS = "lakehouse.tasks"
"""Group of the entry points by which packages offer tasks."""
ALIAS = "practice."
"""Prefix under which every task can be named, too."""
READER = "tables"
"""Keyword-only parameter of functions that read the lake: the runner passes it, and rows can't name it."""

Function = TypeVar("Function", bound=Callable[..., Any])
Check = Callable[[Any], str | None]
"""Returns what is wrong with a keyword's value, if anything."""


class TaskError(LakehouseError, ValueError):
    """A function can't be registered as asked."""


@dataclass(frozen=True)
class Task:
    """A registered function.

    Args:
        name: as rows write it, such as `ta.sma`.
        version: raised when the function computes something else.
        checks: keyword -> what its value must fulfil, which is checked before anything runs.
        aliases: further names.
    """

    name: str
    version: int
    function: Callable[..., Any]
    checks: Mapping[str, Check] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def reads_lake(self) -> bool:
        """Whether the runner passes the lake's tables to it."""
        return READER in inspect.signature(self.function).parameters

    @property
    def signature(self) -> inspect.Signature:
        """The parameters that a row fills."""
        whole = inspect.signature(self.function)
        return whole.replace(parameters=[each for name, each in whole.parameters.items() if name != READER])

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


class Tasks:
    """Tasks that a module offers."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def task(
        self, name: str, *, version: int = 1, checks: Mapping[str, Check] | None = None, aliases: Iterable[str] = ()
    ) -> Callable[[Function], Function]:
        """Registers the decorated function, which stays as it is."""

        def registered(function: Function) -> Function:
            self._tasks.append(Task(name, version, function, dict(checks or {}), tuple(aliases)))
            return function

        return registered


class Registry:
    """The tasks that rows may name, by name and version."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._versions: dict[str, dict[int, Task]] = {}
        for task in tasks:
            for name in (task.name, *task.aliases):
                versions = self._versions.setdefault(name, {})
                if task.version in versions and versions[task.version] != task:
                    raise TaskError(f"two functions are registered as {name}@{task.version}; rename one of them")
                versions[task.version] = task

    def __iter__(self) -> Iterator[Task]:
        return iter({id(task): task for versions in self._versions.values() for task in versions.values()}.values())

    @classmethod
    def installed(cls) -> Registry:
        """The functions that come with Lakehouse, and those of other installed packages.

        Raises:
            TaskError: an entry point isn't a `Tasks`, or two functions have the same name and version.
        """
        from lakehouse.analyses.functions import SHIPPED

        return cls([*SHIPPED, *_offered(tuple(sys.path))])

    def extended(self, tasks: Iterable[Task]) -> Registry:
        """This registry and further tasks."""
        return Registry([*self, *tasks])

    def find(self, path: str) -> Task | None:
        """The task that a `funcPath` names: `name` is its newest version, `name@version` that one."""
        name, _, version = path.removeprefix(ALIAS).partition("@")
        versions = self._versions.get(name, {})
        if not version:
            return versions[max(versions)] if versions else None
        return versions.get(int(version)) if version.isascii() and version.isdigit() and len(version) < 9 else None

    def get(self, path: str) -> Task:
        """The same.

        Raises:
            TaskError: no task has that name.
        """
        if (found := self.find(path)) is None:
            raise TaskError(f"no function is registered as {path!r}{self.hint(path)}")
        return found

    def hint(self, path: str) -> str:
        """What to do about an unknown `funcPath`."""
        name = path.removeprefix(ALIAS).partition("@")[0]
        if name in self._versions:
            versions = ", ".join(f"{name}@{version}" for version in sorted(self._versions[name]))
            return f"; its versions are {versions}"
        return did_you_mean(name, self._versions) or "; `lakehouse analyses functions` lists those that may be named"


@cache
def _offered(path: tuple[str, ...]) -> tuple[Task, ...]:
    """The tasks of other packages that are installed on the path; finding them takes some 30 ms of a core."""
    found: list[Task] = []
    for entry in entry_points(group=ENTRY_POINTS):
        named = f"{entry.name} = {entry.value}"
        try:
            offered = entry.load()
        except (ImportError, AttributeError) as error:
            raise TaskError(f"the entry point {named} can't be loaded: {error}; correct its package") from error
        if not isinstance(offered, Tasks):
            raise TaskError(f"the entry point {named} names no Tasks; correct its package")
        found.extend(offered)
    return tuple(found)
