"""Contracts change: what old tables read as, what is refused, and what `lakehouse migrate` does about it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from assets_tests.support.made_up_contracts import with_contract, written
from assets_tests.support.soak import soak_count
from assets_tests.support.typed_values import TYPES, contract_with, table_of, values
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.errors import StaleSnapshot, TableNewer, TableOutdated
from lakehouse.lake.contract import Contract, ContractError
from lakehouse.lake.engine import connect
from lakehouse.lake.maintenance import maintain_table
from lakehouse.lake.migration import due, migrate_table
from lakehouse.lake.table import Pin
from lakehouse.lake.types import parse_type

FIRST: dict[str, Any] = {
    "table": "invoices",
    "description": "Invoices.",
    "key": ["number"],
    "partition_by": ["branch"],
    "columns": [
        {"name": "number", "type": "string", "description": "Number."},
        {"name": "branch", "type": "string", "description": "Branch."},
        {"name": "day", "type": "date", "description": "Day."},
        {"name": "price", "type": "double", "description": "Price."},
        {"name": "note", "type": "string", "nullable": True, "description": "Note."},
    ],
}
SECOND = FIRST | {
    "version": 2,
    "columns": [
        *FIRST["columns"][:3],
        {"name": "amount", "type": "decimal(18,4)", "description": "Amount."},
        {"name": "is_paid", "type": "boolean", "nullable": True, "description": "Whether it is paid."},
    ],
    "migrations": [
        {
            "from_version": 1,
            "changes": "price becomes amount, a decimal; note is removed",
            "rows": "SELECT * EXCLUDE (price, note), price::DECIMAL(18, 4) AS amount FROM stored",
        }
    ],
}
THIRD = SECOND | {
    "version": 3,
    "key": ["number", "day"],
    "partition_by": ["day"],
    "migrations": [
        *SECOND["migrations"],
        {"from_version": 2, "changes": "partitioned by day, and keyed by it", "rows": "FROM stored"},
    ],
}
NAME = "shop/invoices"
ROWS = [
    {"number": "1", "branch": "A", "day": "2024-01-02", "price": 0.1, "note": "a"},
    {"number": "2", "branch": "B", "day": "2024-01-02", "price": 99999.99, "note": None},
    {"number": "3", "branch": "B", "day": "2024-01-03", "price": -7.25, "note": "c"},
]


def contract(text: dict[str, Any], **changes: Any) -> Contract:
    return Contract.model_validate(text | changes)


def rows_of(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return [row | {"day": date.fromisoformat(row["day"])} for row in rows]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with a table that version 1 wrote."""
    opened = Lake(str(tmp_path / "lakehouse" / "lake"))
    written(opened, NAME, contract(FIRST), *rows_of(*ROWS))
    return opened


@pytest.mark.parametrize("text", TYPES)
@settings(max_examples=soak_count(3, 50))
@given(data=st.data())
def test_an_added_column_is_null_before_and_stored_from_the_next_write(
    text: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("added")
    before, after = contract_with(), contract_with(text)
    table_of(before, folder).snapshot().append(
        pa.Table.from_pylist([{"part": "p", "id": 1}], before.arrow_schema), ["1"]
    )
    table = table_of(after, folder)
    assert table.to_polars().to_dicts() == [{"part": "p", "id": 1, "c0": None}]
    assert table.to_polars().schema["c0"] == parse_type(text).polars
    value = data.draw(values(parse_type(text)))
    added = pa.Table.from_pylist([{"part": "p", "id": 2, "c0": value}], after.arrow_schema)
    table.snapshot().append(added, ["2"])
    expected = (
        pa.Table.from_pylist([{"part": "p", "id": 1, "c0": None}], after.arrow_schema).to_pylist() + added.to_pylist()
    )
    with connect("") as connection:
        assert connection.execute(f"{table.snapshot().select()} ORDER BY id").to_arrow_table().to_pylist() == expected
    assert table.to_polars().sort("id").to_arrow().cast(after.arrow_schema).to_pylist() == expected


def test_the_version_of_the_contract_is_kept_with_the_table(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    table = written(lake, NAME, contract(SECOND, partition_by=["day"]))
    assert table.stored().contract_version == 2
    row = rows_of({"number": "1", "branch": "A", "day": "2024-01-02", "amount": 1})
    with with_contract(table.contract):
        table.snapshot().append(pa.Table.from_pylist(row, table.contract.arrow_schema), ["more"])
        table.snapshot().overwrite(pa.Table.from_pylist(row, table.contract.arrow_schema), "day = '2024-01-02'")
        # A column is added, after that which was there.
        wider = [*SECOND["columns"], {"name": "z", "type": "string", "nullable": True, "description": "Z."}]
        table.contract = contract(SECOND, partition_by=["day"], columns=wider)
        table.snapshot().append(table.contract.arrow_schema.empty_table(), ["wider"])
    maintain_table(table)
    delta = table.stored().delta
    assert delta is not None
    delta.create_checkpoint()
    assert "z" in [field.name for field in delta.schema().fields]
    assert table.stored().contract_version == 2


def test_a_table_of_an_earlier_version_is_refused_and_the_message_says_what_helps(lake: Lake) -> None:
    with (
        with_contract(contract(SECOND)),
        pytest.raises(TableOutdated, match=r"version 1 .* version 2: run `lakehouse migrate`"),
    ):
        lake.table(NAME).scan()
    with (
        with_contract(contract(SECOND, migrations=[])),
        pytest.raises(TableOutdated, match="LAKEHOUSE_HOME") as refused,
    ):
        lake.table(NAME).snapshot()
    assert "lakehouse migrate" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"columns": [*FIRST["columns"][:3], FIRST["columns"][3] | {"type": "bigint"}]},
            "price is stored as double, not as bigint",
        ),
        ({"partition_by": ["day"]}, "it is partitioned by branch, not by day"),
        ({"columns": [*FIRST["columns"], {"name": "b", "type": "string", "description": "B."}]}, "it lacks b"),
    ],
)
def test_a_breaking_change_without_a_new_version_is_refused(change: dict, why: str, lake: Lake) -> None:
    with with_contract(contract(FIRST, **change)), pytest.raises(TableOutdated, match=why):
        lake.table(NAME).snapshot()


def test_a_table_of_a_newer_version_can_be_read_and_not_written(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    newer = contract(
        FIRST, version=2, columns=[*FIRST["columns"], {"name": "b", "type": "string", "description": "B."}]
    )
    written(lake, NAME, newer, *(row | {"b": "x"} for row in rows_of(*ROWS)))
    with with_contract(contract(FIRST)):
        table = lake.table(NAME)
        assert table.to_polars().sort("number").to_dicts() == rows_of(*ROWS)
        for write in (
            lambda: table.snapshot().delete("number = '1'"),
            lambda: table.snapshot().append(table.contract.arrow_schema.empty_table(), ["x"]),
        ):
            with pytest.raises(TableNewer, match=r"version 2 .* version 1: update Lakehouse to write it"):
                write()
    with (
        with_contract(contract(FIRST | {"columns": SECOND["columns"]})),
        pytest.raises(TableNewer, match=r"lacks amount\. Update Lakehouse to read it"),
    ):
        lake.table(NAME).scan()


def test_migrations_are_made_one_after_another_in_one_commit(lake: Lake) -> None:
    with with_contract(contract(THIRD)):
        before = lake.table(NAME).stored().version
        assert before is not None
        (found,) = due(lake)
        assert (found.name, found.stored_version, found.version) == (NAME, 1, 3)
        assert str(found).splitlines()[1:] == [
            "  2: price becomes amount, a decimal; note is removed",
            "  3: partitioned by day, and keyed by it",
        ]
        told: list[tuple[str, int, int]] = []
        assert migrate_table(lake, NAME, lambda *progress: told.append(progress)) == 3
        assert (told[0], told[-1]) == ((NAME, 0, 0), (NAME, 3, 3))
        table = lake.table(NAME)
        assert (table.snapshot().version, table.snapshot().contract_version) == (before + 1, 3)
        rows = table.to_polars().sort("number")
        assert rows["amount"].to_list() == [Decimal("0.1"), Decimal("99999.99"), Decimal("-7.25")]
        assert rows["is_paid"].to_list() == [None, None, None]
        assert rows.columns == ["number", "branch", "day", "amount", "is_paid"]
        assert table.snapshot().partition_values("day") == ["2024-01-02", "2024-01-03"]
        with lake.connect() as connection:
            assert connection.execute(f"SELECT sum(amount) FROM ({table.snapshot().select()})").fetchone() == (
                Decimal("99992.84"),
            )
        # Once more is nothing.
        assert (migrate_table(lake, NAME), due(lake), table.snapshot().version) == (0, [], before + 1)
        later = pa.Table.from_pylist(
            rows_of({"number": "4", "branch": "A", "day": "2024-01-04", "amount": 1}), table.contract.arrow_schema
        )
        table.snapshot().append(later, ["more"])
        assert table.to_polars().height == 4


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ("SELECT * EXCLUDE (price, note), price AS amount FROM stored", r"amount is a DOUBLE, not a DECIMAL\(18,4\)"),
        ("SELECT * EXCLUDE (price, note) FROM stored", "amount is missing"),
        ("SELECT *, price::DECIMAL(18, 4) AS amount FROM stored", "price is not a column of the contract"),
        (
            "SELECT * EXCLUDE (price, note), NULL::DECIMAL(18, 4) AS amount FROM stored",
            r"amount is missing or not a decimal\(18,4\) \(3 rows\)",
        ),
        (
            "SELECT * EXCLUDE (price, note) REPLACE ('1' AS number), 1::DECIMAL(18, 4) AS amount FROM stored",
            "the key number is not unique",
        ),
    ],
)
def test_a_wrong_migration_changes_nothing(rows: str, why: str, lake: Lake) -> None:
    step = SECOND["migrations"][0] | {"rows": rows}
    with with_contract(contract(SECOND, migrations=[step])):
        before = lake.table(NAME).stored().version
        with pytest.raises(ContractError, match=why):
            migrate_table(lake, NAME)
        assert lake.table(NAME).stored().version == before


def test_a_row_that_comes_during_a_migration_is_migrated_too(lake: Lake) -> None:
    late = rows_of({"number": "4", "branch": "C", "day": "2024-01-05", "price": 4.5, "note": None})
    told: list[int] = []

    def append_once(name: str, done: int, total: int) -> None:
        told.append(done)
        if len(told) == 1:
            written(lake, NAME, contract(FIRST), *late)

    with with_contract(contract(SECOND)):
        assert migrate_table(lake, NAME, append_once) == 4
        assert sorted(lake.table(NAME).to_polars()["number"]) == ["1", "2", "3", "4"]


def test_a_version_from_before_a_migration_is_read_through_it(lake: Lake) -> None:
    """Also where the partitions are others now, and by the columns of the present version."""
    with with_contract(contract(THIRD)):
        table = lake.table(NAME)
        before = table.stored().version
        assert before is not None
        migrate_table(lake, NAME)
        past = table.at(version=before)
        assert past.contract_version == 1
        assert past.scan().collect().sort("number").equals(table.to_polars().sort("number"))
        with lake.connect() as connection:
            day = past.select({"day": [date(2024, 1, 2)]})
            stored = table.snapshot().select({"day": [date(2024, 1, 2)]})
            assert connection.execute(f"FROM ({day}) ORDER BY ALL").fetchall() == (
                connection.execute(f"FROM ({stored}) ORDER BY ALL").fetchall()
            )
            assert connection.execute(f"FROM ({past.select({'day': []})})").fetchall() == []


def test_a_parameter_that_no_source_fills_in_is_not_guessed(lake: Lake) -> None:
    step = SECOND["migrations"][0]
    asked = step | {"rows": step["rows"].replace("price::DECIMAL(18, 4)", "($price)::DECIMAL(18, 4)")}
    unknown = contract(SECOND, migrations=[asked])
    with with_contract(unknown):
        (found,) = due(lake)
        assert found.obstacle == "no defs.yaml that can be read describes shop; put its file back, or correct it"
        with pytest.raises(ContractError, match="that can be read describes shop"):
            migrate_table(lake, NAME)
        with pytest.raises(TableOutdated):
            lake.table(NAME).pinned(Pin(lake.table(NAME).stored().version)).snapshot()
    with with_contract(unknown.bound({}, parameters={"price": "price * 2"})):
        assert migrate_table(lake, NAME) == 3
        assert lake.table(NAME).to_polars().sort("number")["amount"].to_list()[0] == Decimal("0.2")


def test_a_writer_of_the_earlier_version_does_not_follow_a_migration(lake: Lake) -> None:
    """It took its snapshot before: the commit fails, and the next try is refused."""
    with with_contract(contract(FIRST)):
        old = lake.table(NAME)
        snapshot = old.snapshot()
    with with_contract(contract(SECOND)):
        migrate_table(lake, NAME)
    late = pa.Table.from_pylist(rows_of(ROWS[0] | {"number": "4"}), old.contract.arrow_schema)
    with pytest.raises(StaleSnapshot):
        snapshot.append(late, ["late"])
    with pytest.raises(TableNewer):
        old.snapshot()


def test_of_several_migrations_at_once_one_is_made(lake: Lake) -> None:
    with with_contract(contract(THIRD)):
        before = lake.table(NAME).stored().version
        assert before is not None
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(lambda _: migrate_table(lake, NAME), range(4)))
        assert sorted(done) == [0, 0, 0, 3]
        assert lake.table(NAME).snapshot().version == before + 1


def test_an_empty_table_is_migrated_too(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    written(lake, NAME, contract(FIRST))
    with with_contract(contract(THIRD)):
        assert migrate_table(lake, NAME) == 0
        assert lake.table(NAME).to_polars().is_empty()
        assert due(lake) == []


def test_migrations_lead_from_version_to_version() -> None:
    with pytest.raises(ValidationError, match=r"from the versions \[1\].*the last from 2"):
        contract(SECOND, version=3)
    with pytest.raises(ValidationError, match=r"the last from 0"):
        contract(SECOND, version=1)
    assert contract(THIRD).steps_from(3) == ()
    assert contract(SECOND, version=2, migrations=[]).steps_from(1) is None


def test_lakehouse_migrate_lists_what_is_due_and_does_it_when_asked(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(
        lake,
        "other/invoices",
        contract(SECOND),
        *({"number": "9", "branch": "A", "day": row["day"], "amount": 1} for row in rows_of(ROWS[0])),
    )

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["migrate", *arguments])
        return result.exit_code, " ".join(result.output.split())

    assert run() == (0, "Every table is as its contract says.")
    with with_contract(contract(SECOND)):
        for _ in range(2):
            status, said = run()
            assert status == 0
            assert said == (
                "shop/invoices: version 1 to 2 2: price becomes amount, a decimal; note is removed "
                "Nothing was changed; run lakehouse migrate --apply to change it."
            )
        status, said = run("--apply")
        assert (status, said.endswith("shop/invoices: 3 rows rewritten")) == (0, True)
        assert run("--apply") == (0, "Every table is as its contract says.")
        assert lake.table(NAME).to_polars().height == 3
    with with_contract(contract(SECOND, version=3, migrations=[])):
        status, said = run("--apply")
        assert status == 1
        assert "shop/invoices: version 2 to 3: has no migration; load its sources into a new lake" in said
