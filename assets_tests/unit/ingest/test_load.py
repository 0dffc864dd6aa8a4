"""Dividing the objects of a load into tasks of a cluster."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ingest.discover import ObjectVersion
from lakehouse.ingest.load import _LEAST_BYTES, _MOST_BATCHES, _apart
from lakehouse.lake.compute import InProcess


class Slots(InProcess):
    def __init__(self, slots: int) -> None:
        self.slots = slots


def listed(number: int, size: int) -> ObjectVersion:
    """One of three objects of a day."""
    day = date(2024, 1, 1) + timedelta(number // 3)
    published = datetime(2024, 1, 1, tzinfo=UTC)
    return ObjectVersion(f"{number}", "1", size, published, f"{number}", None, day, day, day, day)


@given(st.lists(st.integers(0, 3_000_000), max_size=200), st.integers(1, 5_000))
def test_apart__makes_few_tasks_of_whole_partitions(sizes: list[int], slots: int) -> None:
    objects = [listed(number, size) for number, size in enumerate(sizes)]
    batches = _apart(objects, Slots(slots))
    assert [item for batch in batches for item in batch] == objects
    assert len(batches) <= min(slots * 4, _MOST_BATCHES)
    for one, next_one in pairwise(batches):
        assert one[-1].last_partition < next_one[0].first_partition
        assert slots > 1
        assert sum(item.size for item in one) >= _LEAST_BYTES


def test_apart__bounds_the_tasks_of_a_large_cluster() -> None:
    objects = [listed(3 * number, 20_000_000) for number in range(5_000)]
    assert len(_apart(objects, Slots(16_000))) in range(_MOST_BATCHES - 15, _MOST_BATCHES + 1)
