"""Runs an assistant's SQL on the locked lake, in a child process that ends when it takes too much time or memory.

DuckDB neither accounts for all memory nor interrupts all work. What it can't stop ends the process in which it runs,
and the server goes on.
"""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass
from threading import BoundedSemaphore
from typing import Any

from lakehouse.child_process import ask
from lakehouse.errors import LakehouseError, QueryLimitReached, QueryNotAllowed
from lakehouse.lake.locked import Limits

_OPENING_S = 60.0
"""Longest time for starting the process and opening the tables, besides that of the query."""
_AT_ONCE = BoundedSemaphore(2)
"""Each query may take the memory of a locked lake."""


class QueryFailed(LakehouseError):
    """A query can't be answered: the message says what is wrong with it."""


@dataclass(frozen=True)
class Question:
    """A query, with the most rows and characters that its answer may have.

    Args:
        role: answers from what is published for this role.
    """

    query: str
    max_rows: int
    max_characters: int
    role: str | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of an answer. `is_cut` tells that there are more than the question allows."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    is_cut: bool


def answer(question: Question, limits: Limits) -> Rows:
    """Runs a query in a child process, which takes the lake and its own limits from the same settings.

    Args:
        limits: those of a locked lake.

    Raises:
        QueryFailed: the query is wrong, or does more than select from tables.
        QueryLimitReached: it takes too long or too much memory.
    """
    with _AT_ONCE:
        try:
            status, said = ask(
                f"{__package__}.child", json.dumps(asdict(question)).encode(), limits.seconds + _OPENING_S
            )
        except TimeoutError:
            raise limits.out_of_time() from None
    if status == 0:
        found = json.loads(said)
        if "error" in found:
            raise (QueryLimitReached if found["is_limit"] else QueryFailed)(found["error"])
        return Rows(**found)
    if -status == signal.SIGALRM:
        raise limits.out_of_time()
    if -status in (signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV):
        raise limits.out_of_memory()
    raise QueryNotAllowed(f"the query's process ended with status {status}: ask in another way")
