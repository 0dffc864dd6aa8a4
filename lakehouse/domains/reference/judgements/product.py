"""Judgements, from their section in a `defs.yaml`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.checks import conservation_holds, of_every_dataset, of_every_table
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.judgements import derive
from lakehouse.domains.reference.judgements.config import Judgements
from lakehouse.domains.reference.judgements.decide import decisions_url
from lakehouse.domains.reference.product import Product
from lakehouse.ingest.dataset import Dataset, ObjectOrigin
from lakehouse.ingest.object_store import objects_at
from lakehouse.ingest.partitioning import Part, Whole
from lakehouse.ingest.reading import reading_digest
from lakehouse.ingest.variables import Variables

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.domains.reference.config import SourceConfig


def judgements(config: SourceConfig, said: Judgements, variables: Variables) -> Product:
    """The datasets, tables, views and checks of the section `judgements`."""
    contract = contracts()["raw_judgements"]
    place = partial(objects_at, decisions_url(config.source, variables), may_lack=True)
    dataset = Dataset(
        source=config.source,
        name=derive.DATASET,
        description=f"{config.description}: decisions",
        table=f"{config.source}/{contract.table}",
        contract=contract,
        rows=said,
        origin=ObjectOrigin(place, said.objects, (said.objects,)),
        partitioning=Whole(),
        partition_column="part",
        part=Part("part"),
        times=_no_times,
        reading=reading_digest(
            contract, {"rows": said.model_dump(mode="json", exclude={"objects"}, exclude_defaults=True)}
        ),
        refusals=config.refusals,
        object_max_bytes=variables.object_max_bytes,
    )
    checks = (
        *of_every_dataset(contract, derive.DATASET),
        *of_every_table(contracts()["decided_judgements"]),
        conservation_holds(derive.DECIDED_JUDGEMENTS),
    )
    return Product((dataset,), (derive.DECIDED_JUDGEMENTS,), checks, {}, derive.identifiers)


def _no_times(text: pl.DataFrame) -> pl.DataFrame:
    """Rows are of the single partition."""
    return text.select()
