"""Counts the DuckDBs that are started."""

from __future__ import annotations

import duckdb
import pytest


def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each DuckDB that is started."""
    found: list[int] = []
    connect = duckdb.connect

    def counted(*arguments: object, **named: object) -> duckdb.DuckDBPyConnection:
        found.append(1)
        return connect(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(duckdb, "connect", counted)
    return found
