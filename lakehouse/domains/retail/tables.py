"""The tables that are made of a shop's invoice lines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.by_partition import derive_by_partition, partitions_as_of
from lakehouse.derive.by_tables import FromTables, Rule, derive_from_tables, tables_as_of
from lakehouse.derive.source import DerivedTable, Source, Winners
from lakehouse.domains.retail import rules
from lakehouse.lake.sql import Query, Relation

if TYPE_CHECKING:
    import duckdb


def _sale_lines(source: Source, connection: duckdb.DuckDBPyConnection, raw: Relation, ledger: Relation) -> Query:
    return rules.sale_lines(raw, ledger)


def _made_of_lines(name: str, description: str, rule: Rule, by: Sequence[str]) -> DerivedTable:
    """A table over the whole history of sale_lines, since a line of any day may change rows of others: those of the
    same `by`.
    """
    how = FromTables(name, ("sale_lines",), rule, by)
    return DerivedTable(
        name=name,
        description=description,
        depends_on=how.inputs,
        derive=partial(derive_from_tables, how),
        as_of=partial(tables_as_of, how),
        is_whole=True,
    )


LINES = "lines"
"""The dataset: the ledger calls it the product."""
SALE_LINES = DerivedTable(
    name="sale_lines",
    description="Every invoice line that counts, of every kind, with its key, kind and amount.",
    depends_on=("raw_lines",),
    derive=partial(derive_by_partition, LINES, "sale_lines", _sale_lines),
    as_of=partial(partitions_as_of, LINES, _sale_lines),
    keeps=Winners(LINES, rules.LINES),
)
TABLES = (
    SALE_LINES,
    _made_of_lines("items", "Description and list price of each stock code over time.", rules.items, ["stock_code"]),
    _made_of_lines(
        "item_prices", "Runs of days on which an item was sold at a price.", rules.item_prices, ["stock_code"]
    ),
    _made_of_lines("customers", "Country of each customer over time.", rules.customers, ["customer_id"]),
    _made_of_lines(
        "cancellations",
        "Cancellations with the sales that they cancel.",
        rules.cancellations,
        ["customer_id", "stock_code"],
    ),
)
