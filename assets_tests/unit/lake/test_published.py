"""The published file of the marts: replaced as a whole, whatever other programs or a disk have done to it."""

from __future__ import annotations

import logging
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from lakehouse import catalog
from lakehouse.api import Lake
from lakehouse.catalog import descriptions
from lakehouse.cli.app import app
from lakehouse.errors import MartsUnavailable, SourceError
from lakehouse.ingest.defs_yaml import Descriptions
from lakehouse.lake.published import log_of
from lakehouse.settings import settings
from lakehouse.warehouse import publish as warehouse
from lakehouse.warehouse import sources as connection
from lakehouse.warehouse.parts import MARKET_MARTS, QUOTE_MARTS, parts
from lakehouse.warehouse.publish import build_part, differing_marts, marts_as_of, publication, start_of

_STRANGER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
connection.execute("UPDATE marts.prices SET price = 99")
print("written", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def published() -> Path:
    """The file after a publication of the price 1."""
    publish(1)
    return settings().warehouse


def publish(price: int, rows: int = 1) -> None:
    with publication(settings()) as build, duckdb.connect(str(build)) as connection:
        connection.execute("CREATE SCHEMA marts")
        connection.execute(
            f"CREATE TABLE marts.prices AS SELECT {price} AS price, md5(i::VARCHAR) FROM range({rows}) r(i)"
        )


@contextmanager
def stranger(path: Path) -> Iterator[None]:
    """Another program that has written into the file, and is killed at the end of the block."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    command = [sys.executable, "-c", _STRANGER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        yield
        process.kill()
    path.chmod(mode)


def price() -> int:
    answer = Lake.open().sql("SELECT any_value(price) FROM marts.prices")
    assert answer is not None
    return answer.fetchall()[0][0]


def log(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def test_a_log_left_by_a_killed_program_changes_no_answer_and_goes(
    published: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stranger(published):
        pass
    assert log(published).exists()
    assert price() == 1
    assert f"{log(published)}, another program's log, lies beside it" in caplog.text

    publish(2)
    assert not log(published).exists()
    with duckdb.connect(str(published), read_only=True) as connection:
        assert connection.execute("SELECT price FROM marts.prices").fetchall() == [(2,)]


def test_the_log_goes_before_the_new_file_comes(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stranger(published):
        pass
    seen = []

    def replace(build: Path, target: Path) -> None:
        seen.append((log(target).exists(), price()))
        os.rename(build, target)

    monkeypatch.setattr("lakehouse.warehouse.publish.os.replace", replace)
    publish(2)
    assert seen == [(False, 1)]


def test_a_file_that_is_open_for_writing_is_read_and_replaced(
    published: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stranger(published):
        log(published).rename(published.with_name("aside"))
        assert price() == 1
        assert "another program has it open for writing" in caplog.text
        publish(2)
        assert price() == 2
    assert price() == 2


def test_nothing_of_another_program_goes_into_the_next_publication(published: Path) -> None:
    with stranger(published), publication(settings()):
        pass
    assert not log_of(published).exists()
    assert price() == 1


def test_the_published_file_is_read_only(published: Path) -> None:
    assert stat.S_IMODE(published.stat().st_mode) == 0o444
    with publication(settings()):
        pass
    assert stat.S_IMODE(published.stat().st_mode) == 0o444


def cut(path: Path) -> None:
    os.truncate(path, 5000)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def overwritten(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def flipped(path: Path) -> None:
    """Damages a block of rows: the file opens, and only reading the rows fails."""
    content = bytearray(path.read_bytes())
    place = len(content) // 2
    content[place : place + 64] = bytes(byte ^ 0xFF for byte in content[place : place + 64])
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, emptied, overwritten, flipped])
def test_a_damaged_file_is_replaced_from_scratch(damage, caplog: pytest.LogCaptureFixture) -> None:  # type: ignore[no-untyped-def]
    publish(1, rows=200_000)
    settings().warehouse.chmod(0o644)
    damage(settings().warehouse)
    assert start_of(settings()) is None
    assert f"{settings().warehouse} is damaged" in caplog.text


def shown() -> str:
    ended = CliRunner().invoke(app, ["status"])
    assert ended.exit_code == 0
    return ended.output.splitlines()[-1]


def test_status__shows_the_time_of_the_published_file_alone(published: Path) -> None:
    assert re.fullmatch(r"marts: published \d{4}-\d\d-\d\d [\d:]{8} UTC", shown())
    published.unlink()
    assert shown() == "marts: never published"


@pytest.mark.parametrize("damage", [cut, emptied, overwritten])
def test_status__says_that_the_published_file_is_damaged(published: Path, damage: Callable[[Path], None]) -> None:
    published.chmod(0o644)
    damage(published)
    assert shown().startswith(f"marts: {published} ")
    assert "the next publication replaces it: run `lakehouse rebuild`" in shown()


def test_status__says_that_something_else_is_in_the_published_files_place(published: Path) -> None:
    published.unlink()
    with duckdb.connect(str(published)) as connection:
        connection.execute("CREATE TABLE prices AS SELECT 1 AS price")
    assert f"{published} is another program's database, without the schema marts" in shown()
    published.unlink()
    published.mkdir()
    assert f"{published} is not a file; move it away" in shown()
    published.rmdir()
    published.symlink_to("nowhere")
    assert f"{published} is not a file; move it away" in shown()


def test_status__says_that_another_program_has_the_published_file(published: Path) -> None:
    with stranger(published):
        log(published).rename(published.with_name("aside"))
        assert f"another program has {published} open for writing" in shown()
        published.with_name("aside").rename(log(published))
    assert f"another program's log lies beside {published}" in shown()


def test_sql__show_tables_lists_those_of_every_schema_and_the_marts(published: Path) -> None:
    lake = Lake.open()

    def listed(query: str) -> list[tuple[str, str]]:
        found = lake.sql(query)
        assert found is not None
        return found.fetchall()

    with duckdb.connect(str(published), read_only=True) as marts:
        models = marts.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'marts'").fetchall()
    assert models
    of_marts = [("marts", name) for (name,) in models]
    assert listed("show tables") == sorted([*lake.tables(), *of_marts])
    assert listed(' SHOW TABLES FROM "Marts"; ') == sorted(of_marts)
    with pytest.raises(duckdb.CatalogException, match=r"has no schema mrats; .*did you mean 'marts'"):
        lake.sql("SHOW TABLES IN mrats")


@pytest.mark.parametrize("damage", [cut, overwritten])
def test_queries_without_marts_do_not_open_a_damaged_file(
    published: Path,
    damage,  # type: ignore[no-untyped-def]
    caplog: pytest.LogCaptureFixture,
) -> None:
    published.chmod(0o644)
    damage(published)
    lake = Lake.open()
    with caplog.at_level(logging.WARNING):
        answer = lake.sql("SELECT count(*) FROM lake.ingest_ledger")
        assert answer is not None
        assert answer.fetchall() == [(0,)]
        assert not caplog.records
        # What can't be looked into goes on without the marts, and says so.
        shown = lake.sql("SHOW ALL TABLES")
        assert shown is not None
        assert "ingest_ledger" in {row[2] for row in shown.fetchall()}
        assert str(published) in caplog.text
    with pytest.raises(MartsUnavailable, match=f"the published marts in {published} can't be opened"):
        price()


@pytest.fixture
def broken(published: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The YAML of binance and iex can't be read, and the lake has tables of binance; what is wrong."""
    (Path(Lake.open().uri) / "binance" / "daily_bars").mkdir(parents=True)
    error = SourceError("defs/binance/defs.yaml, line 7: first_session: Field required")
    monkeypatch.setattr(connection, "faulty_files", lambda: {Path("defs.yaml"): error})
    known = {name: found for name, found in descriptions().found.items() if name not in ("binance", "iex")}
    monkeypatch.setattr(catalog, "descriptions", lambda: Descriptions(known))
    return str(error)


def test_no_publication_loses_the_rows_of_a_source_whose_yaml_is_broken(published: Path, broken: str) -> None:
    """They were left out of the marts without a word."""
    before = published.read_bytes()
    told = rf"^the marts would lose the rows of binance: {re.escape(broken)}.*published file stays as it was$"
    with pytest.raises(SourceError, match=told):
        warehouse.publish(settings())
    with pytest.raises(SourceError, match=told), publication(settings()):
        build_part(settings(), MARKET_MARTS)
    with pytest.raises(SourceError, match=told):
        differing_marts(settings(), MARKET_MARTS)
    with pytest.raises(SourceError, match=told):
        marts_as_of(datetime.now(UTC))
    assert published.read_bytes() == before


def test_what_a_broken_yaml_can_not_lose_is_published(published: Path, broken: str) -> None:
    """A source without tables in the lake, and the models of the other domain."""
    connection.require_descriptions(Lake.open(), [QUOTE_MARTS])
    (Path(Lake.open().uri) / "binance" / "daily_bars").rmdir()
    connection.require_descriptions(Lake.open(), parts())
    (Path(Lake.open().uri) / "iex" / "quote_windows").mkdir(parents=True)
    connection.require_descriptions(Lake.open(), [MARKET_MARTS])
    with pytest.raises(SourceError, match="rows of iex"):
        connection.require_descriptions(Lake.open(), parts())
