"""A role's file holds what the role may see, and nothing else; it is published as a whole or not at all, and what was
published is recorded.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from assets_tests.support.shop_files import Line, put_day
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.cli.app import app
from lakehouse.errors import QueryNotAllowed
from lakehouse.governance import publish_roles as publishing
from lakehouse.governance.publish_roles import RolePublication, publish_roles
from lakehouse.governance.role_file import role_path
from lakehouse.governance.roles import RoleError
from lakehouse.ingest.load import load
from lakehouse.settings import settings
from lakehouse.warehouse.publish import publish

DAYS = [date(2024, 1, 30), date(2024, 1, 31)]
MONTHS = [date(2024, 1, 1)]
CUSTOMERS = ("9911178501", "9911178502", "9911178503")
"""Numbers that occur nowhere else."""
ROLES = """
roles:
  - role: analyst
    domains: [retail]
    tables: [{table: lake.quarantine, rows: source = 'retail'}]
  - role: cleared
    tables:
      - {table: retail.sale_lines, clear: [customer_id]}
  - role: norway
    tables:
      - {table: retail.sale_lines, columns: [day, country, customer_id, amount], rows: country = 'Norway'}
      - {table: marts.fct_sale_line, rows: country = 'Norway'}
"""
SECRET = "  - {role: secret, encrypted: true, tables: [{table: retail.sale_lines}]}\n"


def put(feed: Path, days: list[date] = DAYS) -> None:
    countries = ("France", "France", "Norway")
    for day in days:
        moment = datetime(day.year, day.month, day.day, 9)
        put_day(
            feed,
            day,
            [
                Line(f"50{day.day}{number}", "10001", "LAMP", number + 1, moment, Decimal("1.25"), customer, country)
                for number, (customer, country) in enumerate(zip(CUSTOMERS, countries, strict=True))
            ],
        )


def take() -> None:
    lake, source = Lake.open(), described_source("retail")
    load(lake, source.datasets[0], MONTHS)
    for table in source.tables:
        table.derive(lake, source, MONTHS)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose lake has a day of a shop, and its marts."""
    home = tmp_path_factory.mktemp("shop") / "home"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LAKEHOUSE_HOME", str(home))
        patched.setenv("LAKEHOUSE_RETAIL_URL", str(home / "feed"))
        settings.cache_clear()
        put(home / "feed", DAYS[:1])
        (home / "feed" / f"{DAYS[0]}.csv").open("a").write(
            f"500009,1,LAMP,NaN,2024-01-30 09:00:00,1,{CUSTOMERS[0]}.0,France\n"
        )
        take()
        publish(settings())
    settings.cache_clear()
    return home


@pytest.fixture
def home(shop: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    home = tmp_path / "home"
    shutil.copytree(shop, home)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    monkeypatch.setenv("LAKEHOUSE_RETAIL_URL", str(home / "feed"))
    settings.cache_clear()
    (home / "roles.yaml").write_text(ROLES)
    return home


def published(*names: str) -> dict[str, RolePublication]:
    return {done.role: done for done in publish_roles(Lake.open(), settings(), names)}


def values(path: Path) -> str:
    """All that a file says to a plain DuckDB."""
    with duckdb.connect(str(path), read_only=True) as connection:
        names = connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
        return "\n".join(str(connection.execute(f'FROM "{schema}"."{name}"').fetchall()) for schema, name in names)


def audit(where: str = "true") -> list[tuple[Any, ...]]:
    found = Lake.open().sql(
        f"SELECT role, event, publication, table_name, rows FROM lake.role_publications WHERE {where} "
        "ORDER BY recorded_at, table_name"
    )
    assert found is not None
    return found.fetchall()


def rows(role: str, query: str) -> list[tuple[Any, ...]]:
    found = Lake.open(role=role).sql(query)
    assert found is not None
    return found.fetchall()


def test_a_file_without_the_right_holds_no_personal_byte(home: Path) -> None:
    done = published()
    for name, holds in (("analyst", False), ("norway", False), ("cleared", True)):
        content, said = done[name].path.read_bytes(), values(done[name].path)
        for customer in CUSTOMERS:
            assert (customer.encode() in content, customer in said) == (holds, holds), (name, customer)
    assert {table.table for table in done["analyst"].tables} >= {
        *("retail.sale_lines", "retail.customers", "lake.quarantine", "marts.fct_sale_line", "marts.dim_customers"),
    }
    assert "retail.raw_lines" not in {table.table for table in done["analyst"].tables}
    # Keys that are plain digests of a number would let one try all numbers.
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as connection:
        keys = connection.execute(
            "SELECT customer_key FROM marts.dim_customer UNION FROM (SELECT line_key FROM marts.fct_sale_line)"
        )
        assert not any(key in values(done["analyst"].path) for (key,) in keys.fetchall())


def test_masks_can_be_joined_and_counted_within_a_role_only(home: Path) -> None:
    published()
    joined = """
        SELECT country, sum(amount), count(DISTINCT sold.customer_id)
        FROM marts.fct_sale_line AS sold JOIN marts.dim_customer AS person USING (customer_key, customer_id, country)
        GROUP BY ALL ORDER BY ALL
    """
    assert rows("analyst", joined) == [("France", Decimal("3.75"), 2), ("Norway", Decimal("3.75"), 1)]
    masks = [
        {mask for (mask,) in rows(role, "SELECT customer_id FROM retail.sale_lines")} for role in ("analyst", "norway")
    ]
    assert [len(each) for each in masks] == [3, 1]
    assert masks[0].isdisjoint(masks[1])


def test_an_encrypted_file_opens_with_its_key_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "roles.yaml").write_text(ROLES + SECRET)
    with pytest.raises(RoleError, match="LAKEHOUSE_ROLE_SECRET_KEY"):
        published("secret")
    assert not role_path(settings(), "secret").exists()
    monkeypatch.setenv("LAKEHOUSE_ROLE_SECRET_KEY", "a key's 'quote'")
    path = published("secret")["secret"].path
    assert b"Norway" not in path.read_bytes()
    with duckdb.connect() as plain:
        plain.execute(f"ATTACH '{path}' AS found (READ_ONLY, ENCRYPTION_KEY 'a key''s ''quote''')")
        assert plain.execute("SELECT count(*) FROM found.retail.sale_lines").fetchall() == [(3,)]
        for options in ("READ_ONLY", "READ_ONLY, ENCRYPTION_KEY 'other'"):
            with pytest.raises(duckdb.Error):
                plain.execute(f"ATTACH '{path}' AS other ({options})")
    assert rows("secret", "SELECT count(*) FROM retail.sale_lines") == [(3,)]
    monkeypatch.setenv("LAKEHOUSE_ROLE_SECRET_KEY", "another")
    with pytest.raises(RoleError, match="LAKEHOUSE_ROLE_SECRET_KEY"):
        Lake.open(role="secret")
    assert published("secret")["secret"].made == ("retail.sale_lines",)
    assert rows("secret", "SELECT count(*) FROM retail.sale_lines") == [(3,)]


def test_a_role_is_answered_without_the_lake(home: Path) -> None:
    published()
    shutil.rmtree(home / "lake")
    (home / "warehouse.duckdb").unlink()
    assert rows("norway", "SELECT country, amount FROM retail.sale_lines") == [("Norway", Decimal("3.75"))]
    # A process of its own, since the command forks.
    command = [sys.executable, "-c", "from lakehouse.cli.app import app; app()", "sql", "--role", "norway"]
    answer = subprocess.run([*command, "FROM marts.fct_sale_line", "--format", "csv"], capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert len(answer.stdout.splitlines()) == 2
    refused = subprocess.run([*command, "FROM retail.customers"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "Role norway sees marts.fct_sale_line, retail.sale_lines" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    "query",
    [
        "FROM retail.customers",
        "FROM retail.raw_lines",
        "FROM lake.quarantine",
        "FROM publication.tables",
        "FROM of_role.publication.tables",
        "FROM warehouse.marts.fct_sale_line",
        "FROM read_parquet('{lake}/retail/sale_lines/**/*.parquet')",
        "FROM '{lake}/retail/sale_lines'",
        "FROM read_duckdb('{home}/warehouse.duckdb')",
        "ATTACH '{home}/warehouse.duckdb' AS other",
        "SELECT * FROM query('FROM retail.customers')",
        "SELECT 1; FROM retail.sale_lines",
        "COPY retail.sale_lines TO '{home}/copied.csv'",
        "SET enable_external_access = true",
    ],
)
def test_a_role_reaches_nothing_else(home: Path, query: str) -> None:
    published("norway")
    with pytest.raises((QueryNotAllowed, duckdb.Error)):
        rows("norway", query.format(home=home, lake=home / "lake"))


def test_a_predicate_cannot_be_looked_behind(home: Path) -> None:
    path = published("norway")["norway"].path
    content = path.read_bytes()
    for text in (b"France", bytes(home / "lake"), bytes(home), b"read_parquet", b"warehouse.duckdb"):
        assert text not in content
    with duckdb.connect(str(path), read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchall() == [(0,)]
        assert plain.execute("SELECT DISTINCT country FROM marts.fct_sale_line").fetchall() == [("Norway",)]
        assert [name for name, *_ in plain.execute("DESCRIBE retail.sale_lines").fetchall()] == [
            *("day", "country", "customer_id", "amount"),
        ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_publish_roles__writes_what_changed_only(home: Path) -> None:
    first, inode = published("norway")["norway"], role_path(settings(), "norway").stat().st_ino
    assert set(first.made) == {"retail.sale_lines", "marts.fct_sale_line"}
    again = published("norway")["norway"]
    assert (again.made, again.publication) == ((), first.publication)
    assert role_path(settings(), "norway").stat().st_ino == inode
    put(home / "feed")
    take()
    later = published("norway")["norway"]
    assert later.made == ("retail.sale_lines",)
    made = values(later.path)
    later.path.unlink()
    afresh = published("norway")["norway"]
    assert set(afresh.made) == {"retail.sale_lines", "marts.fct_sale_line"}
    assert [(each.table, each.rows, each.digest) for each in afresh.tables] == [
        (each.table, each.rows, each.digest) for each in later.tables
    ]
    assert values(afresh.path).replace(afresh.publication, later.publication) == made


def test_publish_roles__leaves_nothing_of_a_right_that_was_taken(home: Path) -> None:
    published("cleared")
    (home / "roles.yaml").write_text(ROLES.replace(", clear: [customer_id]", ""))
    path = published("cleared")["cleared"].path
    assert not any(customer.encode() in path.read_bytes() for customer in CUSTOMERS)


def test_publish_roles__publishes_once_for_two_at_once(home: Path) -> None:
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: published("norway")["norway"], range(2)))
    assert len({each.publication for each in done}) == 1
    assert [event for _, event, *_ in audit()] == ["published", "published"]
    assert {name for *_, name, _ in audit()} == {"retail.sale_lines", "marts.fct_sale_line"}


def test_publish_roles__corrects_the_audit_after_a_crash(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = published("norway")["norway"]
    (home / "roles.yaml").write_text(ROLES.replace("Norway", "France"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "replace_marts", killed)
        with pytest.raises(KeyboardInterrupt):
            published("norway")
    assert rows("norway", "SELECT DISTINCT country FROM retail.sale_lines") == [("Norway",)]
    after = published("norway")["norway"]
    assert rows("norway", "SELECT DISTINCT country FROM retail.sale_lines") == [("France",)]
    by_event: dict[str, list[str]] = {}
    for _, event, publication, *_ in audit():
        by_event.setdefault(event, []).append(publication)
    (abandoned,) = by_event["abandoned"]
    assert list(dict.fromkeys(by_event["published"])) == [served.publication, abandoned, after.publication]
    assert not list((home / "roles" / "build").iterdir())


def test_publish_roles__withdraws_the_files_of_roles_that_are_gone(home: Path) -> None:
    path = published()["norway"].path
    (home / "roles.yaml").write_text(ROLES[: ROLES.index("  - role: norway")])
    published()
    assert not path.exists()
    assert [event for _, event, *_ in audit("role = 'norway'")] == ["published", "published", "withdrawn"]
    with pytest.raises(RoleError, match="no role 'norway'"):
        Lake.open(role="norway")


def test_rotate_key__masks_all_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = "SELECT customer_id FROM retail.sale_lines"
    published("norway")
    ((before,),) = rows("norway", query)
    (home / "roles.yaml").write_text(
        ROLES[: ROLES.index("  - role: analyst")] + ROLES[ROLES.index("  - role: norway") :]
    )
    done = CliRunner().invoke(app, ["roles", "rotate-key", "--yes"])
    assert "2 of 2 tables new" in " ".join(done.output.split())
    ((after,),) = rows("norway", query)
    assert after != before
    assert before.encode() not in role_path(settings(), "norway").read_bytes()
    assert rows("norway", f"SELECT count(*) FROM marts.fct_sale_line WHERE customer_id = '{after}'") == [(1,)]
    monkeypatch.setenv("LAKEHOUSE_MASK_KEY", "given")
    refused = CliRunner().invoke(app, ["roles", "rotate-key", "--yes"])
    assert refused.exit_code == 2
    assert "in the environment" in refused.output


def test_audit__says_what_was_published(home: Path) -> None:
    done = published("norway")["norway"]
    found = Lake.open().sql(
        "SELECT publication, columns, masked, rows_where, rows, digest, is_encrypted FROM lake.role_publications "
        "WHERE table_name = 'retail.sale_lines'"
    )
    assert found is not None
    ((publication, columns, masked, where, count, digest, is_encrypted),) = found.fetchall()
    assert (publication, columns, masked) == (
        done.publication,
        ["day", "country", "customer_id", "amount"],
        ["customer_id"],
    )
    assert (where, count, is_encrypted) == ("country = 'Norway'", 1, False)
    assert digest == next(each.digest for each in done.tables if each.table == "retail.sale_lines")


def test_roles__are_listed_and_published_by_the_command(home: Path) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["roles", *arguments], env={"COLUMNS": "200"})
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    assert "retail.sale_lines: day, country, customer_id (masked), amount; where country = 'Norway'" in run()
    assert "norway: 2 tables, 2 rows, 2 of 2 tables new" in run("publish", "norway")
    assert "nothing new" in run("publish", "norway")
    assert "is there already" in run("init", code=2)
    (home / "roles.yaml").unlink()
    assert "lakehouse roles init" in run()
    run("init")
    assert "sales_france" in run()
