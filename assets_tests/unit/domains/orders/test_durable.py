"""Which failures of a transaction are repeated, and which are an order's outcome."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, TimeoutError

from lakehouse.domains.orders.durable import is_passing


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (psycopg.OperationalError("the connection is closed"), True),
        (psycopg.errors.ConnectionFailure("connection failed"), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.CannotConnectNow(), True),
        (psycopg.errors.DeadlockDetected(), True),
        (psycopg.errors.SerializationFailure(), True),
        (psycopg.errors.TooManyConnections(), True),
        (psycopg.errors.IdleInTransactionSessionTimeout(), True),
        (psycopg.errors.QueryCanceled(), False),
        (psycopg.errors.CheckViolation(), False),
        (psycopg.InterfaceError("a wrong use"), False),
        (TimeoutError("the pool is exhausted"), True),
        (ValueError(), False),
    ],
)
def test_is_passing(error: Exception, passes: bool) -> None:
    assert is_passing(error) is passes
    assert is_passing(DBAPIError("SELECT 1", None, error)) is (passes and isinstance(error, psycopg.Error))
