"""A source is held back while a blocking check fails on any date, whatever passes meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from lakehouse.api import Lake
from lakehouse.derive.held_back import hold_back, holds

CHECK = ("daily_bars", "contract")
DAYS = [date(2024, 3, day) for day in (25, 26, 27)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


class Stored:
    """A table with bad rows on some dates, and the looks that a check took at it."""

    def __init__(self, *bad: date) -> None:
        self.bad = {*bad}
        self.looks: list[list[date] | None] = []

    def look(self, check: tuple[str, str], scope: Sequence[date] | None) -> tuple[bool, str]:
        self.looks.append(None if scope is None else list(scope))
        wrong = self.bad if scope is None else self.bad & {*scope}
        return not wrong, f"{len(wrong)} bad days"

    def check(self, lake: Lake, *scope: date, source: str = "one") -> None:
        dates = scope or None
        outcome = self.look(CHECK, dates)
        self.looks.clear()
        hold_back(lake, source, {CHECK: outcome}, dates, self.look)


def test_hold_back__goes_on_while_other_dates_pass(lake: Lake) -> None:
    """A sound day published the bad one before it."""
    stored = Stored(DAYS[0])
    stored.check(lake, *DAYS[:2])
    (first,) = holds(lake)
    assert (first.source, first.table, first.check, first.found) == ("one", *CHECK, "1 bad days")
    stored.check(lake, DAYS[2])
    assert stored.looks == [DAYS[:2]]
    (hold,) = holds(lake)
    assert (hold.scope, hold.since) == (tuple(DAYS[:2]), first.since)
    stored.bad.clear()
    stored.check(lake, DAYS[0])
    assert stored.looks == [[DAYS[1]]]
    assert holds(lake) == []


def test_hold_back__ends_by_a_look_at_the_whole_table(lake: Lake) -> None:
    stored = Stored(DAYS[0])
    stored.check(lake)
    assert holds(lake)[0].scope is None
    stored.bad.clear()
    stored.check(lake, DAYS[1])
    assert stored.looks == [None]
    assert holds(lake) == []
    stored.bad.add(DAYS[0])
    stored.check(lake, *DAYS)
    stored.bad.clear()
    stored.check(lake)
    assert stored.looks == []
    assert holds(lake) == []


def test_hold_back__costs_no_commit_where_nothing_changes(lake: Lake) -> None:
    table = lake.table("held_back")
    Stored().check(lake, *DAYS)
    assert table.snapshot().version is None
    stored = Stored(DAYS[0])
    stored.check(lake, *DAYS)
    version = table.snapshot().version
    stored.check(lake, *DAYS)
    assert table.snapshot().version == version


def test_hold_back__keeps_what_another_run_found_meanwhile(lake: Lake) -> None:
    """A run that looked before the other one failed must not lift what that one found."""
    stored = Stored(DAYS[0])
    stored.check(lake, DAYS[0])

    def look(check: tuple[str, str], scope: Sequence[date] | None) -> tuple[bool, str]:
        Stored(DAYS[2]).check(lake, DAYS[2])
        return True, "nothing found"

    hold_back(lake, "one", {CHECK: (True, "nothing found")}, [DAYS[1]], look)
    (hold,) = holds(lake)
    assert hold.scope == (DAYS[0], DAYS[2])


def test_holds__are_those_of_a_source(lake: Lake) -> None:
    for source in ("two", "one"):
        Stored(DAYS[0]).check(lake, DAYS[0], source=source)
    assert [hold.source for hold in holds(lake)] == ["one", "two"]
    assert [hold.source for hold in holds(lake, "two")] == ["two"]
    assert str(holds(lake, "two")[0]).endswith("UTC, daily_bars: contract: 1 bad days")
