"""Reference data: legal entities, markets, instruments, and the identifiers that tie them.

Its tables have the name of their source (`mic.markets`) and, over all sources, that of the domain
(`reference.markets`).
"""

from __future__ import annotations

from collections.abc import Mapping

from lakehouse.derive.domain import Domain, Kind, OverAll, OverAllMacro, union_of
from lakehouse.domains.reference.config import SourceConfig
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.resolution import macros
from lakehouse.domains.reference.shared import codes
from lakehouse.domains.reference.shared.conflicts import conflicts
from lakehouse.domains.reference.source import KIND, reference_source
from lakehouse.lake.contract import Contract

_OVER_ALL = {
    "countries": codes.countries,
    "country": codes.country,
    "currencies": codes.currencies,
    "conflicts": conflicts,
}
"""Views that no single source has."""


def _of_sources() -> dict[str, Contract]:
    return {name: contract for name, contract in contracts().items() if name not in _OVER_ALL}


def _views() -> Mapping[str, tuple[Contract, OverAll]]:
    united = {name: union_of(name, contract) for name, contract in _of_sources().items()}
    return united | {name: (contracts()[name], query) for name, query in _OVER_ALL.items()}


def _macros() -> Mapping[str, OverAllMacro]:
    return {"resolve": macros.resolve, "crosswalk": macros.crosswalk}


DOMAIN = Domain(
    name="reference",
    kinds=(
        Kind(
            name=KIND,
            component="ReferenceSource",
            model=SourceConfig,
            resolve=reference_source,
            contracts=_of_sources,
        ),
    ),
    own_views=_views,
    own_macros=_macros,
)
