"""The codes that a YAML may name are those of exchange_calendars."""

from __future__ import annotations

from datetime import date

import exchange_calendars
import pytest

from lakehouse.domains.market.calendar import CalendarSpec, build_sessions
from lakehouse.domains.market.calendar_codes import calendar_codes, canonical
from lakehouse.errors import SourceError


def test_the_codes_are_those_of_the_package() -> None:
    assert calendar_codes() == set(exchange_calendars.get_calendar_names(include_aliases=True))


def test_canonical__is_the_code_that_the_package_resolves_to() -> None:
    names = {code: exchange_calendars.resolve_alias(code) for code in calendar_codes()}
    assert {code: canonical(code) for code in calendar_codes()} == names
    assert len(set(names.values())) < len(names)


@pytest.mark.parametrize(("code", "first"), [("XTKS", "1980-01-04"), ("XBSE", "1950-01-02"), ("XETR", "2099-01-01")])
def test_a_calendar_that_does_not_reach_the_first_session_says_so(code: str, first: str) -> None:
    words = f"the calendar {code} has no sessions from {first} on: .*Correct `first_session` or `calendar`"
    with pytest.raises(SourceError, match=words):
        build_sessions(CalendarSpec(code, "UTC", "another"), date.fromisoformat(first))
