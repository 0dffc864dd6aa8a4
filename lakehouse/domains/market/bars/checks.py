"""Checks of the tables of bars and of the official daily series, beside those that every source has."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from lakehouse.derive.checks import (
    SHOWN,
    conservation_holds,
    enough_rows_kept,
    found,
    objects_known,
    of_every_dataset,
    of_every_table,
    offenders,
    over_all,
    relation,
)
from lakehouse.derive.source import Check, DerivedTable, Finding, Partitions
from lakehouse.domains.market.bars import sanity
from lakehouse.domains.market.bars.completeness import missing_objects
from lakehouse.domains.market.bars.derive import session_hours
from lakehouse.domains.market.bars.ending import early_ends
from lakehouse.domains.market.bars.labels import labels_against_hours, wrong_label
from lakehouse.domains.market.bars.rules import BAR_KEY
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.bars.suspect import suspect_bars
from lakehouse.domains.market.contracts import contracts
from lakehouse.ingest.ledger import ledger_of
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal, predicate, relation_of

_SUSPECT = ("1 bar stands far off its neighbours", "bars stand far off their neighbours")
_DIFFERING = ("1 daily bar differs from its bars", "daily bars differ from their bars")
_ADVICE = "give each market's bars an instrument_id of their own, or describe each market as a source"
_SEVERAL_MARKETS = (
    f"1 bar is from several markets in one object: {_ADVICE}",
    f"bars are from several markets in one object: {_ADVICE}",
)
_EXPIRED = "EXPIRED"
_NAMED = 3
_HISTORY = timedelta(days=92)
"""How far back a comparison with earlier sessions looks: more than twenty sessions."""


def bar_checks(bars: DerivedTable, *, delivered: bool, by_market: bool = False) -> tuple[Check, ...]:
    """The checks of raw_bars, bars and daily_bars.

    Args:
        delivered: the bars come as objects in a folder or bucket, which may hold others.
        by_market: the source has several markets, which its bars name.
    """
    known = contracts()
    return (
        *of_every_dataset(known["raw_bars"], "bars"),
        Check(
            "raw_bars",
            "session_complete",
            "Every object that a session needs has come. Header-only objects count.",
            _session_complete,
        ),
        *of_every_table(known["bars"]),
        conservation_holds(bars),
        Check(
            "bars",
            "labels_fit_hours",
            "The first and the last bar of a session begin and end at times of the calendar: the YAML's `label` is the "
            "vendor's.",
            _labels_fit_hours,
        ),
        Check(
            "bars",
            "no_suspect_bars",
            "No traded bar has a price far off its neighbours before and after, by the instrument's own noise and "
            "tick.",
            _no_suspect_bars,
            severity="warn",
            counted=_SUSPECT,
        ),
        *of_every_table(known["daily_bars"]),
        enough_rows_kept("daily_bars", "bars"),
        Check(
            "daily_bars",
            "consistent_with_bars",
            "Each daily bar says what its traded regular bars say.",
            _consistent_with_bars,
            blocking=True,
            counted=_DIFFERING,
        ),
        Check(
            "daily_bars",
            "instruments_present",
            "No regularly traded instrument vanished, none appeared.",
            _instruments_present,
            severity="warn",
        ),
        Check(
            "daily_bars",
            "volume_usual",
            "A session's volume is within a third and three times the median of the twenty before.",
            _volume_usual,
            severity="warn",
        ),
        Check(
            "daily_bars",
            "session_reaches_close",
            "No liquid instrument's bars end long before the session's close, or are far fewer than in the sessions "
            "before.",
            _session_reaches_close,
            severity="warn",
        ),
        *([objects_known("raw_bars")] if delivered else []),
        *([_ONE_MARKET, _REGISTERED] if by_market else []),
    )


def _one_market_per_bar(lake: Lake, source: BarSource, sessions: Partitions) -> Finding:
    key = ", ".join(BAR_KEY)
    query = f"""
        SELECT object, {key}, any_value(session) AS session, list_sort(list(DISTINCT mic)) AS mics
        FROM {relation(lake, source, "raw_bars", sessions)}
        GROUP BY object, object_version, {key} HAVING count(DISTINCT mic) > 1
        """
    return offenders(lake, query, "ALL", *_SEVERAL_MARKETS, part="session")


_ONE_MARKET = Check(
    "raw_bars",
    "one_market_per_bar",
    "No object has a bar of one instrument and time from several markets: only one of them would count.",
    _one_market_per_bar,
    blocking=True,
)


def _markets_registered(lake: Lake, source: BarSource, sessions: Partitions) -> Finding:
    rows = lake.sql("SELECT mic, status FROM reference.markets WHERE known_to IS NULL AND valid_to IS NULL")
    register = dict(rows.fetchall()) if rows is not None else {}
    if not register:
        return Finding(True, "the register of markets (ISO 10383) isn't loaded")
    unknown = [
        {"mic": mic, "status": register.get(mic, "not in the register")}
        for mic in source.config.mics
        if register.get(mic, _EXPIRED) == _EXPIRED
    ]
    return found(unknown, "1 market is not in the register, or expired", "markets are not in the register, or expired")


_REGISTERED = Check(
    "daily_bars",
    "markets_registered",
    "The source's markets are in the register of markets (ISO 10383), where it is loaded, and not expired.",
    _markets_registered,
    severity="warn",
)


def official_checks(official_daily: DerivedTable, *, delivered: bool = False) -> tuple[Check, ...]:
    """The checks of raw_daily, official_daily and corporate_actions, which are made over their whole history.

    Args:
        delivered: the series comes as objects in a folder or bucket of its own, which may hold others.
    """
    known = contracts()
    return tuple(
        over_all(check)
        for check in (
            *of_every_dataset(known["raw_daily"], "official_daily"),
            *of_every_table(known["official_daily"]),
            enough_rows_kept("official_daily", "official_daily"),
            conservation_holds(official_daily),
            *of_every_table(known["corporate_actions"]),
            *([objects_known("raw_daily")] if delivered else []),
        )
    )


def _session_complete(lake: Lake, source: BarSource, sessions: Partitions) -> Finding:
    columns = ("object", "product", "status", "published_at", "first_session", "last_session")
    ledger = ledger_of(lake, source.name).select(columns).collect()
    asked = sessions
    if asked is None:
        asked = [
            date.fromisoformat(day)
            for day in lake.table(source.table("raw_bars")).snapshot().partition_values("session")
        ]
    missing = missing_objects(source, ledger, list(asked), due_by=datetime.now(UTC))
    rows = [{"session": session, "missing": ", ".join(what)} for session, what in sorted(missing.items())]
    return found(rows, "1 session misses an object", "sessions miss an object")


def _consistent_with_bars(lake: Lake, source: BarSource, sessions: Partitions) -> Finding:
    daily = relation(lake, source, "daily_bars", sessions)
    bars = f"(SELECT * FROM {relation(lake, source, 'bars', sessions)} WHERE is_traded AND segment = 'regular')"
    query = sanity.daily_differences(daily, bars)
    return offenders(lake, query, "ALL", *_DIFFERING, part="session")


def _labels_fit_hours(lake: Lake, source: BarSource, sessions: Partitions) -> Finding:
    bars, label = relation(lake, source, "bars", sessions), source.bars_config.time.label
    with lake.connect() as connection:
        connection.register("hours", session_hours(source))
        query = labels_against_hours(bars, "hours", source.bars_config.interval_length)
        judged = connection.sql(f"FROM ({query}) ORDER BY session").to_arrow_table().to_pylist()
    wrong = wrong_label({name: sum(each[name] for each in judged) for name in ("fit", "early", "late")})
    if wrong is None:
        return Finding(True, "nothing found", [], {"sessions_judged": len(judged)})
    which, other = wrong
    summary = (
        f"bars are one interval too {which}: the YAML says label: {label}, and the vendor seems to stamp a bar's "
        f"{other}. Set label: {other} in the time of {source.name}'s bars, and reload what was read"
    )
    return Finding(False, summary, [each for each in judged if each[which]][:SHOWN])


def _no_suspect_bars(lake: Lake, source: BarSource, sessions: Partitions) -> Finding:
    query = suspect_bars(relation(lake, source, "bars", sessions))
    return offenders(lake, query, "abs(deviation_pct) DESC", *_SUSPECT, part="session")


def _instruments_present(lake: Lake, source: BarSource, sessions: Partitions) -> Finding:
    compared = sanity.appeared_and_vanished(_with_history(lake, source, sessions))
    query = f"SELECT * FROM ({compared}) WHERE {_inside(sessions)}"
    one, several = "1 instrument appeared or vanished", "instruments appeared or vanished"
    return offenders(lake, query, "session DESC, turnover DESC", one, several)


def _volume_usual(lake: Lake, source: BarSource, sessions: Partitions) -> Finding:
    query = f"SELECT * FROM ({sanity.unusual_volume(_with_history(lake, source, sessions))}) WHERE {_inside(sessions)}"
    what = "far from the trailing median volume"
    return offenders(lake, query, "session", f"1 session is {what}", f"sessions are {what}")


def _session_reaches_close(lake: Lake, source: BarSource, sessions: Partitions) -> Finding:
    hours = source.calendar.frame.select("session", "open_at", "close_at")
    interval_s = source.bars_config.interval_length.total_seconds()
    with lake.connect() as connection:
        # The bars of a session that is still open end where the vendor's last ones do.
        connection.register("hours", hours.filter(hours["close_at"] <= datetime.now(UTC)).to_arrow())
        judged = early_ends(_with_history(lake, source, sessions), "hours", interval_s)
        rows = (
            connection.sql(
                f"""
                SELECT session, what, count(*) AS instruments,
                    list(coalesce(symbol, instrument_id) ORDER BY rank DESC, instrument_id)[:{_NAMED}] AS examples,
                    max(last_end_at) AS last_end_at, any_value(close_at) AS close_at,
                    arg_max(bar_count, rank) AS bar_count, round(arg_max(usual_bars, rank)) AS usual_bars
                FROM (SELECT *, coalesce(turnover, 0) AS rank FROM ({judged}))
                WHERE {_inside(sessions)} GROUP BY session, what ORDER BY session DESC, what
                """
            )
            .to_arrow_table()
            .to_pylist()
        )
    said = [_early_end(row) for row in rows[:1]]
    count = len({row["session"] for row in rows})
    one = f"1 session lacks bars: {', '.join(said)}"
    return found(rows, one, f"sessions lack bars, the last is {', '.join(said)}", count=count)


def _early_end(row: dict[str, Any]) -> str:
    names = f"{', '.join(row['examples'])}{' and others' if row['instruments'] > len(row['examples']) else ''}"
    if row["what"] == "few bars":
        return f"{row['session']}, with {row['bar_count']:,} bars instead of about {row['usual_bars']:,.0f} ({names})"
    last, close = row["last_end_at"], row["close_at"]
    hours = (close - last).total_seconds() / 3600
    return f"{row['session']}, which ends at {last:%H:%M} UTC, {hours:.1f} hours before its close ({names})"


def _with_history(lake: Lake, source: BarSource, sessions: Partitions) -> str:
    """The daily bars up to the last of `sessions`, from as long before the first as a comparison needs: a long history
    must not slow a day.
    """
    snapshot = lake.table(source.table("daily_bars")).snapshot()
    if not sessions:
        return relation_of(snapshot.select())
    first, last = literal(min(sessions) - _HISTORY), literal(max(sessions))
    return relation_of(snapshot.select_where(f"session >= {first} AND session <= {last}"))


def _inside(sessions: Partitions) -> str:
    return "true" if sessions is None else predicate({"session": sessions})
