"""The component behind a `defs.yaml` of a source of reference data."""

from __future__ import annotations

from lakehouse.components.sources.component import SourceComponent
from lakehouse.derive.source import Source
from lakehouse.domains.reference.config import SourceConfig
from lakehouse.domains.reference.source import reference_source
from lakehouse.settings import settings


class ReferenceSource(SourceComponent):
    """A publisher of reference data: registers of markets, legal entities, mappings of identifiers.

    The attributes are those of `lakehouse.domains.reference.config.SourceConfig`.
    """

    model = SourceConfig
    config: SourceConfig

    def resolve(self) -> Source:
        return reference_source(self.config, settings())
