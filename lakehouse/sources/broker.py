"""Listening to a feed that is pushed: a durable consumer of a NATS JetStream stream.

Belongs here: the connection, the consumer, what has come and what is to be acknowledged. What a quote says is read in
`quotes`; that each is stored once, however often it comes, is the pipeline's matter.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lakehouse.sources.errors import SourceError
from lakehouse.sources.feed import FeedConfig
from lakehouse.sources.poller import Inbox
from lakehouse.sources.quotes import Heard
from lakehouse.sources.secret import Secret

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.api import ConsumerConfig

ACK_WAIT_S = 60.0
"""Seconds after which the broker sends again what nobody acknowledged: longer than a slot and its commit take."""
MOST_UNACKNOWLEDGED = 200_000

_OPEN_S, _LEAST_OPEN_S = 5.0, 1.0
_ACK_S = 5.0
_PAUSE_S = 0.25
_PING_S = 5
_PULL_IS_OVER = ("404", "408")
_HEARTBEAT = "100"
_OTHER_INSTALLATION = "name another `durable` in the feed's defs.yaml, or delete that consumer"


class Listener:
    """Hears a feed that is pushed: a durable pull consumer of a JetStream stream. An asynchronous context manager.

    The stream is its pusher's. The consumer is ours: it is made where it is absent, and brought up to date where it
    differs. What was heard and not acknowledged comes again, at the latest `ACK_WAIT_S` seconds later. A broker that
    goes away is looked for again by `hear` and `done`.

    Attributes:
        trouble: what is wrong with the connection at the moment; None if nothing is.

    Raises:
        SourceError: the YAML names no broker, or the URL is none. On entering also: the broker can't be reached, it
            refuses us, or the stream is missing.
    """

    def __init__(self, feed: FeedConfig) -> None:
        if feed.broker is None:
            raise SourceError(
                f"{feed.source} has no broker to listen to; add `broker: {{url: ..., stream: ..., subject: ...}}` to "
                "its defs.yaml, or poll it"
            )
        self.feed, self.broker = feed, feed.broker
        self._variable = f"LAKEHOUSE_{feed.source.upper()}_NATS_URL"
        url = feed.broker_url().strip()
        scheme, _, rest = url.partition("://")
        login, at, place = rest.rpartition("@")
        self.url = f"{scheme}://{place}"
        """Where the broker is, without user and password."""
        try:
            parts = urlsplit(self.url)
            is_address = scheme in ("nats", "tls") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            is_address = False
        if not is_address:
            # What has no scheme may begin with a password.
            shown = self.url if scheme in ("nats", "tls") else url.rpartition("@")[2]
            raise SourceError(f"{shown!r} is no address of a broker; set {self._variable} to nats://host:port")
        user, colon, password = login.partition(":")
        # As in every NATS client: what stands alone before the @ is a token.
        self._login = {"user": unquote(user), "password": unquote(password)} if colon else {"token": unquote(user)}
        if not at:
            self._login = {}
        self._secrets = [Secret(secret) for name, secret in self._login.items() if name != "user" and secret]
        self.trouble: str | None = None
        self._cause: Exception | None = None
        self._client: Client | None = None
        self._stream_made_at: datetime | None = None
        self._arrived: list[Msg] = []
        self._owed: list[str] = []
        self._pulls = 0
        self._inbox = ""
        self._wanted = 0
        self._status: str | None = None
        self._stirred = asyncio.Event()

    async def __aenter__(self) -> Listener:
        try:
            await self._open(_OPEN_S)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._is_open:
            assert self._client is not None
            # Whoever listens next gets at once what was not stored.
            for reply in [*self._owed, *(message.reply for message in self._arrived)]:
                await self._client.publish(reply, b"-NAK")
        await self._close()

    async def hear(self, seconds: float, most: int = 20_000) -> Inbox:
        """What arrives within `seconds`; it comes back early with `most` messages. While the broker is away it comes
        back with what there is, up to a second late, and `trouble` says why.

        Args:
            most: at most half of `MOST_UNACKNOWLEDGED`.
        """
        inbox = Inbox()
        deadline = time.monotonic() + seconds
        while True:
            self._take(inbox, most)
            left = deadline - time.monotonic()
            if len(inbox.heard) >= most or left <= 0:
                return inbox
            try:
                if not self._is_open:
                    await self._open(min(_OPEN_S, max(_LEAST_OPEN_S, left)))
                await self._pull(most - len(inbox.heard), deadline)
            except SourceError as error:
                self.trouble = str(error)
                await self._close()
                await asyncio.sleep(max(0.0, min(_PAUSE_S, deadline - time.monotonic())))

    async def done(self) -> None:
        """Acknowledges everything that `hear` gave: to be called when all of it is stored.

        It comes back when the broker has taken the acknowledgements. Where it can't, `trouble` says so; they are tried
        again by the next `done`, and what the broker meanwhile sends again is known to the lake.
        """
        from nats.errors import Error

        try:
            if self._owed and not self._is_open:
                await self._open(_OPEN_S)
            if not self._owed:
                return
            assert self._client is not None
            for reply in self._owed[:-1]:
                await self._client.publish(reply, b"+ACK")
            # The broker takes them in order: its answer to the last is one to all.
            await self._client.request(self._owed[-1], b"+ACK", timeout=_ACK_S)
        except (SourceError, Error, OSError) as error:
            self.trouble = self._said(error, "did not take the acknowledgements")
            await self._close()
        else:
            self._owed = []

    @property
    def _is_open(self) -> bool:
        return self._client is not None and self._client.is_connected

    def _take(self, inbox: Inbox, most: int) -> None:
        count = most - len(inbox.heard)
        taken, self._arrived = self._arrived[:count], self._arrived[count:]
        for message in taken:
            inbox.heard.append(_heard(message))
            self._owed.append(message.reply)

    async def _pull(self, count: int, deadline: float) -> None:
        """Asks for up to `count` messages, and waits until they are there, the time is over or something is wrong.

        Raises:
            SourceError: the broker has lost the consumer, or refuses to serve it.
        """
        from nats.errors import Error

        assert self._client is not None
        self._pulls += 1
        self._wanted, self._status = count, None
        self._stirred.clear()
        left = max(deadline - time.monotonic(), 0.001)
        request = json.dumps({"batch": count, "expires": int(left * 1e9)}).encode()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.broker.stream}.{self.broker.durable}"
        try:
            await self._client.publish(subject, request, reply=f"{self._inbox}.{self._pulls}")
        except (Error, OSError) as error:
            raise SourceError(self._said(error, "does not answer")) from None
        try:
            async with asyncio.timeout(left):
                await self._stirred.wait()
        except TimeoutError:
            return
        if self._status is not None and not self._status.startswith(_PULL_IS_OVER):
            raise SourceError(f"The broker at {self.url} no longer serves {self.broker.durable}: {self._status}")

    async def _came(self, message: Msg) -> None:
        headers = message.headers or {}
        status = None if message.reply else headers.get("Status")
        if status is None:
            self._arrived.append(message)
            if len(self._arrived) >= self._wanted:
                self._stirred.set()
        elif status != _HEARTBEAT and message.subject == f"{self._inbox}.{self._pulls}":
            # Of the present request: that an earlier one has run out says nothing.
            self._status = f"{status} {headers.get('Description', '')}".rstrip()
            self._stirred.set()

    async def _went_wrong(self, error: Exception) -> None:
        self._cause = error
        self.trouble = self._said(error, "is in trouble")

    async def _was_closed(self) -> None:
        self.trouble = self._said(self._cause, "has gone away")
        self._stirred.set()

    async def _open(self, seconds: float) -> None:
        """Connects, looks for the stream and makes the consumer what it shall be.

        Raises:
            SourceError: naming the broker, the cause and the mend.
        """
        from nats.aio.client import Client
        from nats.errors import Error

        await self._close()
        client, self._cause = Client(), None
        self._client = client
        try:
            async with asyncio.timeout(seconds):
                # We connect again by ourselves, since stream and consumer have to be looked at again.
                await client.connect(
                    self.url,
                    **self._login,
                    name=f"lakehouse {self.feed.source}",
                    error_cb=self._went_wrong,
                    closed_cb=self._was_closed,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=_PING_S,
                )
                await self._make_consumer(client, seconds)
                self._inbox = client.new_inbox()
                await client.subscribe(f"{self._inbox}.*", cb=self._came)
        except (Error, OSError) as error:
            await self._close()
            raise SourceError(
                f"{self._said(self._cause or error, 'can not be reached or refuses us')}; start it, or set "
                f"{self._variable} to nats://user:password@host:port"
            ) from None
        except SourceError:
            await self._close()
            raise
        self.trouble = None

    async def _make_consumer(self, client: Client, seconds: float) -> None:
        from nats.errors import NoRespondersError
        from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

        manager = client.jsm(timeout=seconds)
        stream = self.broker.stream
        try:
            info = await manager.stream_info(stream)
        except NotFoundError:
            raise SourceError(
                f"There is no stream {stream} at {self.url}; whoever pushes the quotes makes it (nats stream add "
                f"{stream} --subjects '{self.broker.subject}'), or `broker: stream` in the feed's defs.yaml is wrong"
            ) from None
        except (NoRespondersError, ServiceUnavailableError):
            raise SourceError(
                f"The broker at {self.url} has no JetStream; start nats-server with -js, or set {self._variable}"
            ) from None
        if info.created != self._stream_made_at:
            # Another stream of that name: its messages have the numbers of those that we would acknowledge.
            self._stream_made_at, self._owed = info.created, []
        try:
            # Makes what is absent, leaves what is the same, and changes what may be changed.
            await manager.add_consumer(stream, self._consumer())
        except APIError as refusal:
            raise SourceError(
                f"The broker at {self.url} refuses the consumer {self.broker.durable} of {stream} for "
                f"{self.broker.subject}: {refusal.description}; {_OTHER_INSTALLATION}"
            ) from None

    def _consumer(self) -> ConsumerConfig:
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        return ConsumerConfig(
            name=self.broker.durable,
            durable_name=self.broker.durable,
            description=f"The lakehouse's feed {self.feed.source}",
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_ack_pending=MOST_UNACKNOWLEDGED,
            filter_subject=self.broker.subject,
        )

    async def _close(self) -> None:
        from nats.errors import Error

        client, self._client = self._client, None
        if client is None or client.is_closed:
            return
        trouble = self.trouble
        try:
            async with asyncio.timeout(_LEAST_OPEN_S):
                await client.close()
        except (Error, OSError):
            pass  # the connection is given up, in whatever state it is
        self.trouble = trouble

    def _said(self, error: Exception | None, what: str) -> str:
        if isinstance(error, SourceError):
            return str(error)
        text = str(error) or type(error).__name__ if error else "the connection was closed"
        for secret in self._secrets:
            text = secret.hidden(text)
        return f"The broker at {self.url} {what}: {text}"


def _heard(message: Msg) -> Heard:
    from pydantic_core import from_json

    try:
        document = from_json(message.data, allow_inf_nan=False)
    except ValueError:
        document = {}
    return Heard(None, message.data.decode(errors="replace"), document, message.metadata.timestamp)
