"""How the entries of an object are numbered, and which of a source's versions are still to be loaded."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse.ingest.ledger import Entry, listed_version, numbered, pending, stored_version

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
READING = "0123456789ab"


def entry(version: str, sequence: int | None = None, status: str = "loaded", **values: Any) -> dict[str, Any]:
    parts = [{"part": date(2026, 11, 20), "rows": 1, "digest": version, "object_version": version}]
    return {
        "object": "a",
        "object_version": version,
        "sequence": sequence,
        "reading": READING,
        "status": status,
        "error": "cut" if status == "failed" else None,
        "parts": parts if status == "loaded" else [],
        "published_at": NOON,
        "ingested_at": NOON,
    } | values


def numbers(entries: list[Entry]) -> list[tuple[str, int | None]]:
    return [(found.row["object_version"], found.row["sequence"]) for found in entries]


def test_a_version_is_numbered_after_those_of_its_object() -> None:
    stored = [entry("1", None), entry("2", 1), entry("7", 5, object="b")]
    assert numbers(numbered([entry("3"), entry("8", object="b"), entry("4")], stored)) == [("3", 2), ("8", 6), ("4", 3)]


def test_the_last_version_again_is_no_news_and_an_earlier_one_is() -> None:
    stored = [entry("1", 1), entry("2", 2)]
    assert numbered([entry("2")], stored) == []
    (back,) = numbered([entry("1")], stored)
    assert (back.row["sequence"], back.new_parts) == (3, frozenset())


def test_a_failure_is_news_once_and_its_end_is_news() -> None:
    stored = [entry("1", 1, "failed")]
    assert numbered([entry("1", None, "failed")], stored) == []
    assert numbers(numbered([entry("1", None, "failed", error="no gzip")], stored)) == [("1", 2)]
    assert numbers(numbered([entry("1")], stored)) == [("1", 2)]


def test_no_clock_decides_which_entry_is_the_last() -> None:
    ahead = NOON + timedelta(days=400)
    stored = [entry("1", 1, ingested_at=ahead, published_at=ahead), entry("2", 2)]
    assert numbered([entry("2")], stored) == []


@pytest.mark.parametrize("first", ["20261120T110000.000000Z-a", "20261120T110000.000000Z-z"])
def test_an_answer_that_comes_after_a_later_one_is_ranked_below_it(first: str) -> None:
    stored = [entry("20261120T120000.000000Z-b", 1)]
    assert numbers(numbered([entry(first)], stored, answers=True)) == [(first, None)]
    last = "20261120T130000.000000Z-c"
    assert numbers(numbered([entry(last)], stored, answers=True)) == [(last, 2)]


def test_a_request_without_an_answer_is_the_last_news_whatever_the_answers_are_called() -> None:
    stored = [entry("20991120T120000.000000Z-b", 1)]
    failure = entry("20261120T130000.000000Z-unanswered", None, "failed")
    assert [found.row["sequence"] for found in numbered([failure], stored, answers=True)] == [2]


@pytest.mark.parametrize("listed", ["1499472000000000-6000", "1-2-e+tag", "1-2-abc+0123456789abc", "line\nbreak"])
def test_a_stored_version_says_which_one_is_listed(listed: str) -> None:
    assert listed_version(stored_version(listed, READING)) == listed
    assert listed_version(listed) == listed


def test_what_the_source_holds_is_pending_unless_the_ledger_had_it_last() -> None:
    ledger = [entry(f"1+{READING}", 1), entry(f"2+{READING}", 2), entry(f"1+{READING}", 1, "failed", object="b")]

    def waiting(version: str, name: str = "a", **how: Any) -> bool:
        listed = pl.DataFrame({"name": [name], "version": [version]})
        return pending(listed, pl.DataFrame(ledger).lazy(), **{"retry_failed": False} | how).height == 1

    assert not waiting("2")
    assert waiting("1")
    assert waiting("3")
    assert not waiting("1", answers=True)
    assert not waiting("1", name="b")
    assert waiting("1", name="b", retry_failed=True)
    assert waiting("1", name="c")
    assert not waiting("2", reading=READING)
    assert waiting("2", reading="another")


def test_of_an_apis_answers_only_the_newest_is_read_again() -> None:
    ledger = pl.DataFrame([entry(f"{day}+{READING}", day) for day in (1, 2)]).lazy()
    listed = pl.DataFrame({"name": ["a", "a", "a"], "version": ["1", "2", "3"]})

    def waiting(reading: str, answers: int) -> list[str]:
        found = pending(listed.head(answers), ledger, retry_failed=True, answers=True, reading=reading)
        return sorted(found["version"])

    assert waiting(READING, 2) == []
    assert waiting("another", 2) == ["2"]
    assert waiting("another", 3) == ["3"]
