"""What the script of a chart draws: the bars at their sessions or minutes, and a mark for each action."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.unit.cli.test_plot import SESSIONS, action, daily_chart, daily_row, minute_chart
from lakehouse.apps.charts.payload import as_script, payload, ratio


def test_payload__places_daily_bars_on_the_numbers_of_their_sessions() -> None:
    rows = [daily_row(SESSIONS[place], (10.0, 12.0, 9.0, 11.0), volume=place) for place in (0, 1, 3)]
    found = payload({"As traded": daily_chart(rows, SESSIONS)}, shown=2)
    assert found["sessions"] == [str(session) for session in SESSIONS]
    (view,) = found["views"]
    assert view["x"] == [0, 1, 3]
    assert (view["o"], view["h"], view["l"], view["c"], view["v"]) == (
        [10.0] * 3,
        [12.0] * 3,
        [9.0] * 3,
        [11.0] * 3,
        [0, 1, 3],
    )
    assert (found["kind"], found["shown"], found["log"]) == ("daily", 2, False)


def test_payload__marks_an_action_at_the_first_session_from_its_ex_date_on() -> None:
    holiday = SESSIONS[2] + timedelta(days=1)
    rows = [daily_row(session, (10.0, 12.0, 9.0, 11.0)) for session in SESSIONS]
    actions = [action(SESSIONS[1], "dividend", 0.24), action(holiday, "split", 1.5)]
    marks = payload({"As traded": daily_chart(rows, SESSIONS, actions=actions)})["marks"]
    assert [(mark["x"], mark["kind"], mark["text"]) for mark in marks] == [
        (1, "dividend", f"Dividend 0.24 on {SESSIONS[1]}"),
        (3, "split", f"Split 3:2 on {holiday}"),
    ]


def test_payload__places_minutes_on_the_exchange_clock() -> None:
    """Frankfurt opens at 9:00, which is 8:00 UTC in winter and 7:00 in summer; the bars begin at 8:00 UTC."""
    for session, base in ((SESSIONS[2], 9 * 60), (SESSIONS[3], 10 * 60)):
        found = payload({"As traded": minute_chart([0, 7, 519], session)})
        (view,) = found["views"]
        assert found["base"] == base
        assert view["x"] == [0, 7, 519]
        assert view["width"] == [1, 1, 1]
        assert view["label"][1] == f"{session} {base // 60:02}:07"
        assert (found["begin"], found["end"]) == (0, 520)


def test_payload__shades_what_is_outside_of_regular_hours() -> None:
    found = payload({"As traded": minute_chart(list(range(520)), opens="09:30", ends="16:00")})
    # Minutes are counted from 9:00, the hour of the opening.
    assert found["shades"] == [
        {"text": "pre", "begin": -60, "end": 30},
        {"text": "post", "begin": 420, "end": 460},
    ]


@given(st.text())
def test_as_script__can_hold_any_text(text: str) -> None:
    written = as_script({"title": text})
    assert "<" not in written
    assert json.loads(written) == {"title": text}


@pytest.mark.parametrize(("coefficient", "words"), [(4.0, "4:1"), (0.1, "1:10"), (1.5, "3:2"), (0.001, "0.001:1")])
def test_ratio__is_new_shares_for_old(coefficient: float, words: str) -> None:
    assert ratio(coefficient) == words
