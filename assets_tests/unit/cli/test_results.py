"""How the result of `lakehouse sql` leaves the process: whole into a pipe or file, as a page on a terminal."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest
from rich.console import Console

from assets_tests.support.patience import PATIENCE_S
from lakehouse.cli.results import Format, format_of, print_result, write_result
from lakehouse.printable import printable

ROWS = 50_001
"""More than two batches."""


@pytest.fixture
def database() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def written(database: duckdb.DuckDBPyConnection, query: str, output_format: Format) -> bytes:
    target = io.BytesIO()
    relation = database.sql(query)
    assert relation is not None
    write_result(relation, output_format, target)
    return target.getvalue()


def page(database: duckdb.DuckDBPyConnection, query: str, width: int = 100, height: int = 26) -> list[str]:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, height=height)
    print_result(console, database.sql(query), Format.table, None)
    return screen.getvalue().splitlines()


@pytest.mark.parametrize("rows", [0, 1, ROWS])
def test_write_result__every_row_in_every_format(database: duckdb.DuckDBPyConnection, rows: int) -> None:
    query = f"SELECT range AS n, 'text ' || range AS s FROM range({rows})"
    expected = [(n, f"text {n}") for n in range(rows)]
    found = list(csv.reader(io.StringIO(written(database, query, Format.csv).decode())))
    assert found == [["n", "s"], *([str(n), s] for n, s in expected)]
    assert [tuple(row.values()) for row in json.loads(written(database, query, Format.json))] == expected
    assert pl.read_parquet(written(database, query, Format.parquet)).rows() == expected
    table = written(database, query, Format.table).decode().splitlines()
    assert [tuple(cell.strip() for cell in line.strip("│").split("│")) for line in table[4:-1]] == [
        (str(n), s) for n, s in expected
    ]


@pytest.mark.parametrize("value", ["INTERVAL 1 DAY", "'abc'::BLOB", "uuid()", "'101'::BIT"])
@pytest.mark.parametrize("inside", ["{}", "[{}]", "{{'a': {}}}"])
def test_write_result__types_that_a_format_lacks_are_text(
    database: duckdb.DuckDBPyConnection, value: str, inside: str
) -> None:
    query = f"SELECT {inside.format(value)} AS v"
    for output_format in (Format.table, Format.csv, Format.json):
        assert len(written(database, query, output_format)) > 4
    assert pl.read_parquet(written(database, query, Format.parquet)).height == 1


def test_write_result__a_date_beyond_the_calendar(database: duckdb.DuckDBPyConnection) -> None:
    query = "SELECT date 'infinity' AS v, date '2024-02-29' AS w"
    assert written(database, query, Format.csv) == b"v,w\ninfinity,2024-02-29\n"
    assert json.loads(written(database, query, Format.json)) == [{"v": "infinity", "w": "2024-02-29"}]


@pytest.mark.parametrize("output_format", [Format.csv, Format.json, Format.parquet])
def test_write_result__columns_that_share_a_name_in_a_join(
    database: duckdb.DuckDBPyConnection, output_format: Format
) -> None:
    query = "SELECT * FROM (SELECT 1 AS a, 5 AS a_1) x JOIN (SELECT 1 AS a, 2 AS a_2) y ON x.a = y.a"
    target = io.BytesIO()
    write_result(database.sql(query), output_format, target)
    target.seek(0)
    read = {Format.csv: pl.read_csv, Format.json: pl.read_json, Format.parquet: pl.read_parquet}[output_format]
    found = read(target)
    assert len(set(found.columns)) == 4
    assert found.rows() == [(1, 5, 1, 2)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("340282366920938463463374607431768211455::UHUGEINT", "340282366920938463463374607431768211455"),
        ("'24:00:00'::TIME", "24:00:00"),
        ("MAP{DATE '2020-01-01': 1}", "2020-01-01"),
        ("map([1, 2], ['a', 'b'])", "a"),
        ("1::VARIANT", "1"),
    ],
)
@pytest.mark.parametrize("output_format", [Format.csv, Format.json])
def test_write_result__values_that_polars_cannot_write(
    database: duckdb.DuckDBPyConnection, value: str, text: str, output_format: Format
) -> None:
    target = io.BytesIO()
    write_result(database.sql(f"SELECT {value} AS v"), output_format, target)
    assert text in target.getvalue().decode()


INFINITE = ["infinity", "-infinity"]
FAR = ["290000-01-01", "0044-03-15 (BC)"]


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        *((kind, INFINITE + FAR) for kind in ("TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP_S", "TIMESTAMP_MS", "DATE")),
        ("TIMESTAMP_NS", INFINITE),
    ],
)
@pytest.mark.parametrize("inside", ["{}", "[{}]", "{{'a': {}}}", "MAP{{'k': {}}}", "array_value({})", "row({}, 1)"])
def test_write_result__moments_beyond_the_calendar_are_text(
    database: duckdb.DuckDBPyConnection, kind: str, texts: list[str], inside: str
) -> None:
    for text in texts:
        query = f"SELECT {inside.format(f'{text!r}::{kind}')} AS v"
        for output_format in (Format.csv, Format.json):
            assert text in written(database, query, output_format).decode()
        assert pl.read_parquet(written(database, query, Format.parquet)).height == 1


@pytest.mark.parametrize(
    ("kind", "in_csv", "in_json"),
    [
        ("TIMESTAMP", "2024-02-29T09:30:00.500000", "2024-02-29 09:30:00.500"),
        ("TIMESTAMPTZ", "2024-02-29T09:30:00.500000+0000", "2024-02-29T09:30:00.500+00:00"),
        ("TIMESTAMP_MS", "2024-02-29T09:30:00.500", "2024-02-29 09:30:00.500"),
        ("TIMESTAMP_NS", "2024-02-29T09:30:00.500000000", "2024-02-29 09:30:00.500"),
    ],
)
def test_write_result__a_moment_looks_the_same_beside_an_infinite_one(
    database: duckdb.DuckDBPyConnection, kind: str, in_csv: str, in_json: str
) -> None:
    for others, found in (("", []), (", ('infinity'), (NULL)", ["infinity", None])):
        query = f"SELECT v::{kind} AS v FROM (VALUES ('2024-02-29 09:30:00.5'){others}) t(v)"
        rows = list(csv.reader(io.StringIO(written(database, query, Format.csv).decode())))
        assert [row[0] if row else None for row in rows] == ["v", in_csv, *found]
        assert [row["v"] for row in json.loads(written(database, query, Format.json))] == [in_json, *found]


def test_write_result__nested_values_of_such_types_stay_nested(database: duckdb.DuckDBPyConnection) -> None:
    query = "SELECT [INTERVAL 1 DAY] AS a, MAP{DATE '2024-02-29': '24:00'::TIME} AS b, row(1, INTERVAL 2 DAY) AS c"
    assert json.loads(written(database, query, Format.json)) == [
        {"a": ["1 day"], "b": {"2024-02-29": "24:00:00"}, "c": {"v1": 1, "v2": "2 days"}}
    ]
    assert pl.read_parquet(written(database, query, Format.parquet))["a"].to_list() == [["1 day"]]


def test_write_result__columns_of_one_name(database: duckdb.DuckDBPyConnection) -> None:
    assert written(database, 'SELECT 1 AS "a""b", 2 AS c', Format.csv) == b'"a""b",c\n1,2\n'
    lines = written(database, "SELECT 1 AS a, 2 AS a", Format.table).decode().splitlines()
    assert [line.split() for line in (lines[1], lines[4])] == [["│", "a", "│", "a", "│"], ["│", "1", "│", "2", "│"]]


def test_print_result__a_terminal_gets_a_page_and_how_many_more(database: duckdb.DuckDBPyConnection) -> None:
    lines = page(database, "FROM range(20000)")
    assert len(lines) == 26
    assert lines[-1] == "20 of 20,000 rows shown, 19,980 more. A pipe or --output FILE gets everything."
    whole = page(database, "FROM range(20)")
    assert whole[-1].startswith("└")
    assert sum(1 for line in whole if re.search(r"│ +\d+ │", line)) == 20


def test_print_result__a_terminal_keeps_symbol_and_name(database: duckdb.DuckDBPyConnection) -> None:
    others = ", ".join(f"{number} * 1.5 AS measure_{number}" for number in range(20))
    query = f"SELECT 'xetra' AS source, {others}, 'SIE' AS symbol, repeat('Siemens ', 20) AS name, 7 AS last"
    lines = page(database, query)
    assert all(len(line) <= 100 for line in lines[:-1])
    head = [cell.strip() for cell in lines[1].strip("│").split("│")]
    assert {"symbol", "name", "source", "…"} <= set(head)
    hidden = [name for name in database.sql(query).columns if name not in head]
    assert hidden
    assert lines[-1].startswith(f"{24 - len(hidden)} of 24 columns shown, not {', '.join(hidden)}.")


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_print_result__no_line_is_wider_than_the_terminal(database: duckdb.DuckDBPyConnection, width: int) -> None:
    names = ("instrument_id", "currency", "session", "symbol", "name", "open", "high", "low", "close", "reasons")
    query = f"SELECT {', '.join(f'repeat({name[0]!r}, {30 + place}) AS {name}' for place, name in enumerate(names))}"
    lines = page(database, query, width)
    table = [line for line in lines if line[0] in "┌│├└"]
    assert len({len(line) for line in table}) == 1
    assert len(table[0]) <= width


def test_printable__what_a_terminal_would_obey_is_an_escape(database: duckdb.DuckDBPyConnection) -> None:
    assert printable("Söhne 株式 $x") == "Söhne 株式 $x"
    assert printable("a\x1b[31mb\x9b2J\r\n\u202eabc\x00") == "a\\x1b[31mb\\x9b2J\\r\\n\\u202eabc\\x00"
    hostile = "SELECT chr(27) || '[2J' || chr(155) || '31m' || chr(8238) AS symbol"
    for lines in (page(database, hostile), written(database, hostile, Format.table).decode().splitlines()):
        assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("output_format", [Format.csv, Format.json])
def test_print_result__csv_on_a_terminal_has_no_commands(
    database: duckdb.DuckDBPyConnection, capfdbinary: pytest.CaptureFixture[bytes], output_format: Format
) -> None:
    relation = database.sql("SELECT chr(27) || '[2J' || chr(155) || 'x' AS symbol")
    print_result(Console(force_terminal=True), relation, output_format, None)
    text = capfdbinary.readouterr().out.decode()
    assert "symbol" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_print_result__a_file_that_ended_early_does_not_look_complete(
    database: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    target = tmp_path / "rows.csv"
    target.write_text("before")
    failing = database.sql("SELECT if(range < 30000, 1, error('no more')) AS v FROM range(40000)")
    with pytest.raises(duckdb.Error, match="no more"):
        print_result(Console(), failing, Format.csv, target)
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]
    print_result(Console(), database.sql("FROM range(3)"), format_of(target), target)
    assert target.read_text() == "range\n0\n1\n2\n"


def test_format_of__a_file_name_says_it() -> None:
    names = {"a.csv": "csv", "a.JSON": "json", "a.parquet": "parquet", "a.txt": "table", "csv": "table"}
    assert {name: format_of(Path(name)).value for name in names} == names
    assert format_of(None) is Format.table


@pytest.mark.parametrize("output_format", ["table", "csv"])
def test_sql__head_ends_it_quietly(tmp_path: Path, output_format: str) -> None:
    """A billion rows: what held them before writing the first would not end here."""
    command = [
        sys.executable,
        "-c",
        "from lakehouse.cli.app import app; app()",
        "sql",
        "FROM range(1000000000)",
        "--format",
        output_format,
    ]
    lakehouse = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"LAKEHOUSE_HOME": str(tmp_path)}
    )
    assert lakehouse.stdout is not None
    assert lakehouse.stderr is not None
    lakehouse.stdout.readline()
    lakehouse.stdout.close()
    with lakehouse.stderr:
        assert lakehouse.stderr.read() == b""
    assert lakehouse.wait(PATIENCE_S) == 141
