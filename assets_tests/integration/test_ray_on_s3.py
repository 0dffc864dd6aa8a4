"""Two Ray nodes with source and lake in a bucket of Ceph give the tables of one process with folders."""

from __future__ import annotations

import random
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import obstore
import polars as pl
import pytest
from obstore.store import S3Store
from polars.testing import assert_frame_equal

from assets_tests.support.described import with_bars
from assets_tests.support.lakes import Lakehouse
from assets_tests.support.servers.ceph import CephS3
from assets_tests.support.servers.process import MissingBinary
from assets_tests.support.servers.ray_cluster import RayCluster
from assets_tests.support.shop_files import Line, put_day
from assets_tests.support.soak import ONLY_IN_A_SOAK, soak_count
from assets_tests.support.taken import rows_of, take_everything
from lakehouse.api import Lake
from lakehouse.catalog import described_source, source_named
from lakehouse.derive.rebuild import rebuild
from lakehouse.ingest import load as loading
from lakehouse.simulators.exchange import Exchange
from lakehouse.simulators.market_register import MarketRegister

FIRST, LAST = date(2024, 3, 1), date(2024, 3, soak_count(7, 28))
DERIVED = ("xetra/bars", "xetra/daily_bars")
TABLES = (
    *("xetra/raw_bars", *DERIVED, "quarantine", "ingest_ledger"),
    *("mic/raw_markets", "mic/published_markets"),
    *("retail/raw_lines", "retail/sale_lines", "retail/items", "retail/customers"),
)
SHOP_DAYS = [date(2024, 1, 30) + timedelta(days=number) for number in range(4)]


@dataclass(frozen=True)
class Places:
    """A lake and its sources: in folders below a home, or in a bucket."""

    house: Lakehouse
    vendor: Path
    store: S3Store | None = None

    def publish(self, *sources: str) -> None:
        """Copies what the vendors have published to where the lake reads it."""
        for source in sources:
            for path in (self.vendor / source).rglob("*"):
                if path.is_file() and self.store is not None:
                    obstore.put(self.store, str(path.relative_to(self.vendor)), path.read_bytes())

    def lose(self, table: str) -> None:
        """Removes a table."""
        if self.store is None:
            shutil.rmtree(self.house.home / "lake" / table)
        else:
            obstore.delete(self.store, [each["path"] for each in self.store.list(f"lake/{table}/").collect()])


def publish_shop_and_register(vendor: Path) -> None:
    chance = random.Random(5)
    for day in SHOP_DAYS:
        lines = [
            Line(
                invoice_no=f"{500_000 + number // 3}",
                stock_code=f"{10_000 + chance.randrange(20)}",
                description="LAMP",
                quantity=chance.randrange(1, 9),
                invoiced_at=datetime(day.year, day.month, day.day, 9, 30),
                unit_price=Decimal(chance.randrange(100, 900)) / 100,
                customer_id=f"{17_000 + number % 7}",
                country="France",
            )
            for number in range(60)
        ]
        put_day(vendor / "shop", day, lines)
    register = MarketRegister(vendor / "register")
    register.folder.mkdir(parents=True)
    for number in range(30):
        register.add(f"{3_500 + number}", SHOP_DAYS[0])
    for month in (date(2024, 1, 1), date(2024, 2, 1)):
        register.publish(month)
        register.change_at_random(month, chance)
        register.write(month)


def take_all(places: Places, exchange: Exchange) -> dict[str, pl.DataFrame]:
    """A backfill whose names are wrong, corrections, a reload with the right ones, a rebuild of tables that were lost;
    and the first loads of a register and a shop.
    """
    with places.house.opened():
        right = source_named("xetra")
        wrong = with_bars(right, columns={**right.config.bars.columns, "name": "Mnemonic"})
        exchange.write(places.vendor / "feed")
        places.publish("feed", "register", "shop")
        take_everything(wrong)
        for stage in ("late", "repaired", "corrected"):
            exchange.write(places.vendor / "feed", stage=stage)
        places.publish("feed")
        take_everything(right)
        take_everything(right, reread=True)
        for table in DERIVED:
            places.lose(table)
        rebuilt = rebuild(Lake.present(), right)
        assert all(rebuilt.tables[name].changed for name in ("bars", "daily_bars"))
        assert not rebuild(Lake.present(), right, verify=True).differs
        for name in ("mic", "retail"):
            take_everything(described_source(name))
        return rows_of(Lake.open(), *TABLES)


@pytest.fixture
def exchange() -> Exchange:
    sessions = source_named("xetra").calendar.frame.select("session", "open_at", "close_at")
    return Exchange(sessions.filter(pl.col("session").is_between(FIRST, LAST)).rows(), instruments=6)


@pytest.fixture
def in_folders(tmp_path: Path) -> Places:
    vendor = tmp_path / "vendor"
    urls = {"XETRA": "feed", "MIC": "register", "RETAIL": "shop"}
    variables = {f"LAKEHOUSE_{name}_URL": str(vendor / folder) for name, folder in urls.items()}
    return Places(Lakehouse(tmp_path / "folders", variables), vendor)


@pytest.fixture
def in_a_bucket(ceph_s3: CephS3, in_folders: Places, tmp_path: Path) -> Iterator[Places]:
    """The same on two nodes and in a bucket, by settings alone."""
    import ray

    bucket = ceph_s3.create_bucket(f"ray-{uuid.uuid4().hex}")
    names = {name: Path(folder).name for name, folder in in_folders.house.variables.items()}
    places = {"LAKEHOUSE_LAKE_URI": "lake", **names}
    variables = ceph_s3.environment() | {name: f"s3://{bucket}/{folder}" for name, folder in places.items()}
    try:
        with RayCluster({**variables, "LAKEHOUSE_HOME": str(tmp_path / "node")}) as cluster:
            variables |= {"LAKEHOUSE_COMPUTE": "ray", "LAKEHOUSE_RAY_ADDRESS": cluster.address}
            variables |= {"LAKEHOUSE_RAY_MEMORY_MIB": "512"}
            yield Places(Lakehouse(tmp_path / "s3", variables), in_folders.vendor, ceph_s3.store(bucket))
            ray.shutdown()
    except MissingBinary as missing:
        pytest.skip(str(missing))


@pytest.mark.soak
@ONLY_IN_A_SOAK
def test_two_nodes_and_a_bucket_hold_what_one_process_and_folders_hold(
    in_folders: Places, in_a_bucket: Places, exchange: Exchange, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loading, "_LEAST_BYTES", 1)
    publish_shop_and_register(in_folders.vendor)
    sessions = source_named("xetra").calendar.frame.select("session", "open_at", "close_at")
    again = Exchange(sessions.filter(pl.col("session").is_between(FIRST, LAST)).rows(), instruments=6)
    expected = take_all(in_folders, again)
    for path in (in_folders.vendor / "feed").rglob("*"):
        if path.is_file():
            path.unlink()
    found = take_all(in_a_bucket, exchange)
    assert expected["xetra/bars"].height > 1_000
    for table in TABLES:
        assert expected[table].height > 0, table
        assert_frame_equal(found[table], expected[table])
    assert not (tmp_path / "node").exists()
