"""The state of each session, against what a status says of it, and stretches of sessions."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.apps.dashboard.pages.coverage import stretches
from lakehouse.domains.market.bars.coverage import Covered, State, coverage
from lakehouse.domains.market.bars.status import Status

SESSIONS = [date(2024, 3, 4) + timedelta(days=number) for number in range(10)]
EMPTY = Status(
    source="xetra",
    sessions_loaded=0,
    first_session=None,
    last_session=None,
    missing=[],
    incomplete={},
    ending_early={},
    failed_objects=[],
    unoffered=[],
    objects={},
    rebuild_due=0,
    read_otherwise=0,
    skipped=[],
    rows_received={},
    refusals={},
    empty_sessions=[],
    quarantine=[],
)
SETS = st.sets(st.sampled_from(SESSIONS))


def test_coverage__of_nothing_is_nothing() -> None:
    assert coverage(EMPTY, SESSIONS) == []


@given(SETS, SETS, SETS, SETS, SETS)
def test_coverage__gives_each_session_its_gravest_state(
    failed: set[date], missing: set[date], incomplete: set[date], early: set[date], empty: set[date]
) -> None:
    objects: list[dict[str, object]] = [
        {"object": f"{day}.csv", "first_session": day, "last_session": day} for day in failed
    ]
    found = replace(
        EMPTY,
        first_session=SESSIONS[1],
        last_session=SESSIONS[-2],
        failed_objects=objects,
        missing=sorted(missing),
        incomplete={day: [f"{day} hour 09"] for day in incomplete},
        ending_early={day: ["BMW"] for day in early},
        empty_sessions=sorted(empty),
    )
    covered = coverage(found, SESSIONS)
    assert [each.session for each in covered] == SESSIONS[1:-1], "from the first to the last loaded one"
    for each in covered:
        states = [
            (each.session in failed, State.failed),
            (each.session in missing, State.missing),
            (each.session in incomplete | early, State.incomplete),
            (each.session in empty, State.empty),
            (True, State.complete),
        ]
        assert each.state == next(state for holds, state in states if holds)
        assert bool(each.reason) == (each.state != State.complete)


def test_coverage__names_a_failed_object_in_every_session_that_it_covers() -> None:
    month: dict[str, object] = {"object": "2024-03", "first_session": SESSIONS[2], "last_session": SESSIONS[4]}
    found = replace(EMPTY, first_session=SESSIONS[0], last_session=SESSIONS[-1], failed_objects=[month])
    failed = [each for each in coverage(found, SESSIONS) if each.state == State.failed]
    assert [each.session for each in failed] == SESSIONS[2:5]
    assert {each.reason for each in failed} == {"could not be read: 2024-03"}


def test_coverage__counts_names_beyond_a_few() -> None:
    hours = [f"hour {number:02}" for number in range(9, 18)]
    found = replace(EMPTY, first_session=SESSIONS[0], last_session=SESSIONS[0], incomplete={SESSIONS[0]: hours})
    (only,) = coverage(found, SESSIONS)
    assert only.reason == "missing: hour 09, hour 10, hour 11, hour 12 and 5 more"


@given(st.lists(st.sampled_from(["", "nothing came", "other"]), min_size=1, max_size=10))
def test_stretches__cover_every_incomplete_session_once(reasons: list[str]) -> None:
    state = {"": State.complete, "nothing came": State.missing, "other": State.failed}
    covered = [Covered(day, state[reason], reason) for day, reason in zip(SESSIONS, reasons, strict=False)]
    found = stretches(covered)
    assert sum(each.sessions for each in found) == sum(bool(reason) for reason in reasons)
    for each in found:
        inside = [one for one in covered if each.first <= one.session <= each.last]
        assert {(one.state, one.reason) for one in inside} == {(each.state, each.reason)}
        assert len(inside) == each.sessions
    assert all(
        before.last + timedelta(days=1) < after.first or before.reason != after.reason
        for before, after in pairwise(found)
    )
