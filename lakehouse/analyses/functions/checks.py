"""What the values of keywords must fulfil: each returns what is wrong and what to do, or None."""

from __future__ import annotations

import re
from typing import Any

_TABLE = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*", re.ASCII)
_COLUMN = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def table_name(value: Any) -> str | None:
    named = isinstance(value, str) and _TABLE.fullmatch(value)
    return None if named else "it names no table of the lake; write it as wiki.official_daily"


def column_name(value: Any) -> str | None:
    named = isinstance(value, str) and _COLUMN.fullmatch(value)
    return None if named else "it names no column; write letters, digits and underscores"


def column_names(value: Any) -> str | None:
    if not isinstance(value, list) or not value:
        return "it is no list of columns; write [session, close]"
    return next((fault for fault in map(column_name, value) if fault is not None), None)


def window(value: Any) -> str | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000
    return None if whole else "it is no number of rows; write a whole number from 1"


def lag(value: Any) -> str | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000
    return None if whole else "it is no number of rows; write a whole number from 0"


def number(value: Any) -> str | None:
    given = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return None if given else "it is no number from 0"


def text(value: Any) -> str | None:
    return None if isinstance(value, str) else "it is no text"


def texts(value: Any) -> str | None:
    return None if isinstance(value, list) and all(isinstance(each, str) for each in value) else "it is no list of text"
