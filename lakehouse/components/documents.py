"""The component behind the `defs.yaml` of a source of documents."""

from __future__ import annotations

from lakehouse.components.sources.component import SourceComponent
from lakehouse.derive.source import Source
from lakehouse.domains.documents.config import DocumentConfig
from lakehouse.domains.documents.resolve import document_source
from lakehouse.settings import settings


class DocumentSource(SourceComponent):
    """PDF files on a file server, or in a folder or bucket; their pages, and search in them.

    The attributes are those of `lakehouse.domains.documents.config.DocumentConfig`.
    """

    model = DocumentConfig
    config: DocumentConfig

    def resolve(self) -> Source:
        return document_source(self.config, settings())
