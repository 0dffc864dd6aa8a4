"""The lakes of the tests that run Dagster's jobs in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import pytest

from assets_tests.support.exchange_lake import ExchangeLake, simulated_exchange
from lakehouse.settings import settings


class FirstLoad(NamedTuple):
    """A lake after its first run, and that run."""

    lake: ExchangeLake
    result: dg.ExecuteInProcessResult


@dataclass
class Kept:
    """One home for all tests, since dbt parses its project again for every other, and the first load."""

    folder: Path
    first: dg.ExecuteInProcessResult | None = None


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("exchange"))


@pytest.fixture
def exchange_lake(kept: Kept, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> ExchangeLake:
    """An empty lake beside a feed in which the exchange has not published anything yet."""
    home = kept.folder / "home"
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(home / "feed"))
    settings.cache_clear()
    lake = ExchangeLake(home, simulated_exchange())
    lake.empty()
    return lake


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of the test's own."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def first_load(kept: Kept, exchange_lake: ExchangeLake) -> FirstLoad:
    """The lake after one run over what the exchange publishes first: one object is missing and one is damaged."""
    if kept.first is None:
        exchange_lake.exchange.write(exchange_lake.feed)
        with dg.DagsterInstance.ephemeral() as made:
            kept.first = exchange_lake.run(made)
        exchange_lake.save(kept.folder / "first")
    exchange_lake.restore(kept.folder / "first")
    return FirstLoad(exchange_lake, kept.first)
