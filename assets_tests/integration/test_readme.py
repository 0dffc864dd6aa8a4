"""Every block of README is run, in its order, on a lake beside a simulated exchange, vendor and feed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.integration.test_cli import said
from assets_tests.support.daily_files import history, write_history
from assets_tests.support.exchange_lake import FIRST, LAST, ExchangeLake
from assets_tests.support.pence_vendor import write_files
from assets_tests.support.shop_files import Line, put_day
from assets_tests.support.vendor_lake import KEY, small_market
from lakehouse.cli.vendors import copy_vendor
from lakehouse.settings import settings
from lakehouse.simulators.gleif import Gleif
from lakehouse.simulators.market_register import MarketRegister
from lakehouse.simulators.pdf_files import pdf
from lakehouse.simulators.quote_feed import QuoteFeed
from lakehouse.simulators.quote_source import RandomQuotes
from lakehouse.simulators.truth import Stage
from lakehouse.simulators.vendor_api import VendorApi

README = (PROJECT_ROOT / "README.md").read_text()
VENDOR_DAYS = (date(2024, 3, 27), date(2024, 3, 28))
FEED_SYMBOLS = ["AAPL", "AMZN", "GME"]
OF_S3 = "s3://"


def shell_lines() -> list[str]:
    """The lines of README's shell blocks without their comments."""
    indented = re.findall(r"^    (\S.*)$", README, re.MULTILINE)
    lines = [line for line in indented if re.match(r"(export|make|\.venv/bin/\w+) ", line)]
    return [re.sub(r"\s+# .*", "", line) for line in lines]


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_every_block_is_one_that_is_run() -> None:
    """A block of another language, or of commands that are none of these, would need a line here."""
    assert set(re.findall(r"^```(\w*)$", README, re.MULTILINE)) == {"python", ""}
    assert len(shell_lines()) > 20
    assert python_blocks()


@pytest.mark.parametrize("target", sorted({line.split()[1] for line in shell_lines() if line.startswith("make ")}))
def test_every_make_target_is_there(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=PROJECT_ROOT, check=True, capture_output=True)


@pytest.fixture
def placeholders(
    exchange_lake: ExchangeLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """What stands in README -> what the simulated world has in its place."""
    stages: tuple[Stage, ...] = ("first", "late", "repaired")
    for stage in stages:
        exchange_lake.exchange.write(exchange_lake.feed, stage)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    market = small_market(days=VENDOR_DAYS)
    vendor = VendorApi(market, api_key=KEY, clock=datetime(2024, 3, 29, 3, tzinfo=UTC))
    feed = QuoteFeed(RandomQuotes(FEED_SYMBOLS, seed=1), token=KEY, start=datetime.now(UTC) - timedelta(minutes=1))
    daily = tmp_path / "wiki"
    write_history(daily, "jpm", history(list(VENDOR_DAYS), seed=1), datetime(2024, 3, 29, tzinfo=UTC))
    with vendor, feed:
        monkeypatch.setenv("LAKEHOUSE_ALPHA_VANTAGE_URL", f"{vendor.url}/query")
        monkeypatch.setenv("LAKEHOUSE_IEX_URL", feed.url)
        yield {
            "/data/xetra-pds": str(exchange_lake.feed),
            "$PWD/.lakehouse": str(tmp_path),
            "/data/wiki": str(daily),
            "/srv/our-vendors": str(own_folder(tmp_path / "our-vendors")),
            **reference_places(tmp_path / "reference"),
            **shop_places(tmp_path / "shop"),
            "--set ticker=JPM": "--set ticker=JPM --set start=2024-01-01 --set end=2024-12-31",
            "postings.jsonl": str(json_line(tmp_path / "postings.jsonl", '"entries"')),
            "orders.jsonl": str(json_line(tmp_path / "orders.jsonl", '"products"')),
            "2017-06-20": str(FIRST),
            "2017-07-14": str(LAST),
            "2017-07-12": str(LAST),
            "API_KEY=...": f"API_KEY={KEY}",
            "IEX_TOKEN=...": f"IEX_TOKEN={KEY}",
            "AAPL,MSFT,TSLA": ",".join(market.symbols),
            "'AAPL'": f"'{market.symbols[0]}'",
            "plot AAPL": f"plot {market.symbols[0]}",
            "--from 2024-03-01": f"--from {VENDOR_DAYS[0]}",
            "lakehouse stream": "lakehouse stream --rounds 1 --every 0.5",
            "version=3": "version=1",
            "lakehouse watch": "lakehouse watch --once",
            # `test_docs` runs the three commands for a vendor of one's own, as the tutorial gives them.
            "init acme --from /data/acme": f"init acme --from {own_files(tmp_path / 'acme')} --to {tmp_path / 'defs'}",
            "check acme": "check wiki",
            "update acme": "update wiki",
            "vendors add kraken": f"vendors add kraken --to {tmp_path / 'defs'}",
            "simulate api": "simulate api --seconds 0",
            "simulate feed": "simulate feed --seconds 0",
        }


def own_folder(folder: Path) -> Path:
    """A folder of the user's own, with one vendor."""
    copy_vendor("stooq", folder / "stooq" / "defs.yaml")
    return folder


def reference_places(folder: Path) -> dict[str, str]:
    """Publications of a register of markets and of a publisher of legal entities."""
    day = datetime(2024, 10, 28, tzinfo=UTC)
    register, gleif = MarketRegister(folder / "mic"), Gleif(folder / "gleif")
    register.add("XETR", day.date())
    register.publish(day.date())
    register.write(day.date())
    gleif.grow(3, day, Random(1))
    gleif.tick(day)
    gleif.publish_full(day)
    mappings = Gleif(folder / "mappings", pairs=gleif.pairs)
    mappings.publish_pairs("isin", day)
    (folder / "answers").mkdir()
    return {f"/data/{name}": str(folder / name) for name in ("mic", "gleif", "mappings", "answers")}


def own_files(folder: Path) -> Path:
    """Files of a vendor that has no YAML."""
    write_files(folder)
    return folder


def shop_places(folder: Path) -> dict[str, str]:
    """A day of a shop as a file, and a document."""
    lamp = Line("500001", "10001", "LAMP", 2, datetime(2024, 1, 30, 9), Decimal("1.25"), "17850", "France")
    put_day(folder / "lines", lamp.day, [lamp])
    (folder / "files").mkdir()
    (folder / "files" / "terms.pdf").write_bytes(pdf(["refund of a damaged lamp"]))
    return {"mongodb://host/shop": str(folder / "lines"), "http://files.example": str(folder / "files")}


def json_line(file: Path, member: str) -> Path:
    """A file with the line of JSON with that member that README shows."""
    (line,) = [each for each in re.findall(r"^    (\{.*\})$", README, re.MULTILINE) if member in each]
    file.write_text(f"{line}\n")
    return file


def filled(text: str, placeholders: dict[str, str]) -> str:
    for found, in_its_place in placeholders.items():
        text = text.replace(found, in_its_place)
    return text


def test_every_command_and_the_python_of_readme_run(
    placeholders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_s3 = []
    for line in shell_lines():
        command, *arguments = shlex.split(filled(line, placeholders))
        if command == "export":
            for name, value in (argument.split("=", 1) for argument in arguments):
                if OF_S3 in value or name.startswith("AWS_"):
                    on_s3.append((name, value))
                else:
                    monkeypatch.setenv(name, value)
            settings.cache_clear()
        elif command.endswith("lakehouse"):
            said(*arguments, code=0)
        elif command.endswith(("dg", "dagster")):
            program = Path(sys.executable).with_name(Path(command).name)
            subprocess.run([program, *arguments], cwd=PROJECT_ROOT, check=True, capture_output=True)
    for block in python_blocks():
        exec(compile(filled(block, placeholders), "README.md", "exec"), {})
    assert list(tmp_path.glob("*.png"))
    for name, value in on_s3:
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    assert settings().lake == "s3://my-bucket/lake"
