"""Creates the durable consumer of a JetStream stream, or updates it if its configuration differs.

Receiving its messages belongs in `subscriber`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.domains.market.quotes.config import Broker
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.nats.address import BrokerAddress
from lakehouse.errors import SourceError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.api import ConsumerConfig

ACK_WAIT_S = 60.0
"""Seconds after which the broker redelivers unacknowledged messages: longer than a slot and its commit take."""
MOST_UNACKNOWLEDGED = 200_000


async def consumer_made(client: Client, feed: Feed, address: BrokerAddress, seconds: float) -> datetime | None:
    """Finds the feed's stream, which its publisher owns, and creates or updates our consumer of it.

    Returns: when the stream was created (UTC).

    Raises:
        SourceError: the broker has no JetStream or no such stream, or refuses the consumer; the message names the fix.
    """
    from nats.errors import NoRespondersError
    from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

    assert feed.config.broker is not None
    broker, manager = feed.config.broker, client.jsm(timeout=seconds)
    try:
        info = await manager.stream_info(broker.stream)
    except NotFoundError:
        raise SourceError(
            f"There is no stream {broker.stream} at {address.url}; the quotes' publisher creates it (nats stream add "
            f"{broker.stream} --subjects '{broker.subject}'), or correct `broker: stream` in the feed's defs.yaml"
        ) from None
    except (NoRespondersError, ServiceUnavailableError):
        raise SourceError(
            f"The broker at {address.url} has no JetStream; start nats-server with -js, or set {address.variable}"
        ) from None
    try:
        # Creates an absent consumer, keeps an equal one, and updates one whose configuration may change.
        await manager.add_consumer(broker.stream, _consumer(feed.name, broker))
    except APIError as refusal:
        raise SourceError(
            f"The broker at {address.url} refuses the consumer {broker.durable} of {broker.stream} for "
            f"{broker.subject}: {refusal.description}; name another `durable` in the feed's defs.yaml, or delete that "
            "consumer"
        ) from None
    return info.created


def _consumer(source: str, broker: Broker) -> ConsumerConfig:
    from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

    return ConsumerConfig(
        name=broker.durable,
        durable_name=broker.durable,
        description=f"The lakehouse's feed {source}",
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        max_ack_pending=MOST_UNACKNOWLEDGED,
        filter_subject=broker.subject,
    )
