"""Other people's queries: what they may ask, and how long and with how much memory.

Two fences, one behind the other. A query is parsed first, and only a single SELECT passes that names no file, no
setting and no function that reads from outside (a list of the table functions that may be called). Then the connection
is locked: files of the lake alone, no network, no extensions, no other settings, no Python variables. The first is
needed, since DuckDB lets a COPY write into the folders that it may read.

DuckDB's memory limit is about its buffers, not about single strings and lists. `process_limits` bounds these too; it
is for a process that runs such a query alone, and ends it by a signal: `lakehouse.cli.own_process` says what happened.

What ends at a limit raises DuckDB's errors, or Arrow's. `LimitedRelation` makes `QueryLimitReached` of them.
"""

from __future__ import annotations

import functools
import json
import re
import resource
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import QueryLimitReached, QueryNotAllowed
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_TABLE_FUNCTIONS = {"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"}
"""Those that make their rows from their arguments."""
_NO_FUNCTIONS = {"current_setting", "getenv", "getvariable", "json_serialize_plan", "write_log"}
_CATALOG_SCHEMA = "information_schema"
_NO_TABLES = re.compile(r"(duckdb|pg|pragma|sqlite)_|views$", re.IGNORECASE)
_NAME = re.compile(r"[\w $-]+")
"""Any other word names a file."""
_GRACE_S = 5.0
"""After the time limit, for what DuckDB can't interrupt."""
_MEMORY_TIMES = 3
"""The process may take so many times the memory limit, beside what it has."""
_OUT_OF_TIME = re.compile(r"\b(INTERRUPT|Connection) Error: ")
"""DuckDB's words after the time limit, from whichever library they come: the connection is interrupted and closed."""
_OUT_OF_MEMORY = re.compile(r"\bOut of Memory Error: ")
_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


@dataclass(frozen=True)
class Limits:
    """What one query on a locked lake may take: `memory` as DuckDB writes it (1GB), time from its start to the last row
    read. What doesn't fit into memory may be spilled, as much again.
    """

    memory: str
    seconds: float
    on_start: Callable[[], object] | None = None
    """Called when the time begins to run: when the tables have been opened."""

    @property
    def memory_bytes(self) -> int:
        """`memory` as a number of bytes."""
        found = re.fullmatch(r"([\d.]+) ?(\w+)", self.memory)
        if found is None or found[2].lower() not in _UNITS:
            raise ValueError(f"'{self.memory}' is not an amount of memory; write it as 500MB or 2GB")
        return int(float(found[1]) * _UNITS[found[2].lower()])

    def out_of_time(self) -> QueryLimitReached:
        """The error of a query that met the time limit."""
        return QueryLimitReached(
            f"stopped after {self.seconds:g} s, the longest time of a query on a locked lake: ask for less, such as "
            "fewer sessions, or set LAKEHOUSE_LOCKED_SECONDS higher"
        )

    def out_of_memory(self) -> QueryLimitReached:
        """The error of a query that met the memory limit."""
        return QueryLimitReached(
            f"stopped: it takes more than {self.memory}, the memory of a query on a locked lake: ask for less, such as "
            "fewer sessions, or set LAKEHOUSE_LOCKED_MEMORY higher"
        )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns an error of a query that met a limit into the lake's own.

        Raises:
            QueryLimitReached: it met one.
        """
        import duckdb
        import pyarrow as pa

        try:
            yield
        except MemoryError as error:
            raise self.out_of_memory() from error
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if _OUT_OF_MEMORY.search(str(error)):
                raise self.out_of_memory() from error
            if _OUT_OF_TIME.search(str(error)):
                raise self.out_of_time() from error
            raise


class LimitedRelation:
    """A relation of a locked lake: DuckDB's, with the lake's own errors where it meets a limit."""

    def __init__(self, relation: duckdb.DuckDBPyRelation, limits: Limits) -> None:
        self._relation = relation
        self._limits = limits

    def __getattr__(self, name: str) -> Any:
        with self._limits.explained():
            return self._limited(getattr(self._relation, name))

    def __repr__(self) -> str:
        with self._limits.explained():
            return repr(self._relation)

    def __len__(self) -> int:
        with self._limits.explained():
            return len(self._relation)

    def __contains__(self, name: str) -> bool:
        return name in self._relation

    def __getitem__(self, name: str) -> Any:
        return self._limited(self._relation[name])

    def _limited(self, value: Any) -> Any:
        import duckdb
        import pyarrow as pa

        if isinstance(value, duckdb.DuckDBPyRelation):
            return LimitedRelation(value, self._limits)
        if isinstance(value, pa.RecordBatchReader):
            # Not a generator: one that Ctrl-C leaves unfinished is closed at some later time, where a second
            # KeyboardInterrupt (Polars raises its own before Python's) would be printed as ignored.
            batches = iter(functools.partial(self._next_batch, value), None)
            return pa.RecordBatchReader.from_batches(value.schema, batches)
        if not callable(value):
            return value

        @functools.wraps(value)
        def call(*given: Any, **named: Any) -> Any:
            plain = [each._relation if isinstance(each, LimitedRelation) else each for each in given]
            with self._limits.explained():
                return self._limited(value(*plain, **named))

        return call

    def _next_batch(self, reader: pa.RecordBatchReader) -> pa.RecordBatch:
        with self._limits.explained():
            return reader.read_next_batch()


def check_query(query: str, schemas: Collection[str], macros: Sequence[tuple[str, str]]) -> None:
    """Lets a query pass that only selects, from tables and by functions that read nothing else.

    Args:
        schemas: whose tables may be read. DuckDB joins what it doesn't know to the name of a file, `schema.table`.
        macros: (schema, name) of the table macros that may be called besides.

    Raises:
        QueryNotAllowed: it does more.
        duckdb.Error: it can't be parsed.
    """
    import duckdb

    with duckdb.connect() as parser:
        (text,) = parser.execute(f"SELECT json_serialize_sql({literal(query)}, skip_default := true)").fetchall()[0]
    try:
        parsed = json.loads(text)
    except RecursionError:
        raise QueryNotAllowed("a locked lake answers no query that is nested so deeply") from None
    if parsed["error"] and parsed["error_type"] == "not implemented":
        raise QueryNotAllowed("a locked lake answers SELECT statements only")
    if parsed["error"]:
        raise duckdb.ParserException(parsed["error_message"])
    if len(parsed["statements"]) != 1:
        raise QueryNotAllowed(f"a locked lake answers one statement at a time, not {len(parsed['statements'])}")
    allowed = {"", _CATALOG_SCHEMA, *(schema.lower() for schema in schemas)}
    for node in _nodes(parsed["statements"]):
        _check_node(node, allowed, {(schema.lower(), name.lower()) for schema, name in macros})


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _check_node(node: dict[str, Any], schemas: set[str], macros: set[tuple[str, str]]) -> None:
    if node.get("type") == "TABLE_FUNCTION":
        function = node["function"]
        name, schema = function["function_name"].lower(), function.get("schema", "").lower()
        if (schema, name) not in macros and (schema not in ("", "main") or name not in _TABLE_FUNCTIONS):
            raise QueryNotAllowed(f"a locked lake has no table function {name}()")
    elif node.get("class") == "FUNCTION" and node["function_name"].lower() in _NO_FUNCTIONS:
        raise QueryNotAllowed(f"a locked lake has no function {node['function_name']}()")
    elif node.get("type") == "BASE_TABLE":
        name, schema, catalog = node["table_name"], node.get("schema_name", ""), node.get("catalog_name", "")
        words = all(_NAME.fullmatch(part) for part in (name, schema, catalog) if part)
        if not words or _NO_TABLES.match(name) or schema.lower() not in schemas:
            shown = ".".join(part for part in (catalog, schema, name) if part)
            raise QueryNotAllowed(f"a locked lake has no table '{shown}'; it reads no files and shows no settings")


def lock(connection: duckdb.DuckDBPyConnection, lake_uri: str, limits: Limits) -> None:
    """Shuts everything but the lake's own files, and ends what runs on the connection at the time limit."""
    connection.execute(
        f"""
        SET memory_limit = {literal(limits.memory)}; SET max_temp_directory_size = {literal(limits.memory)};
        SET python_enable_replacements = false;
        SET autoload_known_extensions = false; SET allow_community_extensions = false;
        SET allowed_directories = [{literal(lake_uri.rstrip("/") + "/")}];
        SET enable_external_access = false; SET lock_configuration = true
        """
    )

    def end() -> None:
        connection.interrupt()
        connection.close()

    if limits.on_start is not None:
        limits.on_start()
    timer = threading.Timer(limits.seconds, end)
    timer.daemon = True
    timer.start()


@contextmanager
def for_whole_process(limits: Limits | None) -> Iterator[Limits | None]:
    """The limits with bounds for the whole process, from the moment when a query begins to the end of the block."""
    with ExitStack() as bounds:
        yield limits and replace(limits, on_start=lambda: bounds.enter_context(process_limits(limits)))


@contextmanager
def process_limits(limits: Limits) -> Iterator[None]:
    """Bounds the memory of the whole process, where the system can, and ends it soon after the time limit: for what
    DuckDB neither counts nor interrupts.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    taken = _data_bytes()
    bound = taken + _MEMORY_TIMES * limits.memory_bytes if taken is not None else soft
    if taken is not None and (hard == resource.RLIM_INFINITY or bound < hard):
        resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    signal.setitimer(signal.ITIMER_REAL, limits.seconds + _GRACE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int | None:
    """What the process has of what RLIMIT_DATA counts; None where the system doesn't say."""
    status = Path("/proc/self/status")
    found = re.search(r"VmData:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else None
