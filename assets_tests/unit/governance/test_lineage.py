"""Lineage by column: every column of every table and mart has one, and it goes back to what came from outside."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.governance import from_models
from lakehouse.governance.described import DescribedTable, UnknownTable, described_tables
from lakehouse.governance.from_contracts import lineage_of_contracts
from lakehouse.governance.from_models import lineage_of_models, traced
from lakehouse.governance.graph import whole_lineage
from lakehouse.governance.lineage import Branch, ColumnName, Lineage, Source, tree
from lakehouse.governance.models import models
from lakehouse.settings import Settings, settings
from lakehouse.warehouse.compiled import Compiled


@pytest.fixture
def tables(tmp_path: Path) -> list[DescribedTable]:
    (tmp_path / "lake").mkdir()
    return described_tables(Lake.open(tmp_path))


@pytest.fixture
def lineage(tables: list[DescribedTable], tmp_path: Path) -> Lineage:
    return whole_lineage(tables, Lake.open(tmp_path).config)


def fields(lineage: Lineage, column: str) -> set[str]:
    """The fields from outside that a column goes back to."""
    return {str(each) for each in lineage.all_up([lineage.column(column)]) if each.is_outside}


def test_every_column_has_a_lineage_or_is_declared_as_made_by_the_lake(
    lineage: Lineage, tables: list[DescribedTable]
) -> None:
    assert sorted(map(str, lineage.undeclared)) == []
    known = {ColumnName(table.sql_name, column.name) for table in tables for column in table.columns}
    assert known <= lineage.sources.keys()


def test_a_column_of_unknown_origin_is_undeclared_and_has_no_sources(tables: list[DescribedTable]) -> None:
    (bars,) = (table for table in tables if table.sql_name == "xetra.daily_bars")
    assert bars.contract is not None
    added = bars.contract.columns[-1].model_copy(update={"name": "of_unknown_origin", "made_from": None})
    changed = replace(bars, contract=bars.contract.model_copy(update={"columns": (*bars.contract.columns, added)}))

    lineage = lineage_of_contracts([table if table is not bars else changed for table in tables])

    name = ColumnName("xetra.daily_bars", "of_unknown_origin")
    assert lineage.undeclared == {name}
    assert lineage.sources[name] == ()


def test_every_source_of_a_column_exists(lineage: Lineage) -> None:
    named = {source.column for sources in lineage.sources.values() for source in sources}
    assert {str(each) for each in named if not each.is_outside and each not in lineage.sources} == set()


def test_every_column_that_a_contract_names_exists(tables: list[DescribedTable]) -> None:
    of_contracts = lineage_of_contracts(tables)
    named = {
        (table.contract.name, column.name, said)
        for table in tables
        if table.contract is not None and table.kind != "raw"
        for column in table.contract.columns
        for said in column.made_from or ()
    }
    found = {
        (table.contract.name, column.name, source.column.column)
        for table in tables
        if table.contract is not None
        for column in table.contract.columns
        for source in of_contracts.sources[ColumnName(table.sql_name, column.name)]
    }
    assert len(named) > 100
    assert {each for each in named if (*each[:2], each[2].rpartition(".")[2]) not in found} == set()


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        ("marts.fct_sale_line.amount", {"outside.retail.lines.Quantity", "outside.retail.lines.UnitPrice"}),
        (
            "marts.fct_daily_bar.close",
            {"outside.xetra.bars.EndPrice", "outside.alpha_vantage.bars.close", "outside.binance.bars.close"},
        ),
        ("marts.fct_quote_window.mean_price", {"outside.iex.quotes.latestPrice"}),
        ("marts.fct_loan_payment.paid", {"outside.banking.loan_payment.paid"}),
        ("marts.dim_issuer.legal_name", {"outside.gleif.entities.Entity.LegalName"}),
        ("orders.payments.amount", {"outside.orders.payments.amount"}),
        ("marts.fct_order.charged_amount", {"outside.orders.payments.amount"}),
        ("reference.lei_bic.bic", {"outside.gleif.bics.BIC"}),
        ("xetra.daily_bars.bar_count", set()),
    ],
)
def test_lineage__goes_back_to_the_fields(lineage: Lineage, column: str, wanted: set[str]) -> None:
    assert fields(lineage, column) >= wanted
    assert bool(fields(lineage, column)) == bool(wanted)


def test_lineage__of_every_fact_goes_back_to_fields(lineage: Lineage) -> None:
    facts = [model for model in models().values() if model.name.startswith("fct_")]
    for model in facts:
        columns = [column for column in model.columns if not fields(lineage, f"marts.{model.name}.{column.name}")]
        # What the lake says itself: names of sources, kinds, counts, and the single currency of a source.
        assert len(columns) <= len(model.columns) / 2, (model.name, [column.name for column in columns])


def test_lineage__goes_down_to_the_marts(lineage: Lineage) -> None:
    below = {str(each) for each in lineage.all_down([ColumnName("outside.retail.lines", "UnitPrice")])}
    assert {"retail.raw_lines.unit_price", "marts.fct_sale_line.amount", "marts.revenue.revenue"} <= below
    assert "marts.dim_country.country" not in below


def test_column__names_similar_ones(lineage: Lineage) -> None:
    with pytest.raises(UnknownTable, match=r"did you mean 'marts\.fct_daily_bar\.close'"):
        lineage.column("marts.fct_daily_bar.clse")


def test_tree__opens_a_column_once() -> None:
    a, b, c, d = (ColumnName("t", name) for name in "abcd")
    lineage = Lineage({a: (Source(b, True), Source(c, True)), b: (Source(d, True),), c: (Source(b, False),), d: ()})
    opened = Branch(b, (Branch(d),))
    assert tree(lineage, a, upwards=True) == Branch(a, (opened, Branch(c, (Branch(b, seen=True),))))
    assert tree(lineage, d, upwards=False).branches[0].column == b


def test_traced__follows_unions_by_name_stars_and_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    view = """
        SELECT 'x' AS source, * FROM lakehouse.x.one
        UNION ALL BY NAME SELECT 'y' AS source, 1 AS b, b AS a FROM (FROM lakehouse.y.two)
    """
    made = Compiled(
        models=dict.fromkeys(models(), "SELECT 1 AS one"),
        views={"k.both": view},
        tables={
            "x.one": {"a": "INTEGER", "b": "INTEGER"},
            "y.two": {"b": "INTEGER"},
            "k.both": {"source": "VARCHAR", "a": "INTEGER", "b": "INTEGER"},
            "k.made": {"c": "INTEGER"},
        },
    )
    found = traced(made, {"x.one": ["a", "b"], "y.two": ["b"]})
    assert found.sources[ColumnName("k.both", "source")] == ()
    assert found.sources[ColumnName("k.both", "a")] == (
        Source(ColumnName("x.one", "a"), True),
        Source(ColumnName("y.two", "b"), True),
    )
    assert found.sources[ColumnName("k.both", "b")] == (Source(ColumnName("x.one", "b"), True),)
    assert found.sources[ColumnName("k.made", "c")] == ()


def test_lineage_command__prints_a_tree_or_json(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["lineage", "marts.fct_sale_line.amount"])
    assert shown.exit_code == 0
    assert "Quantity of outside.retail.lines" in shown.output
    written = CliRunner().invoke(app, ["lineage", "retail.raw_lines.quantity", "--down", "--format", "json"])
    assert written.exit_code == 0
    said = json.loads(written.output)
    assert (said["table"], said["column"]) == ("retail.raw_lines", "quantity")
    assert {"table": "retail.sale_lines", "column": "amount"}.items() <= said["columns"][-1].items()
    unknown = CliRunner().invoke(app, ["lineage", "retail.raw_lines.quantiti"])
    assert unknown.exit_code == 2


def test_lineage_of_models__is_kept_for_each_set_of_descriptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two homes with other sources share the folder, and neither makes the other's lineage void."""
    made: list[str] = []
    present = ["one"]

    def compile_once(config: Settings) -> Compiled:
        made.append(present[0])
        return Compiled({}, {}, {present[0]: {"column": "VARCHAR"}})

    monkeypatch.setattr(from_models, "compiled", compile_once)
    monkeypatch.setattr(from_models, "described_digest", lambda config: present[0])
    monkeypatch.setattr(from_models, "beside_manifest", lambda config, name: tmp_path / name)
    found = {}
    for name in ("one", "other", "one", "other"):
        present[0] = name
        found[name] = lineage_of_models(settings(), {})
    assert made == ["one", "other"]
    assert found["one"] != found["other"]
    for number in range(from_models._MOST_KEPT):
        present[0] = str(number)
        lineage_of_models(settings(), {})
    assert len(list(tmp_path.iterdir())) == from_models._MOST_KEPT
