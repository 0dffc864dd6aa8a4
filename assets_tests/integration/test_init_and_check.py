"""A vendor of one's own: `lakehouse init` guesses its YAML from files, and `lakehouse check` names each mistake in it
before anything is loaded.
"""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest
import yaml

from assets_tests.integration.test_cli import said
from assets_tests.support.described import resolved
from assets_tests.support.pence_vendor import DAYS, HEADER, Daily, write_files
from assets_tests.support.servers.ministack import MinistackS3
from lakehouse import catalog
from lakehouse.api import Lake
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.ingest.load import load
from lakehouse.settings import settings


@pytest.fixture
def defs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of sources that has none."""
    folder = tmp_path / "defs"
    folder.mkdir()
    monkeypatch.setattr(catalog, "DEFS", folder)
    return folder


@dataclass
class Vendor:
    """The vendor's files, what they amount to, and the YAML that `init` wrote of them."""

    folder: Path
    amounts: Daily
    text: str = ""


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    folder = tmp_path_factory.mktemp("vendor files")
    return Vendor(folder, write_files(folder))


@pytest.fixture
def file(defs: Path, vendor: Vendor) -> Path:
    """The YAML that `init` writes; it is guessed once."""
    path = defs / "market" / "acme" / "defs.yaml"
    if not vendor.text:
        said("init", "acme", "--from", str(vendor.folder), "--market", "XLON", code=0)
        vendor.text = path.read_text()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(vendor.text)
    return path


def checked(file: Path, old: str, new: str, *, code: int) -> str:
    """What `check` says where `old` stands as `new` in the YAML; the lake must stay empty."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    catalog._described.cache_clear()
    printed = said("check", "acme", code=code)
    assert not Path(settings().lake).exists()
    return printed


def test_init__describes_the_files_so_that_they_amount_to_the_right_daily_bars(file: Path, vendor: Vendor) -> None:
    source = resolved(SourceConfig.model_validate(yaml.safe_load(file.read_text())["attributes"]))
    lake = Lake.open()
    load(lake, source.bars, list(DAYS))
    derive_bars(lake, source, list(DAYS))
    derive_daily_bars(lake, source, list(DAYS))
    columns = ("symbol", "session", "open", "high", "low", "close", "volume")
    frame = lake.table("acme/daily_bars").to_polars()
    assert {(row[0], row[1]): row[2:] for row in frame.select(columns).rows()} == vendor.amounts
    assert set(frame["currency"]) == {"GBP"}
    assert lake.table("quarantine").to_polars().is_empty()


def test_init__says_what_the_sample_does_not_tell(file: Path) -> None:
    text = file.read_text()
    assert "# The sample doesn't tell:\n#   - whether prices are in pence (GBX), as they seem to be, or in GBP" in text
    assert "#   - whether prices are adjusted for splits and dividends" in text
    assert "#   Date;Time;Open;High;Low;Close;Volume\n#   12.03.2024;04:05;" in text


def test_init__never_replaces_a_file(file: Path, vendor: Vendor) -> None:
    file.write_text("edited")
    catalog._described.cache_clear()
    printed = said("init", "acme", "--from", str(vendor.folder), "--market", "XLON", code=2)
    assert "it may have been edited, so it is not replaced" in printed
    assert file.read_text() == "edited"


def test_init__asks_for_the_market_where_nothing_tells_it(defs: Path, vendor: Vendor) -> None:
    printed = said("init", "acme", "--from", str(vendor.folder), code=2)
    assert "add --market with its code, which is one of XLON, XNYS" in printed
    assert "did you mean 'XLON'" in said("init", "acme", "--from", str(vendor.folder), "--market", "XLOM", code=2)


def test_init__calls_a_venue_what_the_other_sources_call_it(file: Path, vendor: Vendor) -> None:
    file.write_text(file.read_text().replace("name: London Stock Exchange", "name: The Exchange"))
    catalog._described.cache_clear()
    said("init", "second", "--from", str(vendor.folder), "--market", "XLON", code=0)
    assert "name: The Exchange," in (file.parents[1] / "second" / "defs.yaml").read_text()


def test_check__shows_typed_rows_and_finds_nothing_wrong(file: Path) -> None:
    printed = checked(file, "source: acme", "source: acme", code=0)
    assert "bars: 12 objects; 1,224 rows of the newest 12 read" in printed
    assert "start_at timestamp UTC 2024-03-12 08:00:00 2024-03-12 08:05:00" in printed
    assert f"4 sessions of XLON from {DAYS[0]} to {DAYS[-1]}, each with what it needs" in printed


MISTAKES = {
    "delimiter": ('delimiter: ";"', 'delimiter: ","', "divided by ';': set `delimiter: \";\"` (it is ',')"),
    "decimal": ('    decimal: ","\n', "", "have the decimal sign ',': set `decimal: \",\"` (it is '.')"),
    "time format": ("%d.%m.%Y %H:%M", "%Y-%m-%d %H:%M", 'have the format "%d.%m.%Y %H:%M"'),
    "day and month": ("%d.%m.%Y %H:%M", "%m.%d.%Y %H:%M", "the time is outside its file's date"),
    "label": ("label: end", "label: start", "bars are one interval (5min) too late for the hours of XLON"),
    "zone": ("zone: America/New_York", "zone: Asia/Tokyo", "no bar is within the hours of XLON: on 2024-03-12 it"),
    "pattern": (r"_(?P<date>\d{8})", r"-(?P<date>\d{8})", "12 objects match no pattern, such as BARC/BARC_20240307"),
    "column": ("close: Close", "close: Last", "lacks the column Last; its header has Date, Time, Open, High"),
    "currency": ("currency: GBP}", "currency: GPB}", "currency is not an ISO 4217 currency code"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_check__names_a_mistake_before_anything_is_loaded(mistake: str, file: Path) -> None:
    old, new, words = MISTAKES[mistake]
    assert words in checked(file, old, new, code=1)


WARNINGS = {
    "pence as pounds": ("    price_unit: 0.01", "    # ", "prices look like pence (GBX), not GBP"),
    "another currency": (
        "named: {instrument_id: symbol, symbol: symbol}",
        "named: {instrument_id: symbol, symbol: symbol}\n    constants: {currency: USD}",
        "prices are in USD, where XLON usually trades in GBP",
    ),
}


@pytest.mark.parametrize("doubt", WARNINGS)
def test_check__warns_of_a_currency_that_is_not_the_venues(doubt: str, file: Path) -> None:
    old, new, words = WARNINGS[doubt]
    assert words in checked(file, old, new, code=0)


def test_check__names_an_entry_with_its_line_and_the_known_ones(file: Path) -> None:
    line = next(number for number, text in enumerate(file.read_text().splitlines(), 1) if "delimiter:" in text)
    printed = checked(file, "delimiter:", "delimeter:", code=1)
    assert f"line {line}: bars.delimeter: the entry is unknown; there are" in printed
    assert "did you mean 'delimiter'?" in printed


def test_check__validates_each_document_of_each_file(file: Path, defs: Path) -> None:
    other = defs / "reports" / "defs.yaml"
    other.parent.mkdir()
    report = "type: lakehouse.components.TableReport\nattributes:\n  report: x\n  of: acme.bars\n  colums: {}\n"
    other.write_text(f"{file.read_text().replace('acme', 'second').replace('holds: day', 'holds: week')}---\n{report}")
    catalog._described.cache_clear()
    printed = said("check", code=1)
    assert "bars.objects.holds: Input should be 'hour', 'day' or 'history'" in printed
    assert "colums: the entry is unknown" in printed
    assert "did you mean 'columns'?" in printed
    assert "acme" in printed


def test_check__says_what_is_missing_in_the_environment(file: Path) -> None:
    folder = next(line for line in file.read_text().splitlines() if "url:" in line)
    printed = checked(file, folder, "", code=1)
    assert "set LAKEHOUSE_ACME_URL" in printed


def test_check__warns_of_names_that_match_no_pattern(file: Path, vendor: Vendor, tmp_path: Path) -> None:
    shutil.copytree(vendor.folder / "VOD", tmp_path / "files" / "VOD")
    (tmp_path / "files" / "extra.csv").write_text(HEADER)
    printed = checked(file, str(vendor.folder), str(tmp_path / "files"), code=0)
    assert "bars: 4 objects" in printed
    assert "1 object matches no pattern: extra.csv" in printed


def test_check__warns_of_an_empty_place(file: Path, vendor: Vendor, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "warning its place is empty" in checked(file, str(vendor.folder), str(tmp_path / "empty"), code=0)


def test_init__reads_one_file_alone(defs: Path, vendor: Vendor) -> None:
    said("init", "one", "--from", str(vendor.folder / "VOD" / "VOD_20240312.csv"), "--market", "XLON", code=0)
    text = (defs / "market" / "one" / "defs.yaml").read_text()
    assert f"url: {vendor.folder / 'VOD'}" in text.replace("'", "")
    assert "# 1 of 1 names match" in text


@pytest.mark.parametrize("place", ["s3://{bucket}/feed", "s3://{bucket}/feed/VOD/VOD_20240312.csv"])
def test_init__reads_a_bucket_and_one_of_its_objects(
    place: str, defs: Path, vendor: Vendor, ministack_s3: MinistackS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = ministack_s3.create_bucket(f"vendor-{uuid.uuid4().hex}")
    for path in vendor.folder.rglob("*.csv"):
        obstore.put(ministack_s3.store(bucket), f"feed/{path.relative_to(vendor.folder)}", path.read_bytes())
    for name, value in ministack_s3.environment().items():
        monkeypatch.setenv(name, value)
    said("init", "acme", "--from", place.format(bucket=bucket), "--market", "XLON", code=0)
    catalog._described.cache_clear()
    assert "start_at timestamp UTC 2024-03-12 08:00:00" in said("check", "acme", code=0)


def test_init__names_what_to_begin_with_for_an_api(defs: Path) -> None:
    place = "https://api.example.com/v1/bars?token=A-SECRET"
    printed = said("init", "acme", "--from", place, "--market", "XNYS", code=2)
    assert "https://api.example.com/v1/bars answers requests, and init describes files" in printed
    assert "lakehouse vendors add alpaca" in printed
    assert "A-SECRET" not in printed
    assert not any(defs.rglob("defs.yaml"))


def test_init__asks_whether_daily_rows_are_the_official_series(defs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "daily"
    folder.mkdir()
    rows = [f"2024-03-{day:02},10.0,10.5,9.5,10.25,{1000 + day}" for day in (4, 5, 6, 7, 8, 11, 12)]
    for ticker in ("AAPL", "IBM"):
        (folder / f"{ticker}.csv").write_text("\n".join(["Date,Open,High,Low,Close,Volume", *rows]) + "\n")
    printed = said("init", "daily", "--from", str(folder), "--market", "XNYS", code=0)
    assert "whether this is the vendor's official daily series" in printed
    assert "interval: 1d" in (defs / "market" / "daily" / "defs.yaml").read_text()
