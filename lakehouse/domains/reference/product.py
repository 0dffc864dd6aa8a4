"""What one section of a `defs.yaml` of reference data adds to its source: datasets, tables, views and checks.

Each folder of this domain makes one product of its section; `source` puts them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lakehouse.derive.source import Check, DerivedTable, TableQuery
from lakehouse.ingest.dataset import Dataset


@dataclass(frozen=True)
class Product:
    """What a section adds.

    Args:
        views: name of a table that is not stored -> its query.
        crons: name of a dataset that is updated at times of its own -> its schedule.
        identifiers: the query of its rows of `identifiers`, if it says what identifiers stand for.
    """

    datasets: tuple[Dataset, ...]
    tables: tuple[DerivedTable, ...]
    checks: tuple[Check, ...] = ()
    views: Mapping[str, TableQuery] = field(default_factory=dict)
    identifiers: TableQuery | None = None
    crons: Mapping[str, str] = field(default_factory=dict)
