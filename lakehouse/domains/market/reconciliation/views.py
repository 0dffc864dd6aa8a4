"""Reconciliation: a source's daily bars held against a second, independent series, as its YAML says. What a break
is, is `lakehouse.domains.market.reconciliation.rules`'s matter; here it is said which tables are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.domains.market.bars.config import (
    Reconciliation,
    SourceConfig,
    SourceError,
    configured_sources,
    source_named,
)
from lakehouse.domains.market.corporate_actions.macros import VENDORS_CONVENTION, factors
from lakehouse.domains.market.reconciliation.rules import Tolerances, TwoSeries
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import predicate

if TYPE_CHECKING:
    import duckdb


def reconciliation_breaks(lake: Lake, connection: duckdb.DuckDBPyConnection, schema: str = "lake") -> str:
    """The query behind `lake.reconciliation_breaks`, over every source that is reconciled."""
    queries = [
        f"({breaks_of(lake, connection, config)})"
        for config in configured_sources().values()
        if config.reconciliation is not None
    ]
    contract = lake.table("reconciliation_breaks").contract
    empty = ", ".join(f'NULL::{column.type.duckdb} AS "{column.name}"' for column in contract.columns)
    return " UNION ALL BY NAME ".join([f"(SELECT {empty} WHERE false)", *queries])


def breaks_of(
    lake: Lake, connection: duckdb.DuckDBPyConnection, config: SourceConfig, sessions: Sequence[date] | None = None
) -> str:
    """The query for one source's breaks; only those of `sessions`, where they are given: the basis of an
    instrument's prices is found from all of them even so.
    """
    found = _series(lake, connection, config).breaks()
    inside = "true" if sessions is None else predicate({"session": sessions})
    return f"""
        SELECT '{config.source}' AS source, '{_against(config)}' AS against, * FROM ({found}) WHERE {inside}
    """


def compared_of(lake: Lake, connection: duckdb.DuckDBPyConnection, config: SourceConfig) -> str:
    """The query for every compared session of one source, breaks or not (see `TwoSeries.compared`)."""
    return _series(lake, connection, config).compared()


def other_bases_of(lake: Lake, connection: duckdb.DuckDBPyConnection, config: SourceConfig) -> str:
    """The query for the instruments whose prices came on another basis than was asked for (see
    `TwoSeries.other_bases`).
    """
    return _series(lake, connection, config).other_bases()


def _declared(config: SourceConfig) -> Reconciliation:
    if config.reconciliation is None:
        raise SourceError(f"the defs.yaml of {config.source} has no `reconciliation`")
    return config.reconciliation


def _against(config: SourceConfig) -> str:
    """The compared table's name in SQL."""
    declared = _declared(config)
    return declared.against if "." in declared.against else f"{config.source}.{declared.against}"


def _series(lake: Lake, connection: duckdb.DuckDBPyConnection, config: SourceConfig) -> TwoSeries:
    """The tables that the source's YAML names, as what can be compared."""
    declared = _declared(config)
    source, _, table = _against(config).partition(".")
    other = source_named(source)
    known = config if config.official_daily is not None else other
    ours = f"SELECT * FROM ({lake.select(config.table('daily_bars'), connection)})"
    theirs = f"SELECT * FROM ({lake.select(other.table(table), connection)})"
    ratios = f"SELECT * FROM ({factors(lake, connection, known, VENDORS_CONVENTION)})"
    if declared.match == "symbol":
        ours, theirs = (f"SELECT * REPLACE (symbol AS instrument_id) FROM ({rows})" for rows in (ours, theirs))
        actions = (
            f"SELECT DISTINCT instrument_id, symbol FROM ({lake.select(known.table('corporate_actions'), connection)})"
        )
        ratios = f"SELECT * REPLACE (symbol AS instrument_id) FROM ({ratios}) JOIN ({actions}) USING (instrument_id)"
    basis = "adjusted_as_of" if "adjusted_as_of" in lake.table(other.table(table)).contract.column_names else None
    tolerances = Tolerances(declared.price_bp, declared.close_bp, declared.volume_min, declared.volume_max)
    return TwoSeries(f"({ours})", f"({theirs})", f"({ratios})", tolerances, their_basis=basis)
