"""OpenLineage events: what they say, and that sending them never fails a run."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator
from openlineage.client.serde import Serde

from lakehouse.api import Lake
from lakehouse.governance.described import DescribedTable, described_tables, table_named
from lakehouse.governance.from_contracts import lineage_of_contracts
from lakehouse.governance.lineage import ColumnName, Source
from lakehouse.governance.openlineage import run_events, tell

STARTED = datetime(2024, 3, 28, 9, tzinfo=UTC)
RUN = str(uuid4())

_FACETS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "properties": {"_producer": {"format": "uri"}, "_schemaURL": {"format": "uri"}},
        "required": ["_producer", "_schemaURL"],
    },
}
_NAMED = {
    "type": "object",
    "properties": {"namespace": {"type": "string"}, "name": {"type": "string"}, "facets": _FACETS},
    "required": ["namespace", "name"],
}
_RUN_EVENT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "format": "date-time"},
        "producer": {"type": "string", "format": "uri"},
        "schemaURL": {"type": "string", "format": "uri"},
        "run": {
            "type": "object",
            "properties": {"runId": {"type": "string", "format": "uuid"}, "facets": _FACETS},
            "required": ["runId"],
        },
        "job": _NAMED,
        "inputs": {"type": "array", "items": _NAMED},
        "outputs": {"type": "array", "items": _NAMED},
    },
    "required": ["run", "job", "eventTime", "producer", "schemaURL"],
}
"""What the standard demands of a run's event: https://openlineage.io/spec/2-0-2/OpenLineage.json"""


@pytest.fixture
def table(tmp_path: Path) -> DescribedTable:
    (tmp_path / "lake").mkdir()
    return table_named(described_tables(Lake.open(tmp_path)), "retail.sale_lines")


@pytest.fixture
def sources(table: DescribedTable, tmp_path: Path) -> dict[str, tuple[Source, ...]]:
    lineage = lineage_of_contracts(described_tables(Lake.open(tmp_path)))
    return {column.name: lineage.sources[ColumnName(table.sql_name, column.name)] for column in table.columns}


class Received(BaseHTTPRequestHandler):
    """Keeps what it is sent; answers with `status`."""

    status = 200
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[Received]]]:
    handler = type("Handler", (Received,), {"bodies": []})
    with HTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", handler
        listening.shutdown()
        thread.join()


def test_run_events__have_schema_inputs_and_column_lineage(
    table: DescribedTable, sources: dict[str, tuple[Source, ...]]
) -> None:
    start, end = (json.loads(Serde.to_json(event)) for event in run_events(table, sources, RUN, STARTED, STARTED))
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"]
    assert end["run"]["facets"]["parent"]["run"]["runId"] == RUN
    assert [each["name"] for each in end["inputs"]] == ["retail.raw_lines"]
    (output,) = end["outputs"]
    assert (output["namespace"], output["name"]) == ("lakehouse", "retail.sale_lines")
    types = {each["name"]: each["type"] for each in output["facets"]["schema"]["fields"]}
    assert types["amount"] == "decimal(18,4)"
    fields = output["facets"]["columnLineage"]["fields"]
    assert {each["field"] for each in fields["amount"]["inputFields"]} == {"quantity", "unit_price"}
    assert fields["country"]["inputFields"][0]["transformations"][0]["subtype"] == "IDENTITY"


def test_run_events__are_valid_by_the_standard(table: DescribedTable, sources: dict[str, tuple[Source, ...]]) -> None:
    validator = Draft202012Validator(_RUN_EVENT, format_checker=Draft202012Validator.FORMAT_CHECKER)
    told = [json.loads(Serde.to_json(event)) for event in run_events(table, sources, RUN, STARTED, STARTED)]
    assert [error.message for event in told for error in validator.iter_errors(event)] == []
    told[0]["run"]["runId"] = "no UUID"
    del told[1]["outputs"][0]["facets"]["schema"]["_schemaURL"]
    assert [len(list(validator.iter_errors(event))) for event in told] == [1, 1]


def test_tell__appends_to_a_file(table: DescribedTable, sources: dict[str, tuple[Source, ...]], tmp_path: Path) -> None:
    file = tmp_path / "made" / "events.jsonl"
    for _ in range(2):
        tell(str(file), table, sources, RUN, STARTED)
    assert [json.loads(line)["eventType"] for line in file.read_text().splitlines()] == ["START", "COMPLETE"] * 2


def test_tell__posts_to_a_server(
    table: DescribedTable, sources: dict[str, tuple[Source, ...]], server: tuple[str, type[Received]]
) -> None:
    url, handler = server
    tell(url, table, sources, RUN, STARTED)
    assert [json.loads(body)["job"]["name"] for body in handler.bodies] == ["retail.sale_lines"] * 2


def test_tell__logs_what_a_server_refuses(
    table: DescribedTable,
    sources: dict[str, tuple[Source, ...]],
    server: tuple[str, type[Received]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    url, handler = server
    handler.status = 401
    with caplog.at_level(logging.WARNING):
        tell(url, table, sources, RUN, STARTED)
    assert "lineage could not be sent to http://127.0.0.1" in caplog.text


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "/dev/null/events.jsonl"])
def test_tell__never_fails(
    table: DescribedTable, sources: dict[str, tuple[Source, ...]], url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tell(url, table, sources, RUN, STARTED)
    assert "correct LAKEHOUSE_OPENLINEAGE_URL" in caplog.text


def test_tell__says_what_to_install(
    table: DescribedTable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.startswith("openlineage")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openlineage", None)
    with caplog.at_level(logging.WARNING):
        tell("/tmp/x.jsonl", table, {}, RUN, STARTED)
    assert "pip install 'lakehouse[lineage]'" in caplog.text
