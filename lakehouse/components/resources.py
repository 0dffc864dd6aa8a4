"""The resources of the assets: the lake and the DuckDB that queries it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TYPE_CHECKING

import dagster as dg
from dagster_duckdb import DuckDBResource

from lakehouse.api import Lake
from lakehouse.lake.engine import kept_running

if TYPE_CHECKING:
    import duckdb

    from lakehouse.lake.lake import Connections


class LakeResource(dg.ConfigurableResource):
    """The lake of the settings. Every process uses its own in-memory DuckDB, so that none waits for another's lock."""

    duckdb: DuckDBResource

    def open(self) -> Lake:
        """Opens the lake; its connections share one `duckdb` with its memory limit and threads."""
        return Lake.present(connections=one_engine(self.duckdb))


def one_engine(resource: DuckDBResource) -> Connections:
    """Makes connections to one DuckDB, which starts with the first of them and runs as long as the process.

    A run has dozens of steps, and a step opens up to thirty connections. Starting a DuckDB takes 11 ms of a core, a
    connection 0.1 ms; temporary tables and registered frames belong to a connection either way.
    """

    @contextmanager
    def connection() -> Iterator[duckdb.DuckDBPyConnection]:
        with _running(os.getpid(), resource.database, json.dumps(resource.connection_config)).cursor() as opened:
            yield opened

    return connection


@cache
def _running(process: int, database: str, config: str) -> duckdb.DuckDBPyConnection:
    """The DuckDB of this process that is configured so."""
    opened = DuckDBResource(database=database, connection_config=json.loads(config)).get_connection()
    _kept.append(opened)
    return kept_running(opened.__enter__())


_kept: list[AbstractContextManager[duckdb.DuckDBPyConnection]] = []
"""What closes a DuckDB when it is forgotten."""


def lake_resources() -> dict[str, object]:
    """The resources of the code location."""
    return {"lake": LakeResource(duckdb=DuckDBResource(database=":memory:"))}
