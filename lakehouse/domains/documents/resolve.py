"""A source of documents made of its YAML and the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lakehouse.derive.checks import conservation_holds, objects_known, of_every_dataset, of_every_table, over_all
from lakehouse.derive.source import Check, DerivedTable, Source
from lakehouse.domains.documents.config import DocumentConfig
from lakehouse.domains.documents.meaning import Model
from lakehouse.domains.documents.tables import (
    EMBEDDINGS,
    FILES,
    KIND,
    PAGES,
    PRODUCT,
    TABLES,
    embeddings,
    files,
    search_macro,
)
from lakehouse.ingest.dataset import Dataset, ObjectOrigin
from lakehouse.ingest.file_server import FileServer
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.partitioning import Part, Whole
from lakehouse.ingest.pdf import PAGES as PAGE_ROWS
from lakehouse.ingest.pdf import PageReader
from lakehouse.ingest.places import place_of, url_of
from lakehouse.ingest.reading import reading_digest
from lakehouse.ingest.thresholds import Refusals
from lakehouse.ingest.variables import Variables
from lakehouse.lake.contract import Contract, read_contracts

if TYPE_CHECKING:
    from lakehouse.ingest.discover import ObjectVersion


def contracts() -> Mapping[str, Contract]:
    """Every contract of the domain, by its table's name."""
    return read_contracts(Path(__file__).parent, "documents")


def document_source(config: DocumentConfig, variables: Variables) -> Source:
    """The source that a `defs.yaml` describes. Its table of vectors needs a model (LAKEHOUSE_<SOURCE>_MODEL)."""
    model = model_of(config.source, variables)
    tables = TABLES if model is None else (*TABLES, embeddings(model))
    return Source(
        name=config.source,
        kind=KIND,
        description=config.description,
        owners=tuple(config.owners),
        tags=config.tags,
        contracts={name: each for name, each in contracts().items() if model is not None or name != EMBEDDINGS},
        datasets=(_pages(config, variables),),
        tables=tables,
        views={FILES: files},
        macros={"search": search_macro},
        checks=_checks(contracts(), tables),
    )


def model_of(source: str, variables: Variables) -> Model | None:
    """The model that the settings name for a source."""
    folder = variables.source_variable(source, "model")
    return Model(Path(folder).expanduser(), f"LAKEHOUSE_{source.upper()}_MODEL") if folder else None


def _place(config: DocumentConfig, variables: Variables) -> ObjectSource:
    """Opens the place of the files.

    Raises:
        SourceError: the settings name none.
    """
    url = url_of(config.source, config.objects, variables)
    if url is not None and url.startswith(("http://", "https://")):
        return FileServer(url.rstrip("/"))
    forms = "a folder, a bucket or a file server (http://host)"
    return place_of(config.source, config.objects, variables, forms=forms)


def _pages(config: DocumentConfig, variables: Variables) -> Dataset:
    contract = contracts()["raw_pages"]
    place = partial(_place, config, variables)
    return Dataset(
        source=config.source,
        name=PRODUCT,
        description="Pages of documents",
        table=f"{config.source}/raw_pages",
        contract=contract,
        rows=PAGE_ROWS,
        origin=ObjectOrigin(place, config.objects, (config.objects,), withdraws_vanished=True),
        partitioning=Whole(),
        partition_column=None,
        part=Part("part"),
        times=lambda text: text.select(),
        reading=reading_digest(contract, {"format": "pdf"}),
        refusals=Refusals(),
        object_max_bytes=variables.object_max_bytes,
        reader=_reader,
    )


def _reader(store: Any, item: ObjectVersion, file: IO[bytes], dataset: Dataset) -> PageReader:
    return PageReader(item.path, file, dataset.object_max_bytes)


def _checks(known: Mapping[str, Contract], tables: Sequence[DerivedTable]) -> tuple[Check, ...]:
    checks = [
        *of_every_dataset(known["raw_pages"], PRODUCT),
        objects_known("raw_pages"),
        *[check for table in tables for check in of_every_table(known[table.name])],
        conservation_holds(PAGES),
    ]
    return tuple(over_all(check) for check in checks)
