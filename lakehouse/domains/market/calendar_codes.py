"""The codes of exchange_calendars, known without importing it: the import costs more than most commands' own work.

They are the keys of two dictionaries in its source text. `assets_tests/unit/domains/test_calendar_codes.py` compares
them with what the package itself says, so that another version of it can't change them unnoticed.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from lakehouse.errors import did_you_mean

_KEY = re.compile(r'^    "([^"]+)": \S', re.MULTILINE)
_ALIAS = re.compile(r'^    "([^"]+)": "([^"]+)"', re.MULTILINE)


@cache
def calendar_codes() -> frozenset[str]:
    """The code of every calendar, and its other names such as NYSE for XNYS."""
    return frozenset(_KEY.findall(_source_text()))


@cache
def _aliases() -> dict[str, str]:
    return dict(_ALIAS.findall(_source_text()))


def _source_text() -> str:
    spec = find_spec("exchange_calendars")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "calendar_utils.py").read_text()


def canonical(code: str) -> str:
    """The code of the calendar that a code stands for: XNYS for XNYS, NYSE and XNAS."""
    while code in _aliases():
        code = _aliases()[code]
    return code


def _require_calendar(code: str) -> str:
    if code not in calendar_codes():
        raise ValueError(
            f"{code!r} is not a calendar of exchange_calendars; use one of its codes, such as XETR, XNYS, CMES or 24/7"
            f"{did_you_mean(code, sorted(calendar_codes()))}"
        )
    return code


CalendarCode = Annotated[str, AfterValidator(_require_calendar)]
"""A code that exchange_calendars knows."""
