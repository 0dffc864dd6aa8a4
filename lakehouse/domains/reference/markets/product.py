"""A register of markets, from its section in a `defs.yaml`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lakehouse.domains.reference.config import SourceConfig
from lakehouse.domains.reference.contracts import contracts
from lakehouse.domains.reference.markets import derive
from lakehouse.domains.reference.markets.checks import market_checks
from lakehouse.domains.reference.markets.config import Markets
from lakehouse.domains.reference.product import Product, no_times
from lakehouse.ingest.dataset import Dataset, ObjectOrigin
from lakehouse.ingest.partitioning import Part, Periods
from lakehouse.ingest.places import place_of
from lakehouse.ingest.reading import reading_digest
from lakehouse.ingest.variables import Variables

if TYPE_CHECKING:
    pass


def markets(config: SourceConfig, said: Markets, variables: Variables) -> Product:
    """The datasets, tables, views and checks of the section `markets`."""
    contract = contracts()["raw_markets"]
    dataset = Dataset(
        source=config.source,
        name=said.name,
        description=f"{config.description}: markets",
        table=f"{config.source}/{contract.table}",
        contract=contract,
        rows=said,
        origin=ObjectOrigin(partial(place_of, config.source, said.objects, variables), said.objects, (said.objects,)),
        partitioning=Periods("day", config.first_day),
        partition_column="published_on",
        part=Part("published_on"),
        times=no_times,
        reading=reading_digest(
            contract, {"rows": said.model_dump(mode="json", exclude={"objects"}, exclude_defaults=True)}
        ),
        refusals=config.refusals,
        object_max_bytes=variables.object_max_bytes,
    )
    return Product(
        datasets=(dataset,),
        tables=(derive.PUBLISHED_MARKETS,),
        checks=market_checks(),
        views={"markets": derive.markets, "mic": derive.mic},
        identifiers=derive.identifiers,
    )
