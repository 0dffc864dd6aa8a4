"""The bank as a source of the lake, made of its YAML and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lakehouse.derive.captured import CapturedSource, capture_notes, change_views, conserved, current_tables
from lakehouse.domains.banking.balances import BALANCES, INPUTS, balances_table
from lakehouse.domains.banking.checks import bank_checks
from lakehouse.domains.banking.config import BankConfig
from lakehouse.domains.banking.versions import VERSIONS, versions_table
from lakehouse.errors import SourceError
from lakehouse.ingest.partitioning import Periods
from lakehouse.ingest.postgres.captured import capture_contracts
from lakehouse.ingest.postgres.resolve import captured_database, place_of
from lakehouse.ingest.variables import Variables
from lakehouse.lake.contract import Contract, read_contracts

KIND = "bank"
DERIVED = (BALANCES, VERSIONS)


@dataclass(frozen=True, kw_only=True)
class BankSource(CapturedSource):
    """A bank's database and what the lake has of it."""


def contracts() -> Mapping[str, Contract]:
    """Every contract of the domain, by its table's name."""
    own = read_contracts(Path(__file__).parent, "banking")
    return {**own, **capture_contracts([name for name in own if name not in DERIVED], "banking")}


def bank_source(config: BankConfig, variables: Variables) -> BankSource:
    """The source that a `defs.yaml` describes.

    Raises:
        SourceError: it names a table that has no contract.
    """
    known = contracts()
    captured = set(known) - {*DERIVED}
    if unknown := [name for name in config.tables if name not in captured or name.endswith("_changes")]:
        raise SourceError(f"{config.source}: there is no contract of the table {unknown[0]}; add one, or remove it")
    if lacking := [name for name in INPUTS if name not in config.tables]:
        raise SourceError(f"{config.source}: its tables lack {lacking[0]}, which daily balances are made of; add it")
    place = place_of(config, variables)
    zone = variables.source_variable(config.source, "time_zone") or config.time_zone
    of = captured_database(config, variables, place, known)
    account = next(table for table in of.tables if table.name == "account")
    return BankSource(
        name=config.source,
        kind=KIND,
        description=config.description,
        owners=tuple(config.owners),
        tags=config.tags,
        contracts=known,
        tables=(*current_tables(of), versions_table(account, zone), balances_table(zone)),
        views=change_views(of),
        checks=bank_checks(of, known),
        of=of,
        place=place,
        notes=partial(capture_notes, of),
        conserved=conserved,
        days=Periods("day", config.first_day, zone),
        lag_warning_bytes=config.lag_warning_bytes,
    )
