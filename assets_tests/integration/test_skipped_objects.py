"""Objects that no load takes are counted and named: by the load, its check, the status, and the sensor."""

from __future__ import annotations

import io
import os
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from assets_tests.support.exchange_lake import ExchangeLake, tick
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.cli.render import print_status
from lakehouse.derive.source import Finding
from lakehouse.domains.market.bars.status import status
from lakehouse.ingest.load import load
from lakehouse.ingest.skipped import SKIPPED, last_skipped

DAY = "2017-07-07"
IMPOSSIBLE = [
    f"{DAY}/{DAY}_BINS_XETR99.csv",
    f"{DAY}/{DAY}_BINS_XETR24.csv",
    f"{DAY}/{DAY}_BINS_XETR０８.csv",
    "2017-02-30/2017-02-30_BINS_XETR08.csv",
    "２０１７-07-07/２０１７-07-07_BINS_XETR08.csv",
    "9999-12-31/9999-12-31_BINS_XETR08.csv",
]


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source's folder without objects."""
    folder = tmp_path / "feed"
    folder.mkdir()
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(folder))
    return folder


def put(feed: Path, *names: str) -> None:
    for name in names:
        (feed / name).parent.mkdir(parents=True, exist_ok=True)
        (feed / name).write_text("a,b\n1,2\n")


def look(lake: Lake) -> None:
    load(lake, source_named("xetra").bars, [])


def found_by_check(lake: Lake) -> Finding:
    source = source_named("xetra")
    (check,) = (check for check in source.checks if check.name == "objects_known")
    assert check.severity == "warn"
    return check.run(lake, source, None)


def test_names_that_match_no_pattern_are_counted_with_examples(feed: Path) -> None:
    lake = Lake.open()
    put(feed, *(f"VOD/VOD_201703{day:02}.csv" for day in range(4, 16)))
    look(lake)
    said = "12 objects match no pattern, such as VOD/VOD_20170304.csv"
    finding = found_by_check(lake)
    assert (finding.passed, finding.summary, len(finding.rows), finding.facts["objects"]) == (False, said, 5, 12)
    output = Console(file=io.StringIO(), width=200)
    print_status(output, status(lake, source_named("xetra")))
    assert said in output.file.getvalue()  # type: ignore[attr-defined]
    assert lake.table("ingest_ledger").to_polars().is_empty()


def test_of_several_series_that_match_no_pattern_each_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pattern for some quote currencies in Latin letters leaves out others, and names in other scripts."""
    lake, root = Lake.open(), "data/spot/daily/klines"
    monkeypatch.setenv("LAKEHOUSE_BINANCE_URL", str(tmp_path))
    pairs, days = ("BNBFDUSD", "BTCTRY", "币安人生USDT"), [f"2024-12-{day}" for day in range(10, 31)]
    put(tmp_path, *(f"{root}/{pair}/1m/{pair}-1m-{day}.zip" for pair in pairs for day in days))
    load(lake, source_named("binance").bars, [])
    (found,) = last_skipped(lake, "binance")
    firsts = [f"{root}/{pair}/1m/{pair}-1m-2024-12-10.zip" for pair in pairs]
    assert str(found) == f"63 objects match no pattern, such as {'; '.join(firsts)}"
    assert found.examples == (*firsts, *(f"{root}/BNBFDUSD/1m/BNBFDUSD-1m-2024-12-{day}.zip" for day in (11, 12)))


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_name_with_an_impossible_date_or_hour_matches_no_pattern(name: str, feed: Path) -> None:
    lake = Lake.open()
    put(feed, name)
    look(lake)
    assert found_by_check(lake).summary == f"1 object matches no pattern: {name}"


def test_what_can_not_be_listed_is_named_with_the_cause(feed: Path) -> None:
    lake = Lake.open()
    put(feed, "notes\ta.txt")
    (feed / DAY).mkdir()
    (feed / DAY / "loop").symlink_to("..")
    os.mkdir(os.fsencode(feed) + b"/caf\xe9")
    look(lake)
    first = f"{DAY}/loop (a link to a folder that contains it)"
    finding = found_by_check(lake)
    names = [first, r"caf\xe9 (its name is no UTF-8)", r"notes\ta.txt (control characters in its name)"]
    assert finding.summary == f"3 entries can't be listed, such as {'; '.join(names)}"
    assert [row["object"] for row in finding.rows] == names


def test_what_is_skipped_is_written_when_it_changes(feed: Path) -> None:
    lake = Lake.open()
    table = lake.table(SKIPPED)
    look(lake)
    assert table.snapshot().version is None
    put(feed, "a.txt")
    look(lake)
    version = table.snapshot().version
    look(lake)
    assert table.snapshot().version == version
    (feed / "a.txt").rename(feed / "b.txt")
    look(lake)
    assert [entry.examples for entry in last_skipped(lake, "xetra")] == [("b.txt",)]
    (feed / "b.txt").unlink()
    look(lake)
    assert last_skipped(lake, "xetra") == []
    assert found_by_check(lake).passed
    assert table.to_polars().sort("seen_at")["objects"].to_list() == [1, 1, 0]


def test_the_sensor_says_what_it_skips(exchange_lake: ExchangeLake) -> None:
    exchange_lake.feed.mkdir(exist_ok=True)
    put(exchange_lake.feed, "VOD/VOD_20240304.csv")
    with dg.DagsterInstance.ephemeral() as instance:
        requests, said = tick(instance)
    assert (requests, said) == (
        [],
        "no new or changed objects; 1 object matches no pattern: VOD/VOD_20240304.csv",
    )
    assert last_skipped(Lake.open(), "xetra")[0].objects == 1
