"""Capture through kill -9 of the database, of the capture and of both: each change is in the lake once."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from random import Random
from threading import Event, Thread

import psycopg
import pytest

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.captured_bank import CapturedBank, bank_server, fill, make_bank
from assets_tests.support.soak import ONLY_IN_A_SOAK, soak_count
from lakehouse.derive.rebuild import rebuild
from lakehouse.ingest.postgres.capture import capture
from lakehouse.ingest.postgres.verify import verify
from lakehouse.servers.postgres import Database, database, release

pytestmark = pytest.mark.faults
CAPTURE = """
import sys
from pathlib import Path
from assets_tests.support.captured_bank import CapturedBank
bank = CapturedBank("", Path(sys.argv[1]), "killed")
print("captures", flush=True)
while True:
    bank.capture(at_once=100)
"""


def write(bank: CapturedBank, server: Database, numbers: count[int], stop: Event) -> None:
    """Posts transfers until the database is killed, or it is told to stop."""
    try:
        with server.connect(autocommit=True) as connection:
            while not stop.is_set():
                bank.transfer(connection, next(numbers), 1, 2, 1)
    except psycopg.OperationalError:
        return


def postmaster(bank: CapturedBank) -> int:
    return int((bank.place.folder / "data" / "postmaster.pid").read_text().split("\n")[0])


@pytest.mark.soak
def test_capture__is_exact_through_kills_of_the_database_and_of_itself(tmp_path: Path) -> None:
    bank, random, numbers = CapturedBank("", tmp_path / "lake", "killed"), Random(15), count(1)
    with database(bank.place, keep=True) as server, server.connect(autocommit=True) as connection:
        fill(connection, 4)
    for turn in range(soak_count(3, 20)):
        victims = (("capture",), ("database",), ("capture", "database"))[turn % 3]
        stop = Event()
        # A server that was killed is started again.
        with database(bank.place, keep=True) as server:
            writer = Thread(target=write, args=(bank, server, numbers, stop))
        writer.start()
        command = [sys.executable, "-c", CAPTURE, str(bank.folder)]
        with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as captures:
            assert captures.stdout is not None
            assert captures.stdout.readline() == b"captures\n"
            # The kill comes at another place of the capture each time; nothing is waited for.
            time.sleep(random.uniform(0.05, 1.0))
            if "capture" in victims:
                captures.kill()
            if "database" in victims:
                os.kill(postmaster(bank), signal.SIGKILL)
            stop.set()
            writer.join()
            captures.kill()
    bank.capture()
    with database(bank.place):
        compared = verify(bank.lake(), bank.of)
    assert compared.is_equal
    assert [table.pending for table in compared.tables] == [0, 0]
    assert not rebuild(bank.lake(), bank.source, verify=True).differs
    [(changes, distinct, entries)] = bank.query(
        "SELECT count(*), count(DISTINCT (lsn, seq)), (SELECT count(*) FROM entry) FROM entry_changes"
    )
    assert changes == distinct == entries > 0
    assert bank.query("SELECT sum(balance) FROM account") == [(0,)]
    assert release(bank.place)


@pytest.mark.soak
@ONLY_IN_A_SOAK
def test_capture__takes_a_million_entries_in_ten_seconds_and_bounded_memory(tmp_path: Path) -> None:
    with bank_server(tmp_path / "server") as server:
        bank = make_bank(server, tmp_path, "million")
        with bank.connect() as connection:
            connection.execute(
                "INSERT INTO shop.entry SELECT i / 2, i % 2, 1 + i % 4, 1 FROM generate_series(1, 1000000) i"
            )
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        assert capture(bank.lake(), bank.of).tables["entry"].changes == 1_000_000
        assert time.monotonic() - started <= 10
        with bank.connect() as connection:
            connection.execute("UPDATE shop.entry SET amount = amount * 2 WHERE transaction_id <= 100000")
        bank.capture()
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20 < 2
        assert verify(bank.lake(), bank.of).is_equal
