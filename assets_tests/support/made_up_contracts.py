"""Contracts of a test's own beside those of the project, as a later release of the project might have them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.lake.contract import Contract
from lakehouse.lake.lake import Lake
from lakehouse.lake.registry import Entry, Registry
from lakehouse.lake.table import LakeTable


@contextmanager
def with_contract(contract: Contract) -> Iterator[None]:
    """Within the block, every lake has this contract too, or instead of its own for a table of that name."""
    own = Registry.entry

    def entry(registry: Registry, path: str) -> Entry:
        return Entry(contract) if path.rpartition("/")[2] == contract.table else own(registry, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registry, "entry", entry)
        yield


def written(lake: Lake, name: str, contract: Contract, *rows: dict[str, Any]) -> LakeTable:
    """A table of the lake, of this contract, with the rows appended."""
    with with_contract(contract):
        table = lake.table(name)
        table.snapshot().append(pa.Table.from_pylist(list(rows), contract.arrow_schema), ["test"])
    return table
