"""A load of some partitions lists the folders of their days alone, and finds what a listing of everything finds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from assets_tests.support.described import resolved
from lakehouse.api import Lake
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest import discover as discovering
from lakehouse.ingest import recent
from lakehouse.ingest.discover import discover
from lakehouse.ingest.folder import Folder
from lakehouse.ingest.listing import Listing
from lakehouse.ingest.load import load
from lakehouse.ingest.skipped import SKIPPED
from lakehouse.settings import settings

PATTERN = r"(?P<date>\d{4}-\d{2}-\d{2})/(?P<symbol>\w+)\.csv"
FIRST, LAST = date(2024, 9, 2), date(2024, 11, 8)
DAYS = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
# Shanghai is closed for a week of October; Sydney's sessions begin on the day before in UTC; the clocks change in both
# others.
MARKETS = [("XETR", "Europe/Berlin"), ("XSHG", "Asia/Shanghai"), ("XASX", "Australia/Sydney"), ("24/7", "Etc/UTC")]


def described(calendar: str, zone: str, names: str | None) -> BarSource:
    clock = {} if names is None else {"clock": names}
    return resolved(
        SourceConfig.model_validate(
            {
                "source": "invented",
                "description": "Bars of an invented vendor",
                "venue": {"mic": "XXXX", "name": "M", "country": "XX", "time_zone": zone, "currency": "EUR"},
                "calendar": {"code": calendar},
                "first_session": FIRST + timedelta(days=20),
                "bars": {
                    "objects": {"pattern": PATTERN, "holds": "day", **clock},
                    "format": "csv",
                    "time": {"columns": ["time"], "format": "%Y-%m-%d %H:%M", "zone": zone, "label": "start"},
                    "interval": "1min",
                    "columns": {name: name for name in ("open", "high", "low", "close", "volume")},
                    "constants": {"currency": "EUR"},
                    "named": {"instrument_id": "symbol", "symbol": "symbol"},
                },
            }
        )
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two objects of each day, also of days without trading, and a file that no pattern takes."""
    folder = tmp_path_factory.mktemp("vendor")
    for day in DAYS:
        (folder / str(day)).mkdir()
        for name in ("a.csv", "b.csv"):
            (folder / str(day) / name).write_text("time,open,high,low,close,volume\n")
    (folder / str(FIRST) / "notes").write_text("no object")
    return folder


@pytest.fixture
def lake(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    monkeypatch.setenv("LAKEHOUSE_INVENTED_URL", str(place))
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    (tmp_path / "home").mkdir()
    # Whatever a place holds, it counts as large.
    monkeypatch.setattr(recent, "FEW", -1)
    yield Lake.present()
    settings.cache_clear()


@pytest.mark.parametrize(("calendar", "zone"), MARKETS)
@pytest.mark.parametrize("names", [None, "Etc/UTC", "Asia/Tokyo", "America/New_York"])
@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_discover__finds_the_same_in_the_folders_of_some_days(
    calendar: str, zone: str, names: str | None, lake: Lake, data: st.DataObject
) -> None:
    source = described(calendar, zone, names)
    partitions = source.bars.partitioning.between(FIRST, LAST)
    wanted = data.draw(st.lists(st.sampled_from(partitions), min_size=1, max_size=4, unique=True))
    found = discover(lake, source.bars, retry_failed=True, partitions=wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discovering, "_listed_about", lambda *_: None)
        of_all = discover(lake, source.bars, retry_failed=True, partitions=wanted)
    assert found.pending == of_all.pending
    assert of_all.pending
    assert found.is_of_all == (min(wanted) == partitions[0])


def test_load__of_a_day_among_many_opens_few_folders_and_keeps_what_was_counted(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = described("XETR", "Europe/Berlin", None)
    partitions = source.bars.partitioning.between(FIRST, LAST)
    load(lake, source.bars, partitions)
    (counted,) = lake.table(SKIPPED).to_polars().filter(reason="no pattern").iter_rows(named=True)
    assert counted["objects"] == 1

    listed: list[str] = []
    whole = Folder.list

    def noted(self: Folder, prefix: str = "") -> Listing:
        listed.append(prefix)
        return whole(self, prefix)

    monkeypatch.setattr(Folder, "list", noted)
    load(lake, source.bars, partitions[-3:-2])
    days = {str(day) for day in DAYS}
    assert set(listed) <= days
    assert str(partitions[-3]) in listed
    assert len(listed) <= 8
    assert lake.table(SKIPPED).to_polars().filter(reason="no pattern").to_dicts() == [counted]
