"""What a `defs.yaml` of reference data may say: a section per product that the source delivers."""

from __future__ import annotations

from pydantic import Field, model_validator

from lakehouse.domains.reference.config_base import PublisherConfig
from lakehouse.domains.reference.exchange_codes.config import ExchangeCodes
from lakehouse.domains.reference.judgements.config import Judgements
from lakehouse.domains.reference.listings.config import Listings
from lakehouse.domains.reference.markets.config import Markets
from lakehouse.domains.reference.matches.config import Matches
from lakehouse.domains.reference.publications import Publications
from lakehouse.domains.reference.searches.config import Searches


class SourceConfig(PublisherConfig):
    """A source of reference data."""

    markets: Markets | None = Field(None, description="A register of markets, every object a whole publication.")
    exchange_codes: ExchangeCodes | None = Field(None, description="A map of exchange codes and markets.")
    listings: Listings | None = Field(None, description="A mapping API that is asked about ISINs.")
    searches: Searches | None = Field(None, description="A search API for organisations, instruments and quotes.")
    matches: Matches | None = Field(None, description="An API that matches records of legal entities.")
    judgements: Judgements | None = Field(None, description="Decisions about which entities names stand for.")
    entities: Publications | None = Field(None, description="Legal entities: snapshots and changes.")
    relationships: Publications | None = Field(None, description="Relationships between them.")
    exceptions: Publications | None = Field(None, description="Why entities don't report a parent.")
    isins: Publications | None = Field(None, description="Pairs of ISIN and LEI.")
    bics: Publications | None = Field(None, description="Pairs of BIC and LEI.")
    answered_entities: Publications | None = Field(None, description="Legal entities, as an API answers.")
    answered_relationships: Publications | None = Field(None, description="Relationships, as an API answers.")
    answered_exceptions: Publications | None = Field(None, description="Reporting exceptions, as an API answers.")
    answered_isins: Publications | None = Field(None, description="Pairs of ISIN and LEI, as an API answers.")
    answered_bics: Publications | None = Field(None, description="Pairs of BIC and LEI, as an API answers.")

    @model_validator(mode="after")
    def _delivers_something(self) -> SourceConfig:
        sections = type(self).model_fields.keys() - PublisherConfig.model_fields.keys()
        if all(getattr(self, name) is None for name in sections):
            raise ValueError(f"the source delivers nothing: describe one of {', '.join(sorted(sections))}")
        return self
