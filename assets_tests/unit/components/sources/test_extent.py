"""From when to when Dagster's pages show partitions, and which ones runs may be about."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.partitions.snap import TimeWindowPartitionsSnap
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.components.sources.extent import Extent, note_unknown_extents, shown_extent
from lakehouse.components.sources.partitions import time_windows
from lakehouse.errors import SourceError
from lakehouse.ingest.partitioning import Periods, Unit
from lakehouse.settings import settings

FIRST = date(2020, 1, 1)
NOW = datetime(2024, 3, 28, 12, tzinfo=UTC)


def shown(windows: dg.TimeWindowPartitionsDefinition) -> list[str]:
    """The keys that Dagster's webserver and daemon make of the definition's description."""
    with partition_loading_context(NOW):
        return list(TimeWindowPartitionsSnap.from_def(windows).get_partitions_definition().get_partition_keys())


def midnight(day: date, zone: str) -> datetime:
    """The beginning of a day."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))


@given(
    unit=st.sampled_from(["day", "month", "year"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    first=st.none() | st.dates(date(2018, 1, 1), date(2024, 3, 28)),
    last=st.none() | st.dates(date(2018, 1, 1), date(2024, 6, 1)),
)
def test_time_windows__show_what_is_within_the_extent_and_accept_all(
    unit: Unit, zone: str, first: date | None, last: date | None
) -> None:
    periods = Periods(unit, FIRST, zone)
    windows = time_windows(periods, Extent(first, last))
    every = periods.between(FIRST, NOW.date())
    assert list(windows.get_partition_keys(NOW)) == [str(day) for day in every]
    assert shown(windows) == [
        str(day)
        for day in every
        if (first is None or periods.over_at(day) > midnight(first, zone)) and (last is None or day <= last)
    ]


def test_time_windows__take_a_range_that_is_not_shown() -> None:
    windows = time_windows(Periods("day", FIRST), Extent(date(2024, 3, 1)))
    span = dg.PartitionKeyRange("2020-01-02", "2020-01-04")
    assert windows.get_partition_keys_in_range(span) == ["2020-01-02", "2020-01-03", "2020-01-04"]
    with partition_loading_context(NOW):
        assert windows.has_partition_key("2020-01-02")
        assert not windows.has_partition_key("2019-12-31")


def note(said: str) -> None:
    path = settings().home / "cache" / "extents" / "xetra.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(said)


def test_shown_extent__is_the_noted_one_of_this_lake() -> None:
    xetra = source_named("xetra")
    assert shown_extent(xetra) == Extent()
    note(json.dumps({"lake": settings().lake, "first": "2024-03-01"}))
    assert shown_extent(xetra) == Extent(date(2024, 3, 1))
    note(json.dumps({"lake": "s3://other/lake", "first": "2024-03-01"}))
    assert shown_extent(xetra) == Extent()


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"lake": 1}', '{"lake": "LAKE", "first": "soon"}', "\x00"])
def test_shown_extent__ignores_a_damaged_note(damaged: str) -> None:
    note(damaged.replace("LAKE", settings().lake))
    assert shown_extent(source_named("xetra")) == Extent()


def test_shown_extent__ends_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_XETRA_ENDS", "2024-03-28")
    assert shown_extent(source_named("xetra")) == Extent(None, date(2024, 3, 28))
    monkeypatch.setenv("LAKEHOUSE_XETRA_ENDS", "March")
    with pytest.raises(SourceError, match="LAKEHOUSE_XETRA_ENDS is 'March', which is not a date"):
        shown_extent(source_named("xetra"))


def test_note_unknown_extents__leaves_an_empty_lake_alone() -> None:
    lake = Lake.present()
    note_unknown_extents(lake, [source_named("xetra")])
    assert not (settings().home / "cache").exists()
