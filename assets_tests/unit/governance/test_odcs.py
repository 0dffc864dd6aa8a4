"""Exported contracts are valid for the standard's own library and schema, and say what ours say."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft201909Validator
from open_data_contract_standard.model import OpenDataContractStandard, SchemaProperty
from typer.testing import CliRunner

from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.governance.described import DescribedTable, described_tables, table_named
from lakehouse.governance.odcs import SUFFIX, odcs, odcs_text
from lakehouse.lake.strict_yaml import yaml_documents

pytestmark = pytest.mark.slow


@cache
def validator() -> Draft201909Validator:
    return Draft201909Validator(json.loads(OpenDataContractStandard.json_schema()))


@pytest.fixture
def tables(tmp_path: Path) -> list[DescribedTable]:
    (tmp_path / "lake").mkdir()
    return described_tables(Lake.open(tmp_path))


def exported(tables: list[DescribedTable], name: str) -> OpenDataContractStandard:
    return OpenDataContractStandard.from_string(odcs_text([odcs(table_named(tables, name))]))


def properties(document: OpenDataContractStandard) -> dict[str, SchemaProperty]:
    assert document.schema_ is not None
    return {str(each.name): each for each in document.schema_[0].properties or ()}


def custom(each: SchemaProperty) -> dict[str, Any]:
    return {str(said.property): said.value for said in each.customProperties or ()}


def test_odcs__is_valid_for_every_table(tables: list[DescribedTable]) -> None:
    # Tables of several sources have the same contract.
    distinct = list({(table.columns, table.rules): table for table in tables}.values())
    documents = yaml_documents(odcs_text([odcs(table) for table in distinct]))
    for table, document in zip(distinct, documents, strict=True):
        assert [error.message for error in validator().iter_errors(document)] == [], table.sql_name
        assert OpenDataContractStandard(**document).name == table.sql_name


def test_odcs__has_types_keys_units_and_partitions(tables: list[DescribedTable]) -> None:
    columns = properties(exported(tables, "retail.sale_lines"))
    assert (columns["amount"].logicalType, columns["amount"].physicalType) == ("number", "decimal(18,4)")
    assert custom(columns["amount"]) == {"unit": "currency of the shop"}
    assert (columns["line_key"].primaryKey, columns["line_key"].primaryKeyPosition) == (True, 1)
    assert columns["month"].partitioned
    assert (columns["description"].required, columns["stock_code"].required) == (False, True)
    assert (columns["customer_id"].classification, custom(columns["customer_id"])) == ("confidential", {"pii": True})
    ledger = properties(exported(tables, "lake.ingest_ledger"))
    nested = [each for each in ledger.values() if each.items is not None and each.items.properties]
    assert nested
    assert nested[0].logicalType == "array"


def test_odcs__has_owner_freshness_and_references(tables: list[DescribedTable]) -> None:
    document = exported(tables, "banking.customer")
    assert document.team is not None
    assert not isinstance(document.team, list)
    assert document.team.name == "team:banking"
    assert document.slaProperties is not None
    assert document.slaProperties[0].value == "with each capture of its database"
    relations = properties(document)["type_id"].relationships
    assert relations is not None
    assert relations[0].to == f"banking.customer_type{SUFFIX}#/schema/customer_type/properties/id"


def test_odcs__has_the_rules_as_queries_that_run(tables: list[DescribedTable]) -> None:
    import duckdb

    table = table_named(tables, "retail.sale_lines")
    document = exported(tables, table.sql_name)
    assert document.schema_ is not None
    quality = {each.name: each for each in document.schema_[0].quality or ()}
    assert quality["key_unique"].arguments == {"properties": ["line_key"]}
    assert "stock_code_present" not in quality
    assert table.contract is not None
    with duckdb.connect() as connection:
        columns = ", ".join(f'"{column.name}" {column.type.duckdb}' for column in table.contract.columns)
        connection.execute(f"CREATE SCHEMA retail; CREATE TABLE retail.sale_lines ({columns})")
        connection.execute("INSERT INTO retail.sale_lines (amount, quantity, unit_price) VALUES (7, 2, 3)")
        assert connection.execute(str(quality["amount_follows"].query)).fetchall() == [(1,)]
        assert connection.execute(str(quality["known_kind"].query)).fetchall() == [(0,)]


def test_export__writes_one_table_or_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = CliRunner().invoke(app, ["contract", "export", "fct_sale_line"])
    assert shown.exit_code == 0
    said = yaml.safe_load(shown.output)
    assert said["name"] == "marts.fct_sale_line"
    columns = {each["name"]: each for each in said["schema"][0]["properties"]}
    assert columns["amount"]["transformSourceObjects"] == ["retail.sale_lines.amount"]
    assert {"property": "pii", "value": True} in columns["customer_id"]["customProperties"]
    assert [error.message for error in validator().iter_errors(said)] == []
    one = CliRunner().invoke(app, ["contract", "export", "fct_sale_line", "-o", str(tmp_path / "one.yaml")])
    assert one.exit_code == 0
    assert (tmp_path / "one.yaml").read_text() == shown.output
    every = CliRunner().invoke(app, ["contract", "export", "--format", "odcs", "-o", str(tmp_path / "all")])
    assert every.exit_code == 0
    assert (tmp_path / "all" / f"marts.fct_sale_line{SUFFIX}").read_text() == shown.output
    assert len(list((tmp_path / "all").iterdir())) > 200
    assert CliRunner().invoke(app, ["contract", "export", "fct_sale"]).exit_code == 2
