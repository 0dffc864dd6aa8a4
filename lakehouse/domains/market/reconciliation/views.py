"""Selects the tables to reconcile: a source's daily bars and the second, independent series that its YAML names.

`lakehouse.domains.market.reconciliation.rules` defines what a break is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING

from lakehouse.domains.market.bars.config import Reconciliation
from lakehouse.domains.market.bars.source import KIND, BarSource
from lakehouse.domains.market.corporate_actions.macros import VENDORS_CONVENTION, factors
from lakehouse.domains.market.reconciliation.rules import Tolerances, TwoSeries
from lakehouse.errors import SourceError
from lakehouse.lake.contract import empty_relation
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, predicate, relation_of

if TYPE_CHECKING:
    import duckdb


def reconciliation_breaks(sources: Iterable[BarSource], lake: Lake, connection: duckdb.DuckDBPyConnection) -> str:
    """The query behind `lake.reconciliation_breaks`, over every source that is reconciled."""
    queries = [
        f"({breaks_of(lake, connection, source)})"
        for source in sources
        if source.kind == KIND and source.config.reconciliation is not None
    ]
    empty = empty_relation(lake.table("reconciliation_breaks").contract)
    return " UNION ALL BY NAME ".join([f"(FROM {empty})", *queries])


def breaks_of(
    lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource, sessions: Sequence[date] | None = None
) -> str:
    """The query for one source's breaks; only those of `sessions`, where they are given: the basis of an
    instrument's prices is found from all of them even so.
    """
    found = _series(lake, connection, source).breaks()
    inside = "true" if sessions is None else predicate({"session": sessions})
    return f"""
        SELECT '{source.name}' AS source, '{_against(source)}' AS against, * FROM ({found}) WHERE {inside}
    """


def compared_of(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource) -> Query:
    """The query for every compared session of one source, breaks or not (see `TwoSeries.compared`)."""
    return _series(lake, connection, source).compared()


def other_bases_of(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource) -> Query:
    """The query for the instruments whose prices came on another basis than was asked for (see
    `TwoSeries.other_bases`).
    """
    return _series(lake, connection, source).other_bases()


def _declared(source: BarSource) -> Reconciliation:
    declared = source.config.reconciliation
    if declared is None:
        raise SourceError(f"the defs.yaml of {source.name} has no `reconciliation`")
    return declared


def _against(source: BarSource) -> str:
    """The compared table's name in SQL."""
    declared = _declared(source)
    return declared.against if "." in declared.against else f"{source.name}.{declared.against}"


def _series(lake: Lake, connection: duckdb.DuckDBPyConnection, source: BarSource) -> TwoSeries:
    """The tables that the source's YAML names, as what can be compared."""
    declared = _declared(source)
    other, _, table = _against(source).partition(".")
    known = source.name if source.official_daily is not None else other
    ours = f"SELECT * FROM ({lake.select(source.table('daily_bars'), connection)})"
    theirs = f"SELECT * FROM ({lake.select(f'{other}/{table}', connection)})"
    ratios = f"SELECT * FROM ({factors(lake, connection, known, VENDORS_CONVENTION)})"
    if declared.match == "symbol":
        ours, theirs = (f"SELECT * REPLACE (symbol AS instrument_id) FROM ({rows})" for rows in (ours, theirs))
        actions = (
            f"SELECT DISTINCT instrument_id, symbol FROM ({lake.select(f'{known}/corporate_actions', connection)})"
        )
        ratios = f"SELECT * REPLACE (symbol AS instrument_id) FROM ({ratios}) JOIN ({actions}) USING (instrument_id)"
    basis = "adjusted_as_of" if "adjusted_as_of" in lake.table(f"{other}/{table}").contract.column_names else None
    tolerances = Tolerances(declared.price_bp, declared.close_bp, declared.volume_min, declared.volume_max)
    return TwoSeries(relation_of(ours), relation_of(theirs), relation_of(ratios), tolerances, their_basis=basis)
