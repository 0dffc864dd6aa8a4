"""Types of texts in a `defs.yaml` that are checked when it is read: zones, clock times, expressions, date formats."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator

from lakehouse.errors import did_you_mean

_NOT_EVERYWHERE = ("Factory", "localtime", "posixrules", "posix/", "right/")
"""Files of the system's zone database that are not IANA names: other libraries lack them."""
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9](:00)?")


def _require_zone(name: str) -> str:
    try:
        if name.startswith(_NOT_EVERYWHERE):
            raise ZoneInfoNotFoundError
        ZoneInfo(name)
    # A folder of zones is a directory, and a name too long for a file is an error of the system.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is not a time zone; use an IANA name such as Europe/Berlin, America/New_York or UTC"
            f"{did_you_mean(name, available_timezones())}"
        ) from None
    return name


def _require_time_of_day(said: object) -> object:
    # YAML reads 17:00 without quotes as 1020, a number to the base of 60.
    if isinstance(said, time) or (isinstance(said, str) and _TIME_OF_DAY.fullmatch(said)):
        return said
    raise ValueError(f'{said!r} is not a time of day; write hours and minutes in quotes, such as "17:00"')


def _require_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


def _require_date_format(form: str) -> str:
    day = datetime(2024, 12, 31)
    try:
        read = datetime.strptime(day.strftime(form), form)
    except (ValueError, re.error) as error:
        raise ValueError(f"{form!r} is not a format of dates: {error}. Write it like %Y-%m-%d") from None
    if read.date() == date(1900, 1, 1):
        raise ValueError(f"{form!r} has no part of a date. Write it like %Y-%m-%d")
    return form


Zone = Annotated[str, AfterValidator(_require_zone)]
"""The IANA name of a time zone."""

TimeOfDay = Annotated[time, BeforeValidator(_require_time_of_day)]
"""A time on a clock that another entry names, to the minute."""

Expression = Annotated[str, AfterValidator(_require_expression)]
"""A regular expression."""

DateFormat = Annotated[str, AfterValidator(_require_date_format)]
"""A strptime format of dates."""
