"""Alerts about what really goes wrong, as a Slack webhook and a mail server on loopback get them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from assets_tests.integration.conftest import FirstLoad
from assets_tests.support.exchange_lake import ExchangeLake, code_location
from assets_tests.support.servers.mail import MailServer, mail_server
from assets_tests.support.servers.webhook import webhook
from assets_tests.support.vendor_lake import DAYS, KEY, SOURCE, small_market, vendor_lake
from lakehouse.api import Lake
from lakehouse.components.alerts import tick
from lakehouse.settings import settings
from lakehouse.simulators.vendor_api import VendorApi

SLACK = "http://hooks.slack.com/services/T00/B00/XX"
"""Reached by a proxy on loopback, which answers as Slack does; people use https."""


@dataclass
class Receivers:
    """What a Slack channel and a mailbox got."""

    mail: MailServer
    posts: list[str] = field(default_factory=list)

    def take(self, post: dict[str, Any], key: str) -> int:
        """Slack's answer to a post: it refuses what isn't a text alone."""
        if post.keys() != {"text"}:
            return 400
        self.posts.append(post["text"])
        return 200


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receivers]:
    """The two places of LAKEHOUSE_ALERTS."""
    with mail_server() as mail:
        found = Receivers(mail)
        with webhook(found.take) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.removesuffix("/notices"))
            monkeypatch.delenv("http_proxy", raising=False)
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            mailbox = f"smtp://127.0.0.1:{mail.port}?from=lake@example.com&to=desk@example.com"
            monkeypatch.setenv("LAKEHOUSE_ALERTS", f"{SLACK} {mailbox}")
            settings.cache_clear()
            yield found


@contextmanager
def looking(instance: dg.DagsterInstance) -> Iterator[list[str]]:
    """Looks before the block, so that earlier failures aren't told, and after it, twice; the list gets the faults."""
    lake, graph = Lake.present(), code_location().resolve_asset_graph()
    cursor = str(tick(lake, instance, graph, None, datetime.now(UTC)))
    yield []
    for _ in range(2):
        cursor = str(tick(Lake.present(), instance, graph, cursor, datetime.now(UTC)))


def test_alerts__tell_of_a_quota_that_is_used_up(
    exchange_lake: ExchangeLake, instance: dg.DagsterInstance, receivers: Receivers
) -> None:
    market = small_market()
    api = VendorApi(market, api_key=KEY)
    with vendor_lake(exchange_lake.home, api, market.symbols), looking(instance):
        for symbol in market.symbols:
            api.fail(symbol, "information", forever=True)
        exchange_lake.run(instance, DAYS[0], DAYS[0], job=f"{SOURCE}_update", marts=False)
    (post,) = [post for post in receivers.posts if "raw_bars" in post]
    assert post.startswith(f"check objects_readable of {SOURCE}.raw_bars fails\n")
    assert "answers nothing more for now" in post
    assert "Run it again when the vendor's quota is renewed" in post
    assert KEY not in post
    (mail,) = [mail for mail in receivers.mail.mails if "raw_bars" in mail["Subject"]]
    assert (mail["From"], mail["To"]) == ("lake@example.com", "desk@example.com")
    assert mail["Subject"] == post.splitlines()[0]
    assert "Run it again when the vendor's quota is renewed" in mail.get_content()


def test_alerts__tell_of_an_object_that_can_not_be_read(first_load: FirstLoad, receivers: Receivers) -> None:
    lake = first_load.lake
    with dg.DagsterInstance.ephemeral() as instance, looking(instance):
        pass
    damaged = lake.exchange.truth.damaged_object
    subjects = [mail["Subject"] for mail in receivers.mail.mails]
    assert "check objects_readable of xetra.raw_bars fails" in subjects
    (post,) = [post for post in receivers.posts if "objects_readable" in post]
    assert damaged.split("/")[-1] in post
    assert sorted(post.splitlines()[0] for post in receivers.posts) == sorted(subjects)
