"""Documents: the domain as the catalogue knows it."""

from __future__ import annotations

from lakehouse.derive.domain import Domain, Kind
from lakehouse.domains.documents.config import DocumentConfig
from lakehouse.domains.documents.resolve import contracts, document_source
from lakehouse.domains.documents.tables import KIND, TABLES, marts_macro

DOMAIN = Domain(
    name="documents",
    kinds=(
        Kind(
            name=KIND,
            component="DocumentSource",
            model=DocumentConfig,
            resolve=document_source,
            contracts=contracts,
            over_all=tuple(table.name for table in TABLES),
            marts=("documents", "documents_warehouse"),
            attach=marts_macro,
        ),
    ),
)
