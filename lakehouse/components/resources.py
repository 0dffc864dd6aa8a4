"""The resources of the assets: the lake and the DuckDB that queries it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import dagster as dg
from dagster_duckdb import DuckDBResource

from lakehouse.api import Lake

if TYPE_CHECKING:
    import duckdb

    from lakehouse.lake.lake import Connections


class LakeResource(dg.ConfigurableResource):
    """The lake of the settings. Every step uses its own in-memory DuckDB, so that no process waits for another's
    lock.
    """

    duckdb: DuckDBResource

    def open(self) -> Lake:
        """Opens the lake; its connections share one `duckdb` with its memory limit and threads."""
        return Lake.present(connections=one_engine(self.duckdb.get_connection))


def one_engine(connections: Connections) -> Connections:
    """Makes connections to one shared DuckDB, which starts with the first connection and ends with the last reference
    to the returned function.

    A step opens up to thirty connections in sequence. Starting a DuckDB takes 11 ms of a core, a connection 0.1 ms;
    temporary tables and registered frames belong to a connection either way.
    """
    held = ExitStack()
    started: list[duckdb.DuckDBPyConnection] = []

    @contextmanager
    def connection() -> Iterator[duckdb.DuckDBPyConnection]:
        if not started:
            started.append(held.enter_context(connections()))
        with started[0].cursor() as opened:
            yield opened

    return connection


def lake_resources() -> dict[str, object]:
    """The resources of the code location."""
    return {"lake": LakeResource(duckdb=DuckDBResource(database=":memory:"))}
