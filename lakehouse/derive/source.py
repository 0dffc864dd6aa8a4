"""A source, resolved: what it delivers, the tables that are made of it, and what is looked at in them.

Everything that works on a source follows from this: checks, conservation, rebuilding, reading as of a moment, SQL
names, Dagster's assets. A domain adds its own facts in a subclass, and its rules in the functions that its tables name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

from lakehouse.derive.incremental import DeriveResult
from lakehouse.derive.revisions import RevisionRule
from lakehouse.ingest.dataset import Dataset
from lakehouse.lake.contract import Contract
from lakehouse.lake.lake import Lake
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb

Query = Callable[[Lake, "duckdb.DuckDBPyConnection", Any], str]
"""Makes the DuckDB query of a source's table, as of `lake.as_of`."""

Macro = Callable[[Lake, "duckdb.DuckDBPyConnection", Any], None]
"""Makes a table macro of a source in a connection."""

Partitions = Sequence[date] | None
"""Partitions to look at; None: all."""


class Derive(Protocol):
    """Brings the rows of some partitions of a table in line with what it is made of; with `verify` nothing is written,
    and the result says what would be.
    """

    def __call__(
        self, lake: Lake, source: Any, partitions: Sequence[date], /, *, verify: bool = False, progress: Progress = ...
    ) -> DeriveResult: ...


@dataclass(frozen=True)
class Winners:
    """The rows of a dataset (by its name) that count: those that win by `revised`."""

    dataset: str
    revised: RevisionRule


@dataclass(frozen=True)
class DerivedTable:
    """A table that is made of others of its source.

    Args:
        depends_on: names of the tables that it is made of.
        as_of: makes its rows as of a past moment.
        keeps: of the table that has the winning rows of a dataset.
        is_whole: it is always derived over its whole history, whatever partitions have news.
    """

    name: str
    description: str
    depends_on: tuple[str, ...]
    derive: Derive
    as_of: Query
    keeps: Winners | None = None
    is_whole: bool = False


@dataclass(frozen=True)
class Finding:
    """What a check found. `rows` are the (first) offenders by name, `facts` further numbers."""

    passed: bool
    summary: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A check of a table: blocking ones hold back what is downstream, `severity` says how bad a failure of the
    others is. `run` takes the lake, the source and the partitions to look at (None: all).
    """

    table: str
    name: str
    description: str
    run: Callable[[Lake, Any, Partitions], Finding]
    blocking: bool = False
    severity: str = "error"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What one `defs.yaml` describes.

    Args:
        name: of the source, and of its schema in SQL.
        kind: what it is a source of (see `lakehouse.derive.domain.Kind`).
        owners: Dagster's names of people or teams, such as team:market-data.
        cron: when it is updated, where nothing at the source says so, on its partitions' clock.
        contracts: of its tables and views, as they bind this source.
        views: name of a table that is not stored -> what makes its rows when they are read.
        macros: name of a table macro -> what makes it in a connection.
    """

    name: str
    kind: str
    description: str = ""
    owners: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    cron: str | None = None
    contracts: Mapping[str, Contract] = field(default_factory=dict)
    datasets: tuple[Dataset, ...] = ()
    tables: tuple[DerivedTable, ...] = ()
    views: Mapping[str, Query] = field(default_factory=dict)
    macros: Mapping[str, Macro] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()

    def table(self, name: str) -> str:
        """The path of one of its tables, such as `xetra/daily_bars`."""
        return f"{self.name}/{name}"

    def contract(self, table: str) -> Contract:
        """The contract of one of its tables."""
        return self.contracts[table]

    def dataset(self, name: str) -> Dataset:
        """One of the datasets that it delivers."""
        return next(dataset for dataset in self.datasets if dataset.name == name)

    def require_settings(self, *, asks: bool = True) -> None:
        """Makes sure that the settings name what a load needs (see `Dataset.require_settings`).

        Raises:
            SourceError: they don't.
        """
        for dataset in self.datasets:
            dataset.require_settings(asks=asks)

    def none_between(self, first: date, last: date) -> str:
        """What to say where there is no partition from one day to another."""
        return f"{self.name} has had no partition from {first} to {last}"

    def is_whole(self, table: str) -> bool:
        """Whether a table is always derived over its whole history, or is loaded for such tables alone."""
        made = [each for each in self.tables if table == each.name or table in each.depends_on]
        return bool(made) and all(each.is_whole for each in made)

    @property
    def stepwise(self) -> list[Dataset]:
        """The datasets that are loaded partition by partition."""
        return [dataset for dataset in self.datasets if not self.is_whole(dataset.contract.table)]

    def together(self, partitions: Sequence[date]) -> list[date]:
        """`partitions`, and those that a load of theirs may have news about, ascending."""
        return sorted({*partitions, *(day for dataset in self.stepwise for day in dataset.together(partitions))})

    def span_of(self, table: str) -> tuple[str, str] | None:
        """The columns of a table that say from when to when a row is; None where it has none."""
        return None

    def facts(self, table: str) -> dict[str, object]:
        """What else is to be said of a table where it is shown."""
        return {}

    def partitions_stored(self, lake: Lake) -> list[date]:
        """Every partition that a table, or what it is made of, has rows of, ascending; but for those that are always
        derived as a whole.
        """
        stepwise = [table for table in self.tables if not table.is_whole]
        names = dict.fromkeys(name for table in stepwise for name in (*table.depends_on, table.name))
        return sorted({day for name in names for day in lake.table(self.table(name)).snapshot().dates()})
