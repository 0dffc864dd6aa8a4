"""Partitions by name: periods of a clock, and the single one of datasets without days."""

from __future__ import annotations

from datetime import UTC, date, datetime

from lakehouse.ingest.partitioning import Part, Partitioning, Periods, Whole, begun


def test_periods__name_a_month_by_its_first_day() -> None:
    months = Periods("month", date(2024, 1, 15), "Europe/Berlin")
    assert months.between(date(2024, 1, 20), date(2024, 3, 2)) == [date(2024, month, 1) for month in (1, 2, 3)]
    assert months.of(date(2023, 12, 31)) is None
    assert months.over_at(date(2024, 1, 1)) == datetime(2024, 1, 31, 23, tzinfo=UTC)


def test_whole__has_one_partition_for_every_day() -> None:
    whole: Partitioning = Whole()
    days = [date.min, date(1970, 1, 1), date(2024, 3, 4), date.max]
    assert {whole.of(day) for day in days} == {whole.on_or_after(day) for day in days} == {whole.first}
    assert whole.between(date.min, date.max) == begun(whole, date(2024, 1, 1)) == [whole.first]
    assert Part("part").of(whole.first) == whole.first


def test_whole__is_never_over() -> None:
    assert Whole().over_at(Whole().first) > datetime(9999, 1, 1, tzinfo=UTC)
