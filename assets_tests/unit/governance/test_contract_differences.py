"""Two versions of contracts: which differences break readers, and which columns downstream."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.governance.contract_differences import differences, read_documents
from lakehouse.governance.described import described_tables, table_named
from lakehouse.governance.odcs import Document, odcs, odcs_text
from lakehouse.lake.contract import ContractError

TABLE = "retail.sale_lines"


@pytest.fixture
def old(tmp_path: Path) -> Document:
    (tmp_path / "lake").mkdir()
    return odcs(table_named(described_tables(Lake.open(tmp_path)), TABLE))


def column(document: Document, name: str) -> dict[str, Any]:
    return next(each for each in document["schema"][0]["properties"] if each["name"] == name)


def changed(old: Document, change: Callable[[Document], object]) -> list[tuple[str | None, bool]]:
    new = deepcopy(old)
    change(new)
    return [(each.column, each.breaks) for each in differences({TABLE: old}, {TABLE: new})]


def test_differences__of_the_same(old: Document) -> None:
    assert changed(old, lambda new: None) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda new: new["schema"][0]["properties"].remove(column(new, "amount")), [("amount", True)]),
        (lambda new: new["schema"][0]["properties"].append(column(new, "amount") | {"name": "x"}), [("x", False)]),
        (lambda new: column(new, "amount").update(physicalType="double"), [("amount", True)]),
        (lambda new: column(new, "amount").update(physicalType="decimal(20,4)"), [("amount", False)]),
        (lambda new: column(new, "amount").update(physicalType="decimal(20,2)"), [("amount", True)]),
        (lambda new: column(new, "amount").update(required=False), [("amount", True)]),
        (lambda new: column(new, "description").update(required=True), [("description", False)]),
        (lambda new: column(new, "amount").pop("customProperties"), [("amount", True)]),
        (lambda new: column(new, "country").update(description="Other words."), [("country", False)]),
        (lambda new: column(new, "country").update(classification="restricted"), [("country", False)]),
        (
            lambda new: column(new, "country").update(customProperties=[{"property": "pii", "value": True}]),
            [("country", True)],
        ),
        (lambda new: column(new, "day").update(primaryKey=True, primaryKeyPosition=2), [(None, True)]),
        (lambda new: new["schema"][0]["quality"].pop(), [(None, True)]),
        (lambda new: new["team"].update(name="team:others"), [(None, False)]),
        (lambda new: new["slaProperties"][0].update(value="daily"), [(None, False)]),
    ],
)
def test_differences__tell_what_breaks_readers(
    old: Document, change: Callable[[Document], object], found: list[tuple[str | None, bool]]
) -> None:
    assert changed(old, change) == found


def test_differences__of_whole_tables(old: Document) -> None:
    assert [each.breaks for each in differences({TABLE: old}, {})] == [True]
    assert [each.breaks for each in differences({}, {TABLE: old})] == [False]


@pytest.mark.slow
def test_diff__names_what_is_downstream_and_exits_with_1(old: Document, tmp_path: Path) -> None:
    file, later = tmp_path / "old.yaml", tmp_path / "new.yaml"
    file.write_text(odcs_text([old]))
    same = CliRunner().invoke(app, ["contract", "diff", str(file)])
    assert (same.exit_code, same.output) == (0, "The contracts are the same.\n")
    column(old, "amount")["physicalType"] = "double"
    later.write_text(odcs_text([old]))
    broken = CliRunner().invoke(app, ["contract", "diff", str(file), str(later)])
    assert broken.exit_code == 1
    assert "BREAKS  retail.sale_lines.amount: the type was decimal(18,4) and is double" in broken.output
    assert "marts.fct_sale_line.amount" in broken.output
    assert "marts.revenue.revenue" in broken.output
    assert "marts.dim_country" not in broken.output


def test_read_documents__explains_what_is_none(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="has no exported contracts"):
        read_documents(tmp_path)
    (tmp_path / "other.yaml").write_text("a: 1")
    with pytest.raises(ContractError, match="is no exported contract"):
        read_documents(tmp_path / "other.yaml")
