"""The demo's publishers of reference data: a register of markets, issuers, and an API of identifiers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from pathlib import Path

from rich.console import Console

from lakehouse.api import Lake
from lakehouse.local_dagster.backfill import Outcome, backfill_source
from lakehouse.local_dagster.display import Display
from lakehouse.settings import settings
from lakehouse.simulators.exchange import Exchange
from lakehouse.simulators.gleif import Gleif, lei_of
from lakehouse.simulators.mapping_api import MappingApi, invented
from lakehouse.simulators.market_register import MarketRegister

_SOURCES = ("mic", "gleif")
_PUBLISHED_ON = date(2024, 2, 1)
_MARKETS = {"XETR": "GY"}


def use_reference(home: Path) -> None:
    """Points this process at the publishers' files, and away from every API of reference data."""
    os.environ["LAKEHOUSE_MIC_URL"] = str(home / "register")
    os.environ["LAKEHOUSE_GLEIF_URL"] = os.environ["LAKEHOUSE_GLEIF_MAPPINGS_URL"] = str(home / "gleif")
    for source in _SOURCES:
        os.environ[f"LAKEHOUSE_{source.upper()}_ENDS"] = str(_PUBLISHED_ON)
    for name in ("LAKEHOUSE_GLEIF_API_URL", "LAKEHOUSE_OPENFIGI_URL", "OPENFIGI_API_KEY", "PERMID_API_KEY"):
        os.environ.pop(name, None)


@contextmanager
def mapping_api() -> Iterator[None]:
    """Maps the ISINs of the demo's exchange in the block, and points this process and its children at that API: the
    ISINs are invented, and OpenFIGI needs no key.
    """
    bars = Lake.open().table("xetra/daily_bars").snapshot().scan()
    listed = bars.select("instrument_id", "symbol").unique("instrument_id").collect()
    known = {isin: invented(isin, symbol, f"{symbol} Issuer", _MARKETS) for isin, symbol in listed.iter_rows()}
    with MappingApi(known) as api:
        os.environ["LAKEHOUSE_OPENFIGI_URL"] = api.url
        settings.cache_clear()
        yield


def play_reference(console: Console, display: Display, home: Path, exchange: Exchange) -> Iterator[tuple[str, Outcome]]:
    """Publishes, before the exchange's month, the register of markets and the issuers of the exchange's instruments,
    and loads both.
    """
    day = datetime.combine(_PUBLISHED_ON, time(), UTC)
    register, gleif = MarketRegister(home / "register"), Gleif(home / "gleif")
    register.add("XETR", day.date(), lei=lei_of(1), name="XETRA")
    register.add("XNYS", day.date(), name="NEW YORK STOCK EXCHANGE, INC.")
    register.publish(day.date())
    register.write(day.date())
    names = {listing.isin: listing.description for listing in exchange.market.listings}
    for number, (isin, name) in enumerate(sorted(names.items()), 2):
        gleif.pairs["isin"].add((isin, gleif.put_entity(number, f"{name.title()} Issuer", day)))
    gleif.tick(day)
    gleif.publish_full(day)
    gleif.publish_pairs("isin", day)
    console.print(f"Publishers of reference data name the issuers of {len(names)} instruments", highlight=False)
    for source in _SOURCES:
        yield source, backfill_source(source, day.date(), day.date(), display, publishes=False)
