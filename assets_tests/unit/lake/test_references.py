"""Foreign keys, and what contracts say of persons and secrecy: checks of stored tables, and Dagster's columns."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from assets_tests.support.made_up_contracts import with_contract, written
from lakehouse.api import Lake
from lakehouse.components.checks import table_checks
from lakehouse.components.metadata import definition_metadata
from lakehouse.derive.checks import of_every_table
from lakehouse.derive.source import Finding, Source
from lakehouse.domains.market.contracts import contracts
from lakehouse.lake.contract import Column, Contract, ContractError
from lakehouse.lake.references import references_of
from lakehouse.lake.types import parse_type

DAY = date(2024, 1, 2)


def table(name: str, **columns: dict[str, Any]) -> Contract:
    described = [{"name": column, "description": column} | text for column, text in columns.items()]
    session = {"name": "session", "type": "date", "description": "Session."}
    made = {"table": name, "description": name, "key": ["id"], "partition_by": ["session"]}
    return Contract.model_validate(made | {"columns": [session, *described]})


CUSTOMERS = table("customers", id={"type": "bigint"})


def orders(references: str, kind: str = "bigint") -> Contract:
    customer = {"type": kind, "nullable": True, "references": references}
    return table("orders", id={"type": "bigint"}, customer=customer)


def finding(lake: Lake, contract: Contract, sessions: list[date] | None = None) -> Finding:
    source = Source(name="shop", kind="shops", contracts={"orders": contract})
    with with_contract(contract):
        check = next(check for check in of_every_table(contract) if check.name == "references")
        return check.run(lake, source, sessions)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two shops' customers, and orders of one shop: 3 is a customer of the other one only, 4 of none."""
    opened = Lake(str(tmp_path))
    written(opened, "shop/customers", CUSTOMERS, *({"session": DAY, "id": number} for number in (1, 2)))
    written(opened, "other/customers", CUSTOMERS, *({"session": DAY, "id": number} for number in (1, 2, 3, 4)))
    placed = [(1, 1), (2, 2), (3, None), (4, 3), (5, 3), (6, 4)]
    days = [date(2024, 1, 3) if number == 6 else DAY for number, _ in placed]
    rows = [
        {"session": day, "id": number, "customer": customer}
        for day, (number, customer) in zip(days, placed, strict=True)
    ]
    written(opened, "shop/orders", orders("customers.id"), *rows)
    return opened


def test_a_value_that_refers_to_nothing_is_found(lake: Lake) -> None:
    with with_contract(CUSTOMERS):
        found = finding(lake, orders("customers.id"))
        assert (found.passed, found.summary) == (False, "2 values are not where they refer to")
        assert found.rows == [
            {"column": "customer", "value": "3", "refers_to": "shop/customers.id", "row_count": 2},
            {"column": "customer", "value": "4", "refers_to": "shop/customers.id", "row_count": 1},
        ]
        assert [row["value"] for row in finding(lake, orders("customers.id"), [DAY]).rows] == ["3"]
        assert finding(lake, orders("other.customers.id")).passed


def test_a_table_that_was_never_written_has_no_value_that_can_be_referred_to(lake: Lake) -> None:
    with with_contract(CUSTOMERS):
        assert len(finding(lake, orders("third.customers.id")).rows) == 4


def test_tables_that_all_sources_share_can_be_referred_to(lake: Lake) -> None:
    with with_contract(orders("lake.ingest_ledger.object", "string")):
        (found,) = references_of(lake, "shop/orders", orders("lake.ingest_ledger.object", "string"))
        assert (found.table.name, found.to_column) == ("ingest_ledger", "object")


@pytest.mark.parametrize(
    ("references", "kind", "why"),
    [
        ("client.id", "bigint", r"no contract for table 'shop/client'"),
        ("customers.ids", "bigint", r"customers.ids, which shop/customers doesn't have; did you mean 'id'"),
        ("customers.id", "string", r"refers to customers.id, a bigint, and is a string"),
        ("lake.conservation.source", "string", r"refer to a stored table"),
    ],
)  # fmt: skip
def test_a_reference_to_what_is_not_there_is_refused_by_name(references: str, kind: str, why: str, lake: Lake) -> None:
    contract = orders(references, kind)
    with with_contract(CUSTOMERS), with_contract(contract), pytest.raises(ContractError, match=why):
        references_of(lake, "shop/orders", contract)


@pytest.mark.parametrize("text", ["customers", "a.b.c.d", "customers.", ".id", "Customers.id", "customers id"])
def test_a_reference_names_a_table_and_a_column(text: str) -> None:
    with pytest.raises(ValidationError):
        orders(text)


def test_every_contract_refers_to_what_is_there() -> None:
    for contract in contracts().values():
        references_of(Lake("/nowhere"), f"xetra/{contract.table}", contract)


def test_dagster_shows_references_as_a_check_and_what_contracts_say_of_columns(lake: Lake) -> None:
    contract = Contract.model_validate(
        orders("customers.id").model_dump(exclude={"columns"})
        | {
            "classification": "internal",
            "columns": [
                *orders("customers.id").columns,
                Column(name="email", type=parse_type("string"), description="", pii=True, classification="restricted"),
                Column(name="street", type=parse_type("string"), description="", classification="pii"),
            ],
        }
    )  # fmt: skip
    checked = tuple(of_every_table(contract))
    source = Source(name="shop", kind="shops", contracts={"orders": contract}, checks=checked)
    with with_contract(CUSTOMERS), with_contract(contract):
        checks = table_checks(lambda: source, "A shop", "orders", lambda tags, opened: None)
        assert {key.name for key in checks.check_keys} == {"contract", "key_is_unique", "references"}
        metadata = definition_metadata(contract, lake, "shop/orders")
    assert metadata["classification"] == "internal"
    columns: dict[str, dg.TableColumn] = {column.name: column for column in metadata["dagster/column_schema"].columns}
    assert columns["email"].tags == {"pii": "true", "classification": "restricted"}
    assert columns["street"].tags == {"pii": "true", "classification": "pii"}
    assert columns["customer"].tags == {"classification": "internal"}
    assert list(columns["customer"].constraints.other) == ["references: customers.id"]
    with pytest.raises(ValidationError):
        Column.model_validate({"name": "a", "type": "string", "description": "", "classification": "secret"})


def test_a_table_without_references_has_no_such_check() -> None:
    assert [check.name for check in of_every_table(contracts()["bars"])] == ["contract", "key_is_unique"]
