"""Exchange calendars kept on disk, since building one costs every process the import of pandas.

A kept calendar is a small Parquet file named after the calendar, what the YAML changes in it, its first session and the
version of exchange_calendars; a new version of that package makes new files.
"""

from __future__ import annotations

import logging
import os
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.domains.market.calendar import CalendarSpec, SessionCalendar, build_sessions

if TYPE_CHECKING:
    import polars as pl

_log = logging.getLogger(__name__)


def calendar_version() -> str:
    """The version of exchange_calendars: derivations depend on it."""
    return version("exchange_calendars")


@cache
def _built(spec: CalendarSpec, first: date) -> pl.DataFrame:
    """A calendar, built once per process, even if it works on several homes."""
    return build_sessions(spec, first)


def _keep(frame: pl.DataFrame, kept: Path) -> None:
    """Caches a calendar in an existing home; never creates a home, since a read-only user may not be allowed to."""
    if not kept.parents[1].is_dir():
        return
    written = kept.with_suffix(f".{os.getpid()}.part")
    try:
        kept.parent.mkdir(exist_ok=True)
        frame.write_parquet(written)
        written.replace(kept)
    except OSError as error:
        _log.info("the calendar can't be kept, and is built again each time: %s", error)


@cache
def load_calendar(spec: CalendarSpec, first: date, folder: Path) -> SessionCalendar:
    """The calendar from `first` on; kept below `folder`."""
    import polars as pl

    name = f"{spec.code.replace('/', '-')}-{spec.digest}-{first}-{calendar_version()}-{date.today():%Y%m}"
    kept = folder / f"{name}.parquet"
    try:
        frame = pl.read_parquet(kept)
    except (OSError, pl.exceptions.ComputeError):
        frame = _built(spec, first)
        _keep(frame, kept)
    return SessionCalendar(spec.time_zone, frame)
