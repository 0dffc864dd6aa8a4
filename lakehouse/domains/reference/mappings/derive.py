"""The tables and views of mappings: which legal entity an ISIN or a BIC stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.derive.source import Source
from lakehouse.derive.two_times import Versions, history
from lakehouse.domains.reference.publications import Rows, current
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, relation_of

if TYPE_CHECKING:
    import duckdb

ISINS = Rows("isins", ("isin", "lei"), ("mappings_url", "api_url"))
BICS = Rows("bics", ("bic", "lei"), ("mappings_url", "api_url"))


def isin_pairs(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for the source's identifiers: of each ISIN."""
    return _identifiers(ISINS, "isin", "isin", lake, connection, source)


def bic_pairs(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The same of each BIC, with eleven characters."""
    return _identifiers(BICS, "bic", "rpad(bic, 11, 'X')", lake, connection, source)


def _identifiers(
    rows: Rows, scheme: str, value: str, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source
) -> str:
    known = rows.known(lake, connection, source, "NULL::DATE")
    pairs = Versions(rows.key, (), ("source", "object", "row_number"))
    return f"""
        SELECT '{scheme}' AS scheme, {value} AS value, 'lei' AS subject_scheme, lei AS subject, source, object,
            row_number, valid_from, valid_to, known_from, known_to
        FROM ({history(relation_of(known), pairs)})
    """


def lei_isin(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.lei_isin`."""
    return _current(ISINS, lake, connection, source)


def lei_bic(lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """The query for `<source>.lei_bic`."""
    return _current(BICS, lake, connection, source)


def _current(rows: Rows, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source) -> Query:
    known = rows.known(lake, connection, source, "NULL::DATE")
    return current(relation_of(known), {name: name for name in rows.key}, rows.key)
