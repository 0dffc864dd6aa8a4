"""The reading of a dataset: a digest of everything in a source's YAML that decides which rows an object yields.

The ledger records it, and it is part of the version under which rows are stored (see `lakehouse.ingest.ledger`). It
leaves out the objects' place and names and an API's schedule, which don't affect rows, and default values, so that a
release that adds an entry doesn't change any reading.
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
    """The digest of a raw table's columns and rules, and of everything else that `decides`, as JSON."""
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
