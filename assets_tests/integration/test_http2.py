"""A feed whose vendor speaks HTTP/2: all symbols over one connection; and what a vendor is refused for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypercorn.asyncio import serve
from hypercorn.config import Config

from lakehouse.catalog import feed_named
from lakehouse.domains.market.quotes.poller import Poller
from lakehouse.settings import settings

SYMBOLS = [f"S{number}" for number in range(20)]
UPDATED = int(datetime(2026, 3, 2, 15, 0, tzinfo=UTC).timestamp() * 1000)


class Vendor:
    """Answers every symbol over TLS, and notes over which protocol and connection it was asked."""

    def __init__(self, folder: Path, protocols: list[str]) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "authority.pem")
        certificate = authority.issue_cert("localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "vendor.pem")
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.config = Config()
        self.config.bind = [f"127.0.0.1:{self.port}"]
        self.config.certfile = self.config.keyfile = str(folder / "vendor.pem")
        self.config.alpn_protocols = protocols
        self.config.errorlog = None
        self.asked: list[tuple[str, str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        symbol = scope["path"].split("/")[2]
        self.asked.append((symbol, scope["http_version"], scope["client"]))
        body = f'{{"symbol": "{symbol}", "latestPrice": 10.5, "latestUpdate": {UPDATED}}}'.encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    monkeypatch.setenv("IEX_TOKEN", "a-token-of-the-tests")
    monkeypatch.setenv("LAKEHOUSE_IEX_SYMBOLS", ",".join(SYMBOLS))
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()


async def polled(vendor: Vendor, rounds: int) -> Poller:
    """A poller that has asked that vendor so often."""
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(vendor, vendor.config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    try:
        while not await _listens(vendor.port):
            await asyncio.sleep(0.02)
        async with Poller(feed_named("iex")) as poller:
            for _ in range(rounds):
                await asyncio.wait(poller.ask_all(datetime.now(UTC), 10))
    finally:
        stop.set()
        await serving
    return poller


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize(("offered", "spoken"), [(["h2", "http/1.1"], "2"), (["http/1.1"], "1.1")])
def test_the_vendor_chooses_the_protocol(
    environment: pytest.MonkeyPatch, tmp_path: Path, offered: list[str], spoken: str
) -> None:
    vendor = Vendor(tmp_path, offered)
    environment.setenv("LAKEHOUSE_IEX_URL", f"https://localhost:{vendor.port}")
    poller = asyncio.run(polled(vendor, 3))

    assert sorted(item.asked or "" for item in poller.inbox.heard) == sorted(SYMBOLS * 3)
    assert {version for _, version, _ in vendor.asked} == {spoken}
    connections = {client for *_, client in vendor.asked}
    # One connection carries all symbols, or each of a pool's carries a symbol at a time, round after round.
    assert len(connections) == 1 if spoken == "2" else len(connections) <= len(SYMBOLS)


def test_a_vendor_who_is_not_trusted_is_not_asked(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    vendor = Vendor(tmp_path, ["h2"])
    environment.setenv("LAKEHOUSE_IEX_URL", f"https://localhost:{vendor.port}")
    trustme.CA().cert_pem.write_to_path(tmp_path / "authority.pem")
    poller = asyncio.run(polled(vendor, 1))

    assert vendor.asked == []
    assert poller.inbox.heard == []
    assert {error.symbol for error in poller.inbox.errors} == set(SYMBOLS)
    assert "certificate" in poller.inbox.errors[0].error
    assert "a-token" not in "".join(error.error for error in poller.inbox.errors)
