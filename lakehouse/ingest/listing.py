"""The result of listing a place of objects: the objects, and the entries that were skipped."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakehouse.printable import printable

if TYPE_CHECKING:
    import polars as pl

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f]")
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_214_400_000_000
"""The range of timestamps, the years 1 to 9999. File systems support more."""
_NO_TEXT = re.compile("[\\ud800-\\udfff]")


@dataclass(frozen=True)
class PassedOver:
    """An entry that can't be an object, or a folder that can't be listed, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{printable(os.fsencode(self.name).decode(errors='backslashreplace'))} ({self.why})"


@dataclass(frozen=True)
class Listing:
    """Every object, one row each (see `listing_schema`), in no particular order; and what was skipped."""

    objects: pl.DataFrame
    passed_over: tuple[PassedOver, ...] = ()


@dataclass
class FoundFiles:
    """Collects files column by column, and the skipped entries. A file's version is its modification time in
    microseconds and its size; its tag, which detects a replacement, is specific to the place.
    """

    names: list[str] = field(default_factory=list)
    changed_ns: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)

    def add(self, name: str, changed_ns: int, size: int, tag: str) -> None:
        self.names.append(name)
        self.changed_ns.append(changed_ns)
        self.sizes.append(size)
        self.tags.append(tag)

    def pass_over(self, name: str, why: str) -> None:
        self.passed_over.append(PassedOver(name, why))

    def listing(self) -> Listing:
        import polars as pl

        facts = pl.DataFrame(
            {"name": self.names, "ns": self.changed_ns, "size": self.sizes, "tag": self.tags},
            schema={"name": pl.String, "ns": pl.Int128, "size": pl.Int64, "tag": pl.String},
        ).with_columns(us=(pl.col("ns") // 1000).cast(pl.Int64))
        objects = facts.select(
            "name",
            version=pl.concat_str(pl.col("us").cast(pl.String), pl.col("size").cast(pl.String), separator="-"),
            size="size",
            published_at=pl.col("us").clip(_FIRST_US, _LAST_US).cast(pl.Datetime("us", "UTC")),
            tag="tag",
            path="name",
        )
        return Listing(objects, tuple(self.passed_over))


def listing_schema() -> dict[str, Any]:
    """The columns of a listing: name, version, size (bytes), published_at (UTC), and the tag and path to fetch the
    version by.
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
    """Why a name can't be shown in tables, logs and terminals; None if it can."""
    if name.isprintable():
        return None
    if _CONTROL.search(name):
        return "control characters in its name"
    return "its name is no UTF-8" if _NO_TEXT.search(name) else None
