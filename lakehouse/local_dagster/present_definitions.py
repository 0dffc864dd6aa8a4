"""The code location's definitions as they are at present, for processes that start several runs."""

from __future__ import annotations

import dagster as dg

from lakehouse.catalog import analyses, descriptions, sources
from lakehouse.definitions import assembled
from lakehouse.ingest.noted import Kept
from lakehouse.settings import settings

_definitions: Kept[dg.Definitions] = Kept()


def present_definitions() -> dg.Definitions:
    """The definitions. They take a second to make, so they are made again only where the settings have other values, or
    a source or an analysis is another object than the last time.
    """
    return _definitions.of(assembled, descriptions(), analyses(), *sources().values(), equal=settings())
