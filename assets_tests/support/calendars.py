"""Calendars of many kinds, for properties that hold for each."""

from __future__ import annotations

from datetime import time

from lakehouse.domains.market.calendar import CalendarSpec

CALENDARS = {
    name: CalendarSpec(name.split(" ")[0], zone, name, day_starts=day_starts)
    for name, zone, day_starts in (
        ("XNYS", "America/New_York", None),
        ("XETR", "Europe/Berlin", None),
        ("XASX", "Australia/Sydney", None),
        ("XTKS", "Asia/Tokyo", None),
        ("CMES", "America/Chicago", None),
        ("24/7", "UTC", None),
        ("24/7 of Seoul", "Asia/Seoul", time(9)),
        ("24/5", "UTC", None),
        ("24/5 of New York", "America/New_York", time(17)),
    )
}
