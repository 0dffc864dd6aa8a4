"""What is known of a table without opening it: where it is stored, its contract, and the version at which it is read.

`opening` and `table` open it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lakehouse.lake.contract import Contract
from lakehouse.lake.location import Location


@dataclass(frozen=True)
class Pin:
    """Fixes a table for readers at a version, whatever is committed to it. None: as before it was first written."""

    version: int | None


Pins = Callable[[str], Pin | None]
"""Returns the pin of a table by its path, if it has one."""


class StoredTable:
    """A table by its path in the lake, such as `xetra/daily_bars`. With a `pin` it is read-only."""

    def __init__(
        self, name: str, uri: str, storage_options: dict[str, str], contract: Contract, pin: Pin | None = None
    ) -> None:
        self.name = name
        self.uri = uri
        self.storage_options = storage_options
        self.contract = contract
        self.pin = pin
        self.location = Location(uri)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.uri!r})"
