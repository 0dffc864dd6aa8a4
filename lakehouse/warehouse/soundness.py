"""Whether a file of marts can be built upon. A file that was changed or exchanged since it was published is read whole,
one that wasn't is known to be sound.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from lakehouse.errors import MartsUnavailable
from lakehouse.lake.published import attach_published
from lakehouse.settings import Settings

_log = logging.getLogger(__name__)


def is_sound(config: Settings, path: Path) -> bool:
    """Whether a DuckDB file is the one that was published last, or else can be opened and all of its rows read."""
    try:
        if json.loads(_remembered(config).read_text()) == _seen(path):
            return True
    except (OSError, ValueError):
        _log.debug("%s doesn't tell which file was published", _remembered(config))
    return _can_be_read(path)


def remember_sound(config: Settings, published: Path) -> None:
    """Remembers the file that was published."""
    try:
        _remembered(config).parent.mkdir(exist_ok=True)
        _remembered(config).write_text(json.dumps(_seen(published)))
    except OSError as error:
        _log.info("the next publication reads all rows of the published file: %s", error)


def _remembered(config: Settings) -> Path:
    return config.home / "cache" / "published.json"


def _seen(path: Path) -> list[int]:
    """What changes when a file is written, or replaced by another one."""
    found = os.stat(path)
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _can_be_read(path: Path) -> bool:
    import duckdb

    try:
        with duckdb.connect() as connection:
            attach_published(connection, path, "published")
            tables = connection.execute(
                "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'published'"
            ).fetchall()
            for schema, table in tables:
                connection.execute(f'SELECT bit_xor(hash(*COLUMNS(*))) FROM published."{schema}"."{table}"').fetchall()
    except (duckdb.Error, MartsUnavailable):
        return False
    return True
