"""Which of the offered files are taken, after those that were."""

from __future__ import annotations

from datetime import datetime
from itertools import combinations

import pytest

from lakehouse.domains.reference.chains import due, gaps, moment
from lakehouse.ingest.names import ObjectName, Objects

NAMES = Objects(
    pattern=r"(?P<date>\d{8})-(?P<time>\d{4})-(?:full|(?P<delta>intra-day|last-day|last-week|last-month))",
    date_format="%Y%m%d",
    holds="day",
)
SPANS = ("intra-day", "last-day", "last-week", "last-month")


def named(*names: str) -> dict[str, ObjectName]:
    found = {name: NAMES.parse_name(name) for name in names}
    return {name: parsed for name, parsed in found.items() if parsed is not None}


def publication(moment: str, *kinds: str) -> list[str]:
    return [f"{moment}-{kind}" for kind in kinds or ("full", *SPANS)]


def test_due__takes_the_newest_whole_file_first() -> None:
    offered = named(*publication("20241028-0000"), *publication("20241028-0800"))
    assert due({}, offered) == ["20241028-0800-full"]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("20241028-0800", ["20241028-1600-intra-day"]),
        ("20241028-0000", ["20241028-1600-last-day"]),
        ("20241022-0000", ["20241028-1600-last-week"]),
        ("20241001-0000", ["20241028-1600-last-month"]),
        ("20240901-0000", ["20241028-1600-full"]),
        ("20241028-1600", []),
    ],
)
def test_due__takes_the_shortest_changes_that_reach_back(last: str, expected: list[str]) -> None:
    assert due(named(f"{last}-full"), named(*publication("20241028-1600"))) == expected


def test_due__goes_on_after_the_whole_file_that_closes_a_gap() -> None:
    offered = named(
        "20241028-0800-intra-day", "20241029-0000-intra-day", "20241029-0800-full", "20241029-1600-intra-day"
    )
    assert due(named("20241028-0000-full"), offered) == [
        "20241028-0800-intra-day",
        "20241029-0800-full",
        "20241029-1600-intra-day",
    ]


def test_due__never_leaves_a_gap() -> None:
    held = named("20241028-0000-full")
    kinds, moments = ("full", "intra-day", "last-day"), ("20241028-0800", "20241028-1600", "20241029-0800")
    files = [f"{at}-{kind}" for at in moments for kind in kinds]
    for count in range(1, len(files) + 1):
        for offered in (named(*names) for names in combinations(files, count)):
            taken, newest = due(held, offered), max(map(moment, offered.values()))
            assert gaps([*held.values(), *(offered[name] for name in taken)]) == []
            if any(name.endswith("full") and moment(each) == newest for name, each in offered.items()):
                assert moment(offered[taken[-1]]) == newest


def test_moment__reads_the_time_to_the_second() -> None:
    names = Objects(pattern=r"(?P<date>\d{8})(?:T(?P<time>\d+))?", date_format="%Y%m%d", holds="day")
    found = [names.parse_name(name) for name in ("20241028T070301", "20241028T0703", "20241028")]
    assert [moment(each) for each in found if each] == [
        datetime(2024, 10, 28, 7, 3, 1),
        datetime(2024, 10, 28, 7, 3),
        datetime(2024, 10, 28),
    ]
