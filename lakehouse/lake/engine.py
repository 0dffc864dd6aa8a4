"""DuckDB connections for work on the lake: in memory, UTC, able to read the lake's Parquet files wherever they are.

No DuckDB file is shared between processes; the one that people read is the published warehouse, attached
read-only by `Lake.sql`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lakehouse.lake.location import is_remote
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import duckdb

_SPILL_LIMIT = "20GB"


def spill_folder(process: int | None = None) -> str:
    """Where the queries of a process, by default this one, put what doesn't fit into memory."""
    return f"{tempfile.gettempdir()}/lakehouse-spill-{process or os.getpid()}"


def prepare(connection: duckdb.DuckDBPyConnection, uri: str) -> duckdb.DuckDBPyConnection:
    """Sets what every connection needs: UTC, no progress bar, no extension downloads, and S3 where `uri` asks
    for it.
    """
    # What doesn't fit into memory is spilled to the system's temporary folder, up to a bound: a runaway query
    # must not fill the disk.
    connection.execute(
        f"""
        SET TimeZone = 'UTC'; SET enable_progress_bar = false; SET autoinstall_known_extensions = false;
        SET max_temp_directory_size = '{_SPILL_LIMIT}'
        """
    )
    # The folder of a DuckDB that has spilled, for an earlier connection, can't be set again, not even to the same.
    if connection.execute("SELECT current_setting('temp_directory')").fetchone() != (spill_folder(),):
        connection.execute(f"SET temp_directory = {literal(spill_folder())}")
    if is_remote(uri):
        _read_s3(connection)
    return connection


def connect(uri: str) -> duckdb.DuckDBPyConnection:
    """A new in-memory DuckDB that can read the lake at `uri`."""
    import duckdb

    return prepare(duckdb.connect(), uri)


def _read_s3(connection: duckdb.DuckDBPyConnection) -> None:
    """Lets the connection read s3:// by the AWS_* variables: by DuckDB's extension, or by s3fs on platforms for
    which that is not packaged.
    """
    try:
        import duckdb_extension_httpfs
    except ImportError:
        import s3fs

        # A cached client would keep the endpoint and the keys of an earlier connection.
        connection.register_filesystem(s3fs.S3FileSystem(skip_instance_cache=True))
        return
    import duckdb

    packaged = Path(duckdb_extension_httpfs.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    connection.load_extension(str(packaged / "httpfs.duckdb_extension"))
    options = {
        "KEY_ID": os.environ.get("AWS_ACCESS_KEY_ID"),
        "SECRET": os.environ.get("AWS_SECRET_ACCESS_KEY"),
        "SESSION_TOKEN": os.environ.get("AWS_SESSION_TOKEN"),
        "REGION": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        address = urlsplit(endpoint)
        options |= {"ENDPOINT": address.netloc, "URL_STYLE": "path", "USE_SSL": str(address.scheme == "https").lower()}
    given = "".join(f", {name} {literal(value)}" for name, value in options.items() if value)
    connection.execute(f"CREATE OR REPLACE SECRET lake (TYPE s3{given})")
