"""DuckDB connections for work on the lake: in memory, UTC, able to read the lake's Parquet files wherever they are.

Opening a DuckDB takes ten times as long as one more connection to it, and a run works on the lake some fifty times. An
`Engine` therefore stays open, and each piece of work gets a connection with an empty database of its own.

No DuckDB file is shared between processes; the one that people read is the published warehouse, attached
read-only by `Lake.sql`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lakehouse.lake.literals import literal
from lakehouse.lake.location import is_remote

if TYPE_CHECKING:
    import duckdb

Connections = Callable[[], AbstractContextManager["duckdb.DuckDBPyConnection"]]
"""Opens an in-memory DuckDB and closes it at the end."""

_SPILL_LIMIT = "20GB"
_SESSION = "SET TimeZone = 'UTC'; SET enable_progress_bar = false"
"""What each connection needs, whatever its database is set to."""
_numbers = count(1)


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
        {_SESSION}; SET autoinstall_known_extensions = false;
        SET temp_directory = {literal(spill_folder())};
        SET max_temp_directory_size = '{_SPILL_LIMIT}'
        """
    )
    if is_remote(uri):
        _read_s3(connection)
    return connection


def connect(uri: str) -> duckdb.DuckDBPyConnection:
    """A new in-memory DuckDB that can read the lake at `uri`."""
    import duckdb

    return prepare(duckdb.connect(), uri)


class Engine:
    """A DuckDB that is opened with the first piece of work, by `connections` where they are given, and stays open
    until this object goes.
    """

    def __init__(self, uri: str, connections: Connections | None = None) -> None:
        self._uri = uri
        self._connections = connections
        # By process: one that was forked can't use the DuckDB of the other, whose threads it doesn't have.
        self._opened: dict[int, tuple[duckdb.DuckDBPyConnection, object]] = {}

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with an empty database of its own, both gone at the end; any number of them at once."""
        import duckdb

        opened = self._open()
        database = f"work_{next(_numbers)}"
        connection = opened.cursor()
        try:
            connection.execute(f"ATTACH ':memory:' AS {database}; USE {database}; {_SESSION}")
            yield connection
        finally:
            connection.close()
            try:
                with opened.cursor() as last:
                    last.execute(f"DETACH DATABASE IF EXISTS {database}")
            except duckdb.Error:
                # A DuckDB that met an error of its own refuses everything: the next piece of work opens another.
                self._opened.pop(os.getpid(), None)

    def _open(self) -> duckdb.DuckDBPyConnection:
        found = self._opened.get(os.getpid())
        if found is None:
            if self._connections is None:
                opened, holder = connect(self._uri), None
            else:
                holder = self._connections()
                opened = prepare(holder.__enter__(), self._uri)
            # It would keep what it has read of files, for as long as there is memory.
            opened.execute("SET enable_external_file_cache = false")
            # Of two threads that come first together, one's is used.
            found = self._opened.setdefault(os.getpid(), (opened, holder))
        return found[0]


@cache
def shared_engine() -> Engine:
    """The engine for all lakes in folders, for which nothing else was asked for."""
    return Engine("")


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
