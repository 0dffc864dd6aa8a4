"""Subscribes to a pushed feed through a durable consumer of a NATS JetStream stream.

Belongs here: the connection, the received messages and their acknowledgements. `parse` parses quotes; `store` stores
each one once, however often it is delivered.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.domains.market.quotes.batch import QuoteBatch
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.nats.address import BrokerAddress
from lakehouse.domains.market.quotes.nats.consumer import consumer_made
from lakehouse.domains.market.quotes.parse import Heard, RepeatedMember, json_document
from lakehouse.errors import SourceError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

_OPEN_S = 5.0
_ACK_S = 5.0
_LATE_S = 2.0
_PAUSE_S = 0.25
_PING_S = 5
_PULL_IS_OVER, _TAKEN, _ENOUGH = "408 Request Timeout", "taken", "enough"


class Listener:
    """Receives a pushed feed through a durable pull consumer of a JetStream stream. An async context manager.

    The broker redelivers unacknowledged messages after at most `consumer.ACK_WAIT_S` seconds. `hear` and `done`
    reconnect to a broker that went away.

    One task calls `hear`, stores the result, and calls `done`, or `give_back` if storing failed.

    Attributes:
        url: the broker's URL, without credentials.
        trouble: what is currently wrong with the connection; None if nothing is.

    Raises:
        SourceError: the YAML names no broker, or its URL is invalid. On entering also: the broker can't be reached or
            refuses us, or the stream is missing.
    """

    def __init__(self, feed: Feed) -> None:
        if feed.config.broker is None or feed.broker_url is None:
            raise SourceError(
                f"{feed.name} has no broker to listen to; add `broker: {{url: ..., stream: ..., subject: ...}}` to "
                "its defs.yaml, or poll it"
            )
        self.feed, self.broker = feed, feed.config.broker
        self._address = BrokerAddress(feed.broker_url, f"LAKEHOUSE_{feed.name.upper()}_NATS_URL")
        self.url = self._address.url
        self.trouble: str | None = None
        self._cause: Exception | None = None
        self._client: Client | None = None
        self._stream_made_at: datetime | None = None
        # Received messages with their reply subjects for acknowledgements; and the reply subjects of returned ones.
        self._arrived: list[tuple[Heard, str]] = []
        self._owed: list[str] = []
        self._inbox, self._asked = "", 0
        self._wanted, self._status = 0, ""
        self._stirred = asyncio.Event()

    async def __aenter__(self) -> Listener:
        async with AsyncExitStack() as failed:
            failed.push_async_callback(self._close)
            await self._open(_OPEN_S)
            failed.pop_all()
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._owed += [address for _, address in self._arrived if address]
        self._arrived = []
        await self.give_back()
        await self._close()

    async def hear(self, seconds: float, most: int = 20_000) -> QuoteBatch:
        """Returns what arrives within `seconds`, or earlier once `most` messages are there. While the broker is away,
        it returns what it has, up to two seconds late, and sets `trouble`.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and len(self._arrived) < most:
            try:
                if not self._is_open:
                    await self._open(min(_OPEN_S, max(_LATE_S, left)))
                await self._pull(most, deadline)
            except SourceError as error:
                await self._close()
                self.trouble = str(error)
                await asyncio.sleep(max(0.0, min(_PAUSE_S, deadline - time.monotonic())))
        # Not earlier: only returned messages may be acknowledged, even if this task is cancelled.
        given, self._arrived = self._arrived[:most], self._arrived[most:]
        self._owed += [address for _, address in given if address]
        return QuoteBatch([heard for heard, _ in given])

    async def done(self) -> None:
        """Acknowledges everything that `hear` returned; call it once all of that is stored.

        Returns once the broker has confirmed. If it can't, `trouble` says why and the next `done` retries; the lake
        recognises what the broker redelivers in between.
        """
        from nats.errors import Error

        try:
            if self._owed and not self._is_open:
                await self._open(_OPEN_S)
            if not self._owed:
                return
            assert self._client is not None
            for address in self._owed[:-1]:
                await self._client.publish(address, b"+ACK")
            # The broker handles acknowledgements in order: its confirmation of the last one covers all.
            status = await self._ask(self._owed[-1], b"+ACK", _ACK_S)
            if status != _TAKEN:
                raise SourceError(f"The broker at {self.url} did not take the acknowledgements: {status}")
        except (SourceError, Error, OSError) as error:
            await self._close()
            self.trouble = self._said(error, "did not take the acknowledgements")
        else:
            self._owed = []

    async def give_back(self) -> None:
        """Rejects (NAK) everything that `hear` returned since the last `done`. Call it if storing failed: otherwise the
        next `done` would acknowledge those messages. The broker redelivers them at once, or after
        `consumer.ACK_WAIT_S` seconds if the NAK can't be sent.
        """
        from nats.errors import Error

        owed, self._owed = self._owed, []
        if self._is_open:
            assert self._client is not None
            with suppress(Error, OSError):
                for address in owed:
                    await self._client.publish(address, b"-NAK")

    @property
    def _is_open(self) -> bool:
        return self._client is not None and self._client.is_connected and bool(self._inbox)

    async def _pull(self, most: int, deadline: float) -> None:
        """Requests messages, and waits until there are `most` of them or the time is over.

        Raises:
            SourceError: the broker has gone away, has lost the consumer, or refuses to serve it.
        """
        # Not nats-py's `PullSubscription.fetch`: it takes more than twice the CPU time per message.
        left = max(deadline - time.monotonic(), 0.01)
        request = json.dumps({"batch": most - len(self._arrived), "expires": int(left * 1e9)}).encode()
        # The broker reports the end of the request's time. If it doesn't, it never received the request.
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.broker.stream}.{self.broker.durable}"
        status = await self._ask(subject, request, left + _LATE_S, most)
        if status not in (_ENOUGH, _PULL_IS_OVER):
            raise SourceError(f"The broker at {self.url} does not serve {self.broker.durable}: {status}")
        self.trouble = None

    async def _ask(self, subject: str, payload: bytes, seconds: float, wanted: int = 0) -> str:
        """Sends a request and returns the broker's status, or `_ENOUGH` as soon as `wanted` messages are there.

        Raises:
            SourceError: the connection is lost.
        """
        from nats.errors import Error

        assert self._client is not None
        self._asked += 1
        self._wanted, self._status = wanted, "no answer"
        self._stirred.clear()
        try:
            await self._client.publish(subject, payload, reply=f"{self._inbox}.{self._asked}")
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        except TimeoutError:
            pass
        except (Error, OSError) as error:
            raise SourceError(self._said(error, "does not answer")) from None
        if not self._is_open:
            raise SourceError(self._said(self._cause, "has gone away"))
        return self._status

    async def _came(self, message: Msg) -> None:
        headers = message.headers or {}
        if message.reply:
            self._arrived.append((_heard(message), message.reply))
            if len(self._arrived) == self._wanted:
                self._status = _ENOUGH
                self._stirred.set()
        elif message.subject == f"{self._inbox}.{self._asked}":
            # Only answers to the current request count: the expiry of an earlier one means nothing.
            self._status = " ".join(filter(None, [headers.get("Status", _TAKEN), headers.get("Description")]))
            self._stirred.set()

    async def _went_wrong(self, error: Exception) -> None:
        self._cause = error
        self.trouble = self._said(error, "is in trouble")

    async def _was_closed(self) -> None:
        if self._client is None:
            return  # we closed it
        self.trouble = self._said(self._cause, "has gone away")
        self._stirred.set()

    async def _open(self, seconds: float) -> None:
        """Connects, finds the stream, and creates or updates the consumer.

        Raises:
            SourceError: names the broker, the cause and the fix.
        """
        from nats.aio.client import Client
        from nats.errors import Error

        await self._close()
        client, self._cause = Client(), None
        self._client, self._inbox = client, ""
        try:
            async with asyncio.timeout(seconds):
                # We reconnect ourselves, since stream and consumer must be checked again.
                await client.connect(
                    self.url,
                    user=self._address.user,
                    password=self._address.password,
                    token=self._address.token,
                    name=f"lakehouse {self.feed.name}",
                    error_cb=self._went_wrong,
                    closed_cb=self._was_closed,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=_PING_S,
                )
                made_at = await consumer_made(client, self.feed, self._address, seconds)
                if made_at != self._stream_made_at:
                    # The stream was recreated: our acknowledgements would hit new messages with the same numbers.
                    self._stream_made_at, self._owed = made_at, []
                    self._arrived = [(heard, "") for heard, _ in self._arrived]
                inbox = client.new_inbox()
                await client.subscribe(f"{inbox}.*", cb=self._came)
                self._inbox = inbox
        except (Error, OSError) as error:
            await self._close()
            raise SourceError(
                f"{self._said(self._cause or error, 'can not be reached or refuses us')}; start it, or set "
                f"{self._address.variable} to nats://user:password@host:port"
            ) from None
        except SourceError:
            await self._close()
            raise
        self.trouble = None

    async def _close(self) -> None:
        from nats.errors import Error

        client, self._client = self._client, None
        if client is None or client.is_closed:
            return
        # Drop the connection, whatever its state.
        with suppress(Error, OSError):
            async with asyncio.timeout(_LATE_S):
                await client.close()

    def _said(self, error: Exception | None, what: str) -> str:
        if isinstance(error, SourceError):
            return str(error)
        text = str(error) or type(error).__name__ if error else "the connection was closed"
        return f"The broker at {self.url} {what}: {self._address.hidden(text)}"


def _heard(message: Msg) -> Heard:
    document: object = {}
    fault = None
    try:
        document = json_document(message.data)
    except RepeatedMember as error:
        fault = str(error)
    except ValueError:
        pass
    return Heard(None, message.data.decode(errors="replace"), document, message.metadata.timestamp, fault)
