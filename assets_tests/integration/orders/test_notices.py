"""Notices leave once: to a file, a mail server and a webhook on loopback, also when the sender is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from assets_tests.support.patience import PATIENCE_S, wait_until
from assets_tests.support.servers.mail import mail_server
from assets_tests.support.servers.webhook import webhook
from assets_tests.support.shop_orders import place_of, request, run_to, submit
from lakehouse.domains.orders.notices import begin, send_left, send_waiting
from lakehouse.servers.postgres import Database
from lakehouse.sinks import Sink, SinkFault, SinkUnavailable

STAGES = ("acknowledged", "paid", "booked", "shipped")
SENDER = """
import sys, threading
from pathlib import Path
from lakehouse.domains.orders.notices import relay
from lakehouse.sinks import Sink
from lakehouse.servers.postgres import Place
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
relay(Place(Path("/nonexistent"), sys.argv[1]), Sink(sys.argv[2]), stop)
"""


def fill(shop: Database, *keys: str) -> None:
    """Orders that are shipped."""
    begin(place_of(shop))
    submit(shop, *(request(key) for key in keys))
    with shop.connect() as connection:
        for key in keys:
            run_to(connection, key, "shipped")


def keys_of(*orders: str) -> list[str]:
    return [f"{order}:{stage}" for order in orders for stage in STAGES]


def written(path: Path) -> list[str]:
    return [json.loads(line)["key"] for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def sender(shop: Database, setting: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that gives notices to a sink, until the block ends or it is killed."""
    child = subprocess.Popen([sys.executable, "-c", SENDER, shop.url, setting], stdin=subprocess.PIPE)
    try:
        yield child
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait(PATIENCE_S)


def test_send_left__sends_what_stopped_workers_left(shop: Database, tmp_path: Path) -> None:
    keys = [f"left-{number}" for number in range(3)]
    fill(shop, *keys)
    sink = Sink(str(tmp_path / "notices.jsonl"))
    send_left(place_of(shop), sink)
    assert sorted(written(tmp_path / "notices.jsonl")) == sorted(keys_of(*keys))
    send_left(place_of(shop), sink)
    assert len(written(tmp_path / "notices.jsonl")) == len(keys_of(*keys))


def send(connection: psycopg.Connection, setting: str) -> int:
    with Sink(setting).opened() as outlet:
        return send_waiting(connection, outlet)


def refusals(connection: psycopg.Connection) -> list[str]:
    return [why for (why,) in connection.execute("SELECT refusal FROM orders.notices_sent WHERE refusal IS NOT NULL")]


def test_file__each_notice_once_whatever_is_killed(shop: Database, tmp_path: Path) -> None:
    fill(shop, "a", "b")
    path = tmp_path / "notices.jsonl"
    with shop.connect() as blocking:
        blocking.execute("LOCK TABLE orders.notices_sent IN SHARE MODE")
        with sender(shop, str(path)) as child:
            wait_until(lambda: len(written(path)) == 1)
            child.kill()
            child.wait()
    with path.open("a") as file:
        file.write('{"key": "a:pa')
    with sender(shop, str(path)):
        wait_until(lambda: path.read_text().count('"b:shipped"') == 1)
    lines = path.read_text().splitlines()
    assert [json.loads(line)["key"] for line in (lines[0], *lines[2:])] == keys_of("a", "b")
    first = json.loads(lines[0])
    assert (first["stage"], first["email"]) == ("acknowledged", "ada.lindqvist@example.com")
    assert first["text"] == "Your order has been received and is currently being processed."


def test_file__another_process_has_it(shop: Database, tmp_path: Path) -> None:
    sink = Sink(str(tmp_path / "notices.jsonl"))
    with (
        sink.opened(),
        pytest.raises(SinkUnavailable, match="Another process writes to"),
        sink.opened(),
    ):
        pass


def test_webhook__is_sent_the_same_key_again_after_a_kill(shop: Database) -> None:
    fill(shop, "a")
    received: list[str] = []
    victim: list[subprocess.Popen[bytes]] = []

    def answer(notice: dict[str, Any], key: str) -> int:
        assert key == notice["key"]
        received.append(key)
        if len(received) == 3:
            # Taken, but the sender doesn't live to mark it.
            wait_until(lambda: bool(victim))
            victim[0].kill()
            victim[0].wait()
        return 204

    with webhook(answer) as url:
        with sender(shop, url) as child:
            victim.append(child)
            wait_until(lambda: child.poll() is not None)
        with sender(shop, url):
            wait_until(lambda: "a:shipped" in received)
    assert received == ["a:acknowledged", "a:paid", "a:booked", "a:booked", "a:shipped"]


def test_webhook__refused_and_put_off(shop: Database) -> None:
    fill(shop, "a", "é 1")
    statuses = {"a:paid": 422, "é 1:booked": 503}
    received: list[str] = []

    def answer(notice: dict[str, Any], key: str) -> int:
        received.append(key)
        return statuses.get(notice["key"], 200)

    with webhook(answer) as url, shop.connect(autocommit=True) as connection:
        with pytest.raises(SinkUnavailable, match="status 503"):
            send(connection, url)
        assert refusals(connection) == ["the webhook answers with status 422"]
        statuses.clear()
        assert send(connection, url) == 2
        assert send(connection, url) == 0
    assert received[4:] == [
        "%C3%A9%201:acknowledged",
        "%C3%A9%201:paid",
        *["%C3%A9%201:booked"] * 2,
        "%C3%A9%201:shipped",
    ]


def test_mail__has_the_key_and_reaches_the_customer(shop: Database) -> None:
    fill(shop, "a")
    submit(shop, request("b", customer_id=2), request("c", customer_id=3))
    with mail_server() as server, shop.connect(autocommit=True) as connection:
        setting = f"smtp://127.0.0.1:{server.port}?from=shop@example.com"
        assert send(connection, setting) == 4
        assert [mail["Idempotency-Key"] for mail in server.mails] == keys_of("a")
        first = server.mails[0]
        assert (first["From"], first["To"], first["Message-ID"]) == (
            "shop@example.com",
            "ada.lindqvist@example.com",
            "<a%3Aacknowledged@orders.lakehouse>",
        )
        assert first.get_content().strip() == "Your order has been received and is currently being processed."
        run_to(connection, "b", "acknowledged")
        run_to(connection, "c", "acknowledged")
        server.unknown.add("ben.okafor@example.com")
        server.busy.add("clara.rossi@example.com")
        with pytest.raises(SinkUnavailable, match="451 later"):
            send(connection, setting)
        assert refusals(connection) == ["the mail server answers 550 no such user"]
        server.busy.clear()
        assert send(connection, setting) == 1
    with shop.connect(autocommit=True) as connection:
        submit(shop, request("d"))
        run_to(connection, "d", "acknowledged")
        with pytest.raises(SinkUnavailable, match="can't be used"):
            send(connection, setting)


def test_notices_from_before_the_first_sink_stay(shop: Database, tmp_path: Path) -> None:
    submit(shop, request("early"))
    with shop.connect(autocommit=True) as connection:
        run_to(connection, "early", "shipped")
        fill(shop, "late")
        assert send(connection, str(tmp_path / "notices.jsonl")) == 4
    assert written(tmp_path / "notices.jsonl") == keys_of("late")


@pytest.mark.parametrize(
    ("setting", "cause"),
    [
        ("ftp://host/file", "is no sink"),
        ("https:///path", "is no sink"),
        (
            "smtp://me:secret@mail.example.com",
            r"'smtp://me:\*\*\*@mail.example.com', which sends a password",
        ),
    ],
)
def test_sink__says_what_is_wrong(setting: str, cause: str) -> None:
    with pytest.raises(SinkFault, match=cause):
        Sink(setting)
