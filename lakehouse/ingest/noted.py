"""Settings that note the variables looked up in them, so that what was made of them is made again only when they
change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from lakehouse.ingest.variables import Variables

Made = TypeVar("Made")
_SETTINGS_IN_USE = 4


@dataclass
class _Noted:
    """Passes every look-up on. While it is `open`, it notes the variables and their values."""

    variables: Variables
    values: dict[tuple[str, ...], str | None] = field(default_factory=dict, repr=False)
    secrets: dict[str, str | None] = field(default_factory=dict, repr=False)
    open: bool = True

    @property
    def home(self) -> Path:
        return self.variables.home

    @property
    def lake(self) -> str:
        return self.variables.lake

    @property
    def database_url(self) -> str | None:
        return self.variables.database_url

    @property
    def postgres(self) -> Path:
        return self.variables.postgres

    @property
    def answer_max_bytes(self) -> int:
        return self.variables.answer_max_bytes

    @property
    def object_max_bytes(self) -> int:
        return self.variables.object_max_bytes

    def source_variable(self, source: str, what: str) -> str | None:
        value = self.variables.source_variable(source, what)
        if self.open:
            self.values[source, what] = value
        return value

    def secret(self, variable: str) -> str | None:
        value = self.variables.secret(variable)
        if self.open:
            self.secrets[variable] = value
        return value

    def holds(self, variables: Variables) -> bool:
        """Whether these settings are the same, and the variables have the same values."""
        return (
            (self.variables is variables or self.variables == variables)
            and all(variables.source_variable(*asked) == value for asked, value in self.values.items())
            and all(variables.secret(name) == value for name, value in self.secrets.items())
        )


class Remembered(Generic[Made]):
    """What was made of the settings used last: of several, since a publication looks at the lake by settings of its
    own, and a process that serves two lakes alternates.
    """

    def __init__(self) -> None:
        self._latest: deque[tuple[_Noted, Made]] = deque(maxlen=_SETTINGS_IN_USE)

    def of(self, make: Callable[[Variables], Made], variables: Variables) -> Made:
        """What `make` makes of the settings: what it made before, if it would look up the same in them."""
        for noted, made in self._latest:
            if noted.holds(variables):
                return made
        noted = _Noted(variables)
        made = make(noted)
        # What is made may look up more when it is used: always the present values.
        noted.open = False
        self._latest.appendleft((noted, made))
        return made


class Kept(Generic[Made]):
    """What was last made of some objects, kept while they are the same ones."""

    def __init__(self) -> None:
        self._last: tuple[object, tuple[object, ...], Made] | None = None

    def of(self, make: Callable[[], Made], *made_of: object, equal: object = None) -> Made:
        """What `make` makes of the objects, or made of them and of something equal to `equal` the last time."""
        if (last := self._last) is not None:
            value, objects, made = last
            if value == equal and [id(each) for each in objects] == [id(each) for each in made_of]:
                return made
        made = make()
        self._last = equal, made_of, made
        return made
