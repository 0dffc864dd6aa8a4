"""Rows with two times, held against a plain-Python reference, in whatever order the publications come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.derive.two_times import Versions, history, with_removals
from lakehouse.lake.sql import Relation, relation_of

DAY = timedelta(days=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
VERSIONS = Versions(key=("code",), content=("title",), further=("origin",))
Belief = tuple[str, str, int, date, date | None, datetime, datetime | None]

Publications = Mapping[int, Mapping[str, tuple[str, int]]]
"""Number of the day -> code -> title, and how many days before the publication it is effective."""


def moment(number: int) -> datetime:
    return START + number * DAY


def rows_of(publications: Publications) -> Iterator[dict[str, Any]]:
    for number, said in publications.items():
        for code, (title, earlier) in said.items():
            effective = (moment(number) - earlier * DAY).date()
            yield {"code": code, "title": title, "origin": number, "published": moment(number), "effective": effective}


def expected(publications: Publications) -> set[Belief]:
    """Goes through the publications and, at each, writes down what is believed about each code."""
    said: dict[str, list[tuple[date, str | None, int]]] = {}
    believed: dict[tuple[str, str, int, date, date | None], list[datetime]] = {}
    found: set[Belief] = set()
    for number in sorted(publications):
        now = publications[number]
        for code in {*now, *said}:
            known = said.setdefault(code, [])
            title, earlier = now.get(code, (None, 0))
            if (known[-1][1] if known else None) != title:
                known.append(((moment(number) - earlier * DAY).date(), title, number))
        present: set[tuple[str, str, int, date, date | None]] = set()
        for code, known in said.items():
            for place, (start, title, origin) in enumerate(known):
                end = min((later for later, _, _ in known[place + 1 :]), default=None)
                if title is not None and (end is None or start < end):
                    present.add((code, title, origin, start, end))
        for belief in believed.keys() - present:
            found.add((*belief, believed.pop(belief)[0], moment(number)))
        for belief in present - believed.keys():
            believed[belief] = [moment(number)]
    return found | {(*belief, since[0], None) for belief, since in believed.items()}


def made(rows: Sequence[dict[str, Any]]) -> list[Belief]:
    schema = pa.schema(
        {
            "code": pa.string(),
            "title": pa.string(),
            "origin": pa.int64(),
            "published": pa.timestamp("us", "UTC"),
            "effective": pa.date32(),
        }
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("published_rows", pa.Table.from_pylist(list(rows), schema))
        timed = relation_of(with_removals(Relation("published_rows"), ["code"]))
        query = (
            f"SELECT code, title, origin, valid_from, valid_to, known_from, known_to FROM ({history(timed, VERSIONS)})"
        )
        return connection.execute(query).fetchall()


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 6),
        st.dictionaries(st.sampled_from("AB"), st.tuples(st.sampled_from("xyz"), st.integers(0, 3)), min_size=1),
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_two_times__are_those_of_the_reference_in_any_order(publications: Publications, random: Any) -> None:
    rows = list(rows_of(publications))
    random.shuffle(rows)
    found = made(rows)
    assert len(found) == len(set(found))
    assert set(found) == expected(publications)


def test_two_times__a_change_ends_what_was_believed() -> None:
    first, second, third = (moment(number) for number in (0, 1, 2))
    rows = list(rows_of({0: {"A": ("x", 0)}, 1: {"A": ("x", 0)}, 2: {"A": ("y", 0)}}))
    assert sorted(made(rows), key=str) == [
        ("A", "x", 0, first.date(), None, first, third),
        ("A", "x", 0, first.date(), third.date(), third, None),
        ("A", "y", 2, third.date(), None, third, None),
    ]
    assert second < third


@pytest.mark.parametrize("earlier", [0, 5])
def test_two_times__what_is_effective_earlier_takes_the_place_of_what_was_believed(earlier: int) -> None:
    found = made(list(rows_of({0: {"A": ("x", 0)}, 2: {"A": ("y", earlier)}})))
    now = [belief for belief in found if belief[-1] is None]
    assert [belief[1] for belief in sorted(now, key=str)] == (["x", "y"] if earlier == 0 else ["y"])
