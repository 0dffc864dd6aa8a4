"""Exchange calendars kept on disk, since building one costs every process the import of pandas.

A kept calendar is a small Parquet file named after the calendar, its first session and the version of
exchange_calendars; a new version of that package makes new files.
"""

from __future__ import annotations

import os
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path

from lakehouse.market.calendar import SessionCalendar, build_sessions


def calendar_version() -> str:
    """The version of exchange_calendars: derivations depend on it."""
    return version("exchange_calendars")


@cache
def load_calendar(name: str, first: date, time_zone: str, folder: Path) -> SessionCalendar:
    """The calendar `name` (a code of exchange_calendars, such as XETR) from `first` on; kept below `folder`."""
    import polars as pl

    kept = folder / f"{name.replace('/', '-')}-{first}-{calendar_version()}-{date.today():%Y%m}.parquet"
    try:
        frame = pl.read_parquet(kept)
    except (FileNotFoundError, pl.exceptions.ComputeError):
        frame = build_sessions(name, first)
        folder.mkdir(parents=True, exist_ok=True)
        written = kept.with_suffix(f".{os.getpid()}.part")
        frame.write_parquet(written)
        written.replace(kept)
    return SessionCalendar(name, time_zone, frame)
