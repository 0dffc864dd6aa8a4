"""The rules of matches, as DuckDB queries: which rows count, and which identifiers they tie together."""

from __future__ import annotations

from lakehouse.derive.revisions import RevisionRule
from lakehouse.derive.two_times import Versions, history
from lakehouse.domains.reference.shared.answers import answered
from lakehouse.lake.sql import Query, Relation, literal, relation_of

MATCHED = RevisionRule(key=("object", "row_number"), content=("lei", "permid", "name", "score", "level"), part="part")
_PAIRS = Versions(key=("object", "permid"), content=("lei",), further=("source", "row_number"))


def identifiers(raw: Relation, ledger: Relation, source: str) -> Query:
    """What PermIDs stand for, from every answer that the ledger names. A record is matched by the LEI that it has, and
    by no name; one without a match says nothing.
    """
    timed = f"""
        SELECT *, {literal(source)} AS source FROM ({answered(raw, ledger, "permid")}) WHERE permid IS NOT NULL
    """
    return Query(f"""
        SELECT 'permid' AS scheme, regexp_extract(permid, '[0-9]+$') AS value, 'lei' AS subject_scheme, lei AS subject,
            source, object, row_number, valid_from, valid_to, known_from, known_to
        FROM ({history(relation_of(timed), _PAIRS)})
    """)
