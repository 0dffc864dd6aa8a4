"""Sources as a test wants them described: those of the project with other entries in their YAML."""

from __future__ import annotations

from typing import Any

from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.resolve import bar_source
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.contracts import contracts
from lakehouse.lake.contract import Contract, shared_contracts
from lakehouse.settings import settings


def resolved(config: SourceConfig) -> BarSource:
    """The source that a `defs.yaml` of these entries describes, by the settings of now."""
    return bar_source(config, settings())


def changed(source: BarSource, **entries: Any) -> BarSource:
    """The source with other entries in its YAML."""
    return resolved(source.config.model_copy(update=entries))


def with_bars(source: BarSource, **entries: Any) -> BarSource:
    """The source with other entries of its bars."""
    return changed(source, bars=source.config.bars.model_copy(update=entries))


def contract_of(table: str) -> Contract:
    """The contract of a table by its name, a domain's or one that all share; that of a source with one market."""
    return {**shared_contracts(), **contracts()}[table].bound({}, without=("mic",))
