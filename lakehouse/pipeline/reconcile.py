"""Reconciliation: a source's daily bars held against a second, independent series, as its YAML says. What a break
is, is `lakehouse.market.reconciliation`'s matter; here it is said which tables are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.lake.contract import DUCKDB_TYPES
from lakehouse.lake.lake import Lake
from lakehouse.lake.table import predicate
from lakehouse.market import reconciliation
from lakehouse.pipeline.adjust import VENDORS_CONVENTION, factors
from lakehouse.sources.config import Reconciliation, SourceConfig, SourceError, configured_sources, source_named

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
    empty = ", ".join(f'NULL::{DUCKDB_TYPES[column.type]} AS "{column.name}"' for column in contract.columns)
    return " UNION ALL BY NAME ".join([f"(SELECT {empty} WHERE false)", *queries])


def breaks_of(
    lake: Lake, connection: duckdb.DuckDBPyConnection, config: SourceConfig, sessions: Sequence[date] | None = None
) -> str:
    """The query for one source's breaks; only those of `sessions`, where they are given: the basis of an
    instrument's prices is found from all of them even so.
    """
    declared = _declared(config)
    ours, theirs, known, their_basis = _relations(lake, connection, config, declared)
    found = reconciliation.breaks(ours, theirs, known, _tolerances(declared), their_basis=their_basis)
    inside = "true" if sessions is None else predicate({"session": sessions})
    return f"""
        SELECT '{config.source}' AS source, '{_against(config, declared)}' AS against, * FROM ({found}) WHERE {inside}
    """


def compared_of(lake: Lake, connection: duckdb.DuckDBPyConnection, config: SourceConfig) -> str:
    """The query for every compared session of one source, breaks or not (see `reconciliation.compared`)."""
    declared = _declared(config)
    ours, theirs, known, their_basis = _relations(lake, connection, config, declared)
    return reconciliation.compared(ours, theirs, known, _tolerances(declared), their_basis=their_basis)


def other_bases_of(lake: Lake, connection: duckdb.DuckDBPyConnection, config: SourceConfig) -> str:
    """The query for the instruments whose prices came on another basis than was asked for (see
    `reconciliation.other_bases`).
    """
    declared = _declared(config)
    ours, theirs, known, their_basis = _relations(lake, connection, config, declared)
    return reconciliation.other_bases(ours, theirs, known, _tolerances(declared), their_basis=their_basis)


def _declared(config: SourceConfig) -> Reconciliation:
    if config.reconciliation is None:
        raise SourceError(f"the defs.yaml of {config.source} has no `reconciliation`")
    return config.reconciliation


def _against(config: SourceConfig, declared: Reconciliation) -> str:
    """The compared table's name in SQL."""
    return declared.against if "." in declared.against else f"{config.source}.{declared.against}"


def _relations(
    lake: Lake, connection: duckdb.DuckDBPyConnection, config: SourceConfig, declared: Reconciliation
) -> tuple[str, str, str, str | None]:
    """Our rows, theirs, the factors between bases, and the column that says on which basis theirs are."""
    source, _, table = _against(config, declared).partition(".")
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
    return f"({ours})", f"({theirs})", f"({ratios})", basis


def _tolerances(declared: Reconciliation) -> reconciliation.Tolerances:
    return reconciliation.Tolerances(declared.price_bp, declared.close_bp, declared.volume_min, declared.volume_max)
