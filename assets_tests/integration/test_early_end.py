"""A file that was published before its day was over, in a market that never closes: it is warned of, and the day does
not count as whole until the vendor has replaced the file.
"""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from assets_tests.support.minute_files import MinuteFiles
from lakehouse.api import Lake
from lakehouse.cli.render import print_status
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.bars.status import status

DAYS = [date(2024, 3, 1) + timedelta(days=number) for number in range(8)]
WHOLE, CUT = 1440, 456


def minutes(day: date, count: int) -> list[datetime]:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return [midnight + timedelta(minutes=minute) for minute in range(count)]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MinuteFiles:
    return MinuteFiles.below(tmp_path, monkeypatch)


def completeness(as_of: datetime | None = None) -> list[tuple[str, date, int, bool | None]]:
    found = Lake.open(as_of=as_of).sql("SELECT symbol, session, bar_count, is_complete FROM minutes.daily_bars")
    assert found is not None
    return sorted(found.fetchall())


def printed(files: MinuteFiles) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    print_status(console, status(files.lake, files.source))
    return console.export_text()


def test_the_first_day_of_all__ends_early_until_its_file_is_replaced(files: MinuteFiles) -> None:
    day = DAYS[-1]
    files.put("BTC", day, minutes(day, CUT))
    files.put("ETH", day, minutes(day, WHOLE))
    files.take([day])
    first = datetime.now(UTC)
    assert completeness() == [("BTC", day, CUT, None), ("ETH", day, WHOLE, True)]
    warned = files.check("session_reaches_close", [day])
    assert not warned.passed
    assert warned.summary == (
        "1 session lacks bars: 2024-03-08, which ends at 07:36 UTC, 16.4 hours before its close (BTC)"
    )
    assert files.check("session_complete", [day]).passed, "every object came"
    assert "sessions ending early  2024-03-08: BTC" in printed(files)

    files.put("BTC", day, minutes(day, WHOLE))
    files.take([day])
    assert completeness() == [("BTC", day, WHOLE, True), ("ETH", day, WHOLE, True)]
    assert files.check("session_reaches_close").passed
    assert "ending early" not in printed(files)
    assert completeness(first) == [("BTC", day, CUT, None), ("ETH", day, WHOLE, True)]
    assert not rebuild(files.lake, files.source, verify=True).differs


def test_a_later_day_is_held_against_those_before(files: MinuteFiles) -> None:
    """A hole in the day, and an end an hour and a half early, tell themselves by the days before alone."""
    for day in DAYS:
        files.put("BTC", day, minutes(day, WHOLE if day != DAYS[-1] else WHOLE - 90))
        files.put("ETH", day, minutes(day, WHOLE)[:: 1 if day != DAYS[-2] else 3])
    files.take(DAYS)
    found = files.check("session_reaches_close")
    assert [(row["session"], row["what"], row["examples"]) for row in found.rows] == [
        (DAYS[-1], "ends early", ["BTC"]),
        (DAYS[-2], "few bars", ["ETH"]),
    ]
    assert found.summary.startswith("2 sessions lack bars, the last is 2024-03-08, which ends at 22:30 UTC")
    assert files.check("session_reaches_close", DAYS[-2:-1]).summary == (
        "1 session lacks bars: 2024-03-07, with 480 bars instead of about 1,440 (ETH)"
    )
    assert files.check("session_reaches_close", DAYS[:-2]).passed
    assert all(is_complete for _, _, _, is_complete in completeness())


def test_a_day_that_is_not_over_yet_is_no_finding(files: MinuteFiles) -> None:
    today = datetime.now(UTC).date()
    files.put("BTC", today, minutes(today, 3))
    files.take([today])
    assert files.check("session_reaches_close").passed
