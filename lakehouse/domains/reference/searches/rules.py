"""The rules of searches, as DuckDB queries: which rows count, and how entities are joined."""

from __future__ import annotations

from lakehouse.derive.revisions import RevisionRule
from lakehouse.lake.sql import Query, Relation

_FACTS = (
    "organization_name",
    "name",
    "primary_ticker",
    "organization_subtype",
    "holding_classification",
    "website",
    "asset_class",
    "issued_by",
    "issued_by_name",
    "primary_quote",
    "quote_of",
    "quote_of_name",
    "ric",
    "mic",
    "exchange_ticker",
)
FOUND = RevisionRule(key=("object", "permid"), content=("query", *_FACTS), part="part")


def permid(rows: Relation) -> Query:
    """The rows of the view `permid`: an instrument belongs to the organisation that it says it is issued by, and a
    quote to the instrument that it says it is of, whatever their places in an answer. What refers to nothing that was
    found has a row of its own.
    """
    number = "regexp_extract({}.permid, '[0-9]+$')"
    return Query(f"""
        WITH entity AS (
            SELECT * FROM {rows} QUALIFY row_number() OVER (PARTITION BY permid ORDER BY published_at DESC, object) = 1
        ),
        quote AS (
            FROM entity WHERE quote_of IS NOT NULL OR quote_of_name IS NOT NULL OR ric IS NOT NULL
        ),
        organization AS (FROM entity WHERE organization_name IS NOT NULL),
        instrument AS (FROM entity ANTI JOIN quote USING (permid) WHERE organization_name IS NULL)
        SELECT {number.format("organization")} AS organization_id, organization.organization_name,
            organization.primary_ticker AS organization_primary_ticker, organization.organization_subtype,
            organization.holding_classification AS organization_has_holding_classification,
            organization.website AS organization_webpage,
            {number.format("instrument")} AS instrument_id, instrument.name AS instrument_name,
            instrument.asset_class AS instrument_asset_class,
            instrument.issued_by_name AS instrument_is_issued_by_name,
            instrument.primary_ticker AS instrument_primary_ticker,
            {number.format("quote")} AS quote_id, quote.name AS quote_name, quote.asset_class AS quote_asset_class,
            quote.ric AS quote_ric, quote.mic AS quote_mic, quote.exchange_ticker AS quote_exchange_ticker,
            greatest(organization.ingested_at, instrument.ingested_at, quote.ingested_at) AS ingestion_timestamp
        FROM organization
        FULL JOIN instrument ON instrument.issued_by = organization.permid
        FULL JOIN quote ON quote.quote_of = instrument.permid
    """)
