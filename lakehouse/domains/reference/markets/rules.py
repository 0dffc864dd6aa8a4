"""The rules of markets, as DuckDB queries: which rows count, what a new version of a market is, and which legal entity
a code stands for.
"""

from __future__ import annotations

from lakehouse.derive.revisions import RevisionRule, winners
from lakehouse.derive.two_times import Versions, history, with_removals
from lakehouse.lake.sql import Query, Relation, literal, relation_of

_MEANING = (
    "operating_mic",
    "operating_type",
    "name",
    "legal_entity_name",
    "lei",
    "category",
    "acronym",
    "country",
    "city",
    "website",
    "is_active",
    "created_on",
    "expires_on",
    "comments",
)
"""What a new version of a market is a change of: not of the days of the last update and validation, nor of ACTIVE to
UPDATED.
"""
_STATED = ("status", "last_updated_on", "last_validated_on")
PUBLISHED = RevisionRule(
    key=("published_on", "mic"), content=(*_MEANING[:10], "status", *_MEANING[11:]), part="published_on"
)
MARKETS = Versions(key=("mic",), content=_MEANING, further=(*_STATED, "source", "object", "row_number"))
_ENTITIES = Versions(key=("mic",), content=("lei",), further=("source", "object", "row_number"))


def published(raw: Relation, ledger: Relation, columns: list[str]) -> Query:
    """The rows of `published_markets`: one per market and publication."""
    return Query(f"SELECT {', '.join(columns)} FROM ({winners(raw, ledger, PUBLISHED)})")


def markets(rows: Relation, source: str) -> Query:
    """The rows of `markets`, from those of `published_markets`."""
    return history(relation_of(_timed(rows, source)), MARKETS)


def entities_of_codes(rows: Relation, source: str) -> Query:
    """The identifiers: which legal entity each code stands for."""
    timed = f"SELECT * REPLACE (is_removed OR lei IS NULL AS is_removed) FROM ({_timed(rows, source)})"
    return Query(f"""
        SELECT 'mic' AS scheme, mic AS value, 'lei' AS subject_scheme, lei AS subject, * EXCLUDE (mic, lei)
        FROM ({history(relation_of(timed), _ENTITIES)})
    """)


def mic(rows: Relation) -> Query:
    """The rows of the view `mic`."""
    return Query(f"""
        SELECT mic, operating_mic, operating_type AS oprt_sgmt, name AS market_name_institution_description,
            legal_entity_name, lei, category AS market_category_code, acronym, country AS iso_country_code, city,
            website, status, created_on AS creation_date, last_updated_on AS last_update_date,
            last_validated_on AS last_validation_date, expires_on AS expiry_date, comments,
            ingested_at AS ingestion_timestamp
        FROM {rows} QUALIFY published_on = max(published_on) OVER ()
    """)


def _timed(rows: Relation, source: str) -> Query:
    """The rows of whole publications with the facts that `two_times` needs."""
    timed = f"""(
        SELECT *, {literal(source)} AS source, status <> 'EXPIRED' AS is_active,
            published_on::TIMESTAMP AT TIME ZONE 'UTC' AS published, published_on AS effective FROM {rows}
    )"""
    return with_removals(Relation(timed), ["mic"])
