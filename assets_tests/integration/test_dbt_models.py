"""The dbt models, built over a small lake of real Delta tables.

What the marts hold, that an incremental build leaves what a rebuild would, and that the checks notice faults.

dbt runs in this process with its manifest parsed once: a build takes half a second then, and three as a command.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pytest
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner, dbtRunnerResult
from dbt.contracts.graph.manifest import Manifest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lakehouse.lake.lake import Lake
from lakehouse.sources.config import configured_sources
from lakehouse.warehouse import connection

PROJECT = Path(__file__).parents[2] / "dbt_project"
MARTS = [
    "average_range",
    "daily_movers",
    "daily_summary",
    "dim_instrument",
    "dim_session",
    "dim_venue",
    "fct_daily_bar",
    "most_traded_by_value",
]

TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, MONDAY = (date(2024, 1, day) for day in (2, 3, 4, 5, 8))
SATURDAY = date(2024, 1, 6)


class Key(NamedTuple):
    """What a daily bar is of."""

    instrument_id: str
    session: date
    currency: str = "EUR"


class Bar(NamedTuple):
    """What the tests vary in a daily bar."""

    close: float = 10.0
    symbol: str = "AAA"
    volume: int = 100
    is_complete: bool = True


Bars = Mapping[Key, Bar]


def write(bars: Bars, source: str = "xetra") -> None:
    """Makes `bars` the whole content of a source's daily bars, with the columns that the lake derives."""
    table = Lake.open().table(f"{source}/daily_bars")
    rows = []
    for key, bar in sorted(bars.items()):
        series = [other for other in bars if other._replace(session=key.session) == key and other.session < key.session]
        previous = max(series, default=None)
        prev_close = bars[previous].close if previous else None
        first = datetime.combine(key.session, time(8), UTC)
        rows.append(
            {
                "month": key.session.replace(day=1),
                **key._asdict(),
                "symbol": bar.symbol,
                "name": f"{bar.symbol} AG",
                "instrument_type": "Common stock",
                "open": bar.close,
                "high": bar.close + 1,
                "low": bar.close - 1,
                "close": bar.close,
                "volume": bar.volume,
                "trades": 3,
                "turnover": bar.close * bar.volume,
                "vwap": None,
                "bar_count": 2,
                "first_bar_at": first,
                "last_bar_at": first.replace(hour=15),
                "prev_session": previous.session if previous else None,
                "prev_close": prev_close,
                "change_pct": (bar.close / prev_close - 1) * 100 if prev_close else None,
                "is_complete": bar.is_complete,
            }
        )
    table.snapshot().overwrite(pa.Table.from_pylist(rows, schema=table.contract.arrow_schema), where="true")


class Warehouse:
    """Builds a DuckDB file with dbt, in this process."""

    def __init__(self, folder: Path, manifest: Manifest, sources: list[str]) -> None:
        folder.mkdir()
        self.folder = folder
        self.manifest = manifest
        self.sources = sources
        # The file's name is the name of its catalogue, which the manifest holds.
        self.path = folder / "warehouse.duckdb"

    def dbt(self, *arguments: str) -> dbtRunnerResult:
        """One dbt command; the DuckDB file is closed when it returns."""
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("LAKEHOUSE_WAREHOUSE_BUILD", str(self.path))
            try:
                # A manifest remembers what was compiled with it, so each command needs its own.
                return dbtRunner(manifest=self.manifest.deepcopy()).invoke(
                    ["--quiet", *arguments, "--no-write-json", *locations(self.folder, self.sources)]
                )
            finally:
                if DuckDBConnectionManager._ENV is not None:
                    DuckDBConnectionManager._ENV.close()
                DuckDBConnectionManager.close_all_connections()

    def build(self, *arguments: str) -> None:
        """Builds and checks everything, or fails with what dbt said."""
        result = self.dbt("build", "--exclude-resource-type", "unit_test", *arguments)
        assert result.success, result.exception or [(r.node.name, r.message) for r in result.result if r.message]

    def run(self, select: str) -> None:
        """Builds the selected models without their checks, or fails with what dbt said."""
        result = self.dbt("run", "--select", select)
        assert result.success, result.exception or [(r.node.name, r.message) for r in result.result if r.message]

    def failed(self, *arguments: str) -> set[str]:
        """Runs a dbt command that should fail, and says which nodes did."""
        result = self.dbt(*arguments)
        assert result.result is not None, result.exception
        return {r.node.name for r in result.result if r.status in ("fail", "error")}

    def query(self, sql: str) -> list[tuple]:
        """Rows of a query on the file alone, without the lake."""
        with duckdb.connect(str(self.path), read_only=True) as file:
            return file.execute(sql).fetchall()

    def change(self, sql: str) -> None:
        """Changes the file behind dbt's back."""
        with duckdb.connect(str(self.path)) as file:
            file.execute(sql)

    def content(self) -> dict[str, list[tuple]]:
        """Every row of every mart, sorted."""
        return {mart: self.query(f"select * from marts.{mart} order by all") for mart in MARTS}


def locations(folder: Path, sources: list[str]) -> list[str]:
    return [
        *("--vars", f"{{sources: {sources}}}"),
        *("--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)),
        *("--target-path", str(folder / "target"), "--log-path", str(folder / "logs")),
    ]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return parse(tmp_path_factory.mktemp("dbt"), ["xetra"])


def parse(folder: Path, sources: list[str]) -> Manifest:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LAKEHOUSE_WAREHOUSE_BUILD", str(folder / "warehouse.duckdb"))
        parsed = dbtRunner().invoke(["--quiet", "parse", *locations(folder, sources)])
    assert parsed.success, parsed.exception
    return parsed.result


@pytest.fixture
def warehouse(tmp_path: Path, manifest: Manifest) -> Warehouse:
    return Warehouse(tmp_path / "warehouse", manifest, ["xetra"])


WEEK: Bars = {
    Key("A", TUESDAY): Bar(10),
    Key("A", WEDNESDAY): Bar(11),
    Key("A", FRIDAY): Bar(12, symbol="BBB"),
    Key("A", TUESDAY, "USD"): Bar(20, volume=7),
    Key("B", TUESDAY): Bar(5, symbol="B"),
    Key("B", WEDNESDAY): Bar(4, symbol="B", volume=50),
    Key("B", THURSDAY): Bar(4.5, symbol="B"),
}


def test_the_file_holds_the_marts_and_nothing_of_the_lake(warehouse: Warehouse) -> None:
    write(WEEK)
    warehouse.build()
    warehouse.build()  # an incremental build must not leave anything behind either

    tables = warehouse.query("select schema_name, table_name from duckdb_tables() order by all")
    assert tables == [("marts", mart) for mart in MARTS]
    assert warehouse.query("select view_name from duckdb_views() where not internal") == []
    assert warehouse.query("select database_name from duckdb_databases() where not internal") == [("warehouse",)]


def test_marts_say_what_the_bars_say(warehouse: Warehouse) -> None:
    write(WEEK)
    warehouse.build()

    assert warehouse.query(
        "select symbol, valid_from, valid_to, is_current from marts.dim_instrument "
        "where instrument_id = 'A' and currency = 'EUR' order by valid_from"
    ) == [("AAA", TUESDAY, FRIDAY, False), ("BBB", FRIDAY, date(9999, 12, 31), True)]
    assert warehouse.query(
        "select session, symbol, close, prev_close, change from marts.daily_summary "
        "where instrument_id = 'A' and currency = 'EUR' order by session"
    ) == [(TUESDAY, "AAA", 10, None, None), (WEDNESDAY, "AAA", 11, 10, 1), (FRIDAY, "BBB", 12, 11, 1)]
    assert warehouse.query(
        "select instrument_id, gain_rank, loss_rank from marts.daily_movers "
        "where session = '2024-01-03' order by gain_rank"
    ) == [("A", 1, 2), ("B", 2, 1)]
    assert warehouse.query(
        "select currency, instrument_id, turnover_rank from marts.most_traded_by_value "
        "where session = '2024-01-02' order by all"
    ) == [("EUR", "A", 1), ("EUR", "B", 2), ("USD", "A", 1)]
    assert warehouse.query(
        "select session_count, average_range_pct from marts.average_range "
        "where instrument_id = 'A' and currency = 'USD'"
    ) == [(1, pytest.approx(200 / 19))]
    assert warehouse.query(
        "select previous_session, next_session, weekday from marts.dim_session where session = '2024-01-05'"
    ) == [(THURSDAY, MONDAY, 5)]


keys = st.builds(
    Key,
    st.sampled_from(["A", "B"]),
    st.sampled_from([TUESDAY, WEDNESDAY, THURSDAY, FRIDAY]),
    st.sampled_from(["EUR", "USD"]),
)
bars = st.builds(
    Bar,
    st.sampled_from([10.0, 11.0]),
    st.sampled_from(["AAA", "BBB"]),
    st.sampled_from([100, 200]),
    st.booleans(),
)


# A failure isn't shrunk: at three seconds an example that takes minutes, and the examples are small.
@settings(max_examples=4, phases=[Phase.generate])
@given(states=st.lists(st.dictionaries(keys, bars, max_size=8), min_size=3, max_size=3))
def test_incremental_builds_leave_the_rows_of_a_rebuild(
    tmp_path_factory: pytest.TempPathFactory, manifest: Manifest, states: list[Bars]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    grown = Warehouse(folder / "grown", manifest, ["xetra"])
    rebuilt = Warehouse(folder / "rebuilt", manifest, ["xetra"])
    for state in states:
        write(state)
        grown.run("+fct_daily_bar")
    grown.build()
    rebuilt.build()

    assert grown.content() == rebuilt.content()


CHANGES = {
    "nothing": (WEEK, set()),
    "a corrected price": (WEEK | {Key("B", THURSDAY): Bar(4.6, symbol="B")}, {THURSDAY}),
    "a price that the next session's change depends on": (
        WEEK | {Key("B", WEDNESDAY): Bar(3, symbol="B")},
        {WEDNESDAY, THURSDAY},
    ),
    "a session that becomes incomplete": (WEEK | {Key("B", THURSDAY): Bar(4.5, "B", is_complete=False)}, {THURSDAY}),
    "a row withdrawn": ({key: bar for key, bar in WEEK.items() if key != Key("A", TUESDAY, "USD")}, {TUESDAY}),
    "a session withdrawn": ({key: bar for key, bar in WEEK.items() if key.session != FRIDAY}, {FRIDAY}),
    "a new session": (WEEK | {Key("A", MONDAY): Bar(13, "BBB")}, {MONDAY}),
    "an instrument renamed from its last session on": (WEEK | {Key("B", THURSDAY): Bar(4.5, "C")}, {THURSDAY}),
    "an instrument renamed from its first session on": (
        {key: bar._replace(symbol="C") if key.instrument_id == "B" else bar for key, bar in WEEK.items()},
        set(),  # the version's key stays, and the fact carries no names
    ),
    "a rename that comes earlier": (WEEK | {Key("A", WEDNESDAY): Bar(11, "BBB")}, {WEDNESDAY, FRIDAY}),
    "an instrument that begins later": (
        {key: bar for key, bar in WEEK.items() if key != Key("B", TUESDAY)},
        {TUESDAY, WEDNESDAY, THURSDAY},
    ),
    "two rows that swap their prices": (
        WEEK | {Key("A", TUESDAY): Bar(5), Key("B", TUESDAY): Bar(10, symbol="B")},
        {TUESDAY, WEDNESDAY},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_only_changed_sessions_are_rewritten(warehouse: Warehouse, change: str) -> None:
    after, expected = CHANGES[change]
    write(WEEK)
    warehouse.run("+fct_daily_bar")
    # A build inserts in ascending order: behind the rows turned round here stand those that it wrote.
    warehouse.change(
        "create or replace table marts.fct_daily_bar as "
        "from marts.fct_daily_bar order by session desc, instrument_id desc, currency desc"
    )
    write(after)
    warehouse.run("+fct_daily_bar")

    rows = [(key.session, key.instrument_id, key.currency) for key in after]
    kept = sorted((row for row in rows if row[0] not in expected), reverse=True)
    rewritten = sorted(row for row in rows if row[0] in expected)
    stored = warehouse.query("select session, instrument_id, currency from marts.fct_daily_bar order by rowid")
    assert stored == kept + rewritten


def test_a_source_taken_from_the_list_leaves_the_warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = ["xetra", "alpha_vantage"]
    xetra = configured_sources()["xetra"]
    venue = xetra.venue.model_copy(update={"mic": "XNYS", "name": "New York Stock Exchange"})
    second = xetra.model_copy(update={"source": "alpha_vantage", "calendar": "XNYS", "venue": venue})
    monkeypatch.setattr(connection, "configured_sources", lambda: {"xetra": xetra, "alpha_vantage": second})
    write(WEEK)
    write({Key("AAPL", TUESDAY, "USD"): Bar(185, "AAPL")}, "alpha_vantage")
    both = Warehouse(tmp_path / "both", parse(tmp_path / "parsed_both", sources), sources)
    both.build()
    assert both.query("select source, count(*) from marts.fct_daily_bar group by source order by source") == [
        ("alpha_vantage", 1),
        ("xetra", 7),
    ]
    assert both.query("select mic from marts.dim_venue order by mic") == [("XETR",), ("XNYS",)]

    one = Warehouse(tmp_path / "one", parse(tmp_path / "parsed_one", ["xetra"]), ["xetra"])
    shutil.copy(both.path, one.path)
    one.build()
    assert one.query("select distinct source from marts.fct_daily_bar") == [("xetra",)]


def test_a_source_without_bars_is_no_fault(warehouse: Warehouse) -> None:
    warehouse.build()
    assert warehouse.query("select count(*) from marts.fct_daily_bar") == [(0,)]
    assert warehouse.query("select mic from marts.dim_venue") == [("XETR",)]


@pytest.mark.parametrize("change", ["columns", "a type"])
def test_a_table_of_other_columns_is_built_anew(warehouse: Warehouse, change: str) -> None:
    write(WEEK)
    warehouse.build()
    rows = warehouse.content()
    columns = warehouse.query("describe marts.fct_daily_bar")
    warehouse.change(
        "alter table marts.fct_daily_bar drop trades; alter table marts.fct_daily_bar add column retired integer;"
        if change == "columns"
        else "alter table marts.fct_daily_bar alter volume type double"
    )
    warehouse.build()
    assert warehouse.content() == rows
    assert warehouse.query("describe marts.fct_daily_bar") == columns


TAMPERING = {
    "insert into marts.dim_venue from marts.dim_venue": {"dim_venue_key"},
    "insert into marts.dim_session from marts.dim_session where session = '2024-01-02'": {"dim_session_key"},
    "update marts.dim_session set close_at = open_at where session = '2024-01-02'": {"dim_session_opens_before_close"},
    "update marts.dim_instrument set instrument_key = 'same' where instrument_id = 'A'": {
        "dim_instrument_key",
        "fct_daily_bar_instrument",
    },
    "update marts.dim_instrument set valid_to = valid_to + 1 where not is_current": {"dim_instrument_versions"},
    "update marts.dim_instrument set valid_to = valid_to - 1 where not is_current": {"dim_instrument_versions"},
    "update marts.dim_instrument set is_current = true": {"dim_instrument_versions"},
    "update marts.dim_instrument set is_current = false": {"dim_instrument_versions"},
    "update marts.fct_daily_bar set instrument_key = 'none'": {"fct_daily_bar_instrument"},
    "update marts.fct_daily_bar set session = '2024-01-06' where session = '2024-01-05'": {"fct_daily_bar_session"},
    "update marts.fct_daily_bar set mic = 'XXXX'": {"fct_daily_bar_venue", "fct_daily_bar_session"},
    "insert into marts.fct_daily_bar from marts.fct_daily_bar": {"fct_daily_bar_key", "fct_daily_bar_reconciles"},
    "delete from marts.fct_daily_bar where session = '2024-01-05'": {"fct_daily_bar_reconciles"},
    "update marts.fct_daily_bar set volume = volume + 1": {"fct_daily_bar_reconciles"},
    "update marts.fct_daily_bar set high = close - 0.1": {"fct_daily_bar_ranges"},
    "update marts.fct_daily_bar set prev_session = session": {"fct_daily_bar_ranges"},
    "insert into marts.daily_summary from marts.daily_summary": {"daily_summary_key"},
    "insert into marts.daily_movers from marts.daily_movers": {"daily_movers_key"},
    "insert into marts.most_traded_by_value from marts.most_traded_by_value": {"most_traded_by_value_key"},
    "insert into marts.average_range from marts.average_range": {"average_range_key"},
    "update marts.average_range set average_range_pct = -1": {"average_range_not_negative"},
}


def test_every_check_notices_what_it_is_for(warehouse: Warehouse) -> None:
    write(WEEK)
    warehouse.build()
    sound = shutil.copy(warehouse.path, warehouse.folder / "sound")
    noticed = {}
    for sql in TAMPERING:
        shutil.copy(sound, warehouse.path)
        warehouse.change(sql)
        noticed[sql] = warehouse.failed("test", "--exclude-resource-type", "unit_test")
    assert noticed == TAMPERING

    checks = {node.name for node in warehouse.manifest.nodes.values() if node.resource_type == "test"}
    assert set().union(*TAMPERING.values()) == checks


def test_a_bar_outside_the_calendar_stops_the_build(warehouse: Warehouse) -> None:
    write(WEEK | {Key("A", SATURDAY): Bar(12, "BBB")})
    assert warehouse.failed("build", "--exclude-resource-type", "unit_test") == {"fct_daily_bar_session"}


def test_unit_tests_pass(warehouse: Warehouse) -> None:
    write(WEEK)
    warehouse.build()
    result = warehouse.dbt("test", "--resource-type", "unit_test")
    assert result.success, [(r.node.name, r.message) for r in result.result if r.message]
    assert len(result.result) == 5
