"""Prices on one adjustment basis, made when they are read: the tables' rows scaled by the corporate actions that
the lake knows. `lakehouse.domains.market.corporate_actions.adjustment` defines the factors.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakehouse.derive.source import Source
from lakehouse.domains.market.corporate_actions import adjustment
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, literal, relation_of

if TYPE_CHECKING:
    import duckdb

VENDORS_CONVENTION = "'reinvest'"
"""How vendors that deliver adjusted prices make them (SQL text)."""


def factors(lake: Lake, connection: duckdb.DuckDBPyConnection, source: str, convention: str) -> Query:
    """The query for a source's adjustment factors (see `adjustment.factors`), as the lake knows its corporate
    actions; none where the source has no such product.

    Args:
        convention: SQL text, `'crsp'` or `'reinvest'` with the quotes.
    """
    actions, closes = (
        relation_of(lake.select(f"{source}/{table}", connection)) for table in ("corporate_actions", "official_daily")
    )
    return adjustment.factors(actions, closes, convention)


def adjusted_daily_bars(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Makes the table macro `<source>.adjusted_daily_bars(adjusted, convention, as_of)` in `connection`.

    Its rows are daily_bars on one basis, prev_close and change_pct included, with adjustment, prices_as_of and
    dividend_convention, which say what was done.
    """
    rows = relation_of(lake.select(source.table("daily_bars"), connection))
    scaled = adjustment.adjusted(
        rows,
        relation_of(factors(lake, connection, source.name, "convention")),
        "adjusted",
        "as_of",
        prices=(*adjustment.PRICES, "vwap"),
        basis="adjusted_as_of",
        basis_factors=relation_of(factors(lake, connection, source.name, VENDORS_CONVENTION)),
    )
    _make_macro(lake, connection, f'"{source.name}".adjusted_daily_bars', adjustment.with_changes(relation_of(scaled)))


def adjusted_official_daily(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Makes the table macro `<source>.adjusted_official_daily(adjusted, convention, as_of)`: official_daily on one
    basis, beside the vendor's own adjusted_close.
    """
    rows = relation_of(lake.select(source.table("official_daily"), connection))
    ratios = relation_of(factors(lake, connection, source.name, "convention"))
    scaled = adjustment.adjusted(rows, ratios, "adjusted", "as_of")
    _make_macro(lake, connection, f'"{source.name}".adjusted_official_daily', scaled)


def _make_macro(lake: Lake, connection: duckdb.DuckDBPyConnection, name: str, query: Query) -> None:
    today = literal((lake.as_of or datetime.now(UTC)).date())
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name.partition('.')[0]}")
    connection.execute(
        f"""
        CREATE OR REPLACE MACRO {name}(
            adjusted := 'splits_and_dividends', convention := 'crsp', as_of := {today}::DATE
        ) AS TABLE {query}
        """
    )
