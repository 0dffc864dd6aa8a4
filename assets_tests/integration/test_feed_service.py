"""The service in this process, on a real lake beside a simulated vendor: who is slow, a lake that doesn't answer,
settings that can't work, and what must not be told.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from assets_tests.support.feed_lake import TOKEN, FeedLake, assert_served_and_stored, polled
from assets_tests.support.servers.ministack import MinistackS3
from assets_tests.support.vendor_lake import files_with
from assets_tests.support.window_reference import assert_same, closed_windows
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.cli.stream import run_stream
from lakehouse.domains.market.quotes.ingest import Round, Totals
from lakehouse.domains.market.quotes.service import FeedStopped, poll
from lakehouse.settings import settings
from lakehouse.simulators.quote_feed import QuoteFeed, RandomQuotes

SYMBOLS = ("AAPL", "GME", "NIO", "TSLA")
EVERY_S = 0.25


def quote_feed(every_s: float = 7.0, **more: object) -> QuoteFeed:
    """A vendor whose time runs forty times as fast, and is in the past. Quotes change every so many of its seconds."""
    start, quotes = datetime.now(UTC) - timedelta(minutes=50), RandomQuotes(SYMBOLS, seed=2, every_s=every_s)
    return QuoteFeed(quotes, token=TOKEN, start=start, speed=40, **more)  # type: ignore[arg-type]


def run(lake: FeedLake, rounds: int, told: Callable[[Round], None] = lambda _: None, **changes: object) -> Totals:
    """So many rounds of the service."""
    source = lake.described.changed(**{"poll_interval_s": EVERY_S, **changes})
    return asyncio.run(poll(Lake.open(), source, asyncio.Event(), rounds=rounds, told=told))


def run_until(lake: FeedLake, is_enough: Callable[[Round], bool]) -> Totals:
    """Rounds of the service until it is told of one that is enough, however slow the machine is; 2,000 at most."""
    source = lake.described.changed(poll_interval_s=EVERY_S)

    async def running() -> Totals:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def told(made: Round) -> None:
            if is_enough(made):
                loop.call_soon_threadsafe(stop.set)

        return await poll(Lake.open(), source, stop, rounds=2000, told=told)

    return asyncio.run(running())


def assert_all_stored(lake: FeedLake, feed: QuoteFeed) -> None:
    """Every quote that was served is stored, once, and the windows are what the quotes give."""
    assert_served_and_stored(lake, feed.served)
    assert_same(lake.windows, closed_windows(lake.told()))


# Who is slow


def test_a_slow_symbol_delays_no_other_and_its_answer_goes_with_the_next_commit(tmp_path: Path) -> None:
    """The first answer for GME never comes; the second try is answered long after the round's patience is over."""
    # On a busy machine the slow answer may come just before the next one, which must be another quote all the same.
    feed, told = quote_feed(slow_seconds=1.2, every_s=0.5), []
    with polled(tmp_path, feed, SYMBOLS) as lake:
        feed.fail("GME", "timeout")
        totals = run(lake, 2, told.append, poll_interval_s=2.5, round_timeout_s=0.4)
        assert_all_stored(lake, feed)
        quotes, errors = lake.quotes, lake.errors
    assert [(made.received, made.errors) for made in told] == [(3, 0), (5, 1)]
    assert (totals.rounds, totals.stored) == (2, 8)
    first, second = sorted(set(quotes["ingested_at"]))
    # As soon as patience was over, and before the slow one could have answered.
    assert timedelta(seconds=0.4) <= first - told[0].slot_at < timedelta(seconds=1.2)
    assert set(quotes.filter(pl.col("ingested_at") == first)["symbol"]) == {"AAPL", "NIO", "TSLA"}
    assert sorted(quotes.filter(pl.col("ingested_at") == second)["symbol"]) == ["AAPL", "GME", "GME", "NIO", "TSLA"]
    # The next round began on time.
    assert told[1].slot_at - told[0].slot_at == timedelta(seconds=2.5)
    assert errors.select("symbol", "slot_at", "attempt", "kind").rows() == [("GME", told[0].slot_at, 1, "passing")]


def test_a_late_answer_after_the_last_round_is_stored_too(tmp_path: Path) -> None:
    feed, told = quote_feed(slow_seconds=0.5), []
    with polled(tmp_path, feed, SYMBOLS) as lake:
        feed.fail("NIO", "timeout")
        totals = run(lake, 1, told.append, poll_interval_s=2.0, round_timeout_s=0.2)
        assert_all_stored(lake, feed)
    assert [made.stored for made in told] == [3, 1]
    # What came late belongs to the round: it is none of its own.
    assert (totals.rounds, totals.stored, totals.errors) == (1, 4, 1)


def test_a_symbol_that_never_answers_is_given_up_with_its_slot(tmp_path: Path) -> None:
    feed, told = quote_feed(slow_seconds=30.0), []
    with polled(tmp_path, feed, SYMBOLS) as lake:
        feed.fail("TSLA", *["timeout"] * 3)
        run(lake, 3, told.append, poll_interval_s=0.5)
        errors = lake.errors
        assert_all_stored(lake, feed)
    assert {symbol for symbol, _ in feed.served} == {"AAPL", "GME", "NIO"}
    slots = errors.sort("slot_at").select("symbol", "attempt", "kind", "error")
    assert slots.rows() == [("TSLA", 1, "unfinished", "the slot was over before there was an answer")] * 3
    over = (errors["occurred_at"] - errors["slot_at"]).dt.total_milliseconds()
    assert over.min() >= 500
    assert sum(made.received for made in told) == 9


def test_who_stops_it_does_not_wait_for_a_vendor_that_hangs(tmp_path: Path) -> None:
    feed, told = quote_feed(slow_seconds=60.0), []
    with polled(tmp_path, feed, SYMBOLS) as lake:
        feed.fail("TSLA", "timeout")
        source = lake.described.changed(poll_interval_s=6.0, round_timeout_s=0.5)

        async def stopped() -> float:
            stop = asyncio.Event()

            def tell(made: Round) -> None:
                told.append(made)
                loop.call_soon_threadsafe(stop.set)

            loop = asyncio.get_running_loop()
            await poll(Lake.open(), source, stop, told=tell)
            return (datetime.now(UTC) - told[0].slot_at).total_seconds()

        assert asyncio.run(stopped()) < 4
        assert_all_stored(lake, feed)
        errors = lake.errors.select("symbol", "kind", "error").rows()
    assert errors == [("TSLA", "unfinished", "it was given up before there was an answer")]
    assert [made.rounds for made in told] == [1, 0]


def streamed(lake: FeedLake, rounds: int) -> str:
    """What `lakehouse stream` prints in so many rounds."""
    said = StringIO()
    run_stream(Console(file=said, width=300), lake.described, rounds=rounds, poll_interval_s=0.5, listens=False)
    return said.getvalue()


def test_a_rate_that_is_too_low_is_told_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_IEX_REQUESTS_PER_MINUTE", "60")
    with polled(tmp_path, quote_feed(), SYMBOLS) as lake:
        said = streamed(lake, 1)
    assert "4 symbols every 0.5 s are 480 requests a minute, and 60 are allowed" in said


def test_the_first_error_is_told_at_once_and_the_last_at_the_end(tmp_path: Path) -> None:
    with polled(tmp_path, quote_feed(), [*SYMBOLS, "NOPE"]) as lake:
        said = streamed(lake, 2)
    assert said.count("NOPE: status 404: Unknown symbol (all errors: iex/poll_errors)") == 1
    assert "1 errors (the last: NOPE: status 404: Unknown symbol)" in said
    assert "2 tries without an answer" in said


# A lake that doesn't answer


@dataclass
class Outage:
    """Something of the lake that goes away after so many rounds, and comes back after so many more in trouble.

    Its methods are called by the service's writer, between two commits.
    """

    path: Path
    after: int
    lasts: int | None
    told: list[Round] = field(default_factory=list)

    @property
    def troubles(self) -> list[str]:
        return [made.trouble for made in self.told if made.trouble]

    def __call__(self, made: Round) -> None:
        self.told.append(made)
        if len(self.told) == self.after:
            self.begin()
        if self.lasts is not None and made.trouble and len(self.troubles) == self.lasts:
            self.end()

    def is_over(self, made: Round) -> bool:
        """Whether rounds are stored again after it."""
        self(made)
        return len(self.troubles) == self.lasts and not made.trouble

    def is_felt(self, made: Round) -> bool:
        """Whether rounds are lost if the service ends now."""
        self(made)
        return bool(self.troubles)

    def begin(self) -> None:
        """A file takes the folder's place, as where a mount has gone: neither read nor written by anybody, root
        included.
        """
        self.path.rename(self.path.with_name("away"))
        self.path.write_text("nothing is mounted here")

    def end(self) -> None:
        self.path.unlink()
        self.path.with_name("away").rename(self.path)


@pytest.mark.parametrize("gone", ["iex/quotes/_delta_log", "iex/quote_windows/_delta_log", "iex"])
def test_what_comes_while_the_lake_is_away_is_stored_when_it_is_back(gone: str, tmp_path: Path) -> None:
    feed = quote_feed()
    with polled(tmp_path, feed, SYMBOLS) as lake:
        # Until windows close, so that each table is there.
        run_until(lake, lambda made: made.closed_through is not None and lake.windows.height > 0)
        outage = Outage(tmp_path / "lake" / gone, after=2, lasts=3)
        totals = run_until(lake, outage.is_over)
        # Whatever went wrong with the last windows would be mended by the next start: there is nothing to mend.
        assert lake.restart().rows_changed == 0
        assert_all_stored(lake, feed)
    assert len(outage.troubles) == 3
    assert all(str(tmp_path / "lake" / "iex") in trouble for trouble in outage.troubles)
    assert totals.rounds == sum(made.rounds for made in outage.told)
    # What came during the outage went into one commit.
    assert any(made.rounds > 1 for made in outage.told)
    assert totals.received == totals.stored + totals.repeated + totals.refused
    assert outage.told[-1].trouble is None


def test_an_unwritable_lake_is_waited_for(tmp_path: Path) -> None:
    """It can be read, but no file can be made in it."""
    feed = quote_feed()
    with polled(tmp_path, feed, SYMBOLS) as lake, ExitStack() as at_the_end:
        run(lake, 2)
        table = tmp_path / "lake" / "iex" / "quotes"
        # Permissions hold nobody back who is root.
        if os.geteuid() == 0:
            commands = [["chattr", "-R", sign, str(table)] for sign in ("+i", "-i")]
        else:
            commands = [["chmod", "-R", mode, str(table)] for mode in ("a-w", "u+w")]
        at_the_end.callback(subprocess.run, commands[1], capture_output=True)

        def is_over(made: Round) -> bool:
            rounds.append(made)
            if len(rounds) == 1:
                began.append(subprocess.run(commands[0], capture_output=True).returncode)
            if made.trouble and sum(1 for each in rounds if each.trouble) == 2:
                subprocess.run(commands[1], check=True)
            return began != [0] or (not made.trouble and any(each.trouble for each in rounds))

        rounds: list[Round] = []
        began: list[int] = []
        run_until(lake, is_over)
        if began != [0]:
            pytest.skip("this file system can't protect files against root")
        assert_all_stored(lake, feed)
    troubles = [made.trouble for made in rounds if made.trouble]
    assert len(troubles) == 2
    assert all(trouble is not None and f"{table} can't be written" in trouble for trouble in troubles)


def test_the_service_stops_when_the_lake_never_comes_back(tmp_path: Path) -> None:
    feed = quote_feed()
    with polled(tmp_path, feed, SYMBOLS) as lake:
        outage = Outage(tmp_path / "lake" / "iex", after=2, lasts=None)
        with pytest.raises(FeedStopped) as stopped:
            run_until(lake, outage.is_felt)
        outage.end()
        stored = lake.quotes.height
        # All that came since then, whether it was new or not: so many rounds of four symbols.
        lost = sum(feed.requests.values()) - sum(made.received for made in outage.told[:2])
        assert lost > 0
        assert lost % len(SYMBOLS) == 0
        said = f"{lost} quotes could not be stored; start the service again when the lake answers"
        assert said in str(stopped.value)
        assert stored == sum(made.stored for made in outage.told[:2])
        run(lake, 3)
        assert lake.restart().rows_changed == 0
        assert_same(lake.windows, closed_windows(lake.told()))


class Door:
    """A way to a server that can be shut: a TCP port of 127.0.0.1 that passes everything on."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._server = (address.hostname, address.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.shut = threading.Event()
        self.refused = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Lets nobody in, and puts out those who are."""
        self.shut.set()
        while self._open:
            # Threads that wait for a socket see its end, not its closing.
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            caller, _ = self._listener.accept()
            if self.shut.is_set():
                self.refused += 1
                caller.close()
                continue
            server = socket.create_connection(self._server)
            self._open += [caller, server]
            for one, other in ((caller, server), (server, caller)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass_on(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while said := one.recv(65536):
                other.sendall(said)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_an_s3_that_goes_away_and_comes_back(
    ministack_s3: MinistackS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, door = ministack_s3.create_bucket(f"feed-{uuid.uuid4().hex}"), Door(ministack_s3.endpoint)
    for name, value in {**ministack_s3.environment(), "AWS_ENDPOINT_URL": door.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAKEHOUSE_LAKE_URI", f"s3://{bucket}/lake")
    settings.cache_clear()
    feed, told = quote_feed(), []

    def is_over(made: Round) -> bool:
        told.append(made)
        if len(told) == 3:
            door.close()
            threading.Timer(1.0, door.shut.clear).start()
        # Rounds that came meanwhile went into one commit.
        return len(told) > 3 and not door.shut.is_set() and made.rounds > 1

    with polled(tmp_path, feed, SYMBOLS) as lake:
        totals = run_until(lake, is_over)
        assert lake.restart().rows_changed == 0
        assert_all_stored(lake, feed)
    assert totals.rounds == sum(made.rounds for made in told)
    assert door.refused > 0


# What is said


def command(*arguments: str) -> Result:
    """`lakehouse stream` in this process."""
    return CliRunner().invoke(app, ["stream", *arguments])


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("IEX_TOKEN", "", "iex wants a key and IEX_TOKEN is not set"),
        ("LAKEHOUSE_IEX_SYMBOLS", " , ", "LAKEHOUSE_IEX_SYMBOLS names no symbol"),
        ("LAKEHOUSE_IEX_SYMBOLS", "AAPL,../x", "../x can't be asked for"),
        (
            "LAKEHOUSE_IEX_URL",
            "cloud.example.com",
            "'cloud.example.com' is not the address of an API; set LAKEHOUSE_IEX_URL",
        ),
    ],
)
def test_settings_that_cannot_work_end_it_with_their_mend(
    variable: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    with polled(tmp_path, quote_feed(), SYMBOLS):
        monkeypatch.setenv(variable, value)
        settings.cache_clear()
        done = command("--rounds", "1")
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.output
    assert TOKEN not in done.output


def test_an_unknown_feed_is_named(tmp_path: Path) -> None:
    done = command("nobody")
    assert done.exit_code == 2
    assert "nobody" in done.stderr
    assert "iex" in done.stderr


def test_a_stream_in_which_nothing_was_answered_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    with polled(tmp_path, quote_feed(), SYMBOLS), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        monkeypatch.setenv("LAKEHOUSE_IEX_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        done = command("--rounds", "1", "--every", "0.4")
    assert done.exit_code == 1
    assert "nothing was ever answered" in done.stderr


class Echo(BaseHTTPRequestHandler):
    """A vendor that quotes what it was asked: in its refusals, and in what it says instead of a quote."""

    def do_GET(self) -> None:
        said = json.dumps({"error": f"you asked for {self.path}"}).encode()
        self.send_response(404 if "AAPL" in self.path else 200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


def test_the_token_is_told_to_the_vendor_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In no output, table, log or event: with all that can go wrong, and when the vendor is gone."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    faults = dict.fromkeys(("http_500", "rate", "reset", "timeout", "wrong_json", "text_price"), 0.08)
    said = []
    feed = quote_feed(faults=faults, slow_seconds=0.2)
    with polled(tmp_path, feed, SYMBOLS) as lake:
        said.append(command("--rounds", "12", "--every", "0.4"))
        with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as echo:
            threading.Thread(target=echo.serve_forever, daemon=True).start()
            monkeypatch.setenv("LAKEHOUSE_IEX_URL", f"http://127.0.0.1:{echo.server_port}")
            said.append(command("--rounds", "1", "--every", "0.4"))
            echo.shutdown()
        # Nobody listens there any more: the error is about the address.
        said.append(command("--rounds", "1", "--every", "0.4"))
        errors, quarantine = lake.errors, lake.quarantine
        tables = [lake.quotes, errors, quarantine, lake.windows]
    assert [done.exit_code for done in said] == [0, 0, 1]
    assert errors["error"].str.contains("you asked for").any()
    assert quarantine["row"].str.contains("you asked for").any()
    assert {"passing", "unfinished"} <= set(errors["kind"])
    assert errors["error"].str.contains("refused").any()
    assert quarantine.height > 0
    for told in [done.output for done in said] + [table.write_json() for table in tables]:
        assert "stored" in told or "symbol" in told or "object" in told
        assert TOKEN not in told
    # What was told to Dagster is there, and without it.
    assert files_with(tmp_path / "dagster", b"quotes_stored")
    assert files_with(tmp_path, TOKEN.encode()) == []
