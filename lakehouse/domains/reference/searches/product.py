"""Searches, from their section in a `defs.yaml`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.checks import conservation_holds, of_every_dataset, of_every_table
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.product import Product, undated_dataset
from lakehouse.domains.reference.searches import derive
from lakehouse.domains.reference.searches.config import Searches
from lakehouse.errors import SourceError
from lakehouse.ingest.dataset import ApiOrigin
from lakehouse.ingest.http.config import Endpoint
from lakehouse.ingest.http.requests import Requests
from lakehouse.ingest.variables import Variables

if TYPE_CHECKING:
    from lakehouse.domains.reference.config import SourceConfig


def searches(config: SourceConfig, said: Searches, variables: Variables) -> Product:
    """The datasets, tables, views and checks of the section `searches`."""
    contract = contracts()["raw_permids"]
    queries = partial(_queries, config.source, variables.source_variable(config.source, "queries"))
    requests = Requests(derive.DATASET, said.request, "query", queries, ("query",), dict)
    origin = ApiOrigin(Endpoint.of(config.source, said.api, variables), requests)
    unread = ("api", "request")
    dataset = undated_dataset(config, said, variables, contract, derive.DATASET, "searches", origin, unread)
    checks = (
        *of_every_dataset(contract, derive.DATASET),
        *of_every_table(contracts()["found_permids"]),
        conservation_holds(derive.FOUND_PERMIDS),
    )
    return Product((dataset,), (derive.FOUND_PERMIDS,), checks, {"permid": derive.permid})


def _queries(source: str, text: str | None) -> tuple[str, ...]:
    """The searches that the settings name.

    Raises:
        SourceError: one has a slash, which divides the names of objects.
    """
    queries = tuple(each.strip() for each in (text or "").split(",") if each.strip())
    if unfit := [each for each in queries if "/" in each]:
        raise SourceError(
            f"LAKEHOUSE_{source.upper()}_QUERIES names {', '.join(unfit)}; a search can't have a slash: leave it out"
        )
    return queries
