"""The tables that are made of a source's bars and of its official daily series."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from lakehouse.derive.source import DerivedTable, Winners
from lakehouse.domains.market.bars import as_of
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars, outdated_bars, outdated_daily_bars
from lakehouse.domains.market.bars.rules import BARS, BARS_BY_MARKET
from lakehouse.domains.market.corporate_actions.derive import derive_official
from lakehouse.domains.market.corporate_actions.rules import OFFICIAL

BARS_TABLE = DerivedTable(
    name="bars",
    description="The winning revision of each bar, duplicates and superseded revisions gone.",
    depends_on=("raw_bars",),
    derive=derive_bars,
    as_of=as_of.bars,
    outdated=outdated_bars,
    keeps=Winners("bars", BARS),
)
BARS_TABLE_BY_MARKET = replace(BARS_TABLE, keeps=Winners("bars", BARS_BY_MARKET))
"""The same of a source with several markets."""
DAILY_BARS_TABLE = DerivedTable(
    name="daily_bars",
    description="One row per instrument, currency and session, from the traded bars of the regular segment.",
    depends_on=("bars",),
    derive=derive_daily_bars,
    as_of=as_of.daily_bars,
    outdated=outdated_daily_bars,
)
OFFICIAL_DAILY_TABLE = DerivedTable(
    name="official_daily",
    description="The winning revision of each row of the official daily series.",
    depends_on=("raw_daily",),
    derive=partial(derive_official, "official_daily"),
    as_of=as_of.official_daily,
    keeps=Winners("official_daily", OFFICIAL),
    is_whole=True,
)
CORPORATE_ACTIONS_TABLE = DerivedTable(
    name="corporate_actions",
    description="Dividends and splits by their ex-dates, each with the moment it became known.",
    depends_on=("raw_daily",),
    derive=partial(derive_official, "corporate_actions"),
    as_of=as_of.corporate_actions,
    is_whole=True,
)
