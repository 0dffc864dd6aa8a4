"""What the rules of market data say about rows that were read and not loaded (see `lakehouse.derive.source_check`):
sessions without objects, labels that don't fit the calendar, times after their publication, and currencies.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lakehouse.derive.source import Remark
from lakehouse.domains.market.bars.completeness import missing_objects
from lakehouse.domains.market.bars.derive import session_hours
from lakehouse.domains.market.bars.labels import labels_against_hours, wrong_label
from lakehouse.domains.market.bars.rules import SEGMENT, TRADED
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.minor_units import MinorUnit, minor_unit
from lakehouse.ingest.rehearsal import Rehearsal, ledger_rows

if TYPE_CHECKING:
    import polars as pl

_NAMED = 5
_AHEAD = timedelta(hours=1)
"""A clock may be wrong by that much before times count as those of another zone."""
_PENCE_FROM, _POUNDS_TO = 20.0, 5.0
"""Most shares of a market that counts in hundredths cost more than 20 of these, and few less than 5."""


def judge(source: BarSource, found: Rehearsal) -> Iterator[Remark]:
    """What can be said of a rehearsed dataset of the source."""
    rows = found.rows
    if found.dataset.name == "bars":
        yield from _sessions(source, found)
        if rows.height:
            yield from _labels(source, rows)
            yield from _ahead(source, rows)
    if rows.height:
        yield from _currencies(source, found, rows)


def _sessions(source: BarSource, found: Rehearsal) -> Iterator[Remark]:
    """The sessions that the objects are about, and those in between that lack one."""
    if not found.found:
        return
    partitions = found.dataset.partitioning
    first = min(item.first_partition for item in found.found)
    last = max(item.last_partition for item in found.found)
    sessions = partitions.between(first, last)
    missing = missing_objects(source, ledger_rows(found.found, found.dataset.name), sessions)
    text = f"{len(sessions):,} sessions of {source.calendar.name} from {first} to {last}"
    if not missing:
        yield Remark("note", f"{text}, each with what it needs")
        return
    named = ", ".join(map(str, list(missing)[:_NAMED]))
    more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
    yield Remark("warning", f"{text}; {len(missing):,} lack an object: {named}{more}")


def label_votes(source: BarSource, rows: pl.DataFrame) -> dict[str, int]:
    """How many ends of sessions say that labels fit, or are one interval early or late (see `labels`)."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("rows", rows.select("session", "start_at", "end_at", "volume").to_arrow())
        connection.register("hours", session_hours(source).to_arrow())
        bars = f"(SELECT *, {SEGMENT} AS segment, {TRADED} AS is_traded FROM rows JOIN hours USING (session))"
        query = labels_against_hours(bars, "hours", source.bars_config.interval_length)
        votes = connection.execute(f"SELECT sum(fit), sum(early), sum(late) FROM ({query})").fetchone()
    assert votes is not None
    return dict(zip(("fit", "early", "late"), (int(vote or 0) for vote in votes), strict=True))


def _labels(source: BarSource, rows: pl.DataFrame) -> Iterator[Remark]:
    import polars as pl

    votes, bars = label_votes(source, rows), source.bars_config
    if wrong := wrong_label(votes):
        which, other = wrong
        yield Remark(
            "error",
            f"bars are one interval ({bars.interval}) too {which} for the hours of {source.calendar.name}: the YAML "
            f"says label: {bars.time.label}, and the vendor seems to stamp a bar's {other}. Set `time.label: {other}`",
        )
        return
    hours = session_hours(source).filter(pl.col("session").is_in(rows["session"].unique().implode()))
    inside = rows.join(hours, on="session").filter(
        (pl.col("end_at") > pl.col("open_at")) & (pl.col("start_at") < pl.col("regular_end_at"))
    )
    if inside.is_empty():
        session = hours["session"].max()
        assert isinstance(session, date)
        opens, closes = (moment.astimezone(ZoneInfo(source.sessions.zone)) for moment in source.calendar.hours(session))
        local = pl.col("start_at").dt.convert_time_zone(source.sessions.zone).dt.strftime("%H:%M")
        of_day = rows.filter(pl.col("session") == session).select(first=local.min(), last=local.max()).row(0)
        yield Remark(
            "error",
            f"no bar is within the hours of {source.calendar.name}: on {session} it trades from {opens:%H:%M} to "
            f"{closes:%H:%M} {source.sessions.zone}, and bars begin from {of_day[0]} to {of_day[1]}. "
            "Correct `time.zone`, or the calendar",
        )


def _ahead(source: BarSource, rows: pl.DataFrame) -> Iterator[Remark]:
    """Bars that begin after their object was published."""
    import polars as pl

    ahead = rows.filter(pl.col("start_at") > pl.col("published_at") + _AHEAD)
    if ahead.height:
        row = ahead.row(0, named=True)
        yield Remark(
            "error",
            f"{ahead.height:,} of {rows.height:,} bars begin after their object was published ({row['object']}: a bar "
            f"of {row['start_at']:%Y-%m-%d %H:%M} UTC, published {row['published_at']:%Y-%m-%d %H:%M}). Correct "
            "`time.zone` or `time.format`",
        )


def _currencies(source: BarSource, found: Rehearsal, rows: pl.DataFrame) -> Iterator[Remark]:
    """Currencies that are not the venue's, and prices that seem to be in hundredths of it."""
    venue = source.config.venue
    unit = minor_unit(venue.mic)
    own = {venue.currency, *([unit.code, unit.currency] if unit else [])}
    others = sorted(set(rows["currency"].unique().to_list()) - own)
    if others and source.config.currencies is None:
        yield Remark(
            "warning",
            f"prices are in {', '.join(others[:_NAMED])}, where {venue.mic} usually trades in {venue.currency}; where "
            f"that is right, list them: currencies: [{', '.join([venue.currency, *others])}]",
        )
    if unit is not None:
        yield from _in_minor_unit(found, rows, unit)


def _in_minor_unit(found: Rehearsal, rows: pl.DataFrame, unit: MinorUnit) -> Iterator[Remark]:
    """Whether prices seem to be in pence where the YAML says pounds, or the other way round."""
    import polars as pl

    entry = found.dataset.name
    in_major = rows.filter(pl.col("currency") == unit.currency)
    typical = median_price(in_major)
    if typical is not None and typical >= _PENCE_FROM:
        yield Remark(
            "warning",
            f"prices look like {unit.name}, not {unit.currency}: half of the instruments cost more than {typical:,.2f}"
            f" {unit.currency}, and shares there are usually quoted in {unit.name}. If these are, set `{entry}."
            f"price_unit: 0.01` with the currency {unit.currency}",
        )
    in_minor = rows.filter(pl.col("currency").is_in([unit.code, unit.other_code]))
    typical = median_price(in_minor)
    if typical is not None and typical < _POUNDS_TO:
        yield Remark(
            "warning",
            f"prices look like {unit.currency}, not {unit.name}: half of the instruments cost less than {typical:,.2f} "
            f"{unit.code}. If they are in {unit.currency}, set the currency {unit.currency}",
        )


def looks_minor(rows: pl.DataFrame) -> bool:
    """Whether prices of a market that counts in hundredths of its currency look like these."""
    typical = median_price(rows)
    return typical is not None and typical >= _PENCE_FROM


def median_price(rows: pl.DataFrame) -> float | None:
    """The median over instruments of their median prices; None without rows."""
    import polars as pl

    by_instrument = rows.group_by("instrument_id").agg(pl.col("close").median())
    found = by_instrument["close"].median()
    return float(found) if isinstance(found, int | float) else None
