"""Steps of a saga that write to its database: their rows and the engine's record of the step are one transaction.

The engine's tables are in the same database, so nothing has to be kept twice: DBOS's own data source, which may be
another database, keeps each result in a table there and in its own, reads both before each step, and empties the first
at the end: 18 round trips and 3 commits a step, instead of 6 and 1 here. An order costs a third less CPU time by that
(`lakehouse orders simulate --orders 1000`).

This calls functions of DBOS 3.4.0 that aren't public, and only here; the version is pinned.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    import psycopg

P = ParamSpec("P")
R = TypeVar("R")
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_LOST = ("08", "40", "53", "57")
"""Classes of SQLSTATE after which the transaction may be repeated: connection, rollback, resources, operator."""
_CANCELLED = "57014"
_IDLE = "25P03"


def transaction(function: Callable[Concatenate[psycopg.Connection, P], R]) -> Callable[P, R]:
    """Makes a function a step of the workflow that calls it: it runs in a READ COMMITTED transaction, which commits
    its rows together with its result, and only while this process owns the workflow. A result that is known is
    returned without running it again.

    While the database is away or refuses for a passing reason, the step is repeated for ever.
    """
    from dbos._context import EnterDBOSStepCtx, snapshot_step_context
    from dbos._dbos import _get_dbos_instance
    from dbos._error import DBOSException
    from dbos._serialization import serialize_value

    name, body = function.__name__, cast("Callable[..., R]", function)

    def once(workflow: str, number: int, started_ms: int, arguments: Any) -> R:
        system = _get_dbos_instance()._sys_db
        with system.engine.begin() as connection:
            known = system._check_operation_execution_txn(workflow, number, name, connection)
            if known is not None:
                return cast("R", system._replay_recorded(known, name))
            driver = cast("psycopg.Connection", connection.connection.driver_connection)
            result = body(driver, *arguments)
            output, serialization = serialize_value(result, None, system.serializer)
            # Locks the workflow's row: another process takes it over before, and this fails, or after the commit.
            system._record_operation_result_txn(
                {
                    "workflow_uuid": workflow,
                    "function_id": number,
                    "function_name": name,
                    "output": output,
                    "error": None,
                    "serialization": serialization,
                    "started_at_epoch_ms": started_ms,
                    "child_workflow_id": None,
                },
                _now_ms(),
                connection,
            )
        return result

    @wraps(function)
    def step(*arguments: Any) -> R:
        context = snapshot_step_context()
        assert context is not None, f"{name} is a step of a workflow"
        workflow, number, started_ms = context.workflow_id, context.function_id, _now_ms()
        with EnterDBOSStepCtx({"name": name, "operationType": "step"}, context):
            try:
                return _repeated(partial(once, workflow, number, started_ms, arguments))
            except DBOSException:
                # Cancelled, or owned by another process now: not the step's outcome.
                raise
            except Exception as error:
                _get_dbos_instance()._sys_db._record_operation_error(workflow, number, name, started_ms, error)
                raise

    return cast("Callable[P, R]", step)


def _repeated(attempt: Callable[[], R]) -> R:
    """The result of the first attempt that doesn't fail for a passing reason."""
    import psycopg
    from sqlalchemy.exc import SQLAlchemyError

    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return attempt()
        except (psycopg.Error, SQLAlchemyError) as error:
            if not is_passing(error):
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def is_passing(error: Exception) -> bool:
    """Whether a transaction failed for a reason that passes: the connection, a deadlock, or the server's state."""
    import psycopg
    from sqlalchemy.exc import DBAPIError, TimeoutError

    if isinstance(error, TimeoutError):
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return False
    if cause.sqlstate is None:
        # From the client itself: the connection is lost.
        return isinstance(cause, psycopg.OperationalError)
    return cause.sqlstate == _IDLE or (cause.sqlstate[:2] in _LOST and cause.sqlstate != _CANCELLED)


def _now_ms() -> int:
    return int(time.time() * 1000)
