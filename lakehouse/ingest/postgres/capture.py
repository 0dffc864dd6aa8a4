"""Captures a database's tables into the lake, each change exactly once.

By the log: the changes after the slot's position are looked at, without moving it. Each table's rows are committed with
an app transaction, (slot:table) -> the end of the last Commit; then the ledger, with which they count; then the slot is
moved. A capture that is killed in between looks at the same changes again, and leaves out those that a table has.

By snapshots: the initial load, and wherever the log can't tell what changed: the slot is new or was lost, the lake is
behind it, a table's columns differed from the contract meanwhile, or the server's wal_level isn't logical. The database
is compared with the lake by key and image, so that deleted rows are found, and the differences become changes.

A table whose columns differ from its contract stops, and the others go on. It goes on with a snapshot of its own once
they agree again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lakehouse.ingest.postgres.captured import CapturedDatabase, CapturedTable
from lakehouse.ingest.postgres.ledger import Batch, Counts, append_batch, last_batch, next_moment
from lakehouse.ingest.postgres.log_batch import LogBatch
from lakehouse.ingest.postgres.pgoutput import decode, format_lsn
from lakehouse.ingest.postgres.server import ExportedSnapshot, Server, attached, serving
from lakehouse.ingest.postgres.store import BatchStore, remove_uncounted
from lakehouse.lake.lake import Lake
from lakehouse.progress import Progress

if TYPE_CHECKING:
    import duckdb

CHANGES_AT_ONCE = 50_000
"""About how many changes a batch has: a batch ends with a transaction."""
_IDLE_LAG = 16 * 2**20
"""Bytes of log about other tables after which the slot is moved although nothing was captured."""
Step = Literal["committed", "counted"]
"""Steps of a batch after which tests kill a capture."""


@dataclass
class CaptureResult:
    """What a capture did.

    Args:
        by_snapshot: why a snapshot was taken; None if there was none.
        lsn: position up to which the lake equals the database; None if nothing was ever captured.
        lag: bytes of log that the slot keeps back; None where there is no slot.
    """

    batches: int = 0
    transactions: int = 0
    changes: int = 0
    quarantined: int = 0
    tables: dict[str, Counts] = field(default_factory=dict)
    stopped: Mapping[str, str] = field(default_factory=dict)
    by_snapshot: str | None = None
    lsn: int | None = None
    lag: int | None = None

    @property
    def position(self) -> str | None:
        """The position as PostgreSQL writes it."""
        return None if self.lsn is None else format_lsn(self.lsn)


def capture(
    lake: Lake,
    of: CapturedDatabase,
    *,
    run_id: str | None = None,
    at_once: int = CHANGES_AT_ONCE,
    after: Callable[[Step], None] = lambda step: None,
    progress: Progress = lambda *_: None,
) -> CaptureResult:
    """Captures everything that was committed before it began, and at least that.

    Args:
        at_once: about how many changes a batch has.
        after: is called after the steps of a batch.

    Raises:
        DatabaseUnavailable: the database doesn't answer, or ended in the middle. What was captured stays.
        SourceError: the role lacks a right, or the database a table; the message names it.
    """
    with ExitStack() as opened:
        server = opened.enter_context(serving(of, locked=True))
        connection = opened.enter_context(lake.connect())
        run = _Capture(lake, of, server, connection, run_id, at_once, after)
        run.go(progress)
        slot = server.slot()
        run.result.lag = slot.lag if slot is not None else None
    return run.result


def has_news(lake: Lake, of: CapturedDatabase) -> str | None:
    """Names what a capture would find new; None if it would find nothing. By snapshots that is known only by one, so it
    always may.

    Raises:
        DatabaseUnavailable, SourceError: as for `capture`.
    """
    with serving(of, locked=False) as server, lake.connect() as connection:
        server.require_schema()
        last = last_batch(lake, connection, of.source)
        number = last.number if last else 0
        if of.mode == "snapshot" or not server.has_logical_log or last is None or last.stopped:
            return f"{number}-compare"
        slot = server.slot()
        if slot is None or slot.is_lost or slot.lsn != last.lsn:
            return f"{number}-slot"
        return f"{number}-log" if next(server.peek(limit=1), None) is not None else None


class _Capture:
    """A capture that is running, and holds the slot's lock."""

    def __init__(
        self,
        lake: Lake,
        of: CapturedDatabase,
        server: Server,
        connection: duckdb.DuckDBPyConnection,
        run_id: str | None,
        at_once: int,
        after: Callable[[Step], None],
    ) -> None:
        self._lake, self._of, self._server, self._connection = lake, of, server, connection
        self._run_id, self._at_once, self._after = run_id, at_once, after
        self._system = server.system
        self._by_log = of.mode == "log" and server.has_logical_log
        self._last = last_batch(lake, connection, of.source)
        self.result = CaptureResult(lsn=self._last.lsn if self._last else None)

    def go(self, progress: Progress) -> None:
        """Captures until nothing is left of what was committed before."""
        if not self._by_log:
            why = "mode is snapshot" if self._of.mode == "snapshot" else "the server's wal_level isn't logical"
            with self._server.present_snapshot() as snapshot:
                self._take_snapshot(snapshot, self._of.tables, why)
        else:
            if anew := self._why_anew():
                self._begin_anew(anew)
            elif fit := self._fit_again():
                self._resume(fit)
            upto = self._server.log_end()
            while self._take_log(upto):
                progress("batches", self.result.batches, self.result.batches)
        self.result.stopped = self._last.stopped if self._last else {}

    def _why_anew(self) -> str | None:
        """Why the log can't continue what the lake has; None if it can."""
        slot, last = self._server.slot(), self._last
        if last is None:
            return "nothing was captured before"
        if last.system != self._system:
            return "the database is of another cluster than before"
        if slot is None:
            return f"the slot {self._of.slot} is gone"
        if slot.is_lost:
            return f"the slot {self._of.slot} is lost: the server has deleted log that was not captured yet"
        if slot.lsn > last.lsn:
            return f"the slot {self._of.slot} was moved beyond what the lake has"
        return None

    def _begin_anew(self, why: str) -> None:
        self._server.ensure_publication()
        if self._server.slot() is not None:
            self._server.drop_slot()
        with self._server.exported_snapshot(slot=self._of.slot) as snapshot:
            self._take_snapshot(snapshot, self._of.tables, why)

    def _fit_again(self) -> list[CapturedTable]:
        """The stopped tables whose columns are as in the contract again."""
        stopped = self._last.stopped if self._last else {}
        there = self._server.columns() if stopped else {}
        found = [table for table in self._of.tables if table.name in stopped]
        return [table for table in found if table.differences(there.get(table.name, ())) is None]

    def _resume(self, tables: Collection[CapturedTable]) -> None:
        """Brings the others up to a snapshot by the log, and the stopped tables by the snapshot."""
        with self._server.exported_snapshot(slot=None) as snapshot:
            while self._take_log(snapshot.lsn):
                pass
            names = ", ".join(sorted(table.name for table in tables))
            self._take_snapshot(snapshot, tables, f"the columns of {names} are as in the contract again")
        self._server.move_slot(snapshot.lsn)

    def _take_snapshot(self, snapshot: ExportedSnapshot, tables: Collection[CapturedTable], why: str) -> None:
        self.result.by_snapshot = why
        last, moment = self._last, datetime.now(UTC)
        there = self._server.columns()
        differing = {table.name: table.differences(there.get(table.name, ())) for table in tables}
        stopped = {
            **{name: reason for name, reason in (last.stopped if last else {}).items() if name not in differing},
            **{name: reason for name, reason in differing.items() if reason},
        }
        remove_uncounted(self._lake, self._of, last)
        counts: dict[str, Counts] = {}
        with tempfile.TemporaryDirectory(prefix="lakehouse-capture-") as folder:
            store = self._store(Path(folder), moment)
            with attached(self._connection, self._server, snapshot) as catalog:
                for table in tables:
                    if table.name not in stopped:
                        counts[table.name] = store.add_snapshot(table, catalog, snapshot.lsn)
                        self._after("committed")
        changed = {name: count for name, count in counts.items() if count.changes}
        is_new = last is None or last.system != self._system or dict(last.stopped) != stopped
        if changed or is_new or self._by_log:
            self._count(store, "snapshot", snapshot.lsn, moment, 0, changed, stopped)

    def _take_log(self, upto: int) -> bool:
        """Captures the next batch; False if there was nothing."""
        last = self._last
        assert last is not None
        with tempfile.TemporaryDirectory(prefix="lakehouse-capture-") as folder:
            batch = LogBatch(self._of, Path(folder), last.lsn, last.stopped)
            for data in self._server.peek(limit=self._at_once, upto=upto):
                if (message := decode(data)) is not None:
                    batch.add(message)
            if batch.committed_at is None:
                return self._rest(upto)
            store = self._store(Path(folder), batch.committed_at)
            counts = {}
            for table in batch.tables:
                counts[table.name] = store.add_changes(table, batch.relation(self._connection, table))
                self._after("committed")
            stopped = batch.stopped
            self._count(store, "log", batch.lsn, batch.committed_at, batch.transactions, counts, stopped)
        self._after("counted")
        self._server.move_slot(batch.lsn)
        return True

    def _rest(self, upto: int) -> bool:
        """Where the log has nothing of these tables: moves the slot if it keeps much of it back."""
        slot, last = self._server.slot(), self._last
        assert slot is not None
        assert last is not None
        if slot.lsn < last.lsn:
            self._server.move_slot(last.lsn)
        elif slot.lag > _IDLE_LAG and upto > last.lsn:
            with tempfile.TemporaryDirectory(prefix="lakehouse-capture-") as folder:
                store = self._store(Path(folder), last.committed_at)
                self._count(store, "idle", upto, last.committed_at, 0, {}, last.stopped)
            self._server.move_slot(upto)
        return False

    def _store(self, folder: Path, moment: datetime) -> BatchStore:
        number = self._last.number + 1 if self._last else 1
        captured_at = next_moment(self._last)
        checkpoints = f"{self._system}/{self._of.slot}"
        return BatchStore(
            self._lake, self._of, self._connection, folder, self._last, number, moment, captured_at, checkpoints
        )

    def _count(
        self,
        store: BatchStore,
        kind: str,
        lsn: int,
        committed_at: datetime,
        transactions: int,
        counts: Mapping[str, Counts],
        stopped: Mapping[str, str],
    ) -> None:
        """Makes the batch count."""
        changes = sum(count.changes for count in counts.values())
        quarantined = sum(count.quarantined for count in counts.values())
        append_batch(
            self._lake,
            self._of.source,
            {
                "day": store.captured_at.date(),
                "batch": store.number,
                "kind": kind,
                "system": self._system,
                "slot": self._of.slot,
                "lsn": lsn,
                "position": format_lsn(lsn),
                "transactions": transactions,
                "changes": changes,
                "quarantined": quarantined,
                "tables": [{"name": name, **vars(count)} for name, count in sorted(counts.items())],
                "stopped": [{"name": name, "reason": reason} for name, reason in sorted(stopped.items())],
                "committed_at": committed_at,
                "captured_at": store.captured_at,
                "run_id": self._run_id,
            },
        )
        self._last = Batch(store.number, lsn, self._system, dict(stopped), committed_at, store.captured_at)
        result = self.result
        result.batches += 1
        result.transactions += transactions
        result.changes += changes
        result.quarantined += quarantined
        result.lsn = lsn
        for name, count in counts.items():
            known = result.tables.get(name, Counts())
            result.tables[name] = Counts(known.changes + count.changes, known.quarantined + count.quarantined)
