"""A retail source made of its YAML and the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.derive.source import Source
from lakehouse.domains.retail.checks import retail_checks
from lakehouse.domains.retail.collection import MirroredCollection, collection_checks, reads
from lakehouse.domains.retail.config import Collection, RetailConfig
from lakehouse.domains.retail.features import features_macro, labels_macro
from lakehouse.domains.retail.persons import without_persons
from lakehouse.domains.retail.tables import LINES, TABLES
from lakehouse.ingest.dataset import Dataset, ObjectOrigin
from lakehouse.ingest.mirror import Mirror
from lakehouse.ingest.mongo import MongoCollection, day_in
from lakehouse.ingest.names import Objects
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.partitioning import Part, Periods
from lakehouse.ingest.places import place_of, url_of
from lakehouse.ingest.pseudonyms import Pseudonyms, pseudonyms_of
from lakehouse.ingest.reading import reading_digest
from lakehouse.ingest.row_format import RowTime
from lakehouse.ingest.times import faults_of, moments
from lakehouse.ingest.variables import Variables
from lakehouse.lake.contract import Contract, read_contracts
from lakehouse.lake.lake import Lake
from lakehouse.urls import without_password

if TYPE_CHECKING:
    import polars as pl

KIND = "shop"
"""Also the schema with the domain's tables over all sources; `retail` is the name of a source."""

MONGO = ("mongodb://", "mongodb+srv://")
_FORMS = "a folder or bucket of daily files, or to mongodb://host/database"
_DAYS = Objects(pattern=r"(?P<date>\d{4}-\d{2}-\d{2})\.jsonl\.gz", holds="day")
"""The names of a mirror's objects."""


def contracts() -> Mapping[str, Contract]:
    """Every contract of the domain, by its table's name."""
    return read_contracts(Path(__file__).parent, "retail")


def retail_source(config: RetailConfig, variables: Variables) -> Source:
    """The source that a `defs.yaml` describes."""
    collection = _collection(config, variables)
    return Source(
        name=config.source,
        kind=KIND,
        description=config.description,
        owners=tuple(config.owners),
        tags=config.tags,
        contracts=contracts(),
        datasets=(_lines(config, variables, collection),),
        tables=TABLES,
        macros={"customer_features": features_macro, "customer_labels": labels_macro},
        checks=(*retail_checks(contracts()), *(collection_checks(collection) if collection else ())),
        notes=partial(_notes, config, variables, collection),
    )


def _notes(
    config: RetailConfig, variables: Variables, collection: MirroredCollection | None, lake: Lake
) -> Mapping[str, str]:
    """How the lines are read, and whether customers are stored in the clear."""
    where = url_of(config.source, config.objects, variables)
    files = "no location is configured" if where is None else f"daily files in {without_password(where)}"
    are_hidden = pseudonyms_of(config.source, variables) is not None
    return {
        "reads": reads(collection) if collection else files,
        "customers": "pseudonyms" if are_hidden else "in the clear; see lakehouse pseudonyms create-key",
    }


def _collection(config: RetailConfig, variables: Variables) -> MirroredCollection | None:
    """The collection that the lines come from, if they do."""
    url = url_of(config.source, config.objects, variables)
    if config.collection is None or url is None or not url.startswith(MONGO):
        return None
    mirror = partial(_mirror, config.collection, config, variables, url)
    return MirroredCollection(config.collection, str(collection_at(url, config.collection)), mirror)


def _lines(config: RetailConfig, variables: Variables, collection: MirroredCollection | None) -> Dataset:
    if collection is not None:
        rows, objects = collection.described.rows, _DAYS
        place: Callable[[], ObjectSource] = collection.mirror
    else:
        rows, objects = config.rows, config.objects
        place = partial(place_of, config.source, objects, variables, forms=_FORMS)
    contract, time, pseudonyms = contracts()["raw_lines"], rows.time, pseudonyms_of(config.source, variables)
    assert time is not None
    decides = {
        "rows": rows.model_dump(mode="json", exclude_defaults=True),
        "first_day": str(config.first_day),
        "time_zone": config.time_zone,
    }
    if pseudonyms is not None:
        decides["pseudonyms"] = pseudonyms.fingerprint
    return Dataset(
        source=config.source,
        name=LINES,
        description="Invoice lines",
        table=f"{config.source}/raw_lines",
        contract=contract,
        rows=rows,
        origin=ObjectOrigin(place, objects, (objects,)),
        partitioning=Periods("month", config.first_day, config.time_zone),
        partition_column="month",
        part=Part("month"),
        times=partial(_times, time, config.time_zone),
        faults=faults_of(time),
        reading=reading_digest(contract, decides),
        refusals=config.refusals,
        pseudonyms=pseudonyms,
    )


def collection_at(url: str, collection: Collection, pseudonyms: Pseudonyms | None = None) -> MongoCollection:
    """The described collection of a database, whose days are on the clock of its dates."""
    time = collection.rows.time
    assert time is not None
    hide = None if pseudonyms is None else partial(without_persons, collection.rows, pseudonyms)
    return MongoCollection(url, collection.name, partial(day_in, time.columns[0], time.format), hide)


def _mirror(collection: Collection, config: RetailConfig, variables: Variables, url: str) -> Mirror:
    """The mirror of a collection. One with pseudonyms is apart from one with clear values, and from one by another key:
    all documents are landed anew.
    """
    pseudonyms = pseudonyms_of(config.source, variables)
    name = config.source if pseudonyms is None else f"{config.source}-{pseudonyms.fingerprint}"
    connect = partial(collection_at, url, collection, pseudonyms)
    return Mirror(f"{variables.lake}/landing/{name}", connect, str(config.first_day))


def _times(time: RowTime, zone: str, text: pl.DataFrame) -> pl.DataFrame:
    """The moment and the day of each line."""
    import polars as pl

    return moments(text, time, ()).select(
        pl.col("label").alias("invoiced_at"),
        pl.col("label").dt.convert_time_zone(zone).dt.date().alias("day"),
        *faults_of(time),
    )
