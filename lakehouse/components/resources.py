"""The resources that assets use: the lake, with the DuckDB that works on it."""

import dagster as dg
from dagster_duckdb import DuckDBResource

from lakehouse.lake import Lake


class LakeResource(dg.ConfigurableResource):
    """The lake that the settings name. Every step works in an in-memory DuckDB of its own, so that no process
    waits for another's lock.
    """

    duckdb: DuckDBResource

    def open(self) -> Lake:
        """The lake; its connections are those of `duckdb`, with its memory limit and threads."""
        return Lake.open(connections=self.duckdb.get_connection)


def lake_resources() -> dict[str, object]:
    """The resources of the code location."""
    return {"lake": LakeResource(duckdb=DuckDBResource(database=":memory:"))}
