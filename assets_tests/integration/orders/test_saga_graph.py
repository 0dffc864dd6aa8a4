"""The saga as a graph: by the command, for all orders and one, and on the asset's page beside the time per step."""

from __future__ import annotations

import base64
from pathlib import Path
from xml.etree import ElementTree

import dagster as dg
import pytest
from typer.testing import CliRunner

from assets_tests.support.exchange_lake import code_location
from assets_tests.support.servers.postgres import EmbeddedPostgres, copy_of
from assets_tests.support.shop_orders import make_shop, request, run_to, submit
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.cli.app import app
from lakehouse.derive.captured import CapturedSource
from lakehouse.domains.orders.graph import ENDS, START, STEPS, TRANSITIONS
from lakehouse.ingest.postgres.capture import capture

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_graph__as_mermaid_and_svg(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["orders", "graph"])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert "  pay --> book" in lines
    assert "  charge -->|declined| release" in lines
    assert len([line for line in lines if "-->" in line]) == len(TRANSITIONS)
    target = tmp_path / "saga.svg"
    assert CliRunner().invoke(app, ["orders", "graph", "-o", str(target)]).exit_code == 0
    assert {START, *ENDS, *STEPS} <= {*texts(target.read_text())}


def test_transitions__lead_from_the_request_to_an_end() -> None:
    assert {place for pair in TRANSITIONS for place in pair} == {START, *ENDS, *STEPS}
    assert {end for _, end in TRANSITIONS} - {start for start, _ in TRANSITIONS} == {*ENDS}


def test_pages__have_the_saga_and_the_time_per_step(
    embedded_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copy_of(embedded_postgres.server, "orders_shop", make_shop) as shop:
        monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", shop.url)
        submit(shop, request("a"))
        with shop.connect() as connection:
            run_to(connection, "a", "shipped")
        unknown = CliRunner().invoke(app, ["orders", "graph", "b"])
        assert (unknown.exit_code, "There is no order b" in unknown.output) == (1, True)
        source = described_source("orders")
        assert isinstance(source, CapturedSource)
        capture(Lake.present(), source.of)
        assets = code_location().get_repository_def().assets_defs_by_key[dg.AssetKey(["orders", "orders"])]

        def pages() -> dict[str, dict[str, dg.MetadataValue]]:
            with dg.DagsterInstance.ephemeral() as instance:
                result = dg.materialize([assets], instance=instance)
            found = result.asset_materializations_for_node("orders_current")
            return {page.asset_key.path[-1]: dict(page.metadata) for page in found}

        shown = pages()
        drawing = str(shown["orders"]["saga"].value).partition("base64,")[2].removesuffix(")")
        assert {START, *ENDS, *STEPS} <= {*texts(base64.b64decode(drawing).decode())}
        assert "![time per step](data:image/svg+xml;base64," in str(shown["events"]["time_per_step"].value)
        again = pages()
        assert "saga" not in again["orders"], "nothing changed, so nothing is drawn"
