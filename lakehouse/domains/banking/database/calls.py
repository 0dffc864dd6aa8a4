"""Calls the functions of schema `bank`, each in a transaction of its own.

A call is one statement on a connection that commits by itself, hence one round trip: BEGIN and COMMIT beside it would
be two more. What is checked at the commit fails the statement, too.

A deadlock, a serialization failure or a lost connection changes nothing that a replay by the same key wouldn't find, so
these are retried. Everything else that the database raises about a request is a refusal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from lakehouse.errors import DatabaseUnavailable, LakehouseError
from lakehouse.servers.postgres import Place, database

if TYPE_CHECKING:
    import psycopg

Answer = TypeVar("Answer")

_ATTEMPTS = 100
_TIMEOUT_S = 60.0
_LONGEST_WAIT_S = 0.5
_MISSING = {"3F000", "42P01", "42883"}
"""SQLSTATEs of a missing schema, table or function."""


class Refused(LakehouseError):
    """The bank refuses a request: nothing of it was done.

    Attributes:
        code: the SQLSTATE, such as 23514 for an overdraft.
        key: of the request that is to blame; None where the database doesn't say.
    """

    def __init__(self, message: str, hint: str | None = None, *, code: str = "", key: str | None = None) -> None:
        super().__init__(message, hint)
        self.code = code
        self.key = key


class Bank:
    """The functions of the bank's database, over one connection that is renewed when it is lost.

    Raises (on entering):
        DatabaseUnavailable: the server can't be started or reached.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._connection: psycopg.Connection | None = None

    def __enter__(self) -> Self:
        import stamina.instrumentation

        # What is retried is reported by its result: log lines would get among a command's reports.
        stamina.instrumentation.set_on_retry_hooks([])
        self._using = database(self._place)
        self.database = self._using.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
        self._using.__exit__(kind, error, trace)

    def call(self, function: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of a function that takes an object and gives one, such as `open_account`.

        Raises:
            Refused: with the database's reason.
            DatabaseUnavailable: the database doesn't answer, or has no schema `bank`.
        """

        def work(connection: psycopg.Connection) -> dict[str, Any]:
            found = connection.execute(f"SELECT bank.{function}(%s)".encode(), [json.dumps(request)]).fetchone()
            assert found is not None
            return dict(found[0])

        return self._committed(work)

    def post(self, batch: Sequence[Mapping[str, Any]]) -> list[tuple[int, bool]]:
        """Posts a batch in one transaction: per request its transaction, and whether it was posted before.

        Raises:
            Refused: nothing of the batch was posted.
            DatabaseUnavailable: the database doesn't answer, or has no schema `bank`.
        """
        query = "SELECT transaction_id, replayed FROM bank.post(%s)"
        return self._committed(lambda connection: connection.execute(query, [json.dumps(batch)]).fetchall())

    def rows(self, query: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[dict[str, Any]]:
        """The rows of a query.

        Raises:
            Refused: it names something that doesn't exist.
            DatabaseUnavailable: the database doesn't answer, or has no schema `bank`.
        """
        from psycopg.rows import dict_row

        def work(connection: psycopg.Connection) -> list[dict[str, Any]]:
            with connection.cursor(row_factory=dict_row) as cursor:
                return cursor.execute(query.encode(), parameters).fetchall()

        return self._committed(work)

    def _committed(self, statement: Callable[[psycopg.Connection], Answer]) -> Answer:
        """Runs one statement, and repeats it after what is safe to repeat."""
        import psycopg
        import stamina

        passing = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure, psycopg.OperationalError)
        with _explained():
            for attempt in stamina.retry_context(
                on=passing,
                attempts=_ATTEMPTS,
                timeout=_TIMEOUT_S,
                wait_initial=0.01,
                wait_max=_LONGEST_WAIT_S,
                wait_jitter=0.05,
            ):
                with attempt:
                    answer = statement(self._connected())
        return answer

    def _connected(self) -> psycopg.Connection:
        import psycopg

        if self._connection is None:
            self._connection = self.database.connect(autocommit=True)
        elif self._connection.broken or self._connection.closed:
            # An embedded server that was killed is started again here; another one may take a while to come back.
            with database(self._place) as found:
                self._connection = psycopg.connect(found.url, autocommit=True)
        return self._connection


@contextmanager
def _explained() -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"The bank's database doesn't answer: {' '.join(str(error).split())}") from None
    except psycopg.Error as error:
        if error.sqlstate in _MISSING:
            raise DatabaseUnavailable("The database has no bank", "Run `lakehouse banking init`") from None
        said = error.diag.message_primary or " ".join(str(error).split())
        detail = error.diag.message_detail or ""
        key = detail.removeprefix("key: ") if detail.startswith("key: ") else None
        raise Refused(said, code=error.sqlstate or "", key=key) from None
