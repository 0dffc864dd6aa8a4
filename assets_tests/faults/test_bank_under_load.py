"""The bank under load and kills: no deadlock, nothing lost, nothing twice."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import pytest

from assets_tests.support.bank import assert_sound, balances, bank_at, customer_accounts, make_seeded, transfer
from assets_tests.support.servers.postgres import EmbeddedPostgres, copy_of
from assets_tests.support.soak import SOAKS, soak_count
from lakehouse.domains.banking.database.calls import Bank, Refused
from lakehouse.domains.banking.database.schema import prepare
from lakehouse.domains.banking.database.seed import seed
from lakehouse.servers.postgres import Database, Place, database

WRITERS = 8
IS_QUIET = SOAKS and os.getloadavg()[0] < (os.cpu_count() or 1)
"""Whether rates are asserted by the clock, too: in a soak on a machine that does nothing else."""


def cpu_seconds(banks: Sequence[Bank]) -> float:
    """CPU time of this process and of the servers of its connections."""
    ticks = 0
    for bank in banks:
        (backend,) = bank.rows("SELECT pg_backend_pid() AS pid")
        ticks += sum(map(int, Path(f"/proc/{backend['pid']}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def seeded(embedded_postgres: EmbeddedPostgres) -> Iterator[Database]:
    with copy_of(embedded_postgres.server, "seeded_bank", make_seeded) as found:
        yield found


def _rates(transactions: int, begun: float, worked: float) -> tuple[float, float]:
    """Transactions a second, and a second of one core's work."""
    return transactions / (time.monotonic() - begun), transactions / worked


@pytest.mark.soak
def test_writers_on_the_same_accounts_never_lock_each_other_out(seeded: Database) -> None:
    each = soak_count(20, 100)
    with ExitStack() as opened:
        banks = [opened.enter_context(bank_at(seeded)) for _ in range(WRITERS)]
        accounts = customer_accounts(banks[0])[:4]

        def write(number: int) -> int:
            chance, posted = random.Random(number), 0
            for turn in range(each):
                source, target = chance.sample(accounts, 2)
                try:
                    banks[number].post([transfer(f"{number} {turn}", source, target, str(chance.randint(1, 40)))])
                except Refused:
                    continue
                posted += 1
            return posted

        with ThreadPoolExecutor(WRITERS) as pool:
            begun, worked = time.monotonic(), cpu_seconds(banks)
            posted = sum(pool.map(write, range(WRITERS)))
            rate, cpu_rate = _rates(WRITERS * each, begun, cpu_seconds(banks) - worked)
        assert banks[0].rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [
            {"deadlocks": 0}
        ]
        (counted,) = banks[0].rows(
            "SELECT count(*) AS rows FROM bank.transaction WHERE idempotency_key ~ '^[0-9]+ [0-9]+$'"
        )
        assert counted == {"rows": posted}
        assert_sound(banks[0])
    if SOAKS:
        assert cpu_rate >= 300
    if IS_QUIET:
        assert rate >= 300


@pytest.mark.soak
def test_batches_of_a_hundred_are_posted_fast(seeded: Database) -> None:
    with bank_at(seeded) as bank:
        accounts, chance = customer_accounts(bank), random.Random(1)
        batches = soak_count(3, 50)
        begun, worked = time.monotonic(), cpu_seconds([bank])
        for number in range(batches):
            bank.post(
                [
                    transfer(f"{number} {turn}", *chance.sample([*accounts, "CASH-USD"], 2), "0.01")
                    for turn in range(100)
                ]
            )
        rate, cpu_rate = _rates(batches * 100, begun, cpu_seconds([bank]) - worked)
        assert_sound(bank)
    if SOAKS:
        assert cpu_rate >= 2_000
    if IS_QUIET:
        assert rate >= 2_000


@pytest.mark.soak
@pytest.mark.parametrize("round_number", range(soak_count(1, 20)))
def test_postings_survive_kills_of_the_server(round_number: int, tmp_path: Path) -> None:
    """Writers go on after each kill: what was posted is there once, whether or not its answer arrived."""
    place = Place(tmp_path / "postgres")
    with database(place) as found:
        prepare(found)
        with Bank(place) as bank:
            seed(bank)
            accounts = customer_accounts(bank)[:4]
            before = balances(bank)
        done, writers, turns = threading.Event(), 3, 30
        killed: list[int] = []
        moved = [dict.fromkeys(accounts, Decimal(0)) for _ in range(writers)]

        def write(number: int) -> int:
            turn, chance = 0, random.Random(round_number * 10 + number)
            with Bank(place) as bank:
                while turn < turns or len(killed) < 2:
                    source, target = chance.sample(accounts, 2)
                    bank.post([transfer(f"{number} {turn}", source, target, "0.01")])
                    moved[number][source] -= Decimal("0.01")
                    moved[number][target] += Decimal("0.01")
                    turn += 1
            return turn

        def kill() -> None:
            chance = random.Random(round_number)
            # A machine that starts the server slower than it is killed would never get on.
            while len(killed) < 3 and not done.wait(chance.uniform(0.1, 0.6)):
                try:
                    postmaster = int((place.folder / "data" / "postmaster.pid").read_text().split("\n")[0])
                    os.kill(postmaster, signal.SIGKILL)
                except (FileNotFoundError, ProcessLookupError, ValueError):
                    continue
                killed.append(postmaster)
                done.wait(1.5)

        killer = threading.Thread(target=kill)
        killer.start()
        with ThreadPoolExecutor(writers) as pool:
            try:
                posted = sum(pool.map(write, range(writers)))
            finally:
                done.set()
                killer.join()
        with Bank(place) as bank:
            after = balances(bank)
            for account in accounts:
                assert after[account] - before[account] == sum(each[account] for each in moved)
            (counted,) = bank.rows(
                "SELECT count(*) AS rows FROM bank.transaction WHERE idempotency_key ~ '^[0-9]+ [0-9]+$'"
            )
            assert counted == {"rows": posted}
            assert_sound(bank)
