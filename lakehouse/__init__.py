"""Lakehouse: market data from vendors' files, APIs and feeds to checked, partitioned, published tables.

The kernel is `lake` (tables and their promises), `ingest` (outside to raw, exactly once) and `derive` (raw to derived);
`domains` holds what is known of a field. The faces are `warehouse` (dbt's star schema and its publication),
`components` and `defs` (Dagster), `local_dagster` (Dagster on this machine) and `cli`; `simulators` play what the demo
shows.
"""

from __future__ import annotations

from typing import Any

_PUBLIC = ("Lake", "open_lake")


def __getattr__(name: str) -> Any:
    """The public API, imported when it is asked for: most modules need none of it."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lakehouse import api

    return getattr(api, name)
