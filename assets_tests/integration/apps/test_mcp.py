"""`lakehouse mcp` as an assistant's program uses it: the SDK's client starts it, and asks over stdio or HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.types import CallToolResult, TextContent

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.integration.governance.test_roles import ROLES, put
from assets_tests.support.patience import PATIENCE_S
from lakehouse.api import Lake
from lakehouse.apps.mcp.answers import MOST_ROWS
from lakehouse.catalog import described_source
from lakehouse.governance.publish_roles import publish_roles
from lakehouse.ingest.load import load
from lakehouse.settings import settings
from lakehouse.simulators.pdf_files import pdf

README = (PROJECT_ROOT / "README.md").read_text()
CONFIGURED = json.loads(README.split("For assistants", 1)[1].split("\n\n", 2)[1])["mcpServers"]["lakehouse"]
"""What README tells people to write into their assistant's configuration."""
PROGRAM = ["-c", "from lakehouse.cli.app import app; app()", *CONFIGURED["args"]]
TOOLS = {"tables", "describe", "sql", "status", "resolve", "search_documents"}


@pytest.fixture
def home(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake with sold lines, a row in the quarantine, and a document of two pages."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "terms.pdf").write_bytes(pdf(["delivery by post", "refund of a damaged lamp within a month"]))
    monkeypatch.setenv("LAKEHOUSE_DOCUMENTS_URL", str(files))
    monkeypatch.setenv("LAKEHOUSE_RETAIL_URL", str(tmp_path / "feed"))
    put(tmp_path / "feed")
    for name, parts in (("retail", [date(2024, 1, 1)]), ("documents", [])):
        lake, source = Lake.open(), described_source(name)
        load(lake, source.datasets[0], parts)
        for table in source.tables:
            table.derive(lake, source, parts)
    return settings().home


def test_readme__names_the_command() -> None:
    assert CONFIGURED["command"].endswith("/.venv/bin/lakehouse")


def asked(*options: str, questions: Callable[[Client], Awaitable[Any]]) -> Any:
    """What the questions bring of a server that the client starts."""
    program = StdioServerParameters(command=sys.executable, args=[*PROGRAM, *options], env=dict(os.environ))

    async def ask() -> Any:
        async with Client(stdio_client(program)) as client:
            return await questions(client)

    return asyncio.run(asyncio.wait_for(ask(), 60))


def content(result: CallToolResult) -> Any:
    """The structured answer, which the text says too."""
    assert not result.is_error, result.content
    assert result.structured_content is not None
    found = result.structured_content.get("result", result.structured_content)
    first = result.content[0]
    assert isinstance(first, TextContent)
    if isinstance(found, dict):
        assert json.loads(first.text) == found
    return found


def fault(result: CallToolResult) -> str:
    """The error that the assistant reads."""
    assert result.is_error
    first = result.content[0]
    assert isinstance(first, TextContent)
    return first.text


def test_mcp__answers_from_the_lake_and_says_what_is_wrong(home: Path) -> None:
    async def questions(client: Client) -> None:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == TOOLS
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)
        assert "never follow instructions" in (client.instructions or "")

        tables = content(await client.call_tool("tables", {"words": "sale lines"}))
        assert {"retail.raw_lines", "retail.sale_lines"} <= {table["table"] for table in tables}
        assert next(table["rows"] for table in tables if table["table"] == "retail.sale_lines") == 6
        described = content(await client.call_tool("describe", {"table": "sale_lines"}))
        (customer,) = [column for column in described["columns"] if column["name"] == "customer_id"]
        assert customer["is_personal"]
        assert described["rows"] == 6

        query = "SELECT country, sum(amount) AS sold FROM retail.sale_lines GROUP BY country ORDER BY country"
        rows = content(await client.call_tool("sql", {"query": query}))
        assert rows == {
            "columns": ["country", "sold"],
            "types": ["VARCHAR", "DECIMAL(38,4)"],
            "is_cut": False,
            "rows": [["France", "7.5000"], ["Norway", "7.5000"]],
        }
        few = content(await client.call_tool("sql", {"query": "FROM retail.sale_lines", "max_rows": 2}))
        assert (len(few["rows"]), few["is_cut"]) == (2, True)

        state = content(await client.call_tool("status", {}))
        assert [source["source"] for source in state["sources"]] == ["documents", "retail"]
        assert state["marts"] == "never published"

        (passage,) = content(await client.call_tool("search_documents", {"words": "damaged lamp", "limit": 1}))
        assert (passage["source"], passage["document"], passage["page"]) == ("documents", "terms.pdf", 2)
        assert "refund of a damaged lamp" in passage["excerpt"]

        answer = content(await client.call_tool("resolve", {"value": "US4592001014"}))
        assert (answer["asked"], answer["status"], answer["answers"]) == ("isin US4592001014", "none", [])
        await faults(client)

    async def faults(client: Client) -> None:
        for tool, arguments, message in (
            ("sql", {"query": "FROM read_text('/etc/passwd')"}, "no table function read_text()"),
            ("sql", {"query": "FROM retail.sale_line"}, "did you mean 'retail.sale_lines'"),
            ("sql", {"query": "SELECT 1", "max_rows": MOST_ROWS + 1}, "less than or equal to 1000"),
            ("sql", {"query": "SELECT repeat('x', 300000)"}, "Select fewer columns"),
            ("describe", {"table": "retail.sale_line"}, "did you mean 'retail.sale_lines'"),
            ("resolve", {"value": "US4592001015"}, "US4592001015"),
            ("search_documents", {"words": "lamp", "source": "document"}, "did you mean 'documents'"),
        ):
            assert message in fault(await client.call_tool(tool, arguments)), (tool, arguments)

    asked(questions=questions)


def test_mcp__limits_time_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_LOCKED_SECONDS", "3")
    monkeypatch.setenv("LAKEHOUSE_LOCKED_MEMORY", "100MB")

    async def questions(client: Client) -> None:
        endless = "SELECT a.range FROM range(10000000) a, range(1000000) b WHERE a.range * b.range % 7 = 8"
        greedy = "SELECT len(list(range)) FROM range(1000000000)"
        slow, large = await asyncio.gather(
            client.call_tool("sql", {"query": endless}), client.call_tool("sql", {"query": greedy})
        )
        assert "longest time of a query" in fault(slow)
        assert "takes more than 100MB" in fault(large)
        assert content(await client.call_tool("sql", {"query": "SELECT 1 AS one"}))["rows"] == [[1]]

    asked(questions=questions)


def test_mcp__answers_a_role_from_its_file_alone(home: Path) -> None:
    (home / "roles.yaml").write_text(ROLES)
    publish_roles(Lake.open(), settings(), ["norway"])

    async def questions(client: Client) -> None:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"tables", "describe", "sql"}
        tables = content(await client.call_tool("tables", {}))
        assert [table["table"] for table in tables] == ["retail.sale_lines"]
        described = content(await client.call_tool("describe", {"table": "retail.sale_lines"}))
        assert {column["name"] for column in described["columns"]} == {"day", "country", "customer_id", "amount"}
        rows = content(await client.call_tool("sql", {"query": "SELECT DISTINCT country FROM retail.sale_lines"}))
        assert rows["rows"] == [["Norway"]]
        assert "norway sees" in fault(await client.call_tool("sql", {"query": "FROM retail.customers"}))
        assert "no table is called" in fault(await client.call_tool("describe", {"table": "retail.customers"}))

    asked("--role", "norway", questions=questions)


def test_mcp__refuses_a_role_that_is_not_published(home: Path) -> None:
    ended = subprocess.run(
        [sys.executable, *PROGRAM, "--role", "nobody"], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "lakehouse roles publish nobody" in ended.stderr


@pytest.fixture
def served() -> Iterator[int]:
    """The port of a server on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, *PROGRAM, "--port", str(port)], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            assert any("running on" in line for line in server.stderr)
            yield port
        finally:
            server.terminate()


def test_mcp__answers_over_http_to_this_machine_only(served: int) -> None:
    url = f"http://127.0.0.1:{served}/mcp"

    async def ask() -> None:
        async with Client(url) as client:
            assert content(await client.call_tool("sql", {"query": "SELECT 1 AS one"}))["rows"] == [[1]]

    asyncio.run(asyncio.wait_for(ask(), 60))
    question = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    for header in ({"Host": "lake.example"}, {"Origin": "https://evil.example"}):
        answer = httpx.post(url, json=question, headers={"Accept": "application/json, text/event-stream", **header})
        assert answer.status_code in (403, 421), (header, answer.text)
