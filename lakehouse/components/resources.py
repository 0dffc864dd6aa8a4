"""The resources that assets use: the lake, with the DuckDB that works on it."""

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
    """The lake that the settings name. Every step works in an in-memory DuckDB of its own, so that no process
    waits for another's lock.
    """

    duckdb: DuckDBResource

    def open(self) -> Lake:
        """The lake; its connections are those of one `duckdb`, with its memory limit and threads."""
        return Lake.present(connections=one_engine(self.duckdb.get_connection))


def one_engine(connections: Connections) -> Connections:
    """Connections to one DuckDB, which is started for the first of them and ends with the last reference to what is
    returned.

    A step opens up to thirty, one after the other. To start a DuckDB takes 11 ms of a core, a connection to it 0.1;
    temporary tables and registered frames are the connection's own either way.
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
