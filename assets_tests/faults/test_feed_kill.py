"""The service behind `lakehouse stream` as people run it, against a vendor that is a process of its own: killed at any
moment, told to stop, run beside itself, held up. What it stored is held against the vendor's own record.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.feed_lake import EPOCH, TOKEN, FeedLake, assert_served_and_stored
from assets_tests.support.lakes import Lakehouse, finished
from assets_tests.support.patience import PATIENCE_S
from assets_tests.support.servers.process import ServerProcess
from assets_tests.support.soak import soak_count
from assets_tests.support.window_reference import assert_same, closed_windows
from lakehouse.simulators.quote_faults import FAULTS

SYMBOLS = ("AAPL", "AMZN", "GME", "FSLR", "TSLA", "NIO", "GOOG", "MSFT", "AMC", "BBBY")
SPEED = 30
# Feed time starts in the past, so that it never passes the clock; less than an hour, so that quotes of `future`, which
# are an hour ahead of it, are ahead of the clock and thus no quotes.
BEHIND = timedelta(minutes=55)
FEED_MINUTES = soak_count(6, 40)
EVERY_S = 0.3
KILLS, COMMITS = soak_count(2, 5), (8, 0, 3, 12, 16)
# A slot, and what a busy machine adds to it.
_ABOUT = timedelta(seconds=1)
_TOTALS = re.compile(
    r"([\d,]+) rounds?: ([\d,]+) quotes stored, ([\d,]+) repeated, ([\d,]+) refused, ([\d,]+) tries without an answer; "
    r"([\d,]+) rows of windows"
)

Key = tuple[str, datetime]


class Totals(NamedTuple):
    """What the service says of itself when it ends."""

    rounds: int
    stored: int
    repeated: int
    refused: int
    errors: int
    windows: int


def totals_of(output: str) -> Totals:
    """The last line of an orderly end, however the terminal wrapped it."""
    found = _TOTALS.findall(" ".join(output.split()))
    assert len(found) == 1, output
    return Totals(*(int(number.replace(",", "")) for number in found[0]))


@dataclass(frozen=True)
class Served:
    """A quote of the vendor's record: its price, and the two looks at the record between which it was told first."""

    price: float
    after: datetime
    before: datetime


class Vendor:
    """The simulated vendor as a process, and what its record is seen to hold from moment to moment."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._seen: dict[Key, Served] = {}
        self._looked = datetime.now(UTC)
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch)

    @property
    def served(self) -> dict[Key, Served]:
        """The record as it is now."""
        with self._lock:
            asked = datetime.now(UTC)
            with urllib.request.urlopen(f"{self.url}/_served", timeout=PATIENCE_S) as response:
                lines = response.read().decode().splitlines()
            answered = datetime.now(UTC)
            for said in map(json.loads, lines):
                moment = EPOCH + timedelta(milliseconds=said["latestUpdate"])
                served = Served(said["latestPrice"], self._looked, answered)
                self._seen.setdefault((said["symbol"], moment), served)
            self._looked = asked
            return dict(self._seen)

    @property
    def statistics(self) -> dict[str, Any]:
        """What the vendor counts."""
        with urllib.request.urlopen(f"{self.url}/_stats", timeout=PATIENCE_S) as response:
            return json.load(response)

    @property
    def now(self) -> datetime:
        """Feed time."""
        return datetime.fromisoformat(self.statistics["now"])

    def _watch(self) -> None:
        while not self._ends.wait(0.1):
            _ = self.served

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks at the record all the time."""
        self._thread.start()
        try:
            yield
        finally:
            self._ends.set()
            self._thread.join()


@contextmanager
def vendor_process(folder: Path, faults: Mapping[str, float], seed: int = 5) -> Iterator[Vendor]:
    start = datetime.now(UTC) - BEHIND
    options = {
        "symbols": ",".join(SYMBOLS), "seed": seed, "speed": SPEED, "token": TOKEN, "start": start.isoformat(),
        "faults": json.dumps(faults),
    }  # fmt: skip
    command = [sys.executable, "-m", "lakehouse.simulators.quote_feed"]
    command += [f"--{name}={value}" for name, value in options.items()]
    log = folder / "vendor.log"
    process = ServerProcess(command, log=log, env=os.environ, cwd=PROJECT_ROOT)
    try:
        process.wait_until(lambda: log.read_text().endswith("\n"), timeout=PATIENCE_S, what="address")
        yield Vendor(log.read_text().splitlines()[0])
    finally:
        process.stop()


def house_beside(vendor: Vendor, folder: Path, symbols: tuple[str, ...] = SYMBOLS) -> Lakehouse:
    """An installation that takes in this vendor's quotes."""
    variables = {"LAKEHOUSE_IEX_URL": vendor.url, "LAKEHOUSE_IEX_SYMBOLS": ",".join(symbols), "IEX_TOKEN": TOKEN}
    return Lakehouse(folder / "home", variables)


def stream(house: Lakehouse, *more: str, every: float = EVERY_S) -> subprocess.Popen[str]:
    return house.start("stream", "--every", str(every), *more)


def ended(process: subprocess.Popen[str]) -> Totals:
    """The totals of a service that ends by itself, and well."""
    code, output = finished(process, timeout=PATIENCE_S)
    assert code == 0, output
    assert TOKEN not in output
    return totals_of(output)


def commits_of(house: Lakehouse) -> int:
    """How often quotes have been committed, by what lies in the table's folder."""
    return len(list((house.home / "lake/iex/quotes/_delta_log").glob("*.json")))


def unfinished(lake: FeedLake) -> dict[str, list[datetime]]:
    """Symbol -> when polls were given up because their slot was over: the answer may have been on its way."""
    rows = lake.errors.filter(pl.col("kind") == "unfinished").select("symbol", "occurred_at")
    found: dict[str, list[datetime]] = {}
    for symbol, moment in rows.iter_rows():
        found.setdefault(symbol, []).append(moment)
    return found


def given_up(served: Served, moments: list[datetime]) -> bool:
    """Whether the poll that this was the answer to may have been given up."""
    return any(served.after - _ABOUT <= moment <= served.before + _ABOUT for moment in moments)


def assert_windows(lake: FeedLake) -> None:
    """The stored windows are those of the batch, of SQL as of now, and of a plain computation."""
    found = lake.derive_all(verify=True)
    assert found.rows > 0
    assert found.rows_changed == 0
    assert_frame_equal(lake.rows("iex.quote_windows", as_of=datetime.now(UTC)), lake.windows)
    assert_same(lake.windows, closed_windows(lake.told()))


@pytest.mark.soak
def test_killed_at_random_moments_and_started_again(tmp_path: Path) -> None:
    """What a service may lose when it is killed is what it was told since its third last commit, unless it is told
    again: an answer that came while a commit was made waits for the next one, which may have been handed over already.
    Quotes that were told earlier are all stored.
    """
    moments = random.Random(4)
    lives: list[tuple[datetime, datetime]] = []
    with vendor_process(tmp_path, dict.fromkeys(FAULTS, 0.01)) as vendor:
        house = house_beside(vendor, tmp_path)
        begun = vendor.now
        with vendor.watched():
            while vendor.now < begun + timedelta(minutes=FEED_MINUTES) or len(lives) < KILLS:
                known, enough = len(vendor.served), commits_of(house) + COMMITS[len(lives) % len(COMMITS)]
                started, process = datetime.now(UTC), stream(house)
                # However slow the machine is: some die before their first commit, most while they are at it.
                while len(vendor.served) == known or commits_of(house) < enough:
                    time.sleep(0.02)
                time.sleep(moments.uniform(0.02, 0.6))
                process.kill()
                killed = datetime.now(UTC)
                code, output = finished(process)
                assert code == -signal.SIGKILL, output
                assert TOKEN not in output
                lives.append((started, killed))
            _ = vendor.served
            started = datetime.now(UTC)
            last = ended(stream(house, "--rounds", "5"))
            lives.append((started, datetime.now(UTC)))
        served = vendor.served
    assert last.rounds == 5

    with house.opened():
        lake = FeedLake()
        quotes = lake.quotes
        assert quotes.select("symbol", "event_time").is_duplicated().sum() == 0
        prices = {(symbol, moment): price for symbol, moment, price in
                  quotes.select("symbol", "event_time", "latest_price").iter_rows()}  # fmt: skip
        assert prices == {key: served[key].price for key in prices if key in served}
        stored = prices.keys()
        commits = sorted(set(lake.quotes["ingested_at"]))
        errors = unfinished(lake)
        certain: set[Key] = set()
        for started, killed in lives:
            made = [moment for moment in commits if started < moment < killed]
            # The undisturbed one has committed everything when it ends.
            through = killed if (started, killed) == lives[-1] else (made[-3] if len(made) > 2 else started)
            certain |= {key for key, told in served.items()
                        if started <= told.after and told.before <= through
                        and not given_up(told, errors.get(key[0], []))}  # fmt: skip
        assert len(lives) > KILLS
        assert len(certain) > len(served) / 5
        assert certain <= stored, sorted(certain - stored)[:5]
        # What is missing was told to one that was killed soon after: three rounds of each life at most, and what
        # answers to polls that were given up say.
        lost = served.keys() - stored
        assert len(lost) < 4 * len(SYMBOLS) * len(lives), len(lost)
        assert_windows(lake)
        assert lake.windows["revision"].max() > 1
        assert lake.quarantine.filter(pl.col("session").is_not_null()).height > 0


def test_a_signal_finishes_the_round(tmp_path: Path) -> None:
    with vendor_process(tmp_path, {}) as vendor:
        house = house_beside(vendor, tmp_path)
        told = []
        for sign in (signal.SIGTERM, signal.SIGINT):
            process = stream(house)
            known = len(vendor.served)
            while len(vendor.served) < known + 3 * len(SYMBOLS):
                time.sleep(0.05)
            process.send_signal(sign)
            told.append(ended(process))
        served = vendor.served
    with house.opened():
        lake = FeedLake()
        assert_served_and_stored(lake, {key: each.price for key, each in served.items()})
        assert sum(totals.stored for totals in told) == lake.quotes.height
        assert all(each.stored + each.repeated + each.errors == each.rounds * len(SYMBOLS) for each in told)
        assert_windows(lake)


def test_two_services_at_once_store_each_quote_once(tmp_path: Path) -> None:
    with vendor_process(tmp_path, {"late": 0.05, "repeated": 0.05, "out_of_order": 0.05}) as vendor:
        house = house_beside(vendor, tmp_path)
        told = [ended(process) for process in [stream(house, "--rounds", "16") for _ in range(2)]]
        served = vendor.served
    with house.opened():
        lake = FeedLake()
        assert_served_and_stored(lake, {key: each.price for key, each in served.items()})
        assert sum(totals.stored for totals in told) == lake.quotes.height
        # Both saw the other's quotes, not only one of them its own.
        assert all(totals.repeated > 0 for totals in told)
        assert [totals.rounds for totals in told] == [16, 16]
        assert_windows(lake)


def test_rounds_lie_on_the_clock_and_missed_ones_are_not_made_up(tmp_path: Path) -> None:
    """A symbol that the vendor doesn't know leaves a row in `poll_errors` each round."""
    every, rounds = 0.5, 14
    with vendor_process(tmp_path, {}) as vendor:
        house = house_beside(vendor, tmp_path, (*SYMBOLS, "NOPE"))
        process = stream(house, "--rounds", str(rounds), every=every)
        while len(vendor.served) < 2 * len(SYMBOLS):
            time.sleep(0.05)
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.2)
        process.send_signal(signal.SIGCONT)
        told = ended(process)
        requests = vendor.statistics["requests"]
    with house.opened():
        lake = FeedLake()
        slots = lake.errors.filter(pl.col("symbol") == "NOPE").sort("slot_at")
        assert Counter(slots["attempt"]) == {1: rounds}
        # The one that was asked for when the process was held up may not have had its answer.
        assert slots.filter(pl.col("kind") != "permanent").height <= 1
    assert told.rounds == rounds <= told.errors
    assert requests.keys() == {*SYMBOLS, "NOPE"}
    assert set(requests.values()) <= {rounds, rounds - 1}
    since = [moment - EPOCH for moment in slots["slot_at"]]
    assert {moment % timedelta(seconds=every) for moment in since} == {timedelta(0)}
    gaps = [(later - sooner) / timedelta(seconds=every) for sooner, later in pairwise(since)]
    assert min(gaps) == 1
    assert max(gaps) >= 4
    # None was polled before its time.
    assert (slots["occurred_at"] >= slots["slot_at"]).all()
