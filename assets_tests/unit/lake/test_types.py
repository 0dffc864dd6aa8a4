"""Column types: parsed from their text, and one type in Arrow, DuckDB, Polars and Delta, to the last digit."""

from __future__ import annotations

import json
import tempfile
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import Schema
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from assets_tests.support.soak import soak_count
from assets_tests.support.typed_values import TYPES, contract_with, table_of, type_texts, values
from lakehouse.lake.contract import Contract
from lakehouse.lake.engine import connect
from lakehouse.lake.maintenance import maintain_table
from lakehouse.lake.types import delta_text, name_of, parse_type
from lakehouse.lake.validation import broken_rules, predicates_of

PARTS = "list<struct<part date, rows bigint, digest string, object_version string>>"
BEFORE = {
    "string": (pa.string(), "VARCHAR"),
    "date": (pa.date32(), "DATE"),
    "timestamp": (pa.timestamp("us", tz="UTC"), "TIMESTAMPTZ"),
    "double": (pa.float64(), "DOUBLE"),
    "bigint": (pa.int64(), "BIGINT"),
    "boolean": (pa.bool_(), "BOOLEAN"),
    "list<string>": (pa.list_(pa.string()), "VARCHAR[]"),
    PARTS: (
        pa.list_(
            pa.struct(
                [
                    ("part", pa.date32()),
                    ("rows", pa.int64()),
                    ("digest", pa.string()),
                    ("object_version", pa.string()),
                ]
            )
        ),
        "STRUCT(part DATE, rows BIGINT, digest VARCHAR, object_version VARCHAR)[]",
    ),
}
"""The types that contracts could name when they were a list, and what they were stored as."""


@pytest.mark.parametrize("text", sorted(BEFORE))
def test_parse_type__keeps_the_types_of_earlier_lakes(text: str) -> None:
    arrow, sql = BEFORE[text]
    kind = parse_type(text)
    assert (kind.arrow, str(kind)) == (arrow, text)
    assert duckdb.sql(f"SELECT NULL::{kind.duckdb}").types == duckdb.sql(f"SELECT NULL::{sql}").types


@given(text=type_texts())
def test_parse_type__reads_what_str_writes(text: str) -> None:
    kind = parse_type(text)
    assert str(kind) == text
    assert parse_type(f" {text.replace('<', ' < ').replace(',', ' ,')} ") == kind
    assert pl.Schema(pa.schema([("a", kind.arrow)]))["a"] == kind.polars
    assert delta_text(Schema.from_arrow(pa.schema([("a", kind.arrow)])).fields[0].type) == kind.delta
    with connect("") as connection:
        relation = connection.sql(f"SELECT NULL::{kind.duckdb} AS a WHERE false")
        assert relation.to_arrow_table().schema.field("a").type.equals(kind.arrow)


@pytest.mark.parametrize(
    ("arrow", "said"),
    [
        (pa.int64(), "bigint"),
        (pa.string(), "string"),
        (pa.int16(), "short"),
        (pa.timestamp("us"), "timestamp_ntz"),
        (pa.decimal128(9, 2), "decimal(9,2)"),
        (pa.map_(pa.string(), pa.list_(pa.float32())), "map<string, array<float>>"),
    ],
)
def test_name_of__names_whatever_is_stored(arrow: pa.DataType, said: str) -> None:
    assert name_of(delta_text(Schema.from_arrow(pa.schema([("a", arrow)])).fields[0].type)) == said


NOT_TYPES = """text|decimal|decimal(39,2)|decimal(0,0)|decimal(4,5)|decimal(4,-1)|decimal(4)|list<>
list<string|list<string>>|struct<>
struct<a>|struct<a string,>|struct<a string, A date>|string date|list<string>; DROP|struct<1a string>
struct<"a" string>|Decimal(4,2)"""


@pytest.mark.parametrize("text", ["", *NOT_TYPES.replace("\n", "|").split("|")])
def test_parse_type__refuses_other_texts_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a type; write string|digits|two fields") as refused:
        parse_type(text)
    assert f"'{text}'" in str(refused.value)
    with pytest.raises(ValidationError):
        contract_with(text)


@settings(max_examples=soak_count(8, 200))
@given(data=st.data())
def test_every_type_is_read_as_it_was_written(data: st.DataObject) -> None:
    """By Delta, Polars and DuckDB, and by a filter that may skip files by what Delta keeps of them."""
    contract = contract_with(*TYPES)
    columns = {f"c{number}": values(parse_type(text)) for number, text in enumerate(TYPES)}
    rows = data.draw(
        st.lists(st.fixed_dictionaries({c: st.none() | each for c, each in columns.items()}), min_size=1, max_size=3)
    )
    given_rows = pa.Table.from_pylist(
        [{"part": "p", "id": n} | row for n, row in enumerate(rows)], contract.arrow_schema
    )
    with tempfile.TemporaryDirectory() as folder:
        table = table_of(contract, Path(folder))
        for row in range(len(rows)):
            # A file each, so that statistics of Delta choose among files.
            table.snapshot().append(given_rows.slice(row, 1), [str(row)])
        snapshot = table.snapshot()
        assert snapshot.delta is not None
        with connect("") as connection:
            by_duckdb = connection.execute(f"{snapshot.select()} ORDER BY id").to_arrow_table()
        assert by_duckdb.cast(contract.arrow_schema).to_pylist() == given_rows.to_pylist()
        by_polars = table.to_polars().sort("id")
        assert by_polars.schema == pl.Schema({column.name: column.type.polars for column in contract.columns})
        assert by_polars.to_arrow().cast(contract.arrow_schema).to_pylist() == given_rows.to_pylist()
        for number, text in enumerate(TYPES):
            if not text.startswith("decimal"):
                continue
            for row in rows:
                value = row[f"c{number}"]
                if value is not None:
                    wanted = pl.lit(value, parse_type(text).polars)
                    found = table.scan().filter(pl.col(f"c{number}") == wanted).collect()
                    assert value in found[f"c{number}"].to_list()


def test_a_filter_finds_money_beyond_what_a_float_can_tell_apart(tmp_path: Path) -> None:
    """Delta would keep 99999999999999.12 as the file's greatest amount; also after compaction and deletion."""
    contract = contract_with("decimal(18,4)", "struct<price decimal(18,4)>")
    amount = Decimal("99999999999999.1235")
    table = table_of(contract, tmp_path)
    for number in range(3):
        row = {"part": "p", "id": number, "c0": amount, "c1": {"price": amount}}
        table.snapshot().append(pa.Table.from_pylist([row], contract.arrow_schema), [str(number)])
    maintain_table(table)
    table.snapshot().delete("id = 0")
    wanted = pl.lit(amount, pl.Decimal(18, 4))
    assert table.scan().filter(pl.col("c0") == wanted).collect().height == 2
    assert table.scan().filter(pl.col("c1").struct.field("price") == wanted).collect().height == 2


def test_a_slice_of_structs_in_structs_can_be_written(tmp_path: Path) -> None:
    """delta-rs ended the whole process."""
    contract = contract_with("struct<inner struct<a bigint>>")
    rows = [{"part": "p", "id": number, "c0": {"inner": {"a": number}}} for number in range(3)]
    given_rows = pa.Table.from_pylist(rows, contract.arrow_schema)
    table = table_of(contract, tmp_path)
    table.snapshot().append(given_rows.slice(1, 1), ["once"])
    assert table.to_polars().to_dicts() == rows[1:2]


@given(amounts=st.lists(values(parse_type("decimal(18,4)")), min_size=1))
def test_money_adds_up_to_the_last_digit(amounts: list[Decimal]) -> None:
    rows = pa.table({"amount": pa.array(amounts, parse_type("decimal(18,4)").arrow)})
    connection = duckdb.connect()
    assert connection.execute("SELECT sum(amount) FROM rows").fetchone() == (sum(amounts),)
    assert "DECIMAL" in str(connection.sql("SELECT sum(amount) FROM rows").types[0])
    del rows


def is_json(text: str) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


JSON_TEXTS = st.one_of(
    values(parse_type("json")),
    st.text('{}[]",:\\naN InfIity-1e5.tru\n', max_size=12),
    st.sampled_from(
        ['"NaN"', '["\\"", NaN]', '{"nan": "Infinity"}', '{"a": -Infinity}', "NaN", "nul", "1 2", "[1,]", "{a: 1}"]
    ),
)


@given(texts=st.lists(JSON_TEXTS, min_size=1, max_size=20))
def test_json_columns_hold_json(texts: list[str]) -> None:
    assert broken(contract_with("json"), texts) == sum(not is_json(text) for text in texts)
    assert broken(contract_with("list<json>"), [texts]) == (not all(map(is_json, texts)))


def test_numbers_inside_lists_and_structs_are_finite() -> None:
    contract = contract_with("list<struct<a double, b list<double>>>")
    sound = [[], [None], [{"a": None, "b": None}], [{"a": 1.0, "b": [2.0, None]}]]
    assert broken(contract, sound) == 0
    assert broken(contract, [[{"a": 1.0, "b": [2.0, float("nan")]}], [{"a": float("inf"), "b": []}], *sound]) == 2
    assert contract.predicates["c0_finite"][1] == "c0 holds a value that is not finite"


def broken(contract: Contract, column: list) -> int:
    """How many rows break a rule of the column c0 by its type."""
    rows = pa.Table.from_pylist(
        [{"part": "p", "id": number, "c0": value} for number, value in enumerate(column)], contract.arrow_schema
    )
    with connect("") as connection:
        connection.register("rows", rows)
        return sum(broken_rules(predicates_of(contract, connection, "rows"), connection, "rows").values())


def test_only_texts_and_dates_part_a_table() -> None:
    with pytest.raises(ValidationError, match=r"partition by 'c0'.*decimal\(5,2\).*string or a date"):
        contract_with("decimal(5,2)", partition_by=["c0"])
