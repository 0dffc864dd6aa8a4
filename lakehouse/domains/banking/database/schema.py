"""The schema `bank`: where its SQL files are, and the names that the capture uses."""

from __future__ import annotations

from pathlib import Path

from lakehouse.servers.migrations import migrate
from lakehouse.servers.postgres import Database

SCHEMA = "bank"
PUBLICATION = "lakehouse_banking"
SLOT = "lakehouse_banking"


def prepare(database: Database) -> list[str]:
    """Brings the schema up to date; returns the revisions that were missing.

    Raises:
        DatabaseUnavailable: see `migrate`.
    """
    return migrate(database, SCHEMA, Path(__file__).parent / "sql")
