"""Gathers the rows of `reference.identifiers` along which answers may be found, kind by kind on the way to the one that
is asked for. Each step reads the rows of the identifiers that it has reached, and not all that the lake knows: of nine
million pairs the files' statistics leave a few thousand to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakehouse.lake.contract import empty_relation
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Relation, literal, predicate, relation_of

if TYPE_CHECKING:
    import duckdb

_IDENTIFIERS = "reference/identifiers"
_AT_ONCE = 2_000
"""From how many identifiers of a kind on all rows are read instead."""
_HEAD_OFFICE = "XXX"


def gathered(lake: Lake, connection: duckdb.DuckDBPyConnection, seeds: Relation, schemes: Sequence[str]) -> Relation:
    """Rows of `reference.identifiers`, among them all on the ways from some seeds.

    Args:
        seeds: see `links.reached`.
        schemes: kinds of identifiers on the ways, in their order.
    """
    empty = empty_relation(lake.registry.entry(_IDENTIFIERS).contract)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE gathered AS FROM {empty}")
    has_market = connection.execute(f"SELECT count(market) > 0 FROM {seeds}").fetchone() == (True,)
    for place, scheme in enumerate(schemes):
        further = [*schemes[place + 1 :], *(["mic_ticker"] if scheme == "figi" and has_market else [])]
        found = connection.execute(
            f"""
            SELECT DISTINCT value FROM (
                SELECT scheme, value FROM {seeds}
                UNION ALL SELECT scheme, value FROM gathered
                UNION ALL SELECT subject_scheme, subject FROM gathered
            ) WHERE scheme = {literal(scheme)} LIMIT {_AT_ONCE + 1}
            """
        ).fetchall()
        values = [value for (value,) in found]
        if len(values) > _AT_ONCE:
            return relation_of(lake.select(_IDENTIFIERS, connection))
        if not values or not further:
            continue
        rows = lake.asking({scheme: _forms(scheme, values)}).select(_IDENTIFIERS, connection)
        itself = predicate({"scheme": [scheme], "value": values}), predicate({"subject_scheme": further})
        subject = predicate({"subject_scheme": [scheme], "subject": values}), predicate({"scheme": further})
        where = " OR ".join(" AND ".join(both) for both in (itself, subject))
        connection.execute(f"INSERT INTO gathered BY NAME SELECT * FROM ({rows}) WHERE {where}")
    return Relation("gathered")


def _forms(scheme: str, values: Sequence[str]) -> list[str]:
    """The values in every form in which they are published: a head office's BIC also without its last three letters."""
    if scheme != "bic":
        return list(values)
    return [*values, *(value.removesuffix(_HEAD_OFFICE) for value in values if value.endswith(_HEAD_OFFICE))]
