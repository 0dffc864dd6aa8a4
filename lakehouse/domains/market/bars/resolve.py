"""A source of market data made of its YAML and the settings, with all that is made of it and looked at in it."""

from __future__ import annotations

from datetime import timedelta

from lakehouse.derive.source import Check, DerivedTable, Macro
from lakehouse.domains.market.bars.checks import bar_checks, official_checks
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.judge import judge
from lakehouse.domains.market.bars.longer import bars_of_interval
from lakehouse.domains.market.bars.report import unreported
from lakehouse.domains.market.bars.source import KIND, SYMBOLS, BarSource, bound_contracts, datasets_of
from lakehouse.domains.market.bars.symbols import symbols
from lakehouse.domains.market.bars.tables import (
    BARS_TABLE,
    BARS_TABLE_BY_MARKET,
    CORPORATE_ACTIONS_TABLE,
    DAILY_BARS_TABLE,
    OFFICIAL_DAILY_TABLE,
)
from lakehouse.domains.market.corporate_actions.macros import adjusted_daily_bars, adjusted_official_daily
from lakehouse.domains.market.sessions import Sessions
from lakehouse.ingest.access import FROM_ENVIRONMENT
from lakehouse.ingest.variables import Variables
from lakehouse.servers.postgres import Place


def bar_source(config: SourceConfig, variables: Variables) -> BarSource:
    """The source that a `defs.yaml` describes, on an installation with these settings."""
    sessions = Sessions(
        config.calendar.spec(config.source, config.venue.time_zone),
        config.first_session,
        timedelta(minutes=config.minutes_after_close),
        variables.home / "cache",
    )
    tables, checks, macros = _of_products(config)
    report = config.report
    report_url = variables.source_variable(config.source, "report_url") or (report.url if report else None)
    return BarSource(
        name=config.source,
        kind=KIND,
        description=config.description,
        owners=tuple(config.owners),
        tags=config.tags,
        contracts=bound_contracts(config),
        datasets=datasets_of(config, sessions, variables),
        tables=tables,
        views={SYMBOLS: symbols},
        macros=macros,
        checks=checks,
        unreported=unreported,
        judge=judge,
        begins_with_data=config.partitions_begin == "data",
        config=config,
        sessions=sessions,
        report_url=report_url or str(variables.home / "reports" / config.source),
        report_access=report.access.resolve(variables.secret) if report and report.access else FROM_ENVIRONMENT,
        report_database=Place(variables.postgres, variables.database_url),
    )


def _of_products(
    config: SourceConfig,
) -> tuple[tuple[DerivedTable, ...], tuple[Check, ...], dict[str, Macro]]:
    """The tables, checks and macros that follow from what the source delivers."""
    tables: tuple[DerivedTable, ...] = ()
    checks: tuple[Check, ...] = ()
    macros: dict[str, Macro] = {"adjusted_official_daily": adjusted_official_daily}
    bars, official = config.bars, config.official_daily
    if bars is not None:
        kept = BARS_TABLE_BY_MARKET if config.venues else BARS_TABLE
        tables = (kept, DAILY_BARS_TABLE)
        checks = bar_checks(kept, delivered=bars.objects is not None, by_market=bool(config.venues))
        macros |= {"adjusted_daily_bars": adjusted_daily_bars, "bars": bars_of_interval}
    if official is not None:
        tables = (*tables, OFFICIAL_DAILY_TABLE, CORPORATE_ACTIONS_TABLE)
        # The objects of a place are looked at once: with the bars, where there are any.
        delivered = bars is None and official.objects is not None
        checks = (*checks, *official_checks(OFFICIAL_DAILY_TABLE, delivered=delivered))
    return tables, checks, macros
