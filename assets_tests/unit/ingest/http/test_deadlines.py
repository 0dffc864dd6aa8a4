"""A vendor that drips, can't be reached, or is asked for hours: a request and a run end all the same. And a key that is
sent in clear text is warned of.
"""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack
from typing import Literal

import pytest

from assets_tests.support.scripted_vendor import ASKED, FORMS, KEY, Reply, Vendor, api, ask, client_of
from lakehouse.errors import NoAnswer, RunOver, Unreachable
from lakehouse.ingest.http import config as api_config
from lakehouse.ingest.http import connection as api_module


@pytest.mark.parametrize("drips", ["head", "body"])
def test_an_answer_that_drips_is_given_up_at_its_deadline(vendor: Vendor, drips: Literal["head", "body"]) -> None:
    vendor.otherwise = Reply(drips=drips)
    started = time.monotonic()
    with pytest.raises(NoAnswer, match=r"after 1 try; the last met an answer that was not whole within 0\.3 s"):
        ask(vendor, answer_timeout_s=0.3, max_attempts=1)
    assert time.monotonic() - started < 3


def test_a_run_asks_no_longer_than_it_may(vendor: Vendor) -> None:
    vendor.otherwise = Reply(drips="body")
    with client_of(api(vendor.url, run_timeout_s=0.3, max_attempts=9), key=KEY) as client:
        for _ in range(2):
            with pytest.raises(RunOver, match=r"the 0\.3 s for which a run may send requests are over "):
                client.get(ASKED)
    assert len(vendor.asked) == 1


def test_a_vendor_that_lets_nobody_connect_is_reported_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a host that drops packets: the queue of connections is full. The plan's rate, one request a minute, is not
    waited for, and it isn't what has to be changed.
    """
    assert api_module.CONNECT_TRIES_S <= 15
    monkeypatch.setattr(api_module, "CONNECT_S", 0.2)
    monkeypatch.setattr(api_module, "CONNECT_TRIES_S", 1.5)
    monkeypatch.setattr(api_module, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(api_config, "LOOPBACK", ())
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/query"
        started = time.monotonic()
        with (
            client_of(api(url, requests_per_minute=1, max_attempts=50, timeout_s=60.0), key=KEY) as client,
            pytest.raises(Unreachable) as raised,
        ):
            client.get(ASKED)
    assert time.monotonic() - started < 5
    message = str(raised.value)
    assert re.match(r"vendor can't be reached after [2-9] tries; the last met silence: no connection within", message)
    assert "LAKEHOUSE_VENDOR_URL" in message
    assert "requests_per_minute" not in message


@pytest.mark.parametrize(
    ("url", "key", "warns"),
    [
        ("http://vendor.example/query", KEY, True),
        ("https://vendor.example/query", KEY, False),
        ("http://127.0.0.1:1/query", KEY, False),
        ("http://vendor.example/query", None, False),
    ],
)
def test_a_key_that_is_sent_in_clear_text_is_warned_of_once(
    url: str, key: str | None, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    api_config._warn_of_open_key.cache_clear()
    entries = {} if key else {"key": None}
    for _ in range(2):
        client_of(api(url, **entries), key=key)
    found = [record.getMessage() for record in caplog.records]
    said = "vendor sends the key in VENDOR_API_KEY to vendor.example unencrypted: use an https:// address in "
    assert [text.startswith(said) for text in found] == [True] * warns
    assert not any(FORMS.search(text) for text in found)
