"""What a chart of an instrument shows: finding the series that a name stands for, reading its bars, and saying what
one has to know about them.

Drawing belongs in `plot`, prices on another basis in `market`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lakehouse.domains.market.prices import daily_bars
from lakehouse.errors import LakehouseError
from lakehouse.ingest.partitioning import start_of
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal, predicate

if TYPE_CHECKING:
    import duckdb
    import polars as pl

    from lakehouse.domains.market.bars.source import BarSource

_PRICES = ("close", "open", "high", "low")
_LISTED_DIVIDENDS = 4
"""Maximum of listed dividends; the rest is only counted."""
_CLOSEST = 6
"""Maximum of names that an error suggests."""
_LIKE = 0.6
"""How much of two names must be alike for one to be meant by the other: two of three letters, as difflib counts."""


class ChartError(LakehouseError):
    """There is nothing to draw, or more than one match; the message names them and the fix."""


@dataclass(frozen=True)
class Chart:
    """What is drawn: one instrument at one source in one currency.

    sessions: of the calendar, from the first daily bar to the last. daily: rows of daily_bars, ascending. bars: the
    traded bars of a single session, ascending (interval, start_at, end_at, open, high, low, close, volume); None for
    several sessions. hours: where that session's regular segment begins and ends (UTC). actions: the splits and
    dividends with an ex-date in these sessions, ascending (ex_date, kind, dividend_amount, split_coefficient). basis:
    what the prices are adjusted for; None for prices as they are stored.
    """

    source: BarSource
    sessions: Sequence[date]
    daily: pl.DataFrame
    bars: pl.DataFrame | None = None
    hours: tuple[datetime, datetime] | None = None
    as_of: datetime | None = None
    actions: Sequence[Mapping[str, Any]] = ()
    basis: str | None = None

    @property
    def title(self) -> str:
        """Symbol, name, venue, sessions and currency, by the last daily bar."""
        last, venue, sessions = self.daily.row(-1, named=True), self.source.config.venue, self.sessions
        span = f"{sessions[0]} to {sessions[-1]}" if len(sessions) > 1 else f"{sessions[0]:%a} {sessions[0]}"
        parts = (last["symbol"] or last["instrument_id"], _tidy(last["name"]), f"{venue.name} ({venue.mic})", span)
        return " · ".join([part for part in parts if part] + [last["currency"]])

    @property
    def figures(self) -> dict[str, str]:
        """Open, high, low, close, volume and change of all that is drawn, by the daily bars."""
        rows, first = self.daily, self.daily.row(0, named=True)
        close, since, base = rows["close"][-1], f"the close of {first['prev_session']}", first["prev_close"]
        if base is None:
            since, base = "the first open", first["open"]
        return {
            "Open": price(first["open"]),
            "High": price(max(rows["high"])),
            "Low": price(min(rows["low"])),
            "Close": price(close),
            "Volume": quantity(math.fsum(volumes)) if (volumes := rows["volume"].drop_nulls()).len() else "none",
            # A futures spread can be zero or negative; a percentage is meaningless then.
            "Change": f"{(close / base - 1) * 100:+.2f}% since {since}"
            if base > 0
            else f"{close - base:+,g} since {since}",
        }

    @property
    def notes(self) -> list[str]:
        """What one has to know about the prices: the bars' length, their adjustment, what is missing."""
        zone = self.source.config.venue.time_zone
        notes = ["daily bars" if self.bars is None else f"{self.bars['interval'][0]} bars, {zone} time"]
        adjusted = sorted(self.daily["adjusted_as_of"].drop_nulls())
        if self.basis is not None:
            notes.append(self.basis)
        elif adjusted:
            span = " to ".join(str(day) for day in sorted({adjusted[0], adjusted[-1]}))
            some = "some prices" if len(adjusted) < len(self.daily) else "prices"
            notes.append(f"{some} came adjusted for splits and dividends as of {span}")
        else:
            notes.append("prices as traded")
        notes += _in_words(self.actions)
        if absent := len(self.sessions) - len(self.daily):
            notes.append(f"no daily bar in {absent} of {len(self.sessions)} sessions")
        for is_complete, what in ((False, "objects missing for"), (None, "bars end early in")):
            rows = self.daily.iter_rows(named=True)
            if found := [row["session"] for row in rows if row["is_complete"] is is_complete]:
                notes.append(f"{what} {found[0] if len(found) == 1 else f'{len(found)} sessions'}")
        if self.as_of is not None:
            notes.append(f"as known at {self.as_of.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
        return notes


def price(value: float) -> str:
    """A price with as many decimals as it has, at least two and at most six."""
    whole, _, decimals = f"{value:,.6f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def quantity(value: float) -> str:
    """A quantity with as many decimals as it has, at most eight."""
    whole, _, decimals = f"{value:,.8f}".partition(".")
    return f"{whole}.{decimals.rstrip('0')}".removesuffix(".")


def read_chart(
    lake: Lake,
    sources: Sequence[BarSource],
    instrument: str,
    first: date,
    last: date,
    currency: str | None = None,
    *,
    adjusted: bool = False,
) -> Chart:
    """Finds an instrument by its instrument_id or symbol, and reads its bars from `first` to `last`: those of the
    source's interval if that is one session of the calendar, else the daily ones. With `adjusted`, prices and volumes
    are adjusted for splits and dividends.

    Raises:
        ChartError: nothing of that name has a daily bar in these sessions, or several series have; or none of the
            sources has bars.
    """
    with_bars = [source for source in sources if source.has_bars]
    if sources and not with_bars:
        names = " and ".join(source.name for source in sources)
        raise ChartError(f"{names} has no bars to draw, only a daily series", "Read it by lakehouse sql")
    sources = with_bars
    with lake.connect() as connection:
        found = [
            (source, daily)
            for source in sources
            for daily in _series(lake, connection, source, instrument, first, last)
            if currency in (None, daily["currency"][0])
        ]
        if not found:
            raise ChartError(_nothing(lake, connection, sources, instrument, first, last, currency))
        if len(found) > 1:
            raise ChartError(_several(instrument, found))
        source, stored_daily = found[0]
        daily, basis = _adjusted(lake, source, stored_daily) if adjusted else (stored_daily, None)
        calendar = source.calendar
        actions = _actions(lake, connection, source, daily)
        if len(calendar.between(first, last)) > 1:
            sessions = calendar.between(daily["session"][0], daily["session"][-1])
            return Chart(source, sessions, daily, as_of=lake.as_of, actions=actions, basis=basis)
        one = {name: [daily[name][0]] for name in ("session", "instrument_id", "currency")}
        stored = lake.select(source.table("bars"), connection, {"session": one["session"]})
        # The bars of a session are on the basis of its daily bar.
        prices = next((daily[name][0] / stored_daily[name][0] for name in _PRICES if stored_daily[name][0]), 1.0)
        volume, stored_volume = daily["volume"][0], stored_daily["volume"][0]
        shares = volume / stored_volume if volume and stored_volume else 1.0
        scaled = ", ".join(f"{name} * {prices!r} AS {name}" for name in _PRICES)
        bars = connection.sql(
            f"SELECT interval, start_at, end_at, {scaled}, round(volume * {shares!r}, 6) AS volume "
            f"FROM ({stored}) "
            f"WHERE {predicate(one)} AND is_traded ORDER BY start_at"
        ).pl()
    session = one["session"][0]
    if bars.is_empty():
        raise ChartError(
            f"'{instrument}' has a daily bar of {session} at {source.name}, but no shorter bars",
            "Draw the daily bars of several sessions",
        )
    hours = (calendar.hours(session)[0], source.regular_end(session))
    return Chart(source, [session], daily, bars, hours, lake.as_of, actions, basis)


def read_bases(lake: Lake, chart: Chart) -> list[Chart]:
    """A chart, and the same bars on the other basis where their prices differ: adjusted for splits and dividends, or as
    they are stored.
    """
    if chart.bars is None and len(chart.sessions) == 1:
        # The only session with a bar of several: asked for alone, it would be drawn by its minutes.
        return [chart]
    first = chart.daily.row(0, named=True)
    other = read_chart(
        lake,
        [chart.source],
        first["instrument_id"],
        chart.sessions[0],
        chart.sessions[-1],
        first["currency"],
        adjusted=chart.basis is None,
    )
    prices = list(_PRICES)
    return [chart] if other.daily[prices].equals(chart.daily[prices]) else [chart, other]


def _adjusted(lake: Lake, source: BarSource, daily: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Daily bars of one series adjusted for splits and dividends, and what to call that."""
    import polars as pl

    series = {name: [daily[name][0]] for name in ("instrument_id", "currency")}
    found = daily_bars(lake, source.name, adjusted="splits_and_dividends").filter(
        predicate({**series, "session": daily["session"].to_list()})
    )
    rows = found.order("session").pl()
    label = rows.row(0, named=True)
    if label["adjustment"] == "none":
        basis = f"prices as they came: no corporate action of {source.name} is known"
    else:
        basis = f"adjusted for splits and dividends ({label['dividend_convention']}) as of {label['prices_as_of']}"
    return rows.with_columns(pl.lit(None, pl.Date).alias("adjusted_as_of")), basis


def _actions(
    lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource, daily: pl.DataFrame
) -> list[dict[str, Any]]:
    """The corporate actions of a series whose ex-date is one of its sessions, or between two of them."""
    stored = lake.select(source.table("corporate_actions"), connection)
    series = {name: [daily[name][0]] for name in ("instrument_id", "currency")}
    first, last = (literal(daily["session"][place]) for place in (0, -1))
    return (
        connection.sql(
            f"""
            SELECT ex_date, kind, dividend_amount, split_coefficient FROM ({stored})
            WHERE {predicate(series)} AND ex_date BETWEEN {first} AND {last} ORDER BY ex_date, kind
            """
        )
        .pl()
        .to_dicts()
    )


def _in_words(actions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each split, and each dividend unless there are many."""
    splits = [action for action in actions if action["kind"] == "split"]
    dividends = [action for action in actions if action["kind"] == "dividend"]
    ratios = [Fraction(action["split_coefficient"]).limit_denominator(100) for action in splits]
    words = [
        f"split {ratio.numerator}:{ratio.denominator} on {action['ex_date']}"
        for ratio, action in zip(ratios, splits, strict=True)
    ]
    if len(dividends) > _LISTED_DIVIDENDS:
        return [*words, f"{len(dividends)} dividends"]
    return words + [f"dividend {action['dividend_amount']:g} on {action['ex_date']}" for action in dividends]


def _series(
    lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource, instrument: str, first: date, last: date
) -> list[pl.DataFrame]:
    """The daily bars of every series that goes by a name in these sessions. The case of letters counts only where
    two names differ by it; a series whose symbol changed comes whole.
    """
    sessions = source.calendar.between(first, last)
    years = sorted({start_of("year", session) for session in sessions})
    stored = lake.select(source.table("daily_bars"), connection, {"year": years})
    name = literal(instrument)
    rows = connection.sql(
        f"""
        WITH daily AS (SELECT * FROM ({stored}) WHERE {predicate({"session": sessions})}),
        same AS (
            SELECT instrument_id, currency, instrument_id = {name} OR coalesce(symbol = {name}, false) AS exactly
            FROM daily WHERE upper(instrument_id) = upper({name}) OR upper(symbol) = upper({name})
        )
        SELECT * FROM daily SEMI JOIN (
            FROM same WHERE exactly = (SELECT bool_or(exactly) FROM same)
        ) USING (instrument_id, currency) ORDER BY session
        """
    ).pl()
    return rows.partition_by("instrument_id", "currency", maintain_order=True)


def _several(instrument: str, found: Sequence[tuple[BarSource, pl.DataFrame]]) -> str:
    lines = [f"'{instrument}' is {len(found)} series; choose by instrument_id, --source and --currency:"]
    for source, daily in found:
        last = daily.row(-1, named=True)
        lines.append(f"  {_named(last)} --source {source.name} --currency {last['currency']}")
    return "\n".join(lines)


def _nothing(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    sources: Sequence[BarSource],
    instrument: str,
    first: date,
    last: date,
    currency: str | None,
) -> str:
    """Why there is nothing to draw: an empty lake, other sessions or currencies, or a name that nothing has."""
    where = " and ".join(source.name for source in sources) or "the lake"
    rows = [
        {"source": source.name, **row}
        for source in sources
        for row in connection.sql(
            f"""
            SELECT instrument_id, currency, arg_max(symbol, session) AS symbol, arg_max(name, session) AS name,
                list(DISTINCT upper(symbol)) AS symbols, min(session) AS first, max(session) AS last
            FROM ({lake.select(source.table("daily_bars"), connection)})
            GROUP BY instrument_id, currency ORDER BY sum(turnover) DESC, instrument_id, currency
            """
        )
        .pl()
        .to_dicts()
    ]
    if not rows:
        return f"there are no daily bars in {where}; load some with lakehouse backfill SOURCE --from DATE --to DATE"
    wanted = instrument.upper()
    if same := [row for row in rows if wanted == row["instrument_id"].upper() or wanted in row["symbols"]]:
        has = "; ".join(f"in {row['currency']} at {row['source']} from {row['first']} to {row['last']}" for row in same)
        asked = f" in {currency}" if currency else ""
        return f"'{instrument}' has no daily bar{asked} from {first} to {last}; it has some {has}"
    # Near by description, then by letters; of equals the most traded, which is what most people mean.
    near = [row for row in rows if len(wanted) > 2 and wanted in (row["name"] or "").upper()]
    called = {name: rank for rank, row in enumerate(rows) for name in (row["instrument_id"].upper(), *row["symbols"])}
    likeness = {name: difflib.SequenceMatcher(None, name, wanted).ratio() for name in called if name}
    alike = [name for name, ratio in likeness.items() if ratio > _LIKE]
    near += [rows[called[name]] for name in sorted(alike, key=lambda name: (-likeness[name], called[name]))]
    names = list(dict.fromkeys(_named(row) for row in near))[:_CLOSEST]
    return f"there is no instrument '{instrument}' in {where}" + (f"; near it: {'; '.join(names)}" if names else "")


def _named(row: dict[str, Any]) -> str:
    others = ", ".join(part for part in (row["symbol"], _tidy(row["name"])) if part and part != row["instrument_id"])
    return f"{row['instrument_id']}{f' ({others})' if others else ''}"


def _tidy(name: str | None) -> str:
    """A vendor's description without the blanks that align it in a column."""
    return " ".join((name or "").split())
