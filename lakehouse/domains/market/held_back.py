"""Letting checks look again at what holds back a source or feed, after its tables were rebuilt."""

from __future__ import annotations

from collections.abc import Iterable

from lakehouse.derive.held_back import Hold, hold_back, holds
from lakehouse.domains.market.bars.checks import Check, Sessions
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.quotes.config import FeedConfig
from lakehouse.lake.lake import Lake


def check_again(lake: Lake, config: SourceConfig | FeedConfig, checks: Iterable[Check]) -> list[Hold]:
    """Lets the blocking checks that hold back a source look again at the dates that failed; those that still fail."""
    by_name = {(check.table, check.name): check for check in checks}

    def look(name: tuple[str, str], scope: Sessions) -> tuple[bool, str]:
        finding = by_name[name].run(lake, config, scope)
        return finding.passed, finding.summary

    for hold in holds(lake, config.source):
        name = (hold.table, hold.check)
        if name in by_name:
            hold_back(lake, config.source, {name: look(name, hold.scope)}, hold.scope, look)
    return holds(lake, config.source)
