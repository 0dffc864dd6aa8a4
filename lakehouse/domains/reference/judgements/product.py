"""Judgements, from their section in a `defs.yaml`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.checks import conservation_holds, of_every_dataset, of_every_table
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.judgements import derive
from lakehouse.domains.reference.judgements.config import Judgements
from lakehouse.domains.reference.judgements.decide import decisions_url
from lakehouse.domains.reference.product import Product, undated_dataset
from lakehouse.ingest.dataset import ObjectOrigin
from lakehouse.ingest.object_store import objects_at
from lakehouse.ingest.variables import Variables

if TYPE_CHECKING:
    from lakehouse.domains.reference.config import SourceConfig


def judgements(config: SourceConfig, said: Judgements, variables: Variables) -> Product:
    """The datasets, tables, views and checks of the section `judgements`."""
    contract = contracts()["raw_judgements"]
    place = partial(objects_at, decisions_url(config.source, variables), may_lack=True)
    origin = ObjectOrigin(place, said.objects, (said.objects,))
    dataset = undated_dataset(config, said, variables, contract, derive.DATASET, "decisions", origin, ("objects",))
    checks = (
        *of_every_dataset(contract, derive.DATASET),
        *of_every_table(contracts()["decided_judgements"]),
        conservation_holds(derive.DECIDED_JUDGEMENTS),
    )
    return Product((dataset,), (derive.DECIDED_JUDGEMENTS,), checks, {}, derive.identifiers)
