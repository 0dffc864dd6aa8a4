"""`lakehouse watch`: what it shows against a plain computation from the stored quotes, how it fits into a terminal, and
that a look opens nothing but what is new.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from random import Random

import polars as pl
import pytest
from click.testing import Result
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from assets_tests.support.feed_lake import FeedLake, said
from assets_tests.support.patience import PATIENCE_S
from assets_tests.support.window_reference import Measures, Place, closed_windows
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.cli.watch import drawn, run_watch
from lakehouse.domains.market.quotes.batch import PollError, QuoteBatch
from lakehouse.domains.market.quotes.monitor import HISTORY_ENDS, FeedView, View
from lakehouse.errors import LakeUnavailable
from lakehouse.settings import settings

SYMBOLS = [f"SYM{number:02}" for number in range(12)]
TWINS = {"SYM03": "SYM04"}
"""Symbols of the same quotes: they share a rank."""
SECOND = timedelta(seconds=1)


def now() -> datetime:
    return datetime.now(UTC)


def tell(feed: FeedLake, start: datetime, rounds: int, seed: int) -> None:
    """So many rounds of ten seconds in a few commits. Some quotes come when others are newer."""
    random = Random(seed)
    quotes = []
    for number in range(rounds):
        prices = {symbol: round(random.uniform(90, 110), 2) for symbol in SYMBOLS}
        moments = {symbol: start + (number * 10 + random.randrange(5)) * SECOND for symbol in SYMBOLS}
        for symbol, twin in TWINS.items():
            prices[twin], moments[twin] = prices[symbol], moments[symbol]
        quotes += [said(symbol, moments[symbol], price) for symbol, price in prices.items()]
    late = [quotes.pop(random.randrange(len(quotes))) for _ in range(rounds // 2)]
    for first in range(0, len(quotes), len(SYMBOLS) * 10):
        feed.tell(quotes[first : first + len(SYMBOLS) * 10])
    feed.tell(late)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("watched")


@pytest.fixture(scope="module")
def fed(home: Path) -> FeedLake:
    """The quotes of the last seventeen minutes; one symbol has none in the last ten."""
    feed = FeedLake(lake=Lake(str(home / "lake")))
    start = now() - timedelta(minutes=17)
    feed.tell([said("QUIET", start + timedelta(minutes=number), 50.0 + number) for number in range(7)])
    tell(feed, start, 100, seed=1)
    return feed


@pytest.fixture
def at_home(home: Path, fed: FeedLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    settings.cache_clear()


def look(feed: FeedLake, at: datetime | None = None) -> View:
    return FeedView(feed.lake, feed.described).look(at or now())


def expected_symbols(feed: FeedLake) -> list[dict[str, object]]:
    """What is to be seen of the symbols, in its order, by going through all the quotes."""
    told = feed.told()
    newest = {quote.symbol: quote for quote in sorted(told, key=lambda quote: quote.event_time)}
    closed = {place: window.measures for place, window in closed_windows(told).items()}
    end = max(place.window_end for place in closed)
    ends = [end - number * 10 * SECOND for number in reversed(range(HISTORY_ENDS))]
    rows = []
    for symbol, quote in newest.items():
        row: dict[str, object] = {
            "symbol": symbol, "last_price": quote.price, "event_time": quote.event_time
        }  # fmt: skip
        for minutes in (1, 5, 15):
            means = {place.symbol: window.mean_price for place, window in closed.items() if place[:2] == (minutes, end)}
            found = closed.get(Place(minutes, end, symbol))
            row[f"gain_{minutes}"] = found.percentage_gain if found else None
            row[f"price_rank_{minutes}"] = 1 + sum(mean > means[symbol] for mean in means.values()) if found else None
            gain, others = found and found.percentage_gain, gains_of(closed, minutes, end)
            row[f"gain_rank_{minutes}"] = None if gain is None else 1 + sum(other > gain for other in others)
        windows = [closed.get(Place(1, moment, symbol)) for moment in ends]
        row["history"] = [window.last_price for window in windows if window] or None
        rows.append(row)
    return sorted(rows, key=lambda row: (row["gain_1"] is None, -(row["gain_1"] or 0), row["symbol"]))  # type: ignore[operator]


def gains_of(closed: dict[Place, Measures], minutes: int, end: datetime) -> list[float]:
    gains = [measured.percentage_gain for place, measured in closed.items() if place[:2] == (minutes, end)]
    return [gain for gain in gains if gain is not None]


def assert_shows(view: View, feed: FeedLake) -> None:
    rows, expected = view.symbols.to_dicts(), expected_symbols(feed)
    assert [rounded(row) for row in rows] == [rounded(row) for row in expected]


def rounded(row: dict[str, object]) -> dict[str, object]:
    """Gains may differ by what rounding a few times makes of them."""
    gains = {name: value for name, value in row.items() if name.startswith("gain")}
    return row | {name: round(value, 9) if isinstance(value, float) else value for name, value in gains.items()}


def test_symbols_are_shown_as_the_quotes_give_them(fed: FeedLake) -> None:
    view = look(fed)
    assert_shows(view, fed)
    by_symbol = {row["symbol"]: row for row in view.symbols.to_dicts()}
    assert by_symbol["SYM03"]["price_rank_1"] == by_symbol["SYM04"]["price_rank_1"]
    assert by_symbol["SYM03"]["gain_rank_1"] == by_symbol["SYM04"]["gain_rank_1"]
    assert view.symbols["symbol"][-1] == "QUIET"
    assert by_symbol["QUIET"]["price_rank_1"] is None
    assert by_symbol["QUIET"]["price_rank_15"] is not None
    assert view.closed_through == max(place.window_end for place in closed_windows(fed.told()))


def test_the_header_counts_what_is_stored(fed: FeedLake) -> None:
    quotes = fed.quotes
    newest = quotes["ingested_at"].max()
    assert isinstance(newest, datetime)
    at = newest + 30 * SECOND
    view = look(fed, at)
    assert view.newest_commit == newest
    assert view.lag == newest - quotes.filter(pl.col("ingested_at") == newest)["event_time"].max()  # type: ignore[operator]
    assert view.stored_today == quotes.filter(pl.col("event_time").dt.date() == at.date()).height
    assert view.quotes_per_minute == quotes.filter(pl.col("ingested_at") > at - 60 * SECOND).height > 0
    assert look(fed, newest + 61 * SECOND).quotes_per_minute == 0
    assert look(fed, at + timedelta(days=2)).stored_today == 0


def test_a_view_that_is_kept_shows_what_a_new_one_does(tmp_path: Path) -> None:
    feed = FeedLake(lake=Lake(str(tmp_path / "lake")))
    kept = FeedView(feed.lake, feed.described)
    assert kept.look(now()).newest_commit is None
    start = now() - timedelta(minutes=20)
    for number in range(4):
        tell(feed, start + number * timedelta(minutes=3), 12 + number, seed=number)
        view, at = kept.look(now()), now()
        assert_shows(view, feed)
        fresh, again = look(feed, at), kept.look(at)
        assert again.symbols.equals(fresh.symbols)
        for name in ("quotes_per_minute", "stored_today", "newest_commit", "lag", "closed_through"):
            assert getattr(again, name) == getattr(fresh, name), name


def test_a_symbol_that_nobody_trades_is_shown_with_its_last_quote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However old that is, unless a day's quotes are too many to be searched."""
    feed = FeedLake(lake=Lake(str(tmp_path / "lake")))
    with monkeypatch.context() as clock:
        clock.setattr("lakehouse.domains.market.quotes.store._now", lambda: now() - timedelta(days=3), raising=True)
        feed.tell([said("ILLIQUID", now() - timedelta(days=3), 17.0)])
    tell(feed, now() - timedelta(minutes=5), 20, seed=1)
    assert {row["symbol"]: row["last_price"] for row in look(feed).symbols.to_dicts()}["ILLIQUID"] == 17.0
    assert look(feed).quotes_per_minute == feed.lake.table("iex/quotes").to_polars().height - 1

    monkeypatch.setattr("lakehouse.domains.market.quotes.monitor._QUOTES_SEARCHED", 100)
    assert set(look(feed).symbols["symbol"]) == set(SYMBOLS)


def test_a_look_opens_only_what_is_new(tmp_path: Path) -> None:
    """The files that a look has read, and those of windows long ago, may be gone at the next one."""
    feed = FeedLake(lake=Lake(str(tmp_path / "lake")))
    kept = FeedView(feed.lake, feed.described)
    tell(feed, now() - timedelta(minutes=19), 60, seed=1)
    before = kept.look(now())
    for file in (tmp_path / "lake" / "iex" / "quotes").rglob("*.parquet"):
        file.unlink()
    for minute in range(7):
        # Nothing is late, so that nobody has to read what is gone.
        moment = now() - timedelta(minutes=8 - minute)
        feed.tell([said(symbol, moment, 200.0 + minute) for symbol in SYMBOLS])
    reread = {
        uri
        for uri in feed.lake.table("iex/quote_windows").snapshot().files()
        if pl.read_parquet(uri, hive_partitioning=False)["window_end"].max() < now() - timedelta(minutes=8)  # type: ignore[operator]
    }
    assert reread
    for uri in reread:
        Path(uri).unlink()
    after = kept.look(now())
    assert set(after.symbols["last_price"]) == {206.0} != set(before.symbols["last_price"])
    assert after.closed_through is not None
    assert before.closed_through is not None
    assert after.closed_through > before.closed_through


def test_what_could_not_be_read_is_read_at_the_next_look(tmp_path: Path) -> None:
    feed = FeedLake(lake=Lake(str(tmp_path / "lake")))
    # A vendor may play a day of long ago.
    moment = datetime(2026, 3, 3, 14, 30, tzinfo=UTC)
    feed.tell([said("A", moment, 10.0)])
    feed.tell([said("A", moment + timedelta(minutes=3), 11.0)])
    kept = FeedView(feed.lake, feed.described)
    for table in ("quotes", "quote_windows"):
        folder = tmp_path / "lake" / "iex" / table / f"day={moment.date()}"
        folder.rename(folder.with_name("away"))
        with pytest.raises(LakeUnavailable):
            kept.look(now())
        folder.with_name("away").rename(folder)
    view = kept.look(now())
    assert view.symbols["last_price"].to_list() == [11.0]
    assert view.symbols["gain_15"].to_list() == [0.0]


def test_errors_and_refusals_are_shown_for_their_time(tmp_path: Path) -> None:
    feed = FeedLake(lake=Lake(str(tmp_path / "lake")))
    kept, at = FeedView(feed.lake, feed.described), now().replace(microsecond=0)
    moments = [at - timedelta(minutes=minutes) for minutes in (9, 4, 3, 2, 1)]
    failed = [
        PollError(f"S{number}", moment, 1, "passing", f"broken {number}", moment)
        for number, moment in enumerate(moments)
    ]
    no_quotes = [said("BAD", at, None), said("WORSE", at, -1.0)]
    feed.log.store(QuoteBatch([said("GOOD", at - SECOND, 10.0), *no_quotes], failed))
    view = kept.look(at)
    assert view.errors == 4
    assert [(error.symbol, error.occurred_at, error.error) for error in view.latest_errors] == [
        (f"S{number}", moments[number], f"broken {number}") for number in (4, 3, 2)
    ]
    assert view.refused_today == feed.quarantine.height == 2
    text = "\n".join(line.plain for line in drawn(view, by_symbol=False))
    assert "4 errors in 5 minutes" in text
    assert "S4: broken 4" in text
    assert "2 refused today" in text
    assert [kept.look(at + timedelta(minutes=minutes, seconds=1)).errors for minutes in (2, 3, 5)] == [2, 1, 0]


@pytest.mark.parametrize("by_symbol", [False, True])
def test_every_terminal_is_large_enough(fed: FeedLake, by_symbol: bool) -> None:
    view = look(fed)
    by_gain = view.symbols["symbol"].to_list()
    for width in (1, 10, 25, 40, 60, 80, 100, 140, 200):
        for height in range(1, 30):
            lines = [line.plain for line in drawn(view, width, height, by_symbol=by_symbol)]
            assert len(lines) <= height
            assert max(map(cell_len, lines)) <= width
            if width < 25 or height < 5:
                continue
            shown = [match[0] for line in lines if (match := re.match(r"SYM\d\d|QUIET", line))]
            more = [int(match[1]) for line in lines if (match := re.match(r"\.\.\. and (\d+) more$", line))]
            assert len(shown) + sum(more) == len(by_gain)
            if by_symbol:
                assert shown == sorted(by_gain)[: len(shown)]
            elif more:
                ranked = [symbol for symbol in by_gain if symbol != "QUIET"]
                upper = -(-len(shown) // 2)
                assert shown == ranked[:upper] + ranked[len(ranked) - (len(shown) - upper) :]
            else:
                assert shown == by_gain


def test_a_wider_terminal_shows_more_columns(fed: FeedLake) -> None:
    view = look(fed)

    def titles(width: int) -> list[str]:
        lines = [line.plain for line in drawn(view, width, 40, by_symbol=False)]
        return re.split(r"  +", next(line for line in lines if line.startswith("symbol")))

    assert titles(34) == ["symbol", "price", "age", "1 min"]
    ranks = ["gain rank", "price rank"]
    assert titles(80) == ["symbol", "price", "age", "1 min", *ranks, "5 min", "15 min"]
    every = ["symbol", "price", "quoted at", "age", *["1 min", *ranks, "5 min", *ranks, "15 min", *ranks], "last 5 min"]
    assert titles(170) == every


def test_nothing_that_others_wrote_commands_the_terminal(tmp_path: Path) -> None:
    feed = FeedLake(lake=Lake(str(tmp_path / "lake")))
    at = now().replace(microsecond=0)
    failed = PollError("A", at, 1, "passing", "one\x1b[2Jtwo\nthree [red]four[/red]", at)
    feed.log.store(QuoteBatch([said("\x1b]0;X\x07B", at, 10.0)], [failed]))
    text = "\n".join(line.plain for line in drawn(look(feed, at), by_symbol=False))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "one [2Jtwo three [red]four[/red]" in text


def lakehouse(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_an_empty_lake_says_what_to_start() -> None:
    result = lakehouse("watch", "--once")
    assert result.exit_code == 0
    assert "lakehouse stream iex" in result.output


def test_a_pipe_gets_every_symbol_once(fed: FeedLake, at_home: None) -> None:
    expected = expected_symbols(fed)
    for arguments in (("watch", "iex", "--once"), ("watch",)):
        result = lakehouse(*arguments)
        assert result.exit_code == 0, result.output
        lines = [line for line in result.output.splitlines() if re.match(r"SYM\d\d|QUIET", line)]
        assert [line.split()[0] for line in lines] == [row["symbol"] for row in expected]
        assert f"{expected[0]['gain_1']:+.2f}%" in lines[0]
        assert f"{expected[0]['last_price']:.2f}" in lines[0]
    by_symbol = lakehouse("watch", "--once", "--by-symbol").output
    assert re.findall(r"^SYM\d\d|^QUIET", by_symbol, re.MULTILINE) == sorted(str(row["symbol"]) for row in expected)


def test_an_unknown_feed_is_explained() -> None:
    result = lakehouse("watch", "nowhere")
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.fixture
def terminal(at_home: None) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`lakehouse watch` in a terminal of 24 lines of 80 columns, and the terminal's other end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [str(Path(sys.executable).with_name("lakehouse")), "watch"]
    watch = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    yield watch, ours
    watch.kill()
    watch.wait()
    os.close(ours)


def read_until(terminal: int, wanted: str, seconds: float = 60.0) -> str:
    """What the terminal shows until `wanted` is there."""
    text, end = "", time.monotonic() + seconds
    while wanted not in text:
        assert time.monotonic() < end, f"{wanted!r} isn't there after {seconds} s:\n{text}"
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                text += os.read(terminal, 65_536).decode(errors="replace")
            except OSError:  # the other end is closed
                assert wanted in text, text
    return text


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_end_is_noticed_where_an_exception_would_be_lost(
    fed: FeedLake, at_home: None, monkeypatch: pytest.MonkeyPatch, sign: signal.Signals
) -> None:
    """The signal comes while the lake is read, in code that drops what it can't raise, as a callback of a library
    does.
    """
    looks = 0

    def look(view: FeedView, at: datetime) -> View:
        nonlocal looks
        looks += 1
        with suppress(KeyboardInterrupt):
            signal.raise_signal(sign)
        assert looks < 3
        return now_seen

    now_seen = FeedView(fed.lake, fed.described).look(now())
    monkeypatch.setattr(FeedView, "look", look)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run_watch(Console(file=StringIO(), force_terminal=True), fed.described, once=False, by_symbol=False)
    assert looks == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("ending", ["ctrl-c", "sigterm"])
def test_a_terminal_is_drawn_anew_until_it_is_enough(
    fed: FeedLake, terminal: tuple[subprocess.Popen[bytes], int], ending: str
) -> None:
    watch, ours = terminal
    read_until(ours, "SYM11")
    price = {"ctrl-c": 777.25, "sigterm": 888.75}[ending]
    fed.tell([said("SYM05", now() - SECOND, price)])
    read_until(ours, f"{price:.2f}")
    if ending == "ctrl-c":
        os.write(ours, b"\x03")
    else:
        watch.send_signal(signal.SIGTERM)
    said_last = read_until(ours, "\x1b[?1049l")
    assert watch.wait(PATIENCE_S) == 0
    assert "Traceback" not in said_last
    assert "Aborted" not in said_last
