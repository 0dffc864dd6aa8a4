"""The coverage calendar: each source's sessions as complete, incomplete, missing or failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby

from lakehouse.api import Lake
from lakehouse.apps.dashboard.answer import Answer, Asked
from lakehouse.catalog import sources_of
from lakehouse.domains.market.bars.coverage import Covered, State, coverage
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.bars.status import status
from lakehouse.ingest.ledger import LEDGER

_LISTED = 30
"""Maximum of stretches of sessions whose reason is listed."""


@dataclass(frozen=True)
class Stretch:
    """Sessions of the calendar that follow each other, with one state for one reason."""

    first: date
    last: date
    sessions: int
    state: State
    reason: str


@dataclass(frozen=True)
class Month:
    """A month of the calendar: weeks of seven days, None for a day of another month."""

    title: str
    weeks: list[list[Day | None]]


@dataclass(frozen=True)
class Day:
    """A day; `covered` is None on days without a session, and outside of what was loaded."""

    day: date
    covered: Covered | None


@dataclass(frozen=True)
class OfSource:
    """A source's calendar in a year, and its sessions over all years."""

    name: str
    venue: str
    covered: list[Covered]
    months: list[Month]
    faults: list[Stretch]
    more: int
    error: str | None = None

    @property
    def counts(self) -> dict[str, int]:
        """State -> number of sessions, of all years."""
        counted = Counter(each.state for each in self.covered)
        return {state.value: counted[state] for state in State if counted[state]}

    @property
    def share(self) -> float:
        """Percent of the sessions that need nothing more."""
        good = sum(each.state in (State.complete, State.empty) for each in self.covered)
        return 100 * good / len(self.covered)


@dataclass(frozen=True)
class _Known:
    """The coverage of a source at versions of the tables that it comes from."""

    source: BarSource
    versions: tuple[object, ...]
    covered: list[Covered]


_known: dict[str, _Known] = {}
"""By source. To parse the names in a ledger of ten years takes seconds, and it changes with each load only."""


def covered_sources(lake: Lake) -> list[tuple[BarSource, list[Covered]]]:
    """The sources of market data with sessions in the lake, and how these are covered."""
    loaded = lake.sources("market")
    found = ((source, _covered(lake, source)) for source in sources_of("market") if source.name in loaded)
    return [(source, covered) for source, covered in found if covered]


def _covered(lake: Lake, source: BarSource) -> list[Covered]:
    tables = (LEDGER, source.table("daily_bars" if source.has_bars else "official_daily"))
    versions = (lake.uri, *(lake.table(name).snapshot().version for name in tables))
    known = _known.get(source.name)
    if known is not None and known.source is source and known.versions == versions:
        return known.covered
    stored = status(lake, source)
    first, last = stored.first_session, stored.last_session
    sessions = source.calendar.between(first, last) if first is not None and last is not None else []
    covered = coverage(stored, sessions)
    _known[source.name] = _Known(source, versions, covered)
    return covered


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/coverage?year=2024`."""
    found = covered_sources(lake)
    years = sorted({each.session.year for _, covered in found for each in covered}, reverse=True)
    year = asked.number("year") or (years[0] if years else None)
    shown = [_of_source(source, covered, year) for source, covered in found]
    return Answer("coverage.html", {"sources": shown, "years": years, "year": year, "states": [*State]})


def _of_source(source: BarSource, covered: list[Covered], year: int | None) -> OfSource:
    of_year = [each for each in covered if each.session.year == year]
    faults = stretches(of_year)[::-1]
    return OfSource(
        name=source.name,
        venue=f"{source.config.venue.name} ({source.config.venue.mic})",
        covered=covered,
        months=_months(of_year),
        faults=faults[:_LISTED],
        more=max(len(faults) - _LISTED, 0),
    )


def stretches(covered: Sequence[Covered]) -> list[Stretch]:
    """The stretches of sessions (ascending) that are not complete."""
    found = []
    for (state, reason), group in groupby(covered, key=lambda each: (each.state, each.reason)):
        days = [each.session for each in group]
        if reason:
            found.append(Stretch(days[0], days[-1], len(days), state, reason))
    return found


def _months(covered: Sequence[Covered]) -> list[Month]:
    """The months from the first session to the last."""
    if not covered:
        return []
    by_day = {each.session: each for each in covered}
    months, first = [], min(by_day).replace(day=1)
    while first <= max(by_day):
        after = (first + timedelta(days=31)).replace(day=1)
        days: list[Day | None] = [None] * first.weekday()
        days += [
            Day(day, by_day.get(day))
            for day in (first + timedelta(days=number) for number in range((after - first).days))
        ]
        days += [None] * (-len(days) % 7)
        months.append(Month(f"{first:%B %Y}", [days[start : start + 7] for start in range(0, len(days), 7)]))
        first = after
    return months
