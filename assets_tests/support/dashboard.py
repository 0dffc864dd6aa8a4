"""A dashboard that answers on loopback while a test asks it, and marts in which every text is hostile."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import uvicorn

from lakehouse.api import Lake
from lakehouse.apps.dashboard.server import OpenLake, dashboard, listen
from lakehouse.governance.models import models

HOSTILE = '</script><script>window.hit=1</script><img src=x onerror="window.hit=1">\'{{7*7}}'
"""A text that would run a script where it isn't escaped, in a text, in an attribute, or in a template."""


@contextmanager
def served(open_lake: OpenLake = Lake.open, host: str = "127.0.0.1") -> Iterator[str]:
    """The URL of a dashboard, by default over the lake of the settings, which ends with the block."""
    listening = listen(host, 0)
    config = uvicorn.Config(dashboard(open_lake, host), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://{host}:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def write_marts(path: Path, given: Mapping[str, list[Mapping[str, Any]]], *, text: str = HOSTILE) -> None:
    """A published file with a row in each mart: `text` in every column of texts, unless `given` says otherwise.

    Args:
        given: mart -> its rows, of which each needs only the columns that matter.
    """
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA marts")
        for model in models().values():
            columns = ", ".join(f'"{column.name}" {column.type}' for column in model.columns)
            connection.execute(f'CREATE TABLE marts."{model.name}" ({columns})')
            for row in given.get(model.name, [{}]):
                values = [row.get(column.name, _value(column.type, text)) for column in model.columns]
                places = ", ".join("?" * len(values))
                connection.execute(f'INSERT INTO marts."{model.name}" VALUES ({places})', values)


def _value(kind: str, text: str) -> Any:
    kind = kind.lower()
    if kind.startswith(("varchar", "text", "string")):
        return text
    if kind.startswith("bool"):
        return True
    if kind.startswith("timestamp"):
        return datetime(2024, 1, 4, 12, tzinfo=UTC)
    if kind.startswith("date"):
        return date(2024, 1, 4)
    if kind.startswith("decimal"):
        return Decimal(5)
    return 5 if "int" in kind or kind.startswith(("double", "float")) else None
