"""Shows a feed on the terminal for `lakehouse watch`: redrawn every second, cut to the terminal's size.

Belongs here: layout and refresh. The quotes' `monitor` reads what is shown.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.live import Live
from rich.text import Text

from lakehouse.api import Lake
from lakehouse.domains.market.bars.chart import price
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.monitor import ERRORS_OF, HISTORY_ENDS, FeedView, View
from lakehouse.errors import LakeUnavailable

if TYPE_CHECKING:
    import polars as pl

_REFRESH_S = 1.0
_NOTICED_S = 0.1
_GAP = 2
_BARS = "▁▂▃▄▅▆▇█"
# Lines reserved for symbols, which error texts may not take.
_LINES_KEPT = 12
# The lines of a table with one symbol, and the empty line above it.
_LEAST_LINES = 4
_TROUBLE, _NOTICE, _QUIET = "bold red", "yellow", "dim"


@dataclass(frozen=True)
class _Column:
    """A column with its cells. If the terminal is too narrow for all, the columns with the lowest `place` stay."""

    title: str
    cells: Sequence[tuple[str, str]]
    place: int
    is_text: bool = False

    @cached_property
    def width(self) -> int:
        return max(cell_len(text) for text in (self.title, *(text for text, _ in self.cells)))

    def padded(self, text: str) -> str:
        return set_cell_size(text, self.width) if self.is_text else " " * (self.width - cell_len(text)) + text


def run_watch(console: Console, feed: Feed, *, once: bool, by_symbol: bool) -> None:
    """Shows a feed until Ctrl-C or SIGTERM. With `once`, or if the output is not a terminal, prints it once; without a
    terminal, with all symbols and columns.

    Raises:
        LakeUnavailable: the storage can't be read. The live view shows the error and retries instead.
    """
    view = FeedView(Lake.present(), feed)
    if once or not console.is_terminal:
        seen = view.look(datetime.now(UTC))
        # The prompt follows below.
        size = (console.width, console.height - 1) if console.is_terminal else (None, None)
        console.print(*drawn(seen, *size, by_symbol=by_symbol), sep="\n", soft_wrap=True)
        return
    with _Stop() as stop:
        _show(console, view, by_symbol, stop)


class _Stop:
    """Whether Ctrl-C or SIGTERM was received. The first signal only sets a flag, since an exception raised inside a
    library may be swallowed there; a second one raises.
    """

    def __init__(self) -> None:
        self.is_wanted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for sign in (signal.SIGINT, signal.SIGTERM):
            self._before[sign] = signal.signal(sign, self._want)
        return self

    def __exit__(self, *raised: object) -> None:
        for sign, before in self._before.items():
            signal.signal(sign, before)

    def _want(self, sign: int, frame: FrameType | None) -> None:
        if self.is_wanted:
            raise KeyboardInterrupt
        self.is_wanted = True

    def wait(self, seconds: float) -> None:
        """Waits for a signal, at most `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.is_wanted and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _NOTICED_S))


def _show(console: Console, view: FeedView, by_symbol: bool, stop: _Stop) -> None:
    seen: View | None = None
    with Live(Text("Reading the lake ..."), console=console, screen=True, auto_refresh=False) as live:
        live.refresh()
        while not stop.is_wanted:
            started, lines = time.monotonic(), list[Text]()
            try:
                seen = view.look(datetime.now(UTC))
            except LakeUnavailable as error:
                lines.append(Text(_plain(f"{datetime.now(UTC):%H:%M:%S} {error}"), _TROUBLE))
            width, height = console.size
            if seen is not None:
                lines += drawn(seen, width, height - len(lines), by_symbol=by_symbol)
            live.update(Text("\n").join(lines), refresh=True)
            stop.wait(max(_REFRESH_S - (time.monotonic() - started), _REFRESH_S / 4))


def drawn(view: View, width: int | None = None, height: int | None = None, *, by_symbol: bool) -> list[Text]:
    """Draws a view as lines: as many symbols as fit in `height` lines of `width` columns, or all of them."""
    head = [_title(view), *_flowed(_facts(view), width)]
    told = [f"  {_clock(failed.occurred_at, view.at)} {failed.symbol}: {failed.error}" for failed in view.latest_errors]
    if height is not None:
        told = told[: max(height - _LINES_KEPT, 0)]
        head = head[: max(height - _LEAST_LINES, 1)]
    head += [*(Text(_plain(line), _NOTICE) for line in told), Text()]
    if view.newest_commit is None:
        name = view.feed.name
        lines = [*head, Text(f"The lake has no quotes of {name} yet. Take them in: lakehouse stream {name}")]
    else:
        lines = head + _table(view, width, None if height is None else height - len(head), by_symbol)
    if width is not None:
        for line in lines:
            line.truncate(width, overflow="ellipsis")
    return lines[:height]


def _title(view: View) -> Text:
    title = Text(view.feed.name, "bold")
    title.append(f"  {view.at:%Y-%m-%d %H:%M:%S} UTC", "not bold")
    return title.append(f"  {view.feed.config.description}", "not bold dim")


def _facts(view: View) -> list[Text]:
    errors, refused = view.errors, view.refused_today
    facts = [Text(f"{view.quotes_per_minute:,} quotes a minute"), Text(f"{view.stored_today:,} stored today")]
    if view.newest_commit is not None and view.lag is not None:
        since = view.at - view.newest_commit
        silent = since.total_seconds() > view.feed.config.freshness_s
        stopped = ": is lakehouse stream running?" if silent else f", lag {_lag(view.lag)}"
        facts.append(
            Text(
                f"newest commit {_clock(view.newest_commit, view.at)}, {_age(since)} ago{stopped}",
                _TROUBLE if silent else "",
            )
        )
        closed = (
            "no windows closed" if view.closed_through is None else f"windows to {_clock(view.closed_through, view.at)}"
        )
        facts.append(Text(closed))
    minutes = ERRORS_OF // timedelta(minutes=1)
    facts.append(Text(f"{errors:,} errors in {minutes} minutes", _NOTICE if errors else ""))
    facts.append(Text(f"{refused:,} refused today", _NOTICE if refused else ""))
    return facts


def _flowed(facts: Sequence[Text], width: int | None) -> list[Text]:
    """Lays out facts side by side, wrapped to the width."""
    lines: list[Text] = []
    for fact in facts:
        if lines and (width is None or lines[-1].cell_len + 3 + fact.cell_len <= width):
            lines[-1] = Text.assemble(lines[-1], " · ", fact)
        else:
            lines.append(fact)
    return lines


def _table(view: View, width: int | None, height: int | None, by_symbol: bool) -> list[Text]:
    """The table of symbols, with a title line. If not all symbols fit: those with the highest and the lowest gains, or
    the first by name.
    """
    symbols = view.symbols.sort("symbol") if by_symbol else view.symbols
    lines = symbols.height if height is None else max(height - 1, 2)
    left_out, shown, place = 0, symbols, symbols.height
    if symbols.height > lines:
        left_out = symbols.height - (lines - 1)
        place = lines - 1 if by_symbol else lines // 2
        lower = lines - 1 - place
        # Symbols without a gain come last, but are not losers.
        ranked = symbols.height - symbols[f"gain_{_shortest(view.feed)}"].null_count()
        shown = symbols.head(place).vstack(symbols.slice(max(ranked - lower, place), lower))
    columns = _fitting(_columns(view, shown), width)
    rows = [
        Text(" " * _GAP).join(
            [Text(column.padded(column.cells[number][0]), column.cells[number][1]) for column in columns]
        )
        for number in range(shown.height)
    ]
    if left_out:
        rows.insert(place, Text(f"... and {left_out:,} more", _QUIET))
    titles = (" " * _GAP).join(column.padded(column.title) for column in columns)
    return [Text(titles.rstrip(), "bold"), *rows]


def _columns(view: View, shown: pl.DataFrame) -> list[_Column]:
    """All columns, from left to right."""
    rule, times = view.feed.config.windows, shown["event_time"]
    columns = [
        _Column("symbol", [(_plain(symbol), "bold") for symbol in shown["symbol"]], 0, is_text=True),
        _Column("price", [(price(value), "") for value in shown["last_price"]], 1),
        _Column("quoted at", [(_clock(moment, view.at), "") for moment in times], 150),
        _Column("age", [_aged(view.at - moment, view.feed) for moment in times], 3),
    ]
    for number, minutes in enumerate(sorted(rule.resolutions_minutes)):
        gains = shown[f"gain_{minutes}"]
        columns += [
            _Column(f"{minutes} min", [_gain(gain) for gain in gains], 2 if number == 0 else 4 + number),
            _Column("gain rank", _ranks(shown[f"gain_rank_{minutes}"]), 100 + 100 * number),
            _Column("price rank", _ranks(shown[f"price_rank_{minutes}"]), 101 + 100 * number),
        ]
    of_history = HISTORY_ENDS * rule.period_s / 60
    history = [(_sparkline(prices), "cyan") for prices in shown["history"]]
    return [*columns, _Column(f"last {of_history:g} min", history, 1000, is_text=True)]


def _fitting(columns: Sequence[_Column], width: int | None) -> list[_Column]:
    """The columns that fit, always including the first."""
    left = 0 if width is None else width + _GAP
    kept: list[_Column] = []
    for column in sorted(columns, key=lambda column: column.place):
        if width is not None and kept and column.width + _GAP > left:
            break
        kept.append(column)
        left -= column.width + _GAP
    return [column for column in columns if column in kept]


def _shortest(feed: Feed) -> int:
    return min(feed.config.windows.resolutions_minutes)


def _gain(gain: float | None) -> tuple[str, str]:
    if gain is None:
        return "", ""
    text = f"{gain:+.2f}%"
    # A gain that rounds to zero has no colour.
    return text, "" if float(text[:-1]) == 0 else "green" if gain > 0 else "red"


def _ranks(ranks: pl.Series) -> list[tuple[str, str]]:
    return [("" if rank is None else f"{rank:,}", _QUIET) for rank in ranks]


def _aged(age: timedelta, feed: Feed) -> tuple[str, str]:
    return _age(age), _NOTICE if age.total_seconds() > feed.config.freshness_s else ""


def _age(age: timedelta) -> str:
    """Formats an age in its largest unit; 0 if the vendor's clock is ahead of ours."""
    seconds = max(age.total_seconds(), 0.0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _lag(lag: timedelta) -> str:
    return f"{lag.total_seconds():.1f} s" if lag < timedelta(minutes=2) else _age(lag)


def _clock(moment: datetime, at: datetime) -> str:
    return f"{moment:%H:%M:%S}" if moment.date() == at.date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def _sparkline(prices: Sequence[float] | None) -> str:
    """Prices as bars scaled from their lowest to their highest; the newest is at the right."""
    if prices is None or not len(prices):
        return ""
    least, most = min(prices), max(prices)
    steps = (len(_BARS) - 1) / (most - least) if most > least else 0.0
    return "".join(_BARS[round((value - least) * steps)] for value in prices).rjust(HISTORY_ENDS)


def _plain(text: str) -> str:
    """Foreign text on one line, with control characters removed."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
