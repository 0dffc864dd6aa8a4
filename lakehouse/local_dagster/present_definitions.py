"""The code location's definitions as they are at present, for processes that start several runs."""

from __future__ import annotations

import dagster as dg

from lakehouse.catalog import analyses, descriptions, sources
from lakehouse.definitions import defs
from lakehouse.settings import settings

_last: list[tuple[tuple[object, ...], dg.Definitions]] = []


def present_definitions() -> dg.Definitions:
    """The definitions. They take a second or two to make, so they are made again only where the settings, a source or
    an analysis is another object than the last time.
    """
    made_of = (settings(), descriptions(), analyses(), *sources().values())
    if not _last or [id(each) for each in _last[0][0]] != [id(each) for each in made_of]:
        _last[:] = [(made_of, defs())]
    return _last[0][1]
