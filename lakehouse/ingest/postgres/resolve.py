"""From the model of a captured database and the settings to what is captured, and where it is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lakehouse.ingest.postgres.captured import CapturedDatabase, CapturedTable
from lakehouse.ingest.postgres.config import CaptureConfig
from lakehouse.ingest.postgres.pii_key import pii_key
from lakehouse.ingest.pseudonyms import VARIABLE
from lakehouse.ingest.variables import Variables
from lakehouse.lake.contract import Contract
from lakehouse.servers.postgres import Place, database


def place_of(config: CaptureConfig, variables: Variables) -> Place:
    """Where the database is: as the source's own variable, its description, or the settings say."""
    url = variables.source_variable(config.source, "url") or config.dsn or variables.database_url
    return Place(variables.postgres, url)


def captured_database(
    config: CaptureConfig, variables: Variables, place: Place, contracts: Mapping[str, Contract]
) -> CapturedDatabase:
    """What a description captures of the database at a place.

    Args:
        contracts: by table, of at least the tables that the description names.
    """
    return CapturedDatabase(
        source=config.source,
        database=partial(database, place),
        schema=config.database_schema,
        publication=config.publication,
        slot=config.slot,
        mode=config.mode,
        tables=tuple(CapturedTable(name, contracts[name]) for name in config.tables),
        pii_key=lambda: pii_key(variables.secret(VARIABLE), variables.home),
    )
