"""Contracts: said once, in YAML, and the same in Arrow, in DuckDB and in what is stored."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from pydantic import ValidationError

from assets_tests.support.described import contract_of
from lakehouse.api import Lake
from lakehouse.lake.contract import Contract, ContractError, read_contracts
from lakehouse.lake.engine import connect
from lakehouse.lake.snapshot import Snapshot

TABLES = {"raw_bars", "bars", "daily_bars", "ingest_ledger", "quarantine", "conservation"}
MINIMAL = {
    "table": "t",
    "description": "A table.",
    "key": ["a"],
    "partition_by": [],
    "columns": [{"name": "a", "type": "string", "description": "A column."}],
}

RULE = {"name": "short", "holds": "length(a) < 9", "reason": "a is too long"}


def path_of(table: str) -> str:
    """Where a table is: those that all sources share have no source."""
    return f"xetra/{table}" if contract_of(table).domain else table


def test_contracts_are_named_by_domain_and_table() -> None:
    assert {contract_of(table).name for table in TABLES} == {
        *("market/raw_bars", "market/bars", "market/daily_bars"),
        *("ingest_ledger", "quarantine", "conservation"),
    }
    tables = [Lake("/nowhere").table(f"{source}/bars").contract for source in ("xetra", "binance")]
    assert [contract.name for contract in tables] == ["market/bars"] * 2


def test_two_contracts_of_one_table_in_a_domain_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "contracts").mkdir(parents=True)
        (tmp_path / folder / "contracts" / "t.yaml").write_text(yaml.safe_dump(MINIMAL))
    with pytest.raises(ContractError, match="market has another contract of t; rename one of them"):
        read_contracts(tmp_path, "market")
    assert read_contracts(tmp_path / "one", "market")["t"].name == "market/t"
    assert read_contracts(tmp_path / "two", "bank")["t"].name == "bank/t"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a contract; begin it with `table:`"),
        ("- a\n", "is not a contract"),
        ("table: [a\n", "did not find expected"),
        ("table: a\ntable: b\n", "line 2: the key 'table' stands here a second time"),
        (yaml.safe_dump(MINIMAL | {"colums": []}), "colums: Extra inputs are not permitted"),
        (
            yaml.safe_dump(MINIMAL | {"columns": [MINIMAL["columns"][0] | {"type": "txt"}]}),
            "0.type: 'txt' is not a type",
        ),
        (yaml.safe_dump(MINIMAL | {"columns": MINIMAL["columns"] * 2}), "contract of t: several columns are named a;"),
        (yaml.safe_dump(MINIMAL | {"rules": [RULE, RULE]}), "contract of t: several rules are named short; rename"),
    ],
)
def test_a_file_that_is_no_contract_is_named_with_its_fault(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "contracts" / "t.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ContractError) as found:
        read_contracts(tmp_path, "market")
    assert str(found.value).startswith(str(path))
    assert words in str(found.value)
    assert "pydantic" not in str(found.value)


def test_a_table_without_contract_is_named_with_those_that_have_one() -> None:
    with pytest.raises(ContractError, match=r"xetra/bar'.*daily_bars"):
        Lake("/nowhere").table("xetra/bar")


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_predicate_can_be_asked_of_an_empty_table(table: str) -> None:
    contract = contract_of(table)
    with connect("") as connection:
        empty = Snapshot(Lake("/nowhere").table(path_of(table)), None).select()
        for name, (holds, reason) in contract.predicates.items():
            assert reason, name
            assert connection.execute(f"SELECT bool_and({holds}) FROM ({empty})").fetchone() == (None,)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_arrow_and_duckdb_agree_on_the_types(table: str) -> None:
    contract = contract_of(table)
    with connect("") as connection:
        empty = Snapshot(Lake("/nowhere").table(path_of(table)), None).select()
        relation = connection.sql(empty)
        assert relation.columns == contract.column_names == contract.arrow_schema.names
        assert relation.to_arrow_table().cast(contract.arrow_schema).schema == contract.arrow_schema
        declared = [column.type.duckdb for column in contract.columns]
        typed = connection.sql("SELECT " + ", ".join(f"NULL::{kind}" for kind in declared)).types
        assert relation.types == typed


@pytest.mark.parametrize("table", sorted(TABLES - {"conservation"}))
def test_a_stored_table_has_its_contracts_columns_and_types(table: str, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    stored = lake.table(path_of(table))
    contract = stored.contract
    rows = contract.arrow_schema.empty_table()
    stored.snapshot().append(rows, ["once"])
    frame = stored.to_polars().to_arrow()
    assert frame.column_names == contract.column_names
    assert frame.cast(contract.arrow_schema).schema == contract.arrow_schema
    delta = stored.snapshot().delta
    assert delta is not None
    assert delta.metadata().partition_columns == list(contract.partition_by)


def test_a_source_waives_a_rule_and_names_its_identifiers_standard() -> None:
    plain = contract_of("raw_bars")
    bound = plain.bound({"instrument_id": "isin"}, {"negative_prices"})
    assert plain.predicates.keys() - bound.predicates.keys() == {"prices_positive", "vwap_positive"}
    assert (bound.formats["instrument_id"], bound.formats["currency"]) == ("isin", "currency")
    assert plain.bound({"instrument_id": None}).predicates == plain.predicates


def test_required_columns_and_finite_numbers_are_rules() -> None:
    for table in TABLES:
        contract = contract_of(table)
        for column in contract.columns:
            assert (f"{column.name}_present" in contract.predicates) == (not column.nullable)
            assert (f"{column.name}_finite" in contract.predicates) == (column.type.kind == "double")


@pytest.mark.parametrize("change", [{"key": ["b"]}, {"partition_by": ["b"]}, {"known_at": "b"}])
def test_a_contract_that_names_no_column_of_its_own_is_refused(change: dict) -> None:
    with pytest.raises(ValidationError, match=r"\['b'\] is not a column"):
        Contract.model_validate(MINIMAL | change)


@pytest.mark.parametrize(
    "change", [{"partitions": ["a"]}, {"columns": [{"name": "a", "type": "text", "description": ""}]}]
)
def test_a_misspelt_entry_is_refused(change: dict) -> None:
    with pytest.raises(ValidationError):
        Contract.model_validate(MINIMAL | change)


def test_prices_times_and_quantities_have_the_types_of_the_house() -> None:
    schema = contract_of("bars").arrow_schema
    assert {schema.field(name).type for name in ("open", "high", "low", "close")} == {pa.float64()}
    assert {schema.field(name).type for name in ("start_at", "end_at", "published_at")} == {
        pa.timestamp("us", tz="UTC")
    }
    assert (schema.field("trades").type, schema.field("session").type) == (pa.int64(), pa.date32())
    assert schema.field("volume").type == pa.float64()
