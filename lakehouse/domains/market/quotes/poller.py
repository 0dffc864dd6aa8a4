"""Polls a feed's API: all symbols concurrently, each with its own retries within the slot.

Belongs here: connections, the vendor's rate limit, retries, and recognising answers that are errors. `parse` parses
quotes; `service` schedules the slots.
"""

from __future__ import annotations

import asyncio
import random
import time
from codecs import BOM_UTF8
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote

from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.parse import Heard, RepeatedMember, json_document
from lakehouse.errors import SourceError
from lakehouse.ingest.http.config import UNLIMITED, limiter
from lakehouse.ingest.http.responses import pause_s, published_at, refusal_in
from lakehouse.ingest.http.secret import Secret

_FIRST_WAIT_S = 0.25
# Pause after an exhausted quota if the vendor doesn't say how long to wait.
_QUOTA_PAUSE_S = 60.0
_MOST_QUOTED = 300


@dataclass(frozen=True)
class PollError:
    """An attempt that returned no quote. `kind`: passing, permanent, quota, or unfinished (the slot was over)."""

    symbol: str
    slot_at: datetime
    attempt: int
    kind: Literal["passing", "permanent", "quota", "unfinished"]
    error: str
    occurred_at: datetime


@dataclass
class QuoteBatch:
    """The answers and errors received since the last `take`."""

    heard: list[Heard] = field(default_factory=list)
    errors: list[PollError] = field(default_factory=list)

    def take(self) -> QuoteBatch:
        """Returns the contents and empties the batch."""
        taken = QuoteBatch(self.heard, self.errors)
        self.heard, self.errors = [], []
        return taken


class Poller:
    """Polls all symbols of a feed. An async context manager; collects answers and errors in `inbox`.

    Raises:
        SourceError: the vendor requires a key and none is set, or the settings name no symbol or URL.
    """

    def __init__(self, feed: Feed) -> None:
        self.feed, self.api = feed, feed.config.api
        self.inbox = QuoteBatch()
        self.symbols = feed.symbols()
        self.url = feed.endpoint.address.rstrip("/")
        if "?" in self.url or "#" in self.url:
            raise SourceError(
                f"LAKEHOUSE_{feed.name.upper()}_URL has parameters; set it to the address before {feed.config.path}"
            )
        self._query, self._headers = feed.endpoint.key_parameter, feed.endpoint.key_header
        feed.endpoint.warn_of_open_key()
        self._secret = Secret(*feed.endpoint.secrets)
        self._rate = feed.endpoint.requests_per_minute
        self._limiter = None if self._rate == UNLIMITED else limiter(self._rate)
        # By the monotonic clock: each symbol's last request, and the end of the pause that the vendor asked for.
        self._asked_at: dict[str, float] = {}
        self._not_before: dict[str, float] = {}
        self._client: Any = None
        self._under_way: asyncio.Semaphore | None = None

    async def __aenter__(self) -> Poller:
        from pyreqwest.client import ClientBuilder

        # One connection pool. HTTP/2 is negotiated in TLS if the vendor supports it.
        builder = ClientBuilder().http2(True).timeout(timedelta(seconds=self.api.timeout_s)).follow_redirects(False)
        self._client = (
            builder.max_connections(self.api.concurrency).pool_max_idle_per_host(self.api.concurrency).build()
        )
        await self._client.__aenter__()
        self._under_way = asyncio.Semaphore(self.api.concurrency)
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._client.__aexit__(*raised)

    @property
    def shortfall(self) -> str | None:
        """Describes why the vendor's rate limit doesn't allow a poll of each symbol per slot; None if it does."""
        symbols, seconds = len(self.symbols), self.feed.config.poll_interval_s
        if symbols * 60 / seconds <= self._rate:
            return None
        return (
            f"{symbols:,} symbols every {seconds:g} s are {symbols * 60 / seconds:,.0f} requests a minute, and "
            f"{self._rate:,} are allowed: symbols take turns, each is asked every {symbols * 60 / self._rate:,.0f} s"
        )

    def ask_all(self, slot_at: datetime, seconds: float) -> list[asyncio.Task[None]]:
        """Starts a task per symbol, longest-waiting symbols first; all tasks end within `seconds`.

        Args:
            slot_at: start of the slot that the polls belong to.
        """
        deadline = time.monotonic() + seconds
        symbols = sorted(self.symbols, key=lambda symbol: self._asked_at.get(symbol, 0.0))
        return [asyncio.create_task(self._ask(symbol, slot_at, deadline)) for symbol in symbols]

    async def give_up(self, asked: Iterable[asyncio.Task[None]]) -> None:
        """Cancels running polls; each one without an answer is recorded as an error."""
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, symbol: str, slot_at: datetime, deadline: float) -> None:
        attempt, lacking = 1, ""
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                while True:
                    if wanted := self._pause_beyond(symbol, deadline):
                        self._failed(symbol, slot_at, attempt, "unfinished", wanted)
                        return
                    lacking = f"it could be asked: {self._rate:,} requests a minute are allowed"
                    await self._turn(symbol)
                    lacking = "there was an answer"
                    answer = await self._try(symbol)
                    if isinstance(answer, Heard):
                        self.inbox.heard.append(answer)
                        return
                    kind, text, wait = answer
                    self._failed(symbol, slot_at, attempt, kind, text)
                    self._not_before[symbol] = time.monotonic() + max(wait, _QUOTA_PAUSE_S if kind == "quota" else 0.0)
                    if kind != "passing" or attempt == self.api.max_attempts:
                        return
                    # Exponential backoff with jitter, so that symbols that failed together don't retry together.
                    attempt, lacking = attempt + 1, "it could be asked again"
                    await asyncio.sleep(_FIRST_WAIT_S * 2 ** (attempt - 2) * random.uniform(1, 2))
        except TimeoutError:
            self._failed(symbol, slot_at, attempt, "unfinished", f"the slot was over before {lacking}")
        except asyncio.CancelledError:
            self._failed(symbol, slot_at, attempt, "unfinished", "it was given up before there was an answer")

    def _pause_beyond(self, symbol: str, deadline: float) -> str | None:
        """Returns the error text if the vendor asked for a pause beyond the deadline; None otherwise."""
        not_before = self._not_before.get(symbol, 0.0)
        if not_before <= deadline:
            return None
        until = datetime.now(UTC) + timedelta(seconds=not_before - time.monotonic())
        return f"not asked: the vendor wants a pause until {until:%H:%M:%S} UTC"

    async def _turn(self, symbol: str) -> None:
        """Waits until the vendor's pause and rate limit allow a request."""
        if (pause := self._not_before.get(symbol, 0.0) - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        if self._limiter is not None:
            await self._limiter.try_acquire_async(self.feed.name)
        self._asked_at[symbol] = time.monotonic()

    def _failed(self, symbol: str, slot_at: datetime, attempt: int, kind: Any, text: str) -> None:
        said = "".join(letter if letter.isprintable() else " " for letter in self._secret.hidden(text))
        said = said if len(said) <= _MOST_QUOTED else f"{said[:_MOST_QUOTED]}..."
        self.inbox.errors.append(PollError(symbol, slot_at, attempt, kind, said, datetime.now(UTC)))

    async def _try(self, symbol: str) -> Heard | tuple[str, str, float]:
        """Returns an answer, or an error's kind and text and the seconds that the vendor asks to wait."""
        from pyreqwest.exceptions import PyreqwestError

        assert self._under_way is not None
        path = self.feed.config.path.format(symbol=quote(symbol, safe=""))
        async with self._under_way:
            try:
                response = (
                    await self._client.get(self.url + path).query(self._query).headers(self._headers).build().send()
                )
                body = bytes(await response.bytes())
            except TimeoutError as silence:
                return "passing", f"silence: nothing within {self.api.timeout_s:g} s ({type(silence).__name__})", 0.0
            except PyreqwestError as error:
                return "passing", f"{type(error).__name__}: {_innermost(error)}", 0.0
        return self._understood(symbol, response, body)

    def _understood(self, symbol: str, response: Any, body: bytes) -> Heard | tuple[str, str, float]:
        now = datetime.now(UTC)
        refusal = None
        if response.status != 200 or self.api.error_members:
            refused, words = self.api.error_members, self.api.quota_patterns
            refusal = refusal_in(response.status, body, "json", refused, words, is_whole=True)
        if refusal is not None:
            return refusal.kind, refusal.text, pause_s(response.get_header("retry-after"), now)
        text = self._secret.hidden_in(body).decode(errors="replace")
        said_at = published_at(response.get_header("date"), now)
        try:
            document = json_document(body.removeprefix(BOM_UTF8))
        except RepeatedMember as fault:
            return Heard(symbol, text, {}, said_at, str(fault))
        except ValueError:
            return "passing", f"no JSON, or JSON that was cut, of {len(body):,} bytes: {text}", 0.0
        if not isinstance(document, dict):
            return "passing", f"a quote was expected, not {text or 'nothing'}", 0.0
        return Heard(symbol, text, document, said_at)


def _innermost(error: BaseException) -> str:
    """Returns the root cause of an error on one line: 'Connection reset by peer', not 'error sending request'."""
    details = getattr(error, "details", None) or {}
    causes = details.get("causes") or []
    return " ".join(str(causes[-1].get("message") if causes else error).split())
