"""Lakehouse: market data from vendors' files, APIs and feeds to checked, partitioned, published tables.

The kernel is `lake` (tables and their guarantees), `ingest` (outside to raw, exactly once) and `derive` (raw to
derived); `domains` holds the knowledge of a field. The interfaces are `warehouse` (dbt's star schema and its
publication), `components` and `defs` (Dagster), `local_dagster` (Dagster on the local machine) and `cli`; `simulators`
play vendors for the demo and the tests.
"""

from __future__ import annotations

from typing import Any

_PUBLIC = ("Lake", "open_lake")


def __getattr__(name: str) -> Any:
    """The public API, imported lazily, since most modules don't need it."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lakehouse import api

    return getattr(api, name)
