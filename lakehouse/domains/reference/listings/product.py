"""Listings of a mapping API, from its section in a `defs.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.listings import derive
from lakehouse.domains.reference.listings.checks import listing_checks
from lakehouse.domains.reference.listings.config import Instruments, Listings
from lakehouse.domains.reference.product import Product, undated_dataset
from lakehouse.errors import SourceError
from lakehouse.ingest.dataset import ApiOrigin
from lakehouse.ingest.http.config import Endpoint
from lakehouse.ingest.http.requests import Requests
from lakehouse.ingest.variables import Variables
from lakehouse.lake.lake import Lake
from lakehouse.lake.standards import STANDARDS

if TYPE_CHECKING:
    from lakehouse.domains.reference.config import SourceConfig


def listings(config: SourceConfig, said: Listings, variables: Variables) -> Product:
    """The datasets, tables, views and checks of the section `listings`."""
    contract = contracts()["raw_listings"]
    named = partial(_named, config.source, variables.source_variable(config.source, "instruments"))
    requests = Requests(
        derive.DATASET, said.request, "isin/mic", named, ("isin", "mic"), dict, partial(_stored, said.instruments)
    )
    origin = ApiOrigin(Endpoint.of(config.source, said.api, variables), requests)
    unread = ("api", "instruments", "request")
    dataset = undated_dataset(config, said, variables, contract, derive.DATASET, "listings", origin, unread)
    views = {
        "listings": derive.listings,
        "instruments": derive.instruments,
        "figi": derive.figi,
        "mapping_requests": derive.mapping_requests,
    }
    return Product((dataset,), (derive.MAPPED_LISTINGS,), listing_checks(), views, derive.identifiers)


def _named(source: str, text: str | None) -> tuple[str, ...]:
    """The subjects that the settings name.

    Raises:
        SourceError: one is not an ISIN, or its market not a MIC.
    """
    subjects = tuple(each.strip() for each in (text or "").split(",") if each.strip())
    for subject in subjects:
        isin, _, mic = subject.partition("/")
        if not STANDARDS["isin"].follows(isin) or (mic and not STANDARDS["mic"].follows(mic)):
            expected = STANDARDS["isin"].expected(isin)
            digit = f" (its check digit would be {expected})" if expected else ""
            raise SourceError(
                f"LAKEHOUSE_{source.upper()}_INSTRUMENTS names {subject!r}, which is no ISIN or ISIN/MIC{digit}; "
                "correct it, as in DE0005190003/XETR"
            )
    return subjects


def _stored(instruments: Sequence[Instruments], lake: Lake) -> Iterator[str]:
    """The subjects that the lake's tables have: their ISINs, each with the table's market."""
    stored = {f"{schema}/{name}" for schema, name in lake.tables()}
    for each in instruments:
        if each.table not in stored:
            continue
        with lake.connect() as connection:
            found = connection.sql(
                f'SELECT DISTINCT "{each.isin}" AS isin FROM ({lake.select(each.table, connection)}) '
                f"WHERE length(isin) = 12 ORDER BY isin"
            ).pl()["isin"]
        sound = found.filter(STANDARDS["isin"].follow(found))
        yield from (isin if each.mic is None else f"{isin}/{each.mic}" for isin in sound)
