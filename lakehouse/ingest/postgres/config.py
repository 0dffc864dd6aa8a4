"""The model of a captured database in a `defs.yaml`: only data and its validation."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import Field

from lakehouse.ingest.entry_types import Zone
from lakehouse.ingest.postgres.captured import Mode
from lakehouse.ingest.strict import Description

_Name = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]


class CaptureConfig(Description):
    """A schema of a PostgreSQL database that is captured into the lake."""

    dsn: str | None = Field(
        None,
        description="The database, as postgresql://user@host/database. Default: LAKEHOUSE_DATABASE_URL, or the "
        "embedded server.",
    )
    database_schema: _Name = Field(description="Schema with the tables.")
    publication: _Name = Field(description="Publication of the tables; made if there is none.")
    slot: _Name = Field(description="Replication slot; each lake needs one of its own.")
    mode: Mode = Field(
        "log",
        description="log: by the log, or by snapshots where wal_level isn't logical. snapshot: always by snapshots.",
    )
    tables: tuple[_Name, ...] = Field(min_length=1, description="Tables that are captured.")
    first_day: date = Field(description="Day from which on the source has partitions.")
    time_zone: Zone = Field("UTC", description="Clock of a day; LAKEHOUSE_<SOURCE>_TIME_ZONE overrides it.")
    lag_warning_bytes: int = Field(
        64 * 2**20, gt=0, description="Bytes of log that weren't captured yet from which on a check warns."
    )
