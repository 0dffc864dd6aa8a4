"""Restricts untrusted queries: what they may read, for how long, and with how much memory.

There are two barriers. First the query is parsed: it must be a single SELECT without files, settings and functions that
read from outside (only listed table functions may be called). Then the connection is locked: only files of the lake, no
network, no extensions, no other settings, no Python variables. The first barrier is needed because DuckDB lets a COPY
write into the folders that it may read.

DuckDB's memory limit covers its buffers, not single strings and lists. `process_limits` bounds these too: it is for a
process that runs nothing but such a query, and ends it by a signal, which `lakehouse.cli.own_process` explains.

A query that reaches a limit raises errors of DuckDB or Arrow; `LimitedRelation` turns them into `QueryLimitReached`.
"""

from __future__ import annotations

import functools
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
from lakehouse.lake.parsed import nodes, parsed
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_TABLE_FUNCTIONS = {"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"}
"""Table functions that return rows made from their arguments alone."""
_NO_FUNCTIONS = {"current_setting", "getenv", "getvariable", "json_serialize_plan", "write_log"}
_CATALOG_SCHEMA = "information_schema"
_NO_TABLES = re.compile(r"(duckdb|pg|pragma|sqlite)_|views$", re.IGNORECASE)
_NAME = re.compile(r"[\w $-]+")
"""Any other name may be a file."""
_GRACE_S = 5.0
"""Seconds after the time limit until work that DuckDB can't interrupt is ended."""
_MEMORY_TIMES = 3
"""The process may allocate so many times the memory limit, in addition to what it already has."""
_OUT_OF_TIME = re.compile(r"\b(INTERRUPT|Connection) Error: ")
"""DuckDB's text when the connection was interrupted and closed at the time limit; any library may raise it."""
_OUT_OF_MEMORY = re.compile(r"\bOut of Memory Error: ")
_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


@dataclass(frozen=True)
class Limits:
    """The limits of a query on a locked lake: `memory` as DuckDB writes it (1GB), and time from its start to the last
    row read. It may spill as much as the memory limit.
    """

    memory: str
    seconds: float
    on_start: Callable[[], object] | None = None
    """Called when the time starts, after the tables were opened."""

    @property
    def memory_bytes(self) -> int:
        """`memory` as a number of bytes."""
        found = re.fullmatch(r"([\d.]+) ?(\w+)", self.memory)
        if found is None or found[2].lower() not in _UNITS:
            raise ValueError(f"'{self.memory}' is not an amount of memory; write it as 500MB or 2GB")
        return int(float(found[1]) * _UNITS[found[2].lower()])

    def out_of_time(self) -> QueryLimitReached:
        """The error of a query that reached the time limit."""
        return QueryLimitReached(
            f"stopped after {self.seconds:g} s, the longest time of a query on a locked lake: ask for less, such as "
            "fewer sessions, or set LAKEHOUSE_LOCKED_SECONDS higher"
        )

    def out_of_memory(self) -> QueryLimitReached:
        """The error of a query that reached the memory limit."""
        return QueryLimitReached(
            f"stopped: it takes more than {self.memory}, the memory of a query on a locked lake: ask for less, such as "
            "fewer sessions, or set LAKEHOUSE_LOCKED_MEMORY higher"
        )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns the errors of a query that reached a limit into the lake's own.

        Raises:
            QueryLimitReached: a limit was reached.
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
    """A DuckDB relation of a locked lake, which raises the lake's own errors if it reaches a limit."""

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
            # Not a generator: Ctrl-C would leave it unfinished, to be closed at some later time, when a second
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
    """Checks that a query only selects from allowed tables, with functions that read nothing else.

    Args:
        schemas: whose tables may be read. DuckDB takes an unknown `schema.table` for the name of a file.
        macros: (schema, name) of the table macros that may be called.

    Raises:
        QueryNotAllowed: it does more.
        duckdb.Error: it can't be parsed.
    """
    import duckdb

    try:
        found = parsed(query)
    except RecursionError:
        raise QueryNotAllowed("a locked lake answers no query that is nested so deeply") from None
    if found["error"] and found["error_type"] == "not implemented":
        raise QueryNotAllowed("a locked lake answers SELECT statements only")
    if found["error"]:
        raise duckdb.ParserException(found["error_message"])
    if len(found["statements"]) != 1:
        raise QueryNotAllowed(f"a locked lake answers one statement at a time, not {len(found['statements'])}")
    allowed = {"", _CATALOG_SCHEMA, *(schema.lower() for schema in schemas)}
    for node in nodes(found["statements"]):
        _check_node(node, allowed, {(schema.lower(), name.lower()) for schema, name in macros})


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


def lock(connection: duckdb.DuckDBPyConnection, lake_uri: str | None, limits: Limits) -> None:
    """Blocks access to everything but the lake's files (None: and to these) and what is attached already; closes the
    connection at the time limit.
    """
    folders = "" if lake_uri is None else literal(lake_uri.rstrip("/") + "/")
    connection.execute(
        f"""
        SET memory_limit = {literal(limits.memory)}; SET max_temp_directory_size = {literal(limits.memory)};
        SET python_enable_replacements = false;
        SET autoload_known_extensions = false; SET allow_community_extensions = false;
        SET allowed_directories = [{folders}];
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
def for_whole_process(limits: Limits) -> Iterator[Limits]:
    """The limits, with bounds for the whole process from the start of a query to the end of the block."""
    with ExitStack() as bounds:
        yield replace(limits, on_start=lambda: bounds.enter_context(process_limits(limits)))


@contextmanager
def process_limits(limits: Limits) -> Iterator[None]:
    """Bounds the memory of the whole process, if the system can, and ends the process soon after the time limit, since
    DuckDB doesn't count all memory and can't interrupt all work.
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
    """The bytes of the process that RLIMIT_DATA counts; None if the system doesn't report them."""
    status = Path("/proc/self/status")
    found = re.search(r"VmData:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else None
