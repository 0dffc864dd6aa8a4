"""The schema `orders`: where its SQL files are, and the engine's schema beside it."""

from __future__ import annotations

from pathlib import Path

from lakehouse.servers.migrations import migrate
from lakehouse.servers.postgres import Database

SCHEMA = "orders"
ENGINE_SCHEMA = "orders_engine"
"""Schema of the tables of the durable engine."""


def prepare(database: Database) -> list[str]:
    """Brings the schema up to date; returns the revisions that were missing.

    Raises:
        DatabaseUnavailable: see `migrate`.
    """
    return migrate(database, SCHEMA, Path(__file__).parent / "sql")
