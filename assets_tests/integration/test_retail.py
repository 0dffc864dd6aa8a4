"""A shop's days in any order, late, corrected and deleted, against a plain reference and a rebuild."""

from __future__ import annotations

import gzip
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets_tests.support.shop_files import Line, customer_versions, item_versions, put_day
from assets_tests.support.soak import soak_count
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive import by_tables
from lakehouse.derive.incremental import DeriveResult
from lakehouse.derive.rebuild import rebuild
from lakehouse.errors import TableMissing
from lakehouse.ingest.load import LoadResult, load
from lakehouse.lake.table import LakeTable

FIRST = date(2024, 1, 30)
DAYS = [FIRST + timedelta(days=number) for number in range(4)]
MONTHS = [date(2024, 1, 1), date(2024, 2, 1)]


def line(day: date = FIRST, **values: Any) -> Line:
    said: dict[str, Any] = {
        "invoice_no": "500001",
        "stock_code": "10001",
        "description": "LAMP",
        "quantity": 2,
        "invoiced_at": datetime(day.year, day.month, day.day, 9, 30),
        "unit_price": Decimal("1.25"),
        "customer_id": "17850",
        "country": "France",
    }
    return Line(**said | values)


def take(lake: Lake) -> LoadResult:
    source = described_source("retail")
    loaded = load(lake, source.datasets[0], MONTHS)
    for table in source.tables:
        table.derive(lake, source, MONTHS)
    return loaded


def rows(lake: Lake, query: str) -> list[tuple[Any, ...]]:
    found = lake.sql(query)
    assert found is not None
    return found.fetchall()


LINES = """
    SELECT invoice_no, stock_code, description, quantity, invoiced_at, unit_price, customer_id, country, kind, amount
    FROM retail.sale_lines
"""


def require_equal(lake: Lake, wanted: list[Line]) -> None:
    """The lake has the wanted lines, and what follows from them."""
    expected = Counter(
        (*vars(each).values(), each.kind, each.quantity * each.unit_price)
        for each in [Line(**vars(each) | {"invoiced_at": each.invoiced_at.replace(tzinfo=UTC)}) for each in wanted]
    )
    assert Counter(rows(lake, LINES)) == expected
    items = "SELECT stock_code, description, list_price, valid_from, valid_to FROM retail.items"
    assert set(rows(lake, items)) == item_versions(wanted)
    customers = "SELECT customer_id, country, valid_from, valid_to FROM retail.customers"
    assert set(rows(lake, customers)) == customer_versions(wanted)
    source = described_source("retail")
    assert not rebuild(lake, source, verify=True).differs
    blocked = {each.name for each in source.checks if each.blocking and not each.run(lake, source, None).passed}
    assert not blocked


lines_of_a_day = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "invoice_no": st.sampled_from(["500002", "C500003", "A500004"]),
            "stock_code": st.sampled_from(["10002", "10001a"]),
            "description": st.sampled_from(["LAMP, RED", "lamp", None]),
            "quantity": st.sampled_from([1, -1, 7]),
            "unit_price": st.sampled_from([Decimal("0"), Decimal("1.5"), Decimal("-3.1234")]),
            "customer_id": st.sampled_from(["12370", None]),
            "country": st.sampled_from(["Cyprus", "Austria"]),
        },
    ),
    max_size=6,
)


@settings(max_examples=soak_count(2, 60))
@given(
    days=st.lists(lines_of_a_day, min_size=4, max_size=4),
    order=st.permutations(range(4)),
    corrected=st.integers(0, 3),
    correction=lines_of_a_day,
)
def test_any_order_with_late_and_corrected_days_equals_the_reference(
    tmp_path_factory: pytest.TempPathFactory,
    days: list[list[dict[str, Any]]],
    order: list[int],
    corrected: int,
    correction: list[dict[str, Any]],
) -> None:
    folder = tmp_path_factory.mktemp("shop")
    said = {day: [line(day, **values) for values in of_day] for day, of_day in zip(DAYS, days, strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_RETAIL_URL", str(folder / "feed"))
        lake = Lake.open(str(_home(folder)))
        for number in order:
            put_day(folder / "feed", DAYS[number], said[DAYS[number]])
            take(lake)
        day = DAYS[corrected]
        said[day] = [line(day, **values) for values in correction] + said[day][1:]
        put_day(folder / "feed", day, said[day])
        take(lake)
        require_equal(lake, [each for of_day in said.values() for each in of_day])


def _home(folder: Path) -> Path:
    (folder / "home" / "lake").mkdir(parents=True)
    return folder / "home"


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAKEHOUSE_RETAIL_URL", str(tmp_path / "feed"))
    return tmp_path / "feed"


def test_equal_lines_are_lines_but_a_file_under_two_names_is_one(feed: Path) -> None:
    lake = Lake.open()
    put_day(feed, FIRST, [line(), line(), line(quantity=3)])
    assert take(lake).rows_received == 3
    keys = set(rows(lake, "SELECT line_key FROM retail.sale_lines"))
    assert len(keys) == 3
    (feed / f"{FIRST}.csv.gz").write_bytes(gzip.compress((feed / f"{FIRST}.csv").read_bytes()))
    assert take(lake).rows_received == 3
    assert set(rows(lake, "SELECT line_key FROM retail.sale_lines")) == keys
    assert rows(lake, "SELECT received, kept, duplicates FROM lake.conservation") == [(6, 3, 3)]


def test_bad_lines_are_quarantined_and_the_others_kept(feed: Path) -> None:
    lake = Lake.open()
    put_day(feed, FIRST, [line(), line(FIRST + timedelta(days=1)), line(invoice_no="500009")])
    text = (feed / f"{FIRST}.csv").read_text()
    (feed / f"{FIRST}.csv").write_text(text.replace("500009,10001,LAMP,2", "500009,10001,LAMP,NaN"))
    loaded = take(lake)
    assert (loaded.rows_received, loaded.rows_quarantined) == (3, 2)
    assert rows(lake, "SELECT row_number, reasons FROM lake.quarantine ORDER BY 1") == [
        (2, ["the time is outside its file's date"]),
        (3, ["quantity is missing or not a bigint"]),
    ]


def test_a_cancellation_finds_its_sale(feed: Path) -> None:
    lake = Lake.open()
    later = FIRST + timedelta(days=1)
    put_day(feed, FIRST, [line(), line(quantity=9), line(quantity=4, unit_price=Decimal("7"))])
    cancelled = [
        line(later, invoice_no="C1", quantity=-2),
        line(later, invoice_no="C2", quantity=-5),
        line(later, invoice_no="C3", quantity=-10),
        line(later, invoice_no="C4", quantity=-1, unit_price=Decimal("8")),
        line(later, invoice_no="C5", quantity=-1, customer_id=None),
        line(later, invoice_no="C6", quantity=-1, stock_code="10009"),
    ]
    put_day(feed, later, cancelled)
    take(lake)
    found = """
        SELECT own.invoice_no, sold.quantity, reason FROM retail.cancellations
        JOIN retail.sale_lines AS own USING (line_key)
        LEFT JOIN retail.sale_lines AS sold ON sold.line_key = sale_line_key ORDER BY 1
    """
    assert rows(lake, found) == [
        ("C1", 2, None),
        ("C2", 9, None),
        ("C3", None, "fewer units sold"),
        ("C4", None, "another price"),
        ("C5", None, "no customer"),
        ("C6", None, "item never sold to the customer"),
    ]


def test_item_prices_are_runs_of_days(feed: Path) -> None:
    lake = Lake.open()
    for day, prices in zip(DAYS, (["1", "2"], ["1"], ["2"], ["1", "2"]), strict=True):
        put_day(feed, day, [line(day, unit_price=Decimal(price)) for price in prices])
    take(lake)
    runs = "SELECT unit_price, first_day, last_day, day_count FROM retail.item_prices ORDER BY 1, 2"
    assert rows(lake, runs) == [
        (Decimal(1), DAYS[0], DAYS[1], 2),
        (Decimal(1), DAYS[3], DAYS[3], 1),
        (Decimal(2), DAYS[0], DAYS[0], 1),
        (Decimal(2), DAYS[2], DAYS[3], 2),
    ]


def test_weekdays_usual__notices_day_and_month_swapped(feed: Path) -> None:
    """A shop of working days, and a month in which the fifth of April became the fourth of May, a Saturday."""
    working = [day for number in range(100) if (day := date(2024, 1, 1) + timedelta(days=number)).weekday() < 5]
    for day in (*working, date(2024, 5, 4), date(2024, 5, 6)):
        put_day(feed, day, [line(day)] * 10)
    lake, source = Lake.open(), described_source("retail")
    months = source.datasets[0].partitioning.between(date(2024, 1, 1), date(2024, 5, 31))
    load(lake, source.datasets[0], months)
    source.tables[0].derive(lake, source, months)
    check = next(check for check in source.checks if check.name == "weekdays_usual")
    assert [(row["month"], row["weekday"]) for row in check.run(lake, source, None).rows] == [
        (date(2024, 5, 1), "Saturday")
    ]


def test_features_and_labels_are_asked_for_in_sql(feed: Path) -> None:
    lake = Lake.open()
    for number, day in enumerate(DAYS):
        put_day(feed, day, [line(day, invoice_no=f"50000{number}")])
    take(lake)
    features = "SELECT customer_id, known_until, invoice_count, total, segment FROM retail.customer_features({})"
    known = rows(lake, features.format("as_of := DATE '2024-02-01'"))
    assert known == [("17850", date(2024, 2, 1), 2, Decimal("5.0000"), "champion")]
    assert rows(lake, features.format(""))[0][1:3] == (date(2024, 2, 3), 4)
    labels = "SELECT is_over, has_bought, invoice_count FROM retail.customer_labels(DATE '2024-02-01', horizon := {})"
    assert rows(lake, labels.format(2)) == [(True, True, 2)]
    assert rows(lake, labels.format(30)) == [(False, None, None)]


def test_a_late_day_restates_only_its_codes_and_customers(feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    derived: dict[str, set[tuple[Any, ...]]] = {}
    restate = by_tables._derive_subjects

    def noted(connection: duckdb.DuckDBPyConnection, how: by_tables.FromTables, *rest: Any) -> DeriveResult:
        derived[how.table] = set(connection.execute("FROM subjects").fetchall())
        return restate(connection, how, *rest)

    monkeypatch.setattr(by_tables, "_derive_subjects", noted)
    lake = Lake.open()
    said = {day: [line(day, stock_code=f"1000{number}") for number in range(5)] for day in DAYS if day != DAYS[1]}
    for day, lines in said.items():
        put_day(feed, day, lines)
    take(lake)
    assert derived == {}
    said[DAYS[1]] = [
        line(DAYS[1], stock_code="10002", unit_price=Decimal(9), customer_id="1"),
        line(DAYS[1], invoice_no="C1", stock_code="10003", quantity=-1, customer_id=None),
    ]
    put_day(feed, DAYS[1], said[DAYS[1]])
    take(lake)
    require_equal(lake, [each for lines in said.values() for each in lines])
    codes = {("10002",), ("10003",)}
    assert derived == {
        "items": codes,
        "item_prices": codes,
        "customers": {("1",), (None,)},
        "cancellations": {("1", "10002"), (None, "10003")},
    }
    assert rows(lake, "SELECT customer_id, stock_code, reason FROM retail.cancellations") == [
        (None, "10003", "no customer")
    ]
    # Without the version that was read, all codes are derived again.
    derived.clear()
    said[DAYS[1]] = []
    put_day(feed, DAYS[1], [])
    monkeypatch.setattr(LakeTable, "at", lambda *_, **__: (_ for _ in ()).throw(TableMissing("removed")))
    take(lake)
    require_equal(lake, [each for lines in said.values() for each in lines])
    assert derived == {}
