"""What a place of objects answers when it is asked for all of them: the objects, and what it had to pass over."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.printable import printable

if TYPE_CHECKING:
    import polars as pl

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f]")
_NO_TEXT = re.compile("[\\ud800-\\udfff]")


@dataclass(frozen=True)
class PassedOver:
    """An entry that can't be an object, or a folder that can't be looked into, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{printable(os.fsencode(self.name).decode(errors='backslashreplace'))} ({self.why})"


@dataclass(frozen=True)
class Listing:
    """Every object, one row each (see `listing_schema`), in no particular order; and what was passed over."""

    objects: pl.DataFrame
    passed_over: tuple[PassedOver, ...] = ()


def listing_schema() -> dict[str, Any]:
    """The columns of a listing: name, version, size (bytes), published_at (UTC), and by which tag and path the
    version is fetched.
    """
    import polars as pl

    return {
        "name": pl.String,
        "version": pl.String,
        "size": pl.Int64,
        "published_at": pl.Datetime("us", "UTC"),
        "tag": pl.String,
        "path": pl.String,
    }


def unusable(name: str) -> str | None:
    """Why a name can't be an object's in tables, logs and terminals; None where it can."""
    if name.isprintable():
        return None
    if _CONTROL.search(name):
        return "control characters in its name"
    return "its name is no UTF-8" if _NO_TEXT.search(name) else None
