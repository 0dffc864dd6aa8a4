"""DuckDB connections to the lake: in memory, in UTC, able to read the lake's Parquet files in a folder or bucket.

Processes share no DuckDB file except the published warehouse, which `Lake.sql` attaches read-only.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections import defaultdict
from contextlib import suppress
from functools import cache
from hashlib import blake2b
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


S3Access = tuple[tuple[str, str], ...]
"""The options of a DuckDB secret for S3, with their values; none where no S3 is read."""

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
    own, and everything else is shared by the connections of this process to lakes of the same S3 and keys, or in
    folders.

    Starting a DuckDB takes 10 ms of a core, and 130 more to verify its extension for S3; opening a connection to the
    one that runs takes one.
    """
    return prepare(_running(*_engine_of(uri)).cursor(), uri)


def opened_with_catalog(uri: str) -> duckdb.DuckDBPyConnection:
    """A connection that can read the lake at `uri`, with a catalog of its own for views and macros; it goes with the
    connection and the last relation made by it. Settings, and what is attached, are shared as by `opened`.
    """
    engine = _engine_of(uri)
    running, to_detach, catalog = _running(*engine), _to_detach[engine], f"query_{next(_numbers)}"
    # Two threads may take the last one at once.
    with running.cursor() as cursor, suppress(IndexError):
        while to_detach:
            cursor.execute(f"DETACH DATABASE IF EXISTS {to_detach.pop()}")
    connection = prepare(running.cursor(), uri)
    connection.execute(f"ATTACH ':memory:' AS {catalog}; USE {catalog}")
    # Noted only: a statement in the middle of a garbage collection could wait for one that this thread is in.
    weakref.finalize(connection, to_detach.append, catalog)
    return connection


_numbers = count(1)
_to_detach: defaultdict[tuple[int, S3Access], list[str]] = defaultdict(list)
"""Catalogs whose connections are gone, of each DuckDB that runs."""


def _engine_of(uri: str) -> tuple[int, S3Access]:
    """Which DuckDB of this process reads the lake at `uri`: how it reads S3 is part of a database."""
    return os.getpid(), _s3_access() if is_remote(uri) else ()


@cache
def _running(process: int, access: S3Access) -> duckdb.DuckDBPyConnection:
    """The in-memory DuckDB of this process that reads S3 so."""
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
    which that is not packaged. Does nothing where an earlier connection to the same database did it.
    """
    # Two connections to one database that do it at once would fail.
    with _reading_s3:
        if not load_httpfs(connection):
            import s3fs

            if "s3" not in connection.list_filesystems():
                # A cached client would keep the endpoint and the keys of another database.
                connection.register_filesystem(s3fs.S3FileSystem(skip_instance_cache=True))
            return
        access = _s3_access()
        name = f"{_SECRETS}{blake2b(repr(access).encode(), digest_size=8).hexdigest()}"
        found = connection.execute(
            f"SELECT name FROM duckdb_secrets() WHERE starts_with(name, {literal(_SECRETS)})"
        ).fetchall()
        if (name,) in found:
            return
        for (other,) in found:
            connection.execute(f"DROP SECRET {other}")
        options = "".join(f", {option} {literal(value)}" for option, value in access)
        connection.execute(f"CREATE SECRET {name} (TYPE s3{options})")


_reading_s3 = threading.Lock()
_SECRETS = "lakehouse_s3_"
"""What the names of our secrets begin with; a digest of what they hold follows."""


def _s3_access() -> S3Access:
    """How DuckDB reads S3 by the AWS_* variables."""
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
    return tuple((option, value) for option, value in options.items() if value)
