"""Reference data: legal entities, markets, instruments, and the identifiers that tie them.

Its tables have the name of their source (`mic.markets`) and, over all sources, that of the domain
(`reference.markets`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lakehouse.derive.domain import Domain, Kind, OverAll, OverAllMacro, union_of
from lakehouse.derive.source import Source
from lakehouse.domains.reference.config import SourceConfig
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.judgements.derive import judgements
from lakehouse.domains.reference.resolution import macros
from lakehouse.domains.reference.shared import codes
from lakehouse.domains.reference.shared.conflicts import conflicts
from lakehouse.domains.reference.source import KIND, reference_source
from lakehouse.lake.contract import Contract
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import duckdb

_OVER_ALL = {
    "countries": codes.countries,
    "country": codes.country,
    "currencies": codes.currencies,
    "conflicts": conflicts,
    "judgements": judgements,
}
"""Views that no single source has."""
_IN_MODELS = ("markets", "listings", "identifiers", "entities")
_READ_BY_MODELS = (
    "published_markets",
    "mapped_listings",
    "matched_permids",
    "decided_judgements",
    *(f"{how}_{what}" for what in ("entities", "isins", "bics") for how in ("published", "answered")),
)
"""The stored tables behind them."""


def _of_sources() -> dict[str, Contract]:
    return {name: contract for name, contract in contracts().items() if name not in _OVER_ALL}


def _views() -> Mapping[str, tuple[Contract, OverAll]]:
    united = {name: union_of(name, contract) for name, contract in _of_sources().items()}
    return united | {name: (contracts()[name], query) for name, query in _OVER_ALL.items()}


def _macros() -> Mapping[str, OverAllMacro]:
    return {"resolve": macros.resolve, "crosswalk": macros.crosswalk}


def _attach(sources: Sequence[Source], lake: Lake, connection: duckdb.DuckDBPyConnection, catalog: str) -> None:
    """Attaches the views over all sources that dbt's models join."""
    lake.attach(connection, [("reference", name) for name in _IN_MODELS], catalog)


DOMAIN = Domain(
    name="reference",
    kinds=(
        Kind(
            name=KIND,
            component="ReferenceSource",
            model=SourceConfig,
            resolve=reference_source,
            contracts=_of_sources,
            attach=_attach,
            reads=_READ_BY_MODELS,
        ),
    ),
    own_views=_views,
    own_macros=_macros,
)
