"""The official daily series and the corporate actions that it carries, as DuckDB queries over named relations."""

from __future__ import annotations

from lakehouse.derive.revisions import RevisionRule, known_since
from lakehouse.lake.sql import Query, Relation

_PRICES = ("symbol", "open", "high", "low", "close", "adjusted_close", "volume")
_ACTIONS = ("dividend_amount", "split_coefficient")

OFFICIAL = RevisionRule(key=("instrument_id", "currency", "session"), content=(*_PRICES, *_ACTIONS), part="year")
"""Rows of raw_daily."""


def official_daily(raw: Relation, ledger: Relation) -> Query:
    """The rows of the table official_daily.

    Args:
        raw: relation of raw_daily.
        ledger: relation of the product's rows of the ledger.
    """
    return Query(f"""
        SELECT year, instrument_id, symbol, currency, session, {", ".join([*_PRICES[1:], *_ACTIONS])}, known_at
        FROM ({known_since(raw, ledger, OFFICIAL, OFFICIAL.content)})
    """)


def corporate_actions(raw: Relation, ledger: Relation) -> Query:
    """The rows of the table corporate_actions: what the winning daily rows say of dividends and splits. Arguments
    as for `official_daily`.
    """
    columns = "year, instrument_id, symbol, currency, session AS ex_date"
    return Query(f"""
        SELECT {columns}, 'dividend' AS kind, dividend_amount, NULL::DOUBLE AS split_coefficient, known_at
        FROM ({known_since(raw, ledger, OFFICIAL, ["dividend_amount"])}) WHERE dividend_amount > 0
        UNION ALL
        SELECT {columns}, 'split' AS kind, NULL::DOUBLE AS dividend_amount, split_coefficient, known_at
        FROM ({known_since(raw, ledger, OFFICIAL, ["split_coefficient"])}) WHERE split_coefficient <> 1
    """)
