"""A daily series that comes as one file a ticker, each with the whole history: loaded, corrected, read as of a moment,
rebuilt, and through Dagster to the marts.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from typer.testing import CliRunner

from assets_tests.support.daily_files import DailyPrice, adjusted_closes, corrected, history, write_history
from assets_tests.support.exchange_lake import code_location
from assets_tests.support.folder_source import Killed
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.cli.app import app
from lakehouse.components.resources import lake_resources
from lakehouse.derive.evaluation import conservation_totals
from lakehouse.derive.incremental import DeriveResult
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.bars.status import status
from lakehouse.errors import TableMissing
from lakehouse.ingest import load as loading
from lakehouse.ingest.load import LoadResult, load
from lakehouse.settings import settings

FIRST, LAST = date(2015, 11, 2), date(2017, 2, 28)
PUBLISHED = datetime(2017, 3, 1, tzinfo=UTC)
YEARS = [date(2015, 1, 1), date(2016, 1, 1), date(2017, 1, 1)]
DIVIDENDS = {date(2016, 2, 10): 0.5, date(2016, 8, 10): 0.55}
SPLITS = {date(2016, 6, 10): 2.0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the vendor's files are."""
    monkeypatch.setenv("LAKEHOUSE_WIKI_URL", str(tmp_path / "files"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    return tmp_path / "files"


@pytest.fixture
def histories(folder: Path) -> dict[str, list[DailyPrice]]:
    """Two tickers, whose files are in the folder: one with a split and dividends, one without."""
    days = source_named("wiki").calendar.between(FIRST, LAST)
    found = {"abc": history(days, 1, dividends=DIVIDENDS, splits=SPLITS), "xyz.b": history(days, 2)}
    for ticker, prices in found.items():
        write_history(folder, ticker, prices, PUBLISHED)
    return found


def take(lake: Lake) -> tuple[LoadResult, dict[str, DeriveResult]]:
    """Loads what is new, and derives."""
    source = source_named("wiki")
    assert source.official_daily is not None
    loaded = load(lake, source.official_daily, [])
    return loaded, {table.name: table.derive(lake, source, []) for table in source.tables}


def stored(lake: Lake, ticker: str) -> list[tuple[object, ...]]:
    found = lake.sql(
        f"""SELECT session, open, high, low, close, volume, dividend_amount, split_coefficient
        FROM wiki.official_daily WHERE instrument_id = '{ticker}' ORDER BY session"""
    )
    assert found is not None
    return found.fetchall()


def lines_of(prices: list[DailyPrice]) -> list[tuple[object, ...]]:
    return [(*vars(price).values(),) for price in prices]


def queried(lake: Lake, query: str) -> list[tuple[object, ...]]:
    found = lake.sql(query)
    assert found is not None
    return found.fetchall()


def counts(lake: Lake) -> tuple[int, ...]:
    return tuple(conservation_totals(lake, source_named("wiki"), [], "as described").values())


def files(lake: Lake, table: str) -> dict[date, list[str]]:
    """The files of each year."""
    snapshot = lake.table(f"wiki/{table}").snapshot()
    return {year: sorted(snapshot.files({"year": [year]})) for year in YEARS}


def test_both_histories_come_as_they_are(histories: dict[str, list[DailyPrice]]) -> None:
    lake = Lake.open()
    loaded, _ = take(lake)
    rows = sum(map(len, histories.values()))
    assert (loaded.objects, loaded.rows_received) == ({"loaded": 2, "empty": 0, "failed": 0}, rows)
    assert loaded.parts == set(YEARS)
    for ticker, prices in histories.items():
        assert stored(lake, ticker.upper()) == lines_of(prices)
    assert queried(
        lake,
        "SELECT symbol, ex_date, kind, dividend_amount, split_coefficient FROM wiki.corporate_actions ORDER BY ex_date",
    ) == [
        ("ABC", date(2016, 2, 10), "dividend", 0.5, None),
        ("ABC", date(2016, 6, 10), "split", None, 2.0),
        ("ABC", date(2016, 8, 10), "dividend", 0.55, None),
    ]
    assert counts(lake) == (rows, rows, 0, 0, 0)
    prices = histories["abc"]
    macro = f"wiki.adjusted_official_daily(convention := 'reinvest', as_of := DATE '{LAST}')"
    closes = queried(lake, f"SELECT close FROM {macro} WHERE symbol = 'ABC' ORDER BY session")
    assert [close for (close,) in closes] == pytest.approx(adjusted_closes(prices), rel=1e-12)

    versions = [lake.table(f"wiki/{table}").snapshot().version for table in ("raw_daily", "official_daily")]
    loaded, derived = take(lake)
    assert (loaded.rows_received, [each.rows_changed for each in derived.values()]) == (0, [0, 0])
    assert versions == [lake.table(f"wiki/{table}").snapshot().version for table in ("raw_daily", "official_daily")]
    found = status(lake, source_named("wiki"))
    assert (found.sessions_loaded, found.first_session, found.last_session) == (len(prices), FIRST, LAST)
    assert (found.missing, found.incomplete, found.empty_sessions) == ([], {}, [])


def test_a_later_version_changes_the_years_that_differ_and_withdraws_what_it_lacks(
    folder: Path, histories: dict[str, list[DailyPrice]]
) -> None:
    """One row is corrected in 2016, one withdrawn there, one appended in 2017."""
    lake = Lake.open()
    take(lake)
    before, raw, daily = datetime.now(UTC), files(lake, "raw_daily"), files(lake, "official_daily")
    prices = histories["abc"]
    gone, day = date(2016, 9, 1), date(2016, 11, 10)
    second = [price for price in corrected(prices, day, high=999.0) if price.day != gone]
    second.append(replace(second[-1], day=date(2017, 3, 1)))
    write_history(folder, "abc", second, PUBLISHED + timedelta(days=1))

    loaded, derived = take(lake)
    assert loaded.parts == set(YEARS[1:])
    assert set(map(str, derived["official_daily"].changed)) == set(map(str, YEARS[1:]))
    assert not derived["corporate_actions"].changed
    for table, known in (("raw_daily", raw), ("official_daily", daily)):
        assert files(lake, table)[YEARS[0]] == known[YEARS[0]]
    assert stored(lake, "ABC") == lines_of(second)
    assert stored(lake, "XYZ.B") == lines_of(histories["xyz.b"])
    received, kept, duplicates, superseded, refused = counts(lake)
    assert kept == len(second) + len(histories["xyz.b"])
    # What the years that came again say as before is a duplicate; the corrected and the withdrawn row are superseded.
    assert (superseded, refused) == (2, 0)
    assert received == kept + duplicates + superseded
    assert not rebuild(lake, source_named("wiki"), verify=True).differs

    assert stored(Lake.open(as_of=before), "ABC") == lines_of(prices)

    # The earlier version comes back, and counts again.
    write_history(folder, "abc", prices, PUBLISHED + timedelta(days=2))
    take(lake)
    assert stored(lake, "ABC") == lines_of(prices)
    assert not rebuild(lake, source_named("wiki"), verify=True).differs


def test_a_load_that_is_killed_before_its_ledger_is_completed_by_the_next(
    folder: Path, histories: dict[str, list[DailyPrice]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the years that differ are stored by then, and count only once."""
    lake = Lake.open()
    take(lake)
    second = corrected(histories["abc"], date(2016, 11, 10), high=999.0)
    write_history(folder, "abc", second, PUBLISHED + timedelta(days=1))

    def dies(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loading, "_append_ledger", dies)
        with pytest.raises(Killed):
            take(lake)
    assert not rebuild(lake, source_named("wiki"), verify=True).differs
    assert stored(lake, "ABC") == lines_of(histories["abc"])
    raw = lake.table("wiki/raw_daily").snapshot().row_count()

    take(lake)
    assert lake.table("wiki/raw_daily").snapshot().row_count() == raw
    assert stored(lake, "ABC") == lines_of(second)
    received, kept, duplicates, superseded, refused = counts(lake)
    assert (kept, superseded, refused) == (len(second) + len(histories["xyz.b"]), 1, 0)
    assert received == kept + duplicates + superseded
    assert not rebuild(lake, source_named("wiki"), verify=True).differs


def test_a_dividend_that_comes_to_be_known_scales_what_is_read_from_then_on(
    folder: Path, histories: dict[str, list[DailyPrice]]
) -> None:
    lake = Lake.open()
    take(lake)
    before, (earlier, ex_date) = datetime.now(UTC), (date(2016, 11, 9), date(2016, 11, 10))
    write_history(folder, "abc", corrected(histories["abc"], ex_date, dividend=0.6), PUBLISHED + timedelta(days=1))
    loaded, derived = take(lake)
    # The vendor's adjusted closes change back to the first day, its corporate actions in one year.
    assert loaded.parts == set(YEARS[:2])
    assert set(map(str, derived["corporate_actions"].changed)) == {"2016-01-01"}
    macro = "wiki.adjusted_official_daily(as_of := DATE '2017-01-31')"
    query = f"SELECT close FROM {macro} WHERE symbol = 'ABC' AND session = '{earlier}'"
    close = next(price.close for price in histories["abc"] if price.day == earlier)
    assert queried(Lake.open(as_of=before), query) == [(close,)]
    ((scaled,),) = queried(lake, query)
    assert scaled == pytest.approx(close - 0.6)
    assert not rebuild(lake, source_named("wiki"), verify=True).differs


def test_a_file_that_vanishes_stays_known_and_rows_without_a_session_are_refused(
    folder: Path, histories: dict[str, list[DailyPrice]]
) -> None:
    lake = Lake.open()
    take(lake)
    (folder / "xyz.b.csv.gz").unlink()
    prices = histories["abc"]
    saturday, early = (replace(prices[-1], day=day) for day in (date(2017, 2, 25), date(1961, 12, 29)))
    write_history(folder, "abc", [early, *prices, saturday], PUBLISHED + timedelta(days=1))
    (folder / "notes.txt").write_text("not one of the vendor's")
    (folder / "LICENSE.upstream").write_text("known not to be an object")
    loaded, _ = take(lake)
    assert loaded.rows_quarantined == 2
    assert stored(lake, "ABC") == lines_of(prices)
    assert stored(lake, "XYZ.B") == lines_of(histories["xyz.b"])
    reasons = dict(queried(lake, "SELECT reasons[1], session FROM lake.quarantine"))
    assert reasons["the day is no session of XNYS"] == date(2017, 2, 27)
    assert len(reasons) == 2
    (skipped,) = status(lake, source_named("wiki")).skipped
    assert "notes.txt" in str(skipped)
    assert "LICENSE" not in str(skipped)


def test_the_sensor_and_update_bring_the_histories_to_the_marts(histories: dict[str, list[DailyPrice]]) -> None:
    """The first update fails after its load, as its marts can't be published: the next one goes on."""

    def offered() -> int:
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance=instance, resources=lake_resources())
            with context:
                tick = code_location().resolve_sensor_def("wiki_objects").evaluate_tick(context)
        return len(tick.run_requests or ())

    assert offered() == 1
    runner = CliRunner()
    (settings().warehouse / "in the way").mkdir(parents=True)
    assert runner.invoke(app, ["update", "wiki"]).exit_code == 1
    (settings().warehouse / "in the way").rmdir()
    settings().warehouse.rmdir()
    result = runner.invoke(app, ["update", "wiki"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert f"rows kept {sum(map(len, histories.values())):,}" in said
    assert "corporate actions 3" in said
    assert "sessions all" in said
    assert offered() == 0
    assert "nothing new" in runner.invoke(app, ["update", "wiki"]).output
    with duckdb.connect(str(settings().warehouse), read_only=True) as marts:
        actions = marts.execute(
            """SELECT symbol, ex_date, kind, price_factor FROM marts.fct_corporate_action
            JOIN marts.dim_instrument USING (instrument_key) ORDER BY ex_date"""
        ).fetchall()
        sessions = marts.execute("SELECT min(session) FROM marts.dim_session WHERE mic = 'XNYS'").fetchone()
    assert [action[:3] for action in actions] == [
        ("ABC", date(2016, 2, 10), "dividend"),
        ("ABC", date(2016, 6, 10), "split"),
        ("ABC", date(2016, 8, 10), "dividend"),
    ]
    assert actions[1][3] == 0.5
    assert sessions == (date(1962, 1, 2),)
    plot = ["plot", "ABC", "--from", str(FIRST), "--to", str(LAST), "--source", "wiki"]
    drawn = runner.invoke(app, plot, env={"COLUMNS": "200"})
    assert drawn.exit_code != 0
    assert "wiki has no bars to draw" in " ".join(drawn.output.split())
    with pytest.raises(TableMissing, match=r"wiki has no daily bars.*FROM wiki\.adjusted_official_daily"):
        Lake.open().daily_bars("wiki")
