"""DuckDB connections to the lake: in memory, in UTC, able to read the lake's Parquet files in a folder or bucket.

Processes share no DuckDB file except the published warehouse, which `Lake.sql` attaches read-only.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lakehouse.lake.location import is_remote
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import duckdb
    import polars as pl

_SPILL_LIMIT = "20GB"
_THREADS_WITH_LIMIT = 4


_limits: dict[str, str | bool | int | float | list[str]] = {}
"""How DuckDBs of this process are configured, in a worker that must leave room for others."""


def limit_duckdb(memory_mib: int, threads: int) -> None:
    """Bounds the memory and the threads of each DuckDB that this process opens from now on."""
    _limits.update(memory_limit=f"{memory_mib}MiB", threads=threads)


def spill_folder(process: int | None = None) -> str:
    """The folder to which the queries of a process (default: this one) spill what doesn't fit into memory."""
    return f"{tempfile.gettempdir()}/lakehouse-spill-{process or os.getpid()}"


def add_frame(connection: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> None:
    """Makes a small frame a temporary view of a connection, by a file: to read a registered frame, DuckDB imports
    pandas and pyarrow's datasets, half a second of a command that needs neither.
    """
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        frame.write_parquet(file.name, compression="uncompressed")
        connection.execute(
            f'''
            CREATE OR REPLACE TEMP TABLE "{name}_rows" AS FROM read_parquet({literal(file.name)});
            CREATE OR REPLACE TEMP VIEW "{name}" AS FROM "{name}_rows"
            '''
        )


def prepare(connection: duckdb.DuckDBPyConnection, uri: str, spill: str | None = None) -> duckdb.DuckDBPyConnection:
    """Configures a connection: UTC, no progress bar, no extension downloads, and S3 if `uri` is there."""
    found = connection.execute(
        "SELECT current_setting('temp_directory'), current_setting('TimeZone'), current_setting('enable_progress_bar')"
    )
    ((folder, zone, shows_progress),) = found.fetchall()
    spill = spill or spill_folder()
    # Once a DuckDB has spilled, its folder can't be set again, even to the same value; nor can the bar be in a notebook
    # without ipywidgets, where there is none. The folder also tells that an earlier connection has set what they share.
    if folder != spill:
        # Bound what is spilled to the system's temporary folder: a runaway query must not fill the disk.
        connection.execute(
            f"""
            SET autoinstall_known_extensions = false; SET max_temp_directory_size = '{_SPILL_LIMIT}';
            SET temp_directory = {literal(spill)}
            """
        )
    if zone != "UTC":
        connection.execute("SET TimeZone = 'UTC'")
    if shows_progress:
        connection.execute("SET enable_progress_bar = false")
    if is_remote(uri):
        _read_s3(connection)
    return connection


def connect(uri: str, memory: str | None = None) -> duckdb.DuckDBPyConnection:
    """A new in-memory DuckDB that can read the lake at `uri`. What doesn't fit in `memory` (`1GB`) is spilled."""
    import duckdb

    if memory is None:
        return prepare(duckdb.connect(config=_limits), uri)
    # Two DuckDBs that spill to one folder overwrite each other's files; and each thread takes memory.
    threads, spill = min(_THREADS_WITH_LIMIT, os.cpu_count() or 1), f"{spill_folder()}-{os.urandom(4).hex()}"
    return prepare(duckdb.connect(config={"threads": threads, **_limits, "memory_limit": memory}), uri, spill)


def opened(uri: str) -> duckdb.DuckDBPyConnection:
    """A connection that can read the lake at `uri`, for temporary tables and registered frames alone: those are its
    own, and everything else is shared by the connections of this process.

    Starting a DuckDB takes 10 ms of a core, opening a connection to the one that runs takes one.
    """
    # How DuckDB reads S3 is part of the database: of two lakes, each has its own endpoint and keys.
    return connect(uri) if is_remote(uri) else prepare(_running(os.getpid()).cursor(), uri)


def opened_with_catalog(uri: str) -> duckdb.DuckDBPyConnection:
    """A connection that can read the lake at `uri`, with a catalog of its own for views and macros; it goes with the
    connection and the last relation made by it. Settings, and what is attached, are shared by this process.
    """
    if is_remote(uri):
        return connect(uri)
    running, catalog = _running(os.getpid()), f"query_{next(_numbers)}"
    # Two threads may take the last one at once.
    with running.cursor() as cursor, suppress(IndexError):
        while _to_detach:
            cursor.execute(f"DETACH DATABASE IF EXISTS {_to_detach.pop()}")
    connection = prepare(running.cursor(), uri)
    connection.execute(f"ATTACH ':memory:' AS {catalog}; USE {catalog}")
    # Noted only: a statement in the middle of a garbage collection could wait for one that this thread is in.
    weakref.finalize(connection, _to_detach.append, catalog)
    return connection


_numbers = count(1)
_to_detach: list[str] = []
"""Catalogs whose connections are gone."""


@cache
def _running(process: int) -> duckdb.DuckDBPyConnection:
    """The in-memory DuckDB of this process."""
    import duckdb

    return kept_running(duckdb.connect(config=_limits))


def kept_running(engine: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Prepares a DuckDB for running as long as the process: of a file that was replaced, it must never answer with what
    it read before.
    """
    return engine.execute("SET GLOBAL enable_external_file_cache = false")


def load_httpfs(connection: duckdb.DuckDBPyConnection) -> bool:
    """Loads DuckDB's extension for S3, which it also needs to write encrypted files; False on platforms for which it is
    not packaged.
    """
    try:
        import duckdb_extension_httpfs
    except ImportError:
        return False
    import duckdb

    packaged = Path(duckdb_extension_httpfs.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    connection.load_extension(str(packaged / "httpfs.duckdb_extension"))
    return True


def _read_s3(connection: duckdb.DuckDBPyConnection) -> None:
    """Lets the connection read s3:// by the AWS_* variables, with DuckDB's extension, or with s3fs on platforms for
    which that is not packaged.
    """
    if not load_httpfs(connection):
        import s3fs

        # A cached client would keep the endpoint and the keys of an earlier connection.
        connection.register_filesystem(s3fs.S3FileSystem(skip_instance_cache=True))
        return
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
