"""Capture of a PostgreSQL database by its log and by snapshots, on the embedded server."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest

from assets_tests.support.captured_bank import PII_KEY, CapturedBank, bank_server, make_bank
from lakehouse.errors import SourceError
from lakehouse.ingest.postgres.capture import has_news
from lakehouse.ingest.postgres.captured import Mode
from lakehouse.servers.postgres import Database

pytestmark = pytest.mark.integration
MakeBank = Callable[..., CapturedBank]
ROWS = "SELECT id, key, balance::text, is_open, currency FROM {} ORDER BY id"
ENTRIES = "SELECT transaction_id, line, account_id, amount::numeric(18,2)::text FROM {} ORDER BY 1, 2"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with bank_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def make(server: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MakeBank]:
    name = "t" + hashlib.md5(request.node.name.encode()).hexdigest()[:12]

    def made(mode: Mode = "log", accounts: int = 4) -> CapturedBank:
        return make_bank(server, tmp_path, name, mode, accounts)

    yield made
    with server.connect(autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def there(bank: CapturedBank, query: str, table: str) -> list[tuple[object, ...]]:
    """Rows of the database."""
    with bank.connect() as connection:
        return connection.execute(query.replace("currency", "rtrim(currency)").format(f"shop.{table}")).fetchall()  # type: ignore[arg-type]


def assert_equal(bank: CapturedBank) -> None:
    """The lake has the rows of the database, and they are those of a rebuild."""
    assert bank.query(ROWS.format("account")) == there(bank, ROWS, "account")
    assert bank.query(ENTRIES.format("entry")) == there(bank, ENTRIES, "entry")
    for table in bank.source.tables:
        rebuilt = table.derive(bank.lake(), bank.source, [], verify=True)
        assert rebuilt.changed == frozenset(), table.name


def test_capture__takes_a_snapshot_and_follows_the_log(make: MakeBank) -> None:
    bank = make()
    first = bank.capture()
    assert (first.changes, first.by_snapshot) == (4, "nothing was captured before")
    with bank.connect() as connection:
        bank.transfer(connection, 1, 1, 2, 10)
        connection.execute("UPDATE shop.account SET id = 40, is_open = false WHERE id = 4")
        connection.execute("DELETE FROM shop.account WHERE id = 3")
        connection.execute("INSERT INTO shop.account (id, key) VALUES (3, 'again')")
    second = bank.capture()
    assert (second.transactions, second.by_snapshot, second.lag) == (4, None, 0)
    assert {name: count.changes for name, count in second.tables.items()} == {"account": 6, "entry": 2}
    assert_equal(bank)
    assert bank.capture().batches == 0
    ops = "SELECT op, key->>'id', seq FROM account_changes WHERE xid IS NOT NULL ORDER BY lsn, seq"
    assert [op for op, *_ in bank.query(ops)] == ["update", "update", "delete", "insert", "delete", "insert"]


def test_capture__hashes_personal_data_before_anything_is_stored(make: MakeBank) -> None:
    bank = make()
    bank.capture()
    with bank.connect() as connection:
        connection.execute("UPDATE shop.account SET balance = 1000000000 WHERE id = 1")
    assert bank.capture().quarantined == 1
    expected = hmac.new(PII_KEY, b"a1@x.example", hashlib.sha256).hexdigest()
    [(email, balance)] = bank.query("SELECT email, balance FROM account WHERE id = 1")
    assert (email, balance) == (expected, 0)
    assert all("@" not in image for (image,) in bank.query("SELECT image FROM account_changes"))
    [quarantined] = bank.lake().table("quarantine").to_polars().to_dicts()
    assert quarantined["reasons"] == ["the balance is absurd"]
    assert json.loads(quarantined["row"])["email"] == expected


def test_capture__quarantines_what_a_type_cannot_hold_and_goes_on(make: MakeBank) -> None:
    bank = make()
    bank.capture()
    with bank.connect() as connection:
        connection.execute("INSERT INTO shop.entry (transaction_id, line, account_id, amount) VALUES (1, 1, 1, 'NaN')")
        connection.execute("INSERT INTO shop.entry (transaction_id, line, account_id, amount) VALUES (1, 2, 1, 0.125)")
        connection.execute("INSERT INTO shop.entry VALUES (1, 3, 1, 1, 'infinity')")
        connection.execute("INSERT INTO shop.entry VALUES (1, 4, 1, 2, '0044-03-15 BC')")
        connection.execute("INSERT INTO shop.entry (transaction_id, line, account_id, amount) VALUES (1, 5, 1, 7.10)")
        connection.execute("DELETE FROM shop.entry WHERE line = 1")
    result = bank.capture()
    assert (result.changes, result.quarantined) == (6, 4)
    assert bank.query("SELECT line, amount::text FROM entry") == [(5, "7.10")]
    reasons = bank.lake().table("quarantine").to_polars()["reasons"].explode().to_list()
    assert sorted(reason.split(" ")[0] for reason in reasons) == ["amount", "amount", "booked_at", "booked_at"]


def test_capture__empties_a_truncated_table(make: MakeBank) -> None:
    bank = make()
    bank.capture()
    with bank.connect() as connection, connection.transaction():
        bank.transfer(connection, 1, 1, 2, 10)
        connection.execute("TRUNCATE shop.entry")
        bank.transfer(connection, 2, 2, 1, 5)
    bank.capture()
    assert bank.query("SELECT DISTINCT transaction_id FROM entry") == [(2,)]
    assert_equal(bank)


def test_capture__keeps_long_values_that_an_update_leaves_as_they_are(make: MakeBank) -> None:
    bank = make()
    with bank.connect() as connection:
        connection.execute("ALTER TABLE shop.account ALTER key SET STORAGE EXTERNAL")
        connection.execute("UPDATE shop.account SET key = repeat('long', 5000) WHERE id = 1")
        bank.capture()
        connection.execute("UPDATE shop.account SET balance = 1 WHERE id = 1")
    bank.capture()
    assert bank.query("SELECT length(key), balance FROM account WHERE id = 1") == [(20_000, 1)]
    assert_equal(bank)


def test_capture__divides_the_log_into_batches_of_whole_transactions(make: MakeBank) -> None:
    bank = make()
    bank.capture()
    with bank.connect() as connection:
        for number in range(6):
            bank.transfer(connection, number, 1, 2, 1)
    result = bank.capture(at_once=12)
    assert (result.batches, result.transactions, result.changes) == (3, 6, 24)
    assert_equal(bank)


def test_capture__does_not_wait_for_the_rest_of_a_record_that_is_on_disk_in_part(make: MakeBank) -> None:
    """A reader's marks on pages are written to the log without a commit, after which a quiet server waits for seconds
    before it writes the rest of the last one.
    """
    bank = make()
    bank.capture()
    with bank.connect() as connection:
        connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE TABLE large AS SELECT repeat('a', 500) AS a FROM generate_series(1, 50000)")
        bank.transfer(connection, 1, 1, 2, 10)
        connection.execute("CHECKPOINT")
        connection.execute("SELECT count(*) FROM large")
        begun = time.monotonic()
        try:
            assert bank.capture().transactions == 1
            taken = time.monotonic() - begun
        finally:
            connection.execute("ALTER SYSTEM RESET wal_writer_delay")
            connection.execute("SELECT pg_reload_conf()")
    assert taken < 8
    assert_equal(bank)


def test_capture__a_table_that_differs_from_its_contract_stops_alone_and_goes_on(make: MakeBank) -> None:
    bank = make()
    bank.capture()
    with bank.connect() as connection:
        connection.execute("ALTER TABLE shop.account ADD nickname text")
        bank.transfer(connection, 1, 1, 2, 10)
        result = bank.capture()
        assert result.stopped == {"account": "column nickname isn't in the contract"}
        assert bank.query("SELECT sum(abs(balance)) FROM account") == [(0,)]
        assert bank.query("SELECT count(*) FROM entry") == [(2,)]
        connection.execute("DELETE FROM shop.account WHERE id = 4")
        assert bank.capture().stopped
        connection.execute("ALTER TABLE shop.account DROP nickname")
        bank.transfer(connection, 2, 1, 2, 10)
        result = bank.capture()
        assert result.by_snapshot == "the columns of account are as in the contract again"
        assert result.stopped == {}
        assert_equal(bank)
        connection.execute("ALTER TABLE shop.account ALTER balance TYPE numeric(20,4)")
        connection.execute("ALTER TABLE shop.entry DROP booked_at")
        bank.transfer(connection, 3, 1, 2, 10)
    assert bank.capture().stopped == {
        "account": "column balance is a decimal(20,4), not a decimal(18,2)",
        "entry": "column booked_at isn't there any more",
    }


def test_capture__a_lost_slot_leads_to_a_snapshot_that_finds_what_was_deleted(make: MakeBank) -> None:
    bank = make()
    bank.capture()
    with bank.connect() as connection:
        connection.execute("SELECT pg_drop_replication_slot(%s)", [bank.name])
        connection.execute("DELETE FROM shop.account WHERE id = 3")
        bank.transfer(connection, 1, 1, 2, 10)
    result = bank.capture()
    assert result.by_snapshot == f"the slot {bank.name} is gone"
    assert {name: count.changes for name, count in result.tables.items()} == {"account": 3, "entry": 2}
    assert_equal(bank)


def test_capture__a_lake_that_lags_behind_its_slot_compares(make: MakeBank) -> None:
    bank = make()
    bank.capture()
    with bank.connect() as connection:
        bank.transfer(connection, 1, 1, 2, 10)
        connection.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [bank.name])
    assert bank.capture().by_snapshot == f"the slot {bank.name} was moved beyond what the lake has"
    assert_equal(bank)


def test_capture__by_snapshots_finds_every_difference_once(make: MakeBank) -> None:
    bank = make("snapshot")
    assert bank.capture().by_snapshot == "mode is snapshot"
    with bank.connect() as connection:
        bank.transfer(connection, 1, 1, 2, 10)
        connection.execute("DELETE FROM shop.account WHERE id = 3")
        connection.execute("UPDATE shop.account SET balance = 2000000000 WHERE id = 4")
    result = bank.capture()
    assert {name: (count.changes, count.quarantined) for name, count in result.tables.items()} == {
        "account": (4, 1),
        "entry": (2, 0),
    }
    assert bank.capture().batches == 0
    assert bank.query("SELECT id, balance::int FROM account ORDER BY id") == [(1, -10), (2, 10), (4, 0)]


def test_capture__as_of_is_the_end_of_a_transaction_over_all_tables(make: MakeBank) -> None:
    bank = make()
    moments = []
    with bank.connect() as connection:
        for number in range(5):
            bank.transfer(connection, number, 1, 2, 1)
            bank.capture()
            ledger = bank.lake().table("copy/capture_ledger").to_polars()
            moments.append(ledger["captured_at"].max())
    question = "SELECT (SELECT count(*) FROM entry), (SELECT balance::int FROM account WHERE id = 2)"
    for number, moment in enumerate(moments, start=1):
        assert bank.query(question, as_of=moment) == [(2 * number, number)]
    before = moments[0] - timedelta(milliseconds=1)
    assert bank.query("SELECT count(*) FROM entry", as_of=before) == [(0,)]


@pytest.mark.parametrize("step", ["committed", "counted"])
def test_capture__is_exact_after_a_crash_between_two_steps(make: MakeBank, step: str) -> None:
    class KilledError(Exception):
        pass

    def kill(done: str) -> None:
        if done == step:
            raise KilledError

    bank = make()
    with pytest.raises(KilledError) if step == "committed" else pytest.raises(AssertionError):
        bank.capture(after=kill)
        raise AssertionError
    with bank.connect() as connection:
        for number in range(4):
            bank.transfer(connection, number, 1, 2, 1)
            with pytest.raises(KilledError):
                bank.capture(after=kill)
            # What a killed capture wrote doesn't count before its ledger does.
            balance, entries = bank.query("SELECT max(balance)::int, (SELECT count(*) FROM entry) FROM account")[0]
            assert entries == 2 * (balance or 0)
        connection.execute("UPDATE shop.account SET is_open = false")
    bank.capture()
    assert_equal(bank)
    [(changes, distinct)] = bank.query("SELECT count(*), count(DISTINCT (lsn, seq)) FROM entry_changes")
    assert changes == distinct == 8


def test_capture__sees_each_change_of_four_writers_once(make: MakeBank) -> None:
    bank = make(accounts=8)

    def write(writer: int) -> None:
        with bank.connect() as connection:
            for number in range(100):
                bank.transfer(connection, 4 * number + writer, 2 * writer + 1, 2 * writer + 2, 1)

    writers = [Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        bank.capture(at_once=2_000)
        [(total, entries, moved)] = bank.query(
            "SELECT sum(balance)::int, (SELECT count(*) FROM entry), sum(abs(balance))::int FROM account"
        )
        assert total == 0
        assert entries == moved
    bank.capture()
    assert_equal(bank)
    assert bank.query("SELECT count(*) FROM entry") == [(800,)]


def test_capture__names_the_right_that_a_role_lacks(make: MakeBank) -> None:
    bank = make()
    with bank.connect() as connection:
        connection.execute(f"DROP ROLE IF EXISTS {bank.name}")  # type: ignore[arg-type]
        connection.execute(f"CREATE ROLE {bank.name} LOGIN")  # type: ignore[arg-type]
        connection.execute("CREATE PUBLICATION changes FOR TABLES IN SCHEMA shop")
    weak = CapturedBank(bank.url.replace("postgres@", f"{bank.name}@"), bank.folder, bank.name)
    with pytest.raises(SourceError, match="It needs REPLICATION"):
        weak.capture()


def test_has_news__finds_none_to_capture_in_a_database_without_the_schema(make: MakeBank) -> None:
    """A run for it would fail, and be requested again and again."""
    bank = make()
    of = replace(bank.of, schema="elsewhere")
    with pytest.raises(SourceError, match='schema "elsewhere" does not exist'):
        has_news(bank.lake(), of)
