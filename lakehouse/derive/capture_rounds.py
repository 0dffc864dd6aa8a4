"""Captures a database again and again, for a process that follows it. A round in which the server has written no log
asks for the position of the log and does nothing else.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lakehouse.derive.captured import CapturedSource, derive_tables
from lakehouse.errors import DatabaseUnavailable
from lakehouse.ingest.postgres.capture import CaptureResult, capture
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import psycopg


class CaptureRounds:
    """The rounds of one process, which keeps an embedded server running meanwhile.

    Raises (on entering):
        DatabaseUnavailable: the embedded server can't be started.
    """

    def __init__(self, lake: Lake, source: CapturedSource) -> None:
        self._lake, self._source = lake, source
        self._opened = ExitStack()
        self._connection: psycopg.Connection | None = None
        self._position: str | None = None
        self._are_derived = False

    def __enter__(self) -> Self:
        self._database = self._opened.enter_context(self._source.of.database())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disconnect()
        self._opened.close()

    def capture(self) -> CaptureResult | None:
        """Captures what is new and brings the tables in line with it; None where nothing was written since.

        Raises:
            DatabaseUnavailable, SourceError: see `lakehouse.ingest.postgres.capture.capture`. The next round goes on.
        """
        position = self._log_position()
        if position is not None and position == self._position:
            return None
        # An exception leaves tables behind: of an earlier process at first, then of a round that captured some batches.
        were_derived, self._are_derived = self._are_derived, False
        result = capture(self._lake, self._source.of)
        if result.batches or not were_derived:
            derive_tables(self._lake, self._source, result.tables if were_derived else None)
        self._are_derived = True
        self._position = position
        return result

    def _log_position(self) -> str | None:
        """Up to where the log is on disk, which is as far as a capture reads. None where the server doesn't say: then
        the capture connects by itself, and says what is wrong.
        """
        import psycopg

        try:
            if self._connection is None:
                self._connection = self._database.connect(autocommit=True)
            row = self._connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        except (DatabaseUnavailable, psycopg.Error):
            self._disconnect()
            return None
        return None if row is None else str(row[0])

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
