"""Rows that are read by a cursor: from a database and from an API, landed batch by batch."""

from __future__ import annotations

import json
import sqlite3
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from assets_tests.support.kernel_lake import PROVENANCE, contract, lake_at, rows_of
from assets_tests.support.servers.ministack import MinistackS3
from lakehouse.derive.by_partition import derive_by_partition, partitions_as_of
from lakehouse.derive.checks import conservation_holds, of_every_dataset, of_every_table
from lakehouse.derive.rebuild import rebuild
from lakehouse.derive.revisions import RevisionRule, winners
from lakehouse.derive.source import DerivedTable, Source, Winners
from lakehouse.errors import SourceError
from lakehouse.ingest.cursor import BatchLanding, CursorBatch, CursorSource
from lakehouse.ingest.dataset import Dataset, ObjectOrigin
from lakehouse.ingest.load import LoadResult, load
from lakehouse.ingest.names import Objects
from lakehouse.ingest.object_store import objects_at
from lakehouse.ingest.partitioning import Part, Periods
from lakehouse.ingest.reading import reading_digest
from lakehouse.ingest.row_format import RowFormat, RowTime
from lakehouse.ingest.thresholds import Refusals
from lakehouse.ingest.times import day_of

DAYS = [date(2024, 1, 2), date(2024, 1, 3)]
_COLUMNS = """
  - {name: day, type: date, description: Day.}
  - {name: id, type: bigint, description: Number of the event.}
  - {name: amount, type: "decimal(12,2)", unit: EUR, description: Amount.}
"""
RAW = contract(f"""
table: raw_events
description: Events as read.
key: [object, object_version, row_number]
partition_by: [day]
known_at: ingested_at
by_ledger: true
columns:{_COLUMNS.rstrip()}{PROVENANCE.rstrip()}
""")
EVENTS = contract(f"""
table: events
description: One row per event.
key: [id]
partition_by: [day]
columns:{_COLUMNS.rstrip()}
""")
RULE = RevisionRule(key=("id",), content=("amount",), part="day")


@dataclass(frozen=True)
class Table:
    """The events of a SQLite database by their ids; `overlap` ids before the cursor are read again."""

    path: Path
    overlap: int = 0

    def add(self, *ids: int) -> None:
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, day TEXT, amount TEXT)")
            rows = [(number, str(DAYS[number % 2]), f"{number}.10") for number in ids]
            database.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)

    def batch(self, after: str | None, limit: int) -> CursorBatch | None:
        start = int(after or 0) - self.overlap
        query = "SELECT id, day, amount FROM events WHERE id > ? ORDER BY id LIMIT ?"
        with closing(sqlite3.connect(self.path)) as database:
            found = database.execute(query, (start, limit + self.overlap)).fetchall()
        records = [dict(zip(("id", "day", "amount"), row, strict=True)) for row in found]
        return CursorBatch(records, str(records[-1]["id"])) if records else None


@dataclass(frozen=True)
class Api:
    """An endpoint that gives the events `since` a cursor."""

    url: str

    def batch(self, after: str | None, limit: int) -> CursorBatch | None:
        with urllib.request.urlopen(f"{self.url}/events?since={after or ''}&limit={limit}") as answer:
            said = json.load(answer)
        return CursorBatch(said["events"], said["next"])


@contextmanager
def served(table: Table) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            since = asked.get("since", [""])[0].removeprefix("t/") or None
            found = table.batch(since, int(asked["limit"][0]))
            events, following = (found.records, found.next_cursor) if found else ([], since or "")
            body = json.dumps({"events": list(events), "next": f"t/{following}"}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def events(source: Source, connection: object, raw: str, ledger: str) -> str:
    return f"SELECT day, id, amount FROM ({winners(raw, ledger, RULE)})"


class Reader:
    """A lake that reads events by a cursor, three in a batch."""

    def __init__(self, folder: Path, system: CursorSource) -> None:
        self.home, self.landing = folder, BatchLanding(str(folder / "landing" / "shop"), lambda: system, 3)
        names = Objects(pattern=r"\d+-.*\.jsonl\.gz", holds="history")
        rows = RowFormat(
            format="jsonl",
            time=RowTime(columns=("day",), format="%Y-%m-%d"),
            columns={"id": "id", "amount": "amount"},
        )
        dataset = Dataset(
            source="shop",
            name="events",
            description="Events",
            table="shop/raw_events",
            contract=RAW,
            rows=rows,
            origin=ObjectOrigin(
                partial(objects_at, self.landing.url, may_lack=True), names, (names,), self.landing.land
            ),
            partitioning=Periods("day", DAYS[0]),
            partition_column="day",
            part=Part("day"),
            times=lambda text: text.select(day=day_of(RowTime(columns=("day",), format="%Y-%m-%d"))),
            reading=reading_digest(RAW, {"rows": rows.model_dump(mode="json")}),
            refusals=Refusals(),
        )
        made = DerivedTable(
            name="events",
            description="One row per event.",
            depends_on=("raw_events",),
            derive=partial(derive_by_partition, "events", "events", events),
            as_of=partial(partitions_as_of, "events", events),
            keeps=Winners("events", RULE),
        )
        self.source = Source(
            name="shop",
            kind="events",
            contracts={"raw_events": RAW, "events": EVENTS},
            datasets=(dataset,),
            tables=(made,),
            checks=(*of_every_dataset(RAW, "events"), *of_every_table(EVENTS), conservation_holds(made)),
        )
        self.lake = lake_at(folder / "lake", self.source)

    def take(self) -> LoadResult:
        loaded = load(self.lake, self.source.datasets[0], DAYS)
        self.source.tables[0].derive(self.lake, self.source, DAYS)
        return loaded

    def names(self) -> list[str]:
        return sorted(path.name for path in Path(self.landing.url).iterdir())

    def raw(self) -> list[int]:
        return [number for (number,) in rows_of(self.lake, "shop/raw_events", "id")]

    def kept(self) -> list[int]:
        """The ids of the derived table, which is what a rebuild would give, with every check passed."""
        assert not rebuild(self.lake, self.source, verify=True).differs
        assert all(check.run(self.lake, self.source, None).passed for check in self.source.checks)
        return [number for (number,) in rows_of(self.lake, "shop/events", "id")]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    made = Table(tmp_path / "shop.sqlite")
    made.add(1, 2, 3, 4)
    return made


def test_the_next_run_goes_on_after_what_was_landed(table: Table, tmp_path: Path) -> None:
    reader = Reader(tmp_path, table)
    assert reader.take().rows_received == 4
    assert reader.names() == ["0000000001-.jsonl.gz", "0000000002-3.jsonl.gz"]
    assert reader.take().objects == {"loaded": 0, "empty": 0, "failed": 0}
    table.add(5, 6)
    assert Reader(tmp_path, table).take().rows_received == 2
    assert reader.names()[2:] == ["0000000003-4.jsonl.gz"]
    assert reader.kept() == reader.raw() == [1, 2, 3, 4, 5, 6]


def test_an_api_with_opaque_cursors(table: Table, tmp_path: Path) -> None:
    with served(table) as url:
        reader = Reader(tmp_path, Api(url))
        assert reader.take().rows_received == 4
        table.add(5)
        assert reader.take().rows_received == 1
        assert reader.take().rows_received == 0
    assert reader.names() == ["0000000001-.jsonl.gz", "0000000002-t%2F3.jsonl.gz", "0000000003-t%2F4.jsonl.gz"]
    assert reader.kept() == reader.raw() == [1, 2, 3, 4, 5]


def test_a_run_that_was_killed_after_landing_is_completed(table: Table, tmp_path: Path) -> None:
    assert Reader(tmp_path, table).landing.land() == 2
    table.add(5)
    reader = Reader(tmp_path, table)
    assert reader.take().rows_received == 5
    assert reader.kept() == reader.raw() == [1, 2, 3, 4, 5]


def test_two_runs_at_once_land_each_batch_once(table: Table, tmp_path: Path) -> None:
    """While one run holds a batch that it has read, another lands one that begins there and has other rows."""
    other = Reader(tmp_path, table)

    class Overtaken:
        calls = 0

        def batch(self, after: str | None, limit: int) -> CursorBatch | None:
            read = table.batch(after, limit - 1)
            self.calls += 1
            if self.calls == 1:
                other.take()
                table.add(5)
            return read

    reader = Reader(tmp_path, Overtaken())
    assert reader.take().rows_received == 1
    assert reader.names() == ["0000000001-.jsonl.gz", "0000000002-3.jsonl.gz", "0000000003-4.jsonl.gz"]
    assert reader.kept() == reader.raw() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("overlap", "kept"), [(0, [1, 2, 3, 4, 7, 8]), (3, [1, 2, 3, 4, 6, 7, 8])])
def test_a_row_that_appears_late_is_seen_within_the_overlap(
    table: Table, tmp_path: Path, overlap: int, kept: list[int]
) -> None:
    reader = Reader(tmp_path, Table(table.path, overlap))
    table.add(7)
    reader.take()
    table.add(6)
    assert reader.take().rows_received == 0
    table.add(8)
    reader.take()
    assert reader.kept() == kept


def test_cursors_that_go_round_are_refused(tmp_path: Path) -> None:
    class Circle:
        def batch(self, after: str | None, limit: int) -> CursorBatch | None:
            return CursorBatch([{"id": 1}], "a" if after == "b" else "b")

    with pytest.raises(SourceError, match="after the cursor 'a' comes 'b' once more"):
        Reader(tmp_path, Circle()).take()


def test_a_record_with_the_cursors_own_member_is_refused(tmp_path: Path) -> None:
    class Taken:
        def batch(self, after: str | None, limit: int) -> CursorBatch | None:
            return CursorBatch([{"_cursor": 1}], "1")

    with pytest.raises(SourceError, match="rename it"):
        Reader(tmp_path, Taken()).take()


def test_two_runs_at_once_land_each_batch_once_in_a_bucket(
    table: Table, ministack_s3: MinistackS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = f"landed-{uuid.uuid4().hex[:8]}"
    ministack_s3.create_bucket(bucket)
    for name, value in ministack_s3.environment().items():
        monkeypatch.setenv(name, value)
    table.add(*range(5, 20))
    landing = BatchLanding(f"s3://{bucket}/shop", lambda: table, 3)
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: landing.land(), range(4))) == 7
    assert landing.land() == 0
    names = sorted(objects_at(landing.url).list().objects["name"].to_list())
    assert names == [f"{number:010d}-{3 * (number - 1) or ''}.jsonl.gz" for number in range(1, 8)]
