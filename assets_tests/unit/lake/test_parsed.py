"""The tables that a query names, of which none has to exist."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.api import Lake
from lakehouse.lake.parsed import tables_in

NAMES = st.sampled_from(["a", "b", "x.a", "x.b", '"Y"."c d"'])


@st.composite
def selects(draw: st.DrawFn, depth: int = 2) -> str:
    """A SELECT with joins, subqueries and common table expressions, whose names may hide those of tables."""
    sources = draw(
        st.lists(NAMES if depth == 0 else NAMES | selects(depth - 1).map("({})".format), min_size=1, max_size=2)
    )
    text = "SELECT 1 AS one FROM " + " CROSS JOIN ".join(f"{each} AS t{n}" for n, each in enumerate(sources))
    if depth and draw(st.booleans()):
        text += f" WHERE EXISTS ({draw(selects(depth - 1))})"
    if depth and draw(st.booleans()):
        text += f" UNION ALL ({draw(selects(depth - 1))})"
        text = f"SELECT * FROM ({text})"
    ctes = draw(st.lists(st.sampled_from("ab"), max_size=2, unique=True)) if depth else []
    named = ", ".join(f"{name} AS ({draw(selects(depth - 1))})" for name in ctes)
    # Each is read, since DuckDB doesn't bind what no part of the query needs.
    return f"WITH {named} SELECT 1 AS one FROM ({text}) AS rest, {', '.join(ctes)}" if ctes else text


@given(selects())
def test_tables_in__are_those_that_duckdb_binds(query: str) -> None:
    with duckdb.connect() as connection:
        bound = {
            name.partition(" AS ")[0].replace('"', "").lower()
            for name in connection.get_table_names(query, qualified=True)
        }
    assert {".".join(filter(None, pair)) for pair in tables_in(query) or ()} == bound


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("WITH a AS (SELECT 1 AS k) SELECT * FROM a JOIN x.b USING (k)", [("x", "b")]),
        ("SELECT * FROM x.a NATURAL JOIN lakehouse.X.B", [("x", "a"), ("x", "b")]),
        ("WITH RECURSIVE a AS (SELECT k FROM x.b UNION SELECT k FROM a) FROM a", [("x", "b")]),
        ("WITH a AS (SELECT k FROM a) FROM a", [("", "a")]),
        ("SELECT unknown_macro(k) FROM (SUMMARIZE x.b) JOIN c USING (k)", [("x", "b"), ("", "c")]),
        ("SHOW TABLES", []),
        ("PIVOT x.a ON k USING sum(v)", None),
        ("SELEC 1", None),
        ("SELECT " + "1 + " * 900 + "(SELECT k FROM x.b)", None),
    ],
)
def test_tables_in__a_query_that_duckdb_could_not_bind(query: str, tables: list[tuple[str, str]] | None) -> None:
    assert tables_in(query) == tables


def test_sql__opens_the_tables_alone_that_a_join_by_using_names(tmp_path: Path) -> None:
    opened = Lake(str(tmp_path)).sql(
        """
        WITH wanted AS (SELECT 'xetra' AS source)
        SELECT array_agg(view_name ORDER BY view_name) AS opened, any_value(sources.row_count)
        FROM duckdb_views(), (SELECT count(*) AS row_count FROM wanted JOIN lake.quarantine USING (source)) AS sources
        WHERE NOT internal
        """
    )
    assert opened is not None
    assert opened.fetchall() == [(["quarantine"], 0)]
