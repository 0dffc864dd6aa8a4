"""A map of exchange codes, from its section in a `defs.yaml`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lakehouse.derive.checks import conservation_holds, of_every_dataset, of_every_table
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.exchange_codes import derive
from lakehouse.domains.reference.exchange_codes.config import ExchangeCodes
from lakehouse.domains.reference.product import Product, undated_dataset
from lakehouse.ingest.dataset import ObjectOrigin
from lakehouse.ingest.places import place_of
from lakehouse.ingest.variables import Variables

if TYPE_CHECKING:
    from lakehouse.domains.reference.config import SourceConfig


def exchange_codes(config: SourceConfig, said: ExchangeCodes, variables: Variables) -> Product:
    """The dataset, table and checks of the section `exchange_codes`."""
    contract = contracts()["raw_exchange_codes"]
    place = partial(place_of, config.source, said.objects, variables)
    origin = ObjectOrigin(place, said.objects, (said.objects,))
    dataset = undated_dataset(config, said, variables, contract, derive.DATASET, "exchange codes", origin, ("objects",))
    checks = (
        *of_every_dataset(contract, derive.DATASET),
        *of_every_table(contracts()["exchange_codes"]),
        conservation_holds(derive.EXCHANGE_CODES),
    )
    return Product((dataset,), (derive.EXCHANGE_CODES,), checks)
