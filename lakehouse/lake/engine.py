"""DuckDB connections for work on the lake: in memory, UTC, able to read the lake's Parquet files wherever they are.

No DuckDB file is shared between processes; the one that people read is the published warehouse, attached read-only by `Lake.connect`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def prepare(connection: duckdb.DuckDBPyConnection, uri: str) -> duckdb.DuckDBPyConnection:
    """Sets what every connection needs: UTC, no progress bar, no extension downloads, and S3 where `uri` asks for it."""
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false; SET autoinstall_known_extensions = false")
    if uri.startswith("s3://"):
        import s3fs

        connection.register_filesystem(s3fs.S3FileSystem())
    return connection


def connect(uri: str) -> duckdb.DuckDBPyConnection:
    """A new in-memory DuckDB that can read the lake at `uri`."""
    import duckdb

    return prepare(duckdb.connect(), uri)
