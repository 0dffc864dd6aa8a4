"""Record matching, from its section in a `defs.yaml`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.checks import conservation_holds, of_every_dataset, of_every_table
from lakehouse.domains.reference.asked import leis_of_tables, named_leis
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.matches import derive
from lakehouse.domains.reference.matches.config import Matches
from lakehouse.domains.reference.product import Product, undated_dataset
from lakehouse.ingest.dataset import ApiOrigin
from lakehouse.ingest.http.config import Endpoint
from lakehouse.ingest.http.requests import Requests
from lakehouse.ingest.variables import Variables

if TYPE_CHECKING:
    from lakehouse.domains.reference.config import SourceConfig


def matches(config: SourceConfig, said: Matches, variables: Variables) -> Product:
    """The dataset, table and checks of the section `matches`."""
    contract = contracts()["raw_matches"]
    named = partial(named_leis, config.source, variables.source_variable(config.source, "leis"))
    requests = Requests(
        derive.DATASET, said.request, "lei", named, ("lei",), dict, partial(leis_of_tables, said.tables)
    )
    origin = ApiOrigin(Endpoint.of(config.source, said.api, variables, "match_url"), requests)
    unread = ("api", "request", "tables")
    dataset = undated_dataset(config, said, variables, contract, derive.DATASET, "matched records", origin, unread)
    checks = (
        *of_every_dataset(contract, derive.DATASET),
        *of_every_table(contracts()["matched_permids"]),
        conservation_holds(derive.MATCHED_PERMIDS),
    )
    return Product((dataset,), (derive.MATCHED_PERMIDS,), checks, {}, derive.identifiers)
