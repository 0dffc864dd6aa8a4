"""The catalogue of a lake with rows: as tables, on the command line, and as a page in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets_tests.support.servers.browser import CHROMIUM, chromium
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.ingest.ledger import LEDGER


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake with two rows in a table, and a published mart of three."""
    import duckdb
    import pyarrow as pa

    from lakehouse.settings import settings

    home = settings().home
    (home / "lake").mkdir(parents=True)
    lake = Lake.open()
    table = lake.table("skipped_objects")
    schema = table.contract.arrow_schema
    values = {field.name: ["text" if pa.types.is_string(field.type) else None] * 2 for field in schema}
    table.snapshot().append(pa.table(values, schema=schema), [])
    with duckdb.connect(str(settings().warehouse)) as connection:
        connection.execute("CREATE SCHEMA marts; CREATE TABLE marts.dim_country AS FROM range(3)")
    return Lake.open()


def rows(lake: Lake, query: str) -> list[tuple]:
    relation = lake.sql(query)
    assert relation is not None
    return relation.fetchall()


def test_catalog_tables__has_rows_size_and_time_of_what_is_stored(lake: Lake) -> None:
    query = "SELECT rows, bytes > 0, updated_at <= now(), kind FROM lake.catalog_tables WHERE table_name = "
    assert rows(lake, f"{query} 'skipped_objects'") == [(2, True, True, "system")]
    assert rows(lake, f"{query} 'dim_country'") == [(3, True, True, "mart")]
    assert rows(lake, f"{query} '{LEDGER}'") == [(None, None, None, "system")]


def test_catalog_tables__has_no_figures_as_of_a_moment(lake: Lake) -> None:
    past = Lake.open(as_of="2030-01-01")
    assert rows(past, "SELECT count(rows), count(*) > 200 FROM lake.catalog_tables") == [(0, True)]


def test_catalog__keeps_its_own_contracts(lake: Lake) -> None:
    for name in ("catalog_tables", "catalog_columns"):
        contract = lake.table(name).contract
        relation = lake.sql(f"FROM lake.{name}")
        assert relation is not None
        assert relation.columns == contract.column_names
        broken = " OR ".join(f"NOT ({holds})" for holds, _ in contract.predicates.values())
        assert rows(lake, f"SELECT count(*) FROM lake.{name} WHERE {broken}") == [(0,)]
        key = ", ".join(contract.key)
        assert rows(lake, f"SELECT {key} FROM lake.{name} GROUP BY ALL HAVING count(*) > 1") == []


def test_catalog_columns__is_joined_with_the_tables(lake: Lake) -> None:
    query = """
        SELECT column_name, unit, pii, columns.classification, is_key FROM lake.catalog_columns AS columns
        JOIN lake.catalog_tables USING (schema_name, table_name)
        WHERE table_name = 'sale_lines' AND column_name IN ('amount', 'customer_id', 'line_key') ORDER BY 1
    """
    assert rows(lake, query) == [
        ("amount", "currency of the shop", False, "internal", False),
        ("customer_id", None, True, "confidential", False),
        ("line_key", None, True, "pii", True),
    ]


def test_tables_and_describe__print_what_is_stored(lake: Lake) -> None:
    listed = CliRunner().invoke(app, ["tables", "skipped", "--format", "csv"])
    assert listed.exit_code == 0
    assert re.search(r"^lake\.skipped_objects,system,2,", listed.output, re.MULTILINE)
    shown = CliRunner().invoke(app, ["describe", "skipped_objects"], env={"COLUMNS": "160"})
    assert shown.exit_code == 0
    assert re.search(r"rows +2\b", shown.output)
    assert re.search(r"partitions +source: 1, text to text", shown.output)
    unknown = CliRunner().invoke(app, ["describe", "skiped_objects"])
    assert unknown.exit_code == 2


@pytest.mark.parametrize("viewport", [(1300, 800), (390, 844)], ids=["desk", "phone"])
def test_page__finds_a_column_by_a_word_without_a_network(
    lake: Lake, tmp_path: Path, viewport: tuple[int, int]
) -> None:
    if not CHROMIUM.exists():
        pytest.skip("chromium is not installed (Debian package: chromium)")
    pytest.importorskip("playwright.sync_api")
    file = tmp_path / "catalog.html"
    assert CliRunner().invoke(app, ["catalog", "--output", str(file)]).exit_code == 0
    with chromium() as browser:
        page = browser.new_page(viewport={"width": viewport[0], "height": viewport[1]})
        asked, failures = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(file.as_uri())
        page.fill("#words", "customer_id")
        found = page.locator("nav a b").all_inner_texts()
        assert {"retail.sale_lines", "marts.fct_sale_line", "orders.orders"} <= set(found)
        assert "xetra.bars" not in found
        page.locator("nav a", has_text="retail.sale_lines").click()
        page.locator("h2", has_text="retail.sale_lines").wait_for()
        assert page.locator("article mark").first.inner_text() == "customer_id"
        assert page.locator(".pii").first.inner_text() == "personal"
        page.fill("#words", "skipped_objects")
        page.goto(f"{file.as_uri()}#lake.skipped_objects")
        assert re.search(r"rows\s+2\b", page.locator("dl").inner_text())
        assert page.evaluate("document.documentElement.scrollWidth") == viewport[0]
        assert {url.partition("#")[0] for url in asked} == {file.as_uri()}
        assert failures == []
