"""What a role sees of the tables, and what a description of roles may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.api import Lake
from lakehouse.governance.grants import Sight, require_predicate, sights
from lakehouse.governance.inherited import catalogued
from lakehouse.governance.roles import EXAMPLE, Role, RoleError, read_roles
from lakehouse.governance.visible import VisibleTable, _table, visible_tables
from lakehouse.lake.contract import Column, Contract
from lakehouse.lake.types import parse_type
from lakehouse.settings import settings


def column(name: str, **more: object) -> Column:
    return Column.model_validate({"name": name, "type": parse_type("string"), "description": "", **more})


def contract(*more: Column) -> Contract:
    columns = (column("id"), column("email", pii=True), *more)
    return Contract(table="people", description="", key=("id",), partition_by=("id",), columns=columns)


def known(*more: Column) -> dict[str, VisibleTable]:
    return {
        "shop.people": _table("shop.people", "retail", contract(*more)),
        "shop.raw_people": _table("shop.raw_people", "retail", contract(*more), is_served=False),
        "bank.branch": _table("bank.branch", "banking", contract()),
    }


def role(**said: object) -> Role:
    return Role.model_validate({"role": "analyst", **said})


def test_sights__masks_what_is_personal_without_being_told() -> None:
    of_domain = role(domains=["retail"])
    assert sights(of_domain, known()) == [Sight("shop.people", ("id", "email"), frozenset({"email"}))]
    # A column that is marked later, and one that was there before.
    for marked in (column("phone", pii=True), column("phone", classification="pii")):
        (seen,) = sights(of_domain, known(marked))
        assert seen.masked == {"email", "phone"}
    assert sights(of_domain, known(column("city")))[0].masked == {"email"}


def test_sights__joins_domains_and_tables() -> None:
    grants = [
        {"table": "shop.people", "columns": ["email", "id"], "masked": ["id"], "clear": ["email"], "rows": "id > ''"},
        {"table": "shop.raw_people"},
    ]
    assert sights(role(domains=["retail"], tables=grants), known()) == [
        Sight("shop.people", ("email", "id"), frozenset({"id"}), "id > ''"),
        Sight("shop.raw_people", ("id", "email"), frozenset({"email"})),
    ]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"domains": ["retial"]}, "no domain 'retial'.*retail"),
        ({"tables": [{"table": "shop.poeple"}]}, "no table 'shop.poeple'.*shop.people"),
        ({"tables": [{"table": "shop.people", "columns": ["mail"]}]}, "no column 'mail'"),
        ({"tables": [{"table": "shop.people", "clear": ["mail"]}]}, "no column 'mail'"),
        ({"tables": [{"table": "shop.people", "masked": ["id"], "clear": ["id"]}]}, "both masked and clear"),
        ({"tables": [{"table": "shop.people", "rows": "id ="}]}, "no predicate"),
        ({"tables": [{"table": "shop.people", "rows": "true; FROM x"}]}, "no predicate"),
        ({"tables": [{"table": "shop.people", "rows": "id IN (FROM bank.branch)"}]}, "reads more than the row"),
        ({"tables": [{"table": "shop.people", "rows": "true), (true"}]}, "reads more than the row"),
    ],
)
def test_sights__names_what_is_wrong(said: dict[str, object], fault: str) -> None:
    with pytest.raises(RoleError, match=fault):
        sights(role(**said), known())


@pytest.mark.parametrize("text", ["country = 'France'", "a > 1 AND b IS NULL -- why", "day >= DATE '2024-01-01'"])
def test_require_predicate__takes_conditions(text: str) -> None:
    require_predicate(text, "rows")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("roles: [{role: a}, {role: a}]", "several roles are called a"),
        ("roles: [{role: a, domain: [retail]}]", "roles.0.domain"),
        ("roles: [{role: A}]", "roles.0.role"),
        ("roles: [{role: a, tables: [{table: s.t}, {table: s.t}]}]", "s.t stands here more than once"),
        ("roles: [{role: a, role: b}]", "a second time"),
        ("", "valid"),
    ],
)
def test_read_roles__names_what_is_wrong(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "roles.yaml").write_text(text)
    with pytest.raises(RoleError, match=fault):
        read_roles(tmp_path / "roles.yaml")


@pytest.mark.slow
def test_the_example_fits_the_tables_that_there_are(own_environment: None) -> None:
    tables = visible_tables(Lake.present(), settings())
    seen = {name: {sight.table: sight for sight in sights(role, tables)} for name, role in read_roles(EXAMPLE).items()}
    assert {"customer_id", "customer_key", "line_key"} == seen["analyst"]["marts.fct_sale_line"].masked
    assert not any(name.startswith("banking.") for name in seen["analyst"])
    assert seen["auditor"]["banking.customer"].masked == {"name", "email", "phone", "address"}
    assert seen["auditor"]["marts.dim_branch"].masked == frozenset()


def test_visible_tables__knows_personal_columns_of_marts_by_name_and_by_origin(own_environment: None) -> None:
    tables = visible_tables(Lake.present(), settings())
    for name, table in tables.items():
        if name.startswith("marts.") and table.domain in ("retail", "orders"):
            assert {"customer_id", "line_key", "delivery_address"} & {*table.columns} <= table.personal, name
    # Its name is that of no personal column: it takes one over.
    assert "order_customer_id" in tables["marts.fct_order"].personal
    assert tables["lake.quarantine"].personal == {"row"}
    assert "image" in tables["banking.customer_changes"].personal


def test_visible_tables__agrees_with_the_catalogue(own_environment: None) -> None:
    tables = visible_tables(Lake.present(), settings())
    for described in catalogued(Lake.present(), settings()):
        if described.sql_name in tables:
            personal = {column.name for column in described.columns if column.pii}
            assert tables[described.sql_name].personal == personal, described.sql_name
