"""Orders as a source of the lake, made of its YAML and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lakehouse.derive.captured import CapturedSource, capture_notes, change_views, conserved, current_tables
from lakehouse.domains.orders.checks import order_checks
from lakehouse.domains.orders.config import OrdersConfig
from lakehouse.errors import SourceError
from lakehouse.ingest.partitioning import Periods
from lakehouse.ingest.postgres.captured import capture_contracts
from lakehouse.ingest.postgres.resolve import captured_database, place_of
from lakehouse.ingest.variables import Variables
from lakehouse.lake.contract import Contract, read_contracts

KIND = "order_system"


def services_folder(home: Path) -> Path:
    """The folder of the simulated provider and carrier, and of the workers' logs."""
    return home / "orders"


@dataclass(frozen=True, kw_only=True)
class OrdersSource(CapturedSource):
    """An order system's database and what the lake has of it."""


def contracts() -> Mapping[str, Contract]:
    """Every contract of the domain, by its table's name."""
    own = read_contracts(Path(__file__).parent, "orders")
    return {**own, **capture_contracts(list(own), "orders")}


def orders_source(config: OrdersConfig, variables: Variables) -> OrdersSource:
    """The source that a `defs.yaml` describes.

    Raises:
        SourceError: its tables aren't those that have contracts.
    """
    known = contracts()
    own = [name for name in known if f"{name}_changes" in known]
    if set(config.tables) != set(own):
        raise SourceError(f"{config.source}: its tables have to be {', '.join(sorted(own))}")
    place = place_of(config, variables)
    zone = variables.source_variable(config.source, "time_zone") or config.time_zone
    of = captured_database(config, variables, place, known)
    return OrdersSource(
        name=config.source,
        kind=KIND,
        description=config.description,
        owners=tuple(config.owners),
        tags=config.tags,
        contracts=known,
        tables=current_tables(of),
        views=change_views(of),
        checks=order_checks(of, known, services_folder(variables.home)),
        of=of,
        place=place,
        notes=partial(capture_notes, of),
        conserved=conserved,
        days=Periods("day", config.first_day, zone),
        lag_warning_bytes=config.lag_warning_bytes,
    )
