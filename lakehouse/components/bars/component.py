"""The component behind a `defs.yaml` of a source of market data: bars, a daily series, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import dagster as dg

from lakehouse.catalog import descriptions
from lakehouse.components.bars.figures import session_pictures
from lakehouse.components.bars.reconciliation import reconciliation_asset
from lakehouse.components.bars.report import report_asset
from lakehouse.components.bars.schedules import update_schedules
from lakehouse.components.sources.assets import Shown
from lakehouse.components.sources.component import SourceComponent
from lakehouse.derive.source import Check, Source
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.resolve import bar_source
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.bars.venues import venue_check
from lakehouse.settings import settings

_FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=5), warn_window=timedelta(days=4))


class MarketSource(SourceComponent):
    """Bars, an official daily series, or both, of one vendor: files in a folder or bucket, or a REST API.

    The attributes are those of `lakehouse.domains.market.bars.config.SourceConfig`. Of bars the component makes
    raw_bars, bars, daily_bars and, where the YAML has them, reconciliation and daily_report; of a daily series
    raw_daily, official_daily and corporate_actions; and what runs them by themselves (see `SourceComponent`).
    """

    model = SourceConfig
    shown = Shown(figures={"daily_bars": session_pictures}, freshness={"daily_bars": _FRESH})
    config: SourceConfig

    def resolve(self) -> BarSource:
        source = bar_source(self.config, settings())
        return replace(source, checks=(*source.checks, self._venue_check(source)))

    def _venue_check(self, source: BarSource) -> Check:
        """The check against the other sources, which only the composition root knows."""
        known = descriptions()
        described = {name: said for name, (_, said) in known.found.items() if isinstance(said, SourceConfig)}
        files = {source.name: source.name} | {name: str(path) for name, path in known.files.items()}
        return venue_check(source.tables[0].name, described | {source.name: self.config}, files)

    def further_assets(self, partitions: dg.TimeWindowPartitionsDefinition | None) -> list[dg.AssetsDefinition]:
        if partitions is None:  # without bars there is nothing to report or to reconcile
            return []
        made = [report_asset(self.resolve, partitions)] if self.config.report is not None else []
        if self.config.reconciliation is not None:
            made.append(reconciliation_asset(self.resolve, partitions))
        return made

    def schedules(self, source: Source, job: str) -> Sequence[dg.ScheduleDefinition]:
        return update_schedules(self.resolve, job)
