"""The contracts of the tables of reference data.

Each table `raw_<rows>` has a table `published_<rows>` with the rows that count, and the same for the answers of an API
about the same rows: `raw_answered_<rows>` and `answered_<rows>`. Their columns are those of the raw table.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from lakehouse.lake.contract import Contract, read_contracts

PUBLISHED, ANSWERED = "published", "answered"
_LEFT_OUT = {"object_version", "published_at"}
"""Columns of the raw tables that nothing reads of the rows that count: with millions of them, texts take memory."""


@cache
def contracts() -> Mapping[str, Contract]:
    """Every contract of the domain, by its table's name."""
    written = read_contracts(Path(__file__).parent, "reference")
    keys = {"entities": ("lei",), "relationships": ("child", "parent", "relationship_type")}
    keys |= {"exceptions": ("lei", "category"), "isins": ("isin", "lei"), "bics": ("bic", "lei")}
    made = dict(written)
    for rows, key in keys.items():
        raw = written[f"raw_{rows}"]
        made[f"raw_{ANSWERED}_{rows}"] = _like(
            raw, f"raw_{ANSWERED}_{rows}", f"{raw.description} By answers of an API."
        )
        for table in (PUBLISHED, ANSWERED):
            said = (
                f"The rows that count of raw_{'' if table == PUBLISHED else 'answered_'}{rows}, one per key and moment."
            )
            made[f"{table}_{rows}"] = _like(
                raw,
                f"{table}_{rows}",
                said,
                key=("published_on", "published", *key),
                known_at=None,
                by_ledger=False,
                columns=tuple(column for column in raw.columns if column.name not in _LEFT_OUT),
            )
    return made


def _like(contract: Contract, table: str, description: str, **changed: object) -> Contract:
    # A copy would keep the cached properties of the original.
    said = {name: getattr(contract, name) for name in Contract.model_fields}
    return Contract(**said | {"table": table, "description": description, **changed})
