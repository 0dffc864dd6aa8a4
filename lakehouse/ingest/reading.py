"""The reading of a dataset: a digest of everything in a source's YAML that decides which rows an object gives.

The ledger keeps it, and it is part of the version under which rows are stored (see `lakehouse.ingest.ledger`). Where
objects are, how they are named and when an API is asked decide nothing about their rows and are left out, and so are
defaults: a release that adds an entry changes no reading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lakehouse.ingest.coerce import PROVENANCE
from lakehouse.ingest.ledger import READING_DIGITS
from lakehouse.lake.contract import Contract


def reading_digest(contract: Contract, decides: Mapping[str, Any]) -> str:
    """The digest of a raw table's columns and rules, and of what else `decides` (as JSON has it)."""
    decides = {
        **decides,
        "columns": [
            (column.name, str(column.type), column.nullable, column.format)
            for column in contract.columns
            if column.name not in PROVENANCE
        ],
        "rules": sorted((rule.name, rule.holds) for rule in contract.rules),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:READING_DIGITS]
