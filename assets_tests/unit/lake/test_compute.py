"""Dividing work into batches, and the progress of a batch as part of the whole."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.lake.compute import Compute, InProcess, divided
from lakehouse.lake.lake import Lake


class Slots(InProcess):
    def __init__(self, slots: int) -> None:
        self.slots = slots


@given(st.integers(0, 400), st.integers(1, 40), st.integers(1, 10), st.none() | st.integers(10, 30))
def test_divided__keeps_the_items_in_batches_within_bounds(
    count: int, slots: int, least: int, most: int | None
) -> None:
    items = list(range(count))
    batches = divided(items, Slots(slots), least=least, most=most)
    assert [item for batch in batches for item in batch] == items
    sizes = [len(batch) for batch in batches]
    assert all(0 < size <= (most or count) for size in sizes)
    assert all(size >= least for size in sizes[:-1])
    if most is None:
        assert len(batches) <= slots


def test_divided__asks_no_cluster_where_nothing_is_to_do() -> None:
    class Unreachable:
        @property
        def slots(self) -> int:
            raise AssertionError("the cluster was asked")

    assert divided([], cast("Compute", Unreachable()), least=1) == []


def test_in_process__reports_batches_as_parts_of_the_whole() -> None:
    told: list[tuple[Any, ...]] = []

    def task(lake: Lake, batch: list[int], progress: Any) -> int:
        progress("rows", len(batch) - 1, len(batch))
        return sum(batch)

    found = InProcess().map(cast("Lake", None), task, [[1, 2], [3, 4, 5]], "numbers", lambda *each: told.append(each))
    assert found == [3, 12]
    assert told == [("rows", 1, 5), ("numbers", 2, 5), ("rows", 4, 5), ("numbers", 5, 5)]
