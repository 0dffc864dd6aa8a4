"""Documents: the domain as the catalogue knows it."""

from __future__ import annotations

from lakehouse.derive.domain import Domain, Kind
from lakehouse.domains.documents.config import DocumentConfig
from lakehouse.domains.documents.source import KIND, contracts, document_source

DOMAIN = Domain(
    name="documents",
    kinds=(
        Kind(
            name=KIND,
            component="DocumentSource",
            model=DocumentConfig,
            resolve=document_source,
            contracts=contracts,
        ),
    ),
)
