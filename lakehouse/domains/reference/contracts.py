"""The contracts of the tables of reference data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lakehouse.lake.contract import Contract, read_contracts


def contracts() -> Mapping[str, Contract]:
    """Every contract of the domain, by its table's name."""
    return read_contracts(Path(__file__).parent, "reference")
