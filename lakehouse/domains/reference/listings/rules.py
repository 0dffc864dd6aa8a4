"""The rules of listings, as DuckDB queries: which rows count, their two times, and which identifiers they tie together.

An answer holds every candidate for its question; what the next answer to the same question lacks has ended. Nothing
picks one of several candidates.
"""

from __future__ import annotations

from lakehouse.derive.revisions import RevisionRule
from lakehouse.derive.two_times import Versions, history
from lakehouse.domains.reference.shared.answers import answered
from lakehouse.lake.sql import Query, Relation, literal, relation_of

_FACTS = (
    "composite_figi",
    "share_class_figi",
    "name",
    "ticker",
    "exch_code",
    "security_type",
    "market_sector",
    "security_type2",
    "security_description",
)
MAPPED = RevisionRule(key=("object", "figi"), content=("isin", "asked_mic", *_FACTS), part="part")
LISTINGS = Versions(key=("object", "figi"), content=("isin", "mic", *_FACTS), further=("source", "row_number"))


def listings(raw: Relation, ledger: Relation, source: str) -> Query:
    """The rows of `listings`, from every answer that the ledger names."""
    timed = f"SELECT *, asked_mic AS mic, {literal(source)} AS source FROM ({answered(raw, ledger, 'figi')})"
    return Query(f"""
        SELECT *, figi IS NOT DISTINCT FROM composite_figi AS is_composite
        FROM ({history(relation_of(timed), LISTINGS)})
    """)


def identifiers(rows: Relation) -> Query:
    """What ISINs and tickers stand for, from the rows of `listings`: listings, by their FIGIs. A composite stands for
    no listing, and a ticker without a market for nothing.
    """
    columns = "figi AS subject, source, object, row_number, valid_from, valid_to, known_from, known_to"
    # The same may be an answer to two questions: about an ISIN, and about it on a market.
    once = "PARTITION BY scheme, value, subject, valid_from, known_from ORDER BY mic NULLS LAST, object"
    return Query(f"""
        SELECT * EXCLUDE (mic), 'figi' AS subject_scheme FROM (
            SELECT 'isin' AS scheme, isin AS value, mic, {columns} FROM {rows} WHERE NOT is_composite
            UNION ALL
            SELECT 'mic_ticker', concat(mic, '/', ticker), mic, {columns} FROM {rows}
            WHERE NOT is_composite AND mic IS NOT NULL AND ticker IS NOT NULL
        ) QUALIFY row_number() OVER ({once}) = 1
    """)


def instruments(rows: Relation) -> Query:
    """The rows of `instruments`, from the present rows of `listings`."""
    named = ("name", "security_type", "market_sector", "security_type2")
    facts = ", ".join(f"min_by({each}, (is_composite, figi)) AS {each}" for each in named)
    return Query(f"""
        SELECT isin, share_class_figi, {facts}, count(DISTINCT composite_figi) AS composites,
            count(DISTINCT figi) FILTER (NOT is_composite) AS listings, source
        FROM {rows} WHERE known_to IS NULL AND valid_to IS NULL GROUP BY isin, share_class_figi, source
    """)


def figi(rows: Relation) -> Query:
    """The rows of the view `figi`, from those of `mapped_listings`: that of a question about the ISIN alone only where
    no other has the FIGI.
    """
    return Query(f"""
        SELECT figi, composite_figi, share_class_figi, isin, name, ticker, exch_code, asked_mic AS mic_code,
            security_type, market_sector, security_type2, security_description, ingested_at AS ingestion_timestamp
        FROM {rows}
        QUALIFY asked_mic IS NOT NULL OR bool_and(asked_mic IS NULL) OVER (PARTITION BY figi, isin)
    """)


def requests(ledger: Relation, source: str) -> Query:
    """The rows of `mapping_requests`: how each question was answered last."""
    return Query(f"""
        SELECT object, split_part(object, '/', 2) AS isin, nullif(split_part(object, '/', 3), '') AS asked_mic,
            CASE status WHEN 'loaded' THEN 'matched' WHEN 'empty' THEN 'none' ELSE 'failed' END AS status,
            rows_received AS candidates, error, published_at AS answered_at, {literal(source)} AS source
        FROM {ledger} QUALIFY row_number() OVER (
            PARTITION BY object ORDER BY sequence DESC NULLS LAST, ingested_at DESC, object_version DESC
        ) = 1
    """)
