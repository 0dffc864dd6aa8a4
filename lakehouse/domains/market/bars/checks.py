"""Checks of the stored tables: each looks at one property and says what it found. Dagster shows them as asset
checks; a terminal or a notebook can run them as well.

Every check reads what is stored, never what a step had in its hands, and takes the sessions to look at (None:
all), so that a day's run pays for that day only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

from lakehouse.derive.conservation import COUNTS, conservation_of
from lakehouse.domains.market.bars import sanity
from lakehouse.domains.market.bars.completeness import missing_objects, unreadable_objects
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.suspect import suspect_bars
from lakehouse.domains.market.quotes.config import FeedConfig
from lakehouse.ingest.dataset import Bars, OfficialDaily, Product
from lakehouse.ingest.entered import QUARANTINE, unentered_rows
from lakehouse.ingest.ledger import ledger_of
from lakehouse.ingest.refused import Refusal, refusal
from lakehouse.ingest.skipped import last_skipped
from lakehouse.ingest.stale_readings import read_otherwise
from lakehouse.lake.contract import contract_of
from lakehouse.lake.lake import Lake
from lakehouse.lake.references import dangling_rows
from lakehouse.lake.sql import literal, predicate
from lakehouse.lake.validation import broken_rules, predicates_of

Sessions = Sequence[date] | None
_Described = SourceConfig | FeedConfig

_SHOWN = 20
"""Rows that a check names; the count says how many there are."""
_HISTORY = timedelta(days=92)
"""How far back a comparison with earlier sessions looks: more than twenty sessions and a whole month."""


@dataclass(frozen=True)
class Finding:
    """What a check found. `rows` are the (first) offenders by name, `facts` further numbers."""

    passed: bool
    summary: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A check of a table: blocking ones hold back what is downstream, `severity` says how bad a failure of the
    others is. `run` takes the lake, the description of the source or feed, and the sessions.
    """

    table: str
    name: str
    description: str
    run: Callable[[Lake, Any, Sessions], Finding]
    blocking: bool = False
    severity: str = "error"


def _inside(sessions: Sessions) -> str:
    return "true" if sessions is None else predicate({"session": sessions})


def _relation(lake: Lake, config: _Described, table: str, sessions: Sessions) -> str:
    return f"({lake.table(config.table(table)).snapshot().select_sessions(sessions)})"


def _found(rows: list[dict[str, Any]], one: str, several: str, *, count: int | None = None, **facts: int) -> Finding:
    """A finding by its offenders; `count` says how many there are where `rows` are but the first."""
    count = len(rows) if count is None else count
    summary = "nothing found" if count == 0 else one if count == 1 else f"{count:,} {several}"
    return Finding(count == 0, summary, rows[:_SHOWN], facts)


def _offenders(lake: Lake, query: str, order: str, one: str, several: str) -> Finding:
    """Runs a query whose rows are the offenders; the first of them by `order` are named."""
    with lake.connect() as connection:
        connection.execute(f"CREATE TEMP TABLE offenders AS {query}")
        total = connection.execute("SELECT count(*) FROM offenders").fetchone()
        rows = connection.execute(f"FROM offenders ORDER BY {order} LIMIT {_SHOWN}").to_arrow_table().to_pylist()
    return _found(rows, one, several, count=total[0] if total else 0)


def _contract(table: str, lake: Lake, config: _Described, sessions: Sessions) -> Finding:
    contract = config.contract(table)
    with lake.connect() as connection:
        connection.execute(f"CREATE TEMP VIEW stored AS SELECT * FROM {_relation(lake, config, table, sessions)}")
        predicates = predicates_of(contract, connection, "stored")
        broken = broken_rules(predicates, connection, "stored")
    rows = [{"rule": name, "reason": predicates[name][1], "rows": count} for name, count in broken.items()]
    return _found(rows, "1 rule is broken", "rules are broken")


def _key_is_unique(table: str, lake: Lake, config: _Described, sessions: Sessions) -> Finding:
    key = ", ".join(config.contract(table).key)
    # Numbers are grouped faster than texts: only keys whose hash occurs more than once are looked at.
    query = f"""
        WITH stored AS NOT MATERIALIZED (SELECT {key} FROM {_relation(lake, config, table, sessions)}),
        several AS MATERIALIZED (SELECT hash({key}) AS key_hash FROM stored GROUP BY key_hash HAVING count(*) > 1)
        SELECT {key}, count(*) AS copies FROM stored WHERE hash({key}) IN (FROM several)
        GROUP BY {key} HAVING count(*) > 1
        """
    return _offenders(lake, query, "ALL", "1 key occurs more than once", "keys occur more than once")


def _references(table: str, lake: Lake, config: _Described, sessions: Sessions) -> Finding:
    rows = _relation(lake, config, table, sessions)
    query = dangling_rows(lake, config.table(table), config.contract(table), rows)
    return _offenders(lake, query, "ALL", "1 value is not where it refers to", "values are not where they refer to")


def _objects_readable(kind: type[Product], lake: Lake, config: SourceConfig, sessions: Sessions) -> Finding:
    import polars as pl

    ledger = ledger_of(lake, config.source).filter(pl.col("product") == kind.name)
    if sessions is not None:
        # Of an object that is about many days one session is enough.
        first, last = pl.lit(min(sessions)), pl.lit(max(sessions))
        ledger = ledger.filter((pl.col("first_session") <= last) & (pl.col("last_session") >= first))
    rows = unreadable_objects(config, ledger)
    said = f"{rows[0]['object']}: {rows[0]['error']}" if rows else ""
    return _found(rows, f"1 object could not be read: {said}", f"objects could not be read, the first is {said}")


def _objects_known(lake: Lake, config: SourceConfig, sessions: Sessions) -> Finding:
    found = last_skipped(lake, config.source)
    rows = [{"reason": entry.reason, "object": name} for entry in found for name in entry.examples]
    summary = "; ".join(map(str, found)) or "nothing found"
    return Finding(not found, summary, rows[:_SHOWN], {"objects": sum(entry.objects for entry in found)})


def _session_complete(lake: Lake, config: SourceConfig, sessions: Sessions) -> Finding:

    columns = ("object", "product", "status", "published_at", "first_session", "last_session")
    ledger = ledger_of(lake, config.source).select(columns).collect()
    asked = sessions
    if asked is None:
        asked = [
            date.fromisoformat(day)
            for day in lake.table(config.table("raw_bars")).snapshot().partition_values("session")
        ]
    missing = missing_objects(config, config.calendar_frame(), ledger, list(asked), due_by=datetime.now(UTC))
    rows = [{"session": session, "missing": ", ".join(what)} for session, what in sorted(missing.items())]
    return _found(rows, "1 session misses an object", "sessions miss an object")


def _rows_entered(product: type[Product], lake: Lake, config: SourceConfig, sessions: Sessions) -> Finding:
    raw = config.table(product.raw_table)
    counted = "count(*) AS rows, min(ingested_at) AS first_ingested_at"
    with lake.connect() as connection:
        queries = []
        for name in (raw, QUARANTINE):
            partitions = None if name == QUARANTINE or sessions is None else {product.part: sessions}
            rows = unentered_rows(lake, connection, name, config.source, partitions)
            inside = _inside(sessions) if product.part == "session" else "true"
            queries.append(
                f"SELECT {literal(name)} AS stored_in, object, {counted} FROM ({rows}) WHERE {inside} GROUP BY ALL"
            )
        found = connection.execute(f"{' UNION ALL '.join(queries)} ORDER BY ALL").to_arrow_table().to_pylist()
    one, several = "1 object has rows of a load that did not end", "objects have rows of loads that did not end"
    return _found(found, one, several, rows_without_entry=sum(row["rows"] for row in found))


def _conservation(product: type[Product], lake: Lake, config: SourceConfig, sessions: Sessions) -> Finding:
    with lake.connect() as connection:
        query = conservation_of(lake, connection, config.source, product, sessions)
        counted = connection.execute(query).to_arrow_table().to_pylist()
    totals = {name: sum(row[name] for row in counted) for name in COUNTS}
    wrong = [row for row in counted if row["received"] != sum(row[name] for name in COUNTS[1:])]
    return _found(wrong, "1 session does not add up", "sessions do not add up", **totals)


def _consistent_with_bars(lake: Lake, config: SourceConfig, sessions: Sessions) -> Finding:
    daily = _relation(lake, config, "daily_bars", sessions)
    bars = f"(SELECT * FROM {_relation(lake, config, 'bars', sessions)} WHERE is_traded AND segment = 'regular')"
    query = sanity.daily_differences(daily, bars)
    return _offenders(lake, query, "ALL", "1 daily bar differs from its bars", "daily bars differ from their bars")


def _no_suspect_bars(lake: Lake, config: SourceConfig, sessions: Sessions) -> Finding:
    query = suspect_bars(_relation(lake, config, "bars", sessions))
    one, several = "1 bar stands far off its neighbours", "bars stand far off their neighbours"
    return _offenders(lake, query, "abs(deviation_pct) DESC", one, several)


def _instruments_present(lake: Lake, config: SourceConfig, sessions: Sessions) -> Finding:
    compared = sanity.appeared_and_vanished(_with_history(lake, config, sessions))
    query = f"SELECT * FROM ({compared}) WHERE {_inside(sessions)}"
    one, several = "1 instrument appeared or vanished", "instruments appeared or vanished"
    return _offenders(lake, query, "session DESC, turnover DESC", one, several)


def _volume_usual(lake: Lake, config: SourceConfig, sessions: Sessions) -> Finding:
    query = f"SELECT * FROM ({sanity.unusual_volume(_with_history(lake, config, sessions))}) WHERE {_inside(sessions)}"
    what = "far from the trailing median volume"
    return _offenders(lake, query, "session", f"1 session is {what}", f"sessions are {what}")


def _with_history(lake: Lake, config: SourceConfig, sessions: Sessions) -> str:
    """The daily bars of `sessions` and of the months before that a comparison needs: a long history must not
    slow a day.
    """
    snapshot = lake.table(config.table("daily_bars")).snapshot()
    if not sessions:
        return f"({snapshot.select()})"
    first, last = str(min(sessions) - _HISTORY), str(max(sessions))
    months = [month for month in snapshot.partition_values("month") if first <= month <= last]
    return f"({snapshot.select({'month': months} if months else None)})"


def _of_whole_history(run: Callable[[Lake, SourceConfig, Sessions], Finding]) -> Callable[..., Finding]:
    """A check of a table that is made anew over its whole history, whatever the sessions of a run."""
    return lambda lake, config, sessions: run(lake, config, None)


def of_every_table(table: str) -> list[Check]:
    """The checks that every table of a source or feed has."""
    checks = {
        "contract": ("Every stored row fulfils the table's contract.", _contract),
        "key_is_unique": ("No two stored rows have the same key.", _key_is_unique),
    }
    if any(column.references for column in contract_of(table).columns):
        checks["references"] = ("Every value of a column that refers to another table is there.", _references)
    return [Check(table, name, text, partial(run, table), blocking=True) for name, (text, run) in checks.items()]


def _readable(product: type[Product]) -> Check:
    return Check(
        product.raw_table,
        "objects_readable",
        "Every object's newest version could be read.",
        partial(_objects_readable, product),
    )


def _refused(product: type[Product], severe: bool, lake: Lake, config: SourceConfig, sessions: Sessions) -> Finding:
    """Whether too little was refused to look at, or (`severe`) too little to hold back what was kept."""
    found = refusal(lake, config, product, sessions)
    verdict = found.verdict(config)
    return refusal_finding(found, verdict == "good" or (severe and verdict == "warn"))


def refusal_finding(found: Refusal, passed: bool) -> Finding:
    """What was refused, as a finding."""
    rows = [{"reason": reason, "rows": count} for reason, count in found.reasons.items()]
    rows += [{"reason": "no row was kept", "object": name} for name in found.kept_none]
    facts = {"rows_received": found.received, "rows_refused": found.refused, "objects_kept_none": len(found.kept_none)}
    return Finding(passed, str(found), rows[:_SHOWN], facts)


def _few_refused(product: type[Product]) -> Check:
    return Check(
        product.raw_table,
        "few_rows_refused",
        "Few of the rows received were refused. Rows outside the calendar don't count.",
        partial(_refused, product, False),
        severity="warn",
    )


def _enough_kept(table: str, product: type[Product]) -> Check:
    """On the table that is published: what is derived before it is derived all the same."""
    return Check(
        table,
        "enough_rows_kept",
        "Most of the rows received were kept, and some of every object. Rows outside the calendar don't count.",
        partial(_refused, product, True),
        blocking=True,
    )


def _readings_current(product: type[Product], lake: Lake, config: SourceConfig, sessions: Sessions) -> Finding:
    import polars as pl

    found = read_otherwise(config, ledger_of(lake, config.source)).filter(pl.col("product") == product.name)
    if sessions is not None:
        within = (pl.col("first_session") <= max(sessions)) & (pl.col("last_session") >= min(sessions))
        found = found.filter(within)
    advice = f"run lakehouse reload {config.source}"
    one, several = "1 object was read by other settings", "objects were read by other settings"
    rows = found.head(_SHOWN).to_dicts()
    return _found(rows, f"{one}: {advice}", f"{several}: {advice}", count=found.height)


def _current(product: type[Product]) -> Check:
    return Check(
        product.raw_table,
        "readings_current",
        "Every object was read by what the source's YAML says now.",
        partial(_readings_current, product),
        severity="warn",
    )


def _entered(product: type[Product]) -> Check:
    return Check(
        product.raw_table,
        "rows_entered",
        "The ledger names every stored row. Others are of a load that was killed or is running; nothing reads them.",
        partial(_rows_entered, product),
        severity="warn",
    )


_BARS: tuple[Check, ...] = (
    *of_every_table("raw_bars"),
    _readable(Bars),
    _entered(Bars),
    _current(Bars),
    _few_refused(Bars),
    Check(
        "raw_bars",
        "session_complete",
        "Every object that a session needs has come. Header-only objects count.",
        _session_complete,
    ),
    *of_every_table("bars"),
    Check(
        "bars",
        "conservation",
        "Rows received = kept + duplicates + superseded + quarantined.",
        partial(_conservation, Bars),
        blocking=True,
    ),
    Check(
        "bars",
        "no_suspect_bars",
        "No traded bar has a price far off its neighbours before and after, by the instrument's own noise and tick.",
        _no_suspect_bars,
        severity="warn",
    ),
    *of_every_table("daily_bars"),
    _enough_kept("daily_bars", Bars),
    Check(
        "daily_bars",
        "consistent_with_bars",
        "Each daily bar says what its traded regular bars say.",
        _consistent_with_bars,
        blocking=True,
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
)

_OFFICIAL: tuple[Check, ...] = tuple(
    replace(check, run=_of_whole_history(check.run))
    for check in (
        *of_every_table("raw_daily"),
        _readable(OfficialDaily),
        _entered(OfficialDaily),
        _current(OfficialDaily),
        _few_refused(OfficialDaily),
        *of_every_table("official_daily"),
        _enough_kept("official_daily", OfficialDaily),
        Check(
            "official_daily",
            "conservation",
            "Rows received = kept + duplicates + superseded + quarantined.",
            partial(_conservation, OfficialDaily),
            blocking=True,
        ),
        *of_every_table("corporate_actions"),
    )
)


_OF_OBJECTS = Check(
    "raw_bars",
    "objects_known",
    "Every object at the source could be listed, and has a name that one of the source's patterns matches.",
    _objects_known,
    severity="warn",
)


def checks_of(config: SourceConfig) -> tuple[Check, ...]:
    """The checks of the tables that a source has."""
    bars = _BARS if config.bars.objects is None else (*_BARS, _OF_OBJECTS)
    return bars if config.official_daily is None else (*bars, *_OFFICIAL)
