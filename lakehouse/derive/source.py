"""A resolved source: its datasets, the tables derived from them, and their checks.

Everything that works on a source follows from it: checks, conservation, rebuilds, as-of reads, SQL names and Dagster's
assets. A domain adds its own attributes in a subclass, and its rules in the functions of its tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lakehouse.derive.incremental import DeriveResult
from lakehouse.derive.revisions import RevisionRule
from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.shared_partitions import shared_partitions
from lakehouse.lake.contract import Contract
from lakehouse.lake.lake import Lake
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb

    from lakehouse.ingest.rehearsal import Rehearsal

TableQuery = Callable[[Lake, "duckdb.DuckDBPyConnection", Any], str]
"""Makes the DuckDB query of a source's table, as of `lake.as_of`."""

Macro = Callable[[Lake, "duckdb.DuckDBPyConnection", Any], None]
"""Creates a table macro of a source in a connection."""

Partitions = Sequence[date] | None
"""Partitions to check or read; None: all."""


class Derive(Protocol):
    """Brings partitions of a table in line with its inputs. Those that were made from the present inputs, by their
    fingerprints (see `lakehouse.derive.fingerprints`), are left as they are.

    Args:
        afresh: derives every partition, whatever its fingerprint says.
        verify: the same, but writes nothing and returns what would be written.
    """

    def __call__(
        self,
        lake: Lake,
        source: Any,
        partitions: Sequence[date],
        /,
        *,
        afresh: bool = False,
        verify: bool = False,
        progress: Progress = ...,
    ) -> DeriveResult: ...


@dataclass(frozen=True)
class Winners:
    """The rows of a dataset (by name) that count: the winners by `revised`."""

    dataset: str
    revised: RevisionRule


@dataclass(frozen=True)
class DerivedTable:
    """A table derived from other tables of its source.

    Args:
        depends_on: names of the tables that it is derived from.
        as_of: makes its rows as of a past moment.
        outdated: finds the partitions that were not made from the present inputs; without it, any may be.
        keeps: set if the table holds the winning rows of a dataset.
        is_whole: it is always derived over its whole history, whichever partitions changed.
    """

    name: str
    description: str
    depends_on: tuple[str, ...]
    derive: Derive
    as_of: TableQuery
    outdated: Callable[[Lake, Any, Sequence[date]], list[date]] | None = None
    keeps: Winners | None = None
    is_whole: bool = False


@dataclass(frozen=True)
class Offences:
    """What a check found in one partition: the number of offending rows, the first of them, and further numbers."""

    count: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """The finding of a check. `rows` are the (first) offending rows, `facts` further numbers.

    A check that is evaluated by partition says in `by_partition` what it found in which; the others passed.
    """

    passed: bool
    summary: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)
    by_partition: Mapping[date, Offences] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A check of a table. Blocking checks hold back downstream tables; `severity` applies to the others. `run` takes
    the lake, the source and the partitions to check (None: all).

    Args:
        counted: what is counted, where the result of a partition follows from its rows, those of the same partition in
            the tables that the table is made from, and the ledger: as "1 key occurs more than once" and "keys occur
            more than once". Such results are remembered (see `lakehouse.derive.evaluation`).
    """

    table: str
    name: str
    description: str
    run: Callable[[Lake, Any, Partitions], Finding]
    blocking: bool = False
    severity: str = "error"
    counted: tuple[str, str] | None = None


@dataclass(frozen=True)
class Remark:
    """What a check before a load has to say (see `lakehouse.derive.source_check`): an error, a warning, a hint at the
    cause of an error, or a note.
    """

    kind: Literal["error", "warning", "hint", "note"]
    text: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """The source that one `defs.yaml` describes.

    Args:
        name: name of the source and of its SQL schema.
        kind: name of its kind (see `lakehouse.derive.domain.Kind`).
        owners: Dagster's names of people or teams, such as team:market-data.
        cron: schedule of its updates, on its partitions' clock, if no sensor can detect changes.
        crons: schedules of datasets that are updated at times of their own: name of the dataset -> schedule.
        contracts: contracts of its tables and views, as they apply to this source.
        views: name of a table that is not stored -> its query.
        macros: name of a table macro -> the function that creates it.
        notes: what `lakehouse status` tells of the source besides: label -> text.
        conserved: makes the query of the terms of `lake.conservation`, if rows don't come in by datasets.
        unreported: finds the partitions of which something lacks that the source writes outside of the lake.
        judge: says what its rules have to say about objects and rows that were read and not loaded.
        begins_with_data: the partitions that Dagster's pages show begin with the first that has rows, not with the
            first that there may be.
    """

    name: str
    kind: str
    description: str = ""
    owners: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    cron: str | None = None
    crons: Mapping[str, str] = field(default_factory=dict)
    contracts: Mapping[str, Contract] = field(default_factory=dict)
    datasets: tuple[Dataset, ...] = ()
    tables: tuple[DerivedTable, ...] = ()
    views: Mapping[str, TableQuery] = field(default_factory=dict)
    macros: Mapping[str, Macro] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    notes: Callable[[Lake], Mapping[str, str]] = lambda lake: {}
    conserved: TableQuery | None = None
    unreported: Callable[[Lake, Any, Sequence[date]], list[date]] = lambda lake, source, partitions: []
    judge: Callable[[Any, Rehearsal], Iterable[Remark]] = lambda source, rehearsal: ()
    begins_with_data: bool = True

    def table(self, name: str) -> str:
        """The path of a table, such as `xetra/daily_bars`."""
        return f"{self.name}/{name}"

    @property
    def taken_in_by(self) -> str:
        """The command that takes in the rows of a source without datasets."""
        return f"stream {self.name}"

    @property
    def is_updated(self) -> bool:
        """Whether `lakehouse update` takes in what is new."""
        return bool(self.datasets)

    def lacks(self) -> str | None:
        """What keeps the source from being updated, such as a missing setting; None if nothing does."""
        return next(filter(None, (dataset.lacks for dataset in self.datasets)), None)

    def has_news(self, lake: Lake) -> bool:
        """Whether something is new besides objects and answers."""
        return False

    @property
    def present(self) -> list[date]:
        """The partitions that a run for such news is about."""
        return []

    @property
    def freshness(self) -> str:
        """When its tables are brought up to date."""
        return f"on the schedule {self.cron}" if self.cron else "when its objects change"

    def contract(self, table: str) -> Contract:
        """The contract of a table."""
        return self.contracts[table]

    def dataset(self, name: str) -> Dataset:
        """The dataset of that name."""
        return next(dataset for dataset in self.datasets if dataset.name == name)

    def require_settings(self, *, asks: bool = True) -> None:
        """Checks that the settings contain what a load needs (see `Dataset.require_settings`).

        Raises:
            SourceError: a setting is missing.
        """
        for dataset in self.datasets:
            dataset.require_settings(asks=asks)

    def none_between(self, first: date, last: date) -> str:
        """The message if there is no partition between two days."""
        return f"{self.name} has had no partition from {first} to {last}"

    def made_of(self, table: str) -> list[str]:
        """A table's name, and those of all tables that it is made from."""
        found = [table]
        for name in found:
            found += [
                other for each in self.tables if each.name == name for other in each.depends_on if other not in found
            ]
        return found

    def is_whole(self, table: str) -> bool:
        """Whether a table is always derived over its whole history, or is loaded only for such tables."""
        made = [each for each in self.tables if table == each.name or table in each.depends_on]
        return bool(made) and all(each.is_whole for each in made)

    @property
    def stepwise(self) -> list[Dataset]:
        """The datasets that are loaded partition by partition."""
        return [dataset for dataset in self.datasets if not self.is_whole(dataset.contract.table)]

    def together(self, lake: Lake, partitions: Sequence[date]) -> list[date]:
        """`partitions`, and those that share an object with them, ascending: a load may change these as well."""
        found = {*partitions}
        for dataset in self.stepwise:
            found.update(dataset.together(partitions), shared_partitions(lake, dataset, partitions))
        return sorted(found)

    def span_of(self, table: str) -> tuple[str, str] | None:
        """The columns of a table with the start and the end of a row's time; None if it has none."""
        return None

    def facts(self, table: str) -> dict[str, object]:
        """Further facts about a table, shown with it."""
        return {}

    def partitions_stored(self, lake: Lake) -> list[date]:
        """Every partition with rows in a table or its inputs, ascending; ignores tables that are always derived over
        their whole history.
        """
        stepwise = [table for table in self.tables if not table.is_whole]
        names = dict.fromkeys(name for table in stepwise for name in (*table.depends_on, table.name))
        return sorted({day for name in names for day in lake.table(self.table(name)).snapshot().dates()})
