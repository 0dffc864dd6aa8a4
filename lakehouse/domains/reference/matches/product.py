"""Record matching, from its section in a `defs.yaml`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.checks import conservation_holds, of_every_dataset, of_every_table
from lakehouse.domains.reference.asked import leis_of_tables, named_leis
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.matches import derive
from lakehouse.domains.reference.matches.config import Matches
from lakehouse.domains.reference.product import Product
from lakehouse.ingest.dataset import ApiOrigin, Dataset
from lakehouse.ingest.http.config import Endpoint
from lakehouse.ingest.http.requests import Requests
from lakehouse.ingest.partitioning import Part, Whole
from lakehouse.ingest.reading import reading_digest
from lakehouse.ingest.variables import Variables

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.domains.reference.config import SourceConfig


def matches(config: SourceConfig, said: Matches, variables: Variables) -> Product:
    """The dataset, table and checks of the section `matches`."""
    contract = contracts()["raw_matches"]
    named = partial(named_leis, config.source, variables.source_variable(config.source, "leis"))
    requests = Requests(
        derive.DATASET, said.request, "lei", named, ("lei",), dict, partial(leis_of_tables, said.tables)
    )
    dataset = Dataset(
        source=config.source,
        name=derive.DATASET,
        description=f"{config.description}: matched records",
        table=f"{config.source}/{contract.table}",
        contract=contract,
        rows=said,
        origin=ApiOrigin(Endpoint.of(config.source, said.api, variables, "match_url"), requests),
        partitioning=Whole(),
        partition_column="part",
        part=Part("part"),
        times=_no_times,
        reading=reading_digest(
            contract,
            {"rows": said.model_dump(mode="json", exclude={"api", "request", "tables"}, exclude_defaults=True)},
        ),
        refusals=config.refusals,
        object_max_bytes=variables.object_max_bytes,
    )
    checks = (
        *of_every_dataset(contract, derive.DATASET),
        *of_every_table(contracts()["matched_permids"]),
        conservation_holds(derive.MATCHED_PERMIDS),
    )
    return Product((dataset,), (derive.MATCHED_PERMIDS,), checks, {}, derive.identifiers)


def _no_times(text: pl.DataFrame) -> pl.DataFrame:
    """Rows have no time: they are of the single partition."""
    return text.select()
