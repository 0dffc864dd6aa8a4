"""Revisions that are stored once though they were said several times: the bars are those of a lake that stores all."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.unit.domains.market.bars.test_rules import (
    SESSIONS,
    at,
    bars_of,
    fates_of,
    key_of,
    ledger_row,
    part,
    place_of,
    plain_winners,
    raw_bar,
)
from lakehouse.domains.market.bars import rules
from lakehouse.lake.engine import connect

FIRST, SECOND, _ = SESSIONS


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return connect("")


def version(name: str, number: int, parts: list[dict[str, Any]], **values: Any) -> dict[str, Any]:
    """A ledger's row of an object version that was published and ingested `number` minutes after 17:00."""
    return ledger_row(
        object=name,
        object_version=str(number),
        rows_received=sum(entry["rows"] for entry in parts),
        parts=parts,
        first_session=FIRST,
        last_session=SECOND,
        **{"published_at": at(FIRST, 600 + number), "ingested_at": at(FIRST, 600 + number), **values},
    )


def stored(name: str, number: int, session: date = FIRST, **values: Any) -> dict[str, Any]:
    moment = at(FIRST, 600 + number)
    said = {"published_at": moment, "ingested_at": moment, "session": session}
    return raw_bar(object=name, object_version=str(number), **said | values)


def test_a_part_is_read_where_an_earlier_version_has_stored_it(connection: duckdb.DuckDBPyConnection) -> None:
    raw = [stored("a", 1, price=1.0), stored("a", 1, SECOND, price=2.0), stored("a", 2, SECOND, price=3.0)]
    ledger = [
        version("a", 1, [part(FIRST, "1"), part(SECOND, "1")]),
        version("a", 2, [part(FIRST, "1"), part(SECOND, "2")]),
    ]
    assert [(bar["close"], bar["object_version"]) for bar in bars_of(connection, raw, ledger)] == [
        (1.0, "1"),
        (3.0, "2"),
    ]
    assert fates_of(connection, raw, ledger) == [("a", "1", 1, "superseded")]


def test_losers__of_a_key_that_names_the_object(connection: duckdb.DuckDBPyConnection) -> None:
    """As of answers that are kept by request: the same row in another object is another row."""
    raw = [stored("a", 1, price=1.0), stored("a", 2, price=3.0), stored("b", 1, price=2.0)]
    ledger = [
        version("a", 1, [part(FIRST, "1")]),
        version("a", 2, [part(FIRST, "2")]),
        version("b", 1, [part(FIRST, "1")]),
    ]
    by_object = replace(rules.BARS, key=("object", *rules.BARS.key))
    assert fates_of(connection, raw, ledger, by_object) == [("a", "1", 1, "superseded")]
    assert fates_of(connection, raw, ledger) == [("a", "1", 1, "superseded"), ("b", "1", 1, "superseded")]


def test_a_version_that_returns_to_the_first_one_stores_nothing(connection: duckdb.DuckDBPyConnection) -> None:
    raw = [stored("a", 1, price=1.0), stored("a", 2, price=2.0)]
    ledger = [version("a", number, [part(FIRST, where)]) for number, where in ((1, "1"), (2, "2"), (3, "1"))]
    for known, close in ((ledger[:1], 1.0), (ledger[:2], 2.0), (ledger, 1.0)):
        assert [bar["close"] for bar in bars_of(connection, raw, known)] == [close]
    assert fates_of(connection, raw, ledger) == [("a", "2", 1, "superseded")]


def test_a_part_that_the_current_version_lacks_is_withdrawn(connection: duckdb.DuckDBPyConnection) -> None:
    raw = [stored("a", 1, price=1.0), stored("a", 1, SECOND, price=2.0)]
    ledger = [version("a", 1, [part(FIRST, "1"), part(SECOND, "1")]), version("a", 2, [part(FIRST, "1")])]
    assert [bar["session"] for bar in bars_of(connection, raw, ledger)] == [FIRST]
    assert fates_of(connection, raw, ledger) == [("a", "1", 1, "superseded")]


def test_what_is_said_again_ranks_by_when_it_was_said_last(connection: duckdb.DuckDBPyConnection) -> None:
    """Object a says 1, then b says 2 of the same bar, then a says 3 and in the end 1 again: a has the last word."""
    raw = [stored("a", 1, price=1.0), stored("b", 2, price=2.0), stored("a", 3, price=3.0)]
    ledger = [
        version("a", 1, [part(FIRST, "1")]),
        version("b", 2, [part(FIRST, "2")]),
        version("a", 3, [part(FIRST, "3")]),
        version("a", 4, [part(FIRST, "1")]),
    ]
    (bar,) = bars_of(connection, raw, ledger)
    # The row says of itself when it was published first.
    assert (bar["close"], bar["object_version"], bar["published_at"]) == (1.0, "1", at(FIRST, 601))
    assert fates_of(connection, raw, ledger) == [("a", "3", 1, "superseded"), ("b", "2", 1, "superseded")]


row = st.tuples(st.sampled_from([0, 1]), st.sampled_from([1.0, 2.0]), st.sampled_from([None, None, 1]))
"""Minute, price, the vendor's revision."""
content = st.dictionaries(st.sampled_from([FIRST, SECOND]), st.lists(row, min_size=1, max_size=3), max_size=2)


@given(said=st.lists(st.tuples(st.sampled_from("ab"), content, st.integers(0, 2)), min_size=1, max_size=7))
def test_what_is_stored_once_gives_the_bars_of_what_is_stored_each_time(
    said: list[tuple[str, dict[date, list[tuple[int, float, int | None]]], int]],
    connection: duckdb.DuckDBPyConnection,
) -> None:
    every: list[dict[str, Any]] = []
    once: list[dict[str, Any]] = []
    ledger = []
    known: dict[tuple[Any, ...], str] = {}
    newest: dict[str, tuple[Any, ...]] = {}
    for number, (name, parts, late) in enumerate(said):
        # Objects may be published at one moment, and in another order than they are taken.
        moments = {"published_at": at(FIRST, 600 + late), "ingested_at": at(FIRST, 700 + number)}
        place, entries = 0, []
        for session, rows in parts.items():
            made = []
            for minute, price, revision in rows:
                place += 1
                values = {"minute": minute, "price": price, "vendor_revision": revision, "row_number": place}
                made.append(stored(name, number, session, **values, **moments))
            every += made
            where = known.setdefault((name, session, *rows), str(number))
            once += made if where == str(number) else []
            entries.append(part(session, where, len(rows)))
        ledger.append(version(name, number, entries, status="loaded" if parts else "empty", **moments))
        newest[name] = max(newest.get(name, ()), (*moments.values(), str(number)))
    current = {(name, last[2]) for name, last in newest.items()}
    wanted = plain_winners([row for row in every if place_of(row)[:2] in current])
    found = bars_of(connection, once, ledger)
    assert {key_of(bar): (bar["object"], bar["close"]) for bar in found} == {
        key: (row["object"], row["close"]) for key, row in wanted.items()
    }
    # Each stored row has one fate, and the winners have none.
    lost = {tuple(fate[:3]) for fate in fates_of(connection, once, ledger)}
    assert lost == {place_of(row) for row in once} - {place_of(bar) for bar in found}
