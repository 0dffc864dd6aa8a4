"""Polls a feed's API: all symbols concurrently, each with its own retries within the slot; or with one request for all
of them, if the vendor answers so.

Belongs here: connections, the vendor's rate limit, retries, and recognising answers that are errors. `parse` parses
quotes; `service` schedules the slots.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from codecs import BOM_UTF8
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

# Imported here, so that the main thread loads it: once the thread that did has ended, its allocator (mimalloc 3.3)
# crashes the process at another thread's request (https://github.com/microsoft/mimalloc/issues/1287).
from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import PyreqwestError

from lakehouse.domains.market.quotes.batch import PollError, QuoteBatch
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.parse import Heard, RepeatedMember, json_document, member_at
from lakehouse.errors import SourceError
from lakehouse.ingest.http.config import UNLIMITED, limiter
from lakehouse.ingest.http.responses import pause_s, published_at, refusal_in
from lakehouse.ingest.http.secret import Secret
from lakehouse.ingest.json_lines import at

_FIRST_WAIT_S = 0.25
# Pause after an exhausted quota if the vendor doesn't say how long to wait.
_QUOTA_PAUSE_S = 60.0
_MOST_QUOTED = 300

Symbols = tuple[str, ...]
"""The symbols that one request asks for."""


class Poller:
    """Polls all symbols of a feed. An async context manager; collects answers and errors in `inbox`.

    Raises:
        SourceError: the vendor requires a key and none is set, or the settings name no symbol or URL.
    """

    def __init__(self, feed: Feed) -> None:
        self.feed, self.api = feed, feed.config.api
        self.inbox = QuoteBatch()
        self.symbols = feed.symbols()
        self._polls = [self.symbols] if feed.config.asks_at_once else [(symbol,) for symbol in self.symbols]
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
        # By the monotonic clock: each poll's last request, and the end of the pause that the vendor asked for.
        self._asked_at: dict[Symbols, float] = {}
        self._not_before: dict[Symbols, float] = {}
        self._client: Any = None
        self._under_way: asyncio.Semaphore | None = None

    async def __aenter__(self) -> Poller:
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
        polls, seconds = len(self._polls), self.feed.config.poll_interval_s
        if polls * 60 / seconds <= self._rate:
            return None
        what = "symbols" if polls > 1 else "requests for all symbols"
        return (
            f"{polls:,} {what} every {seconds:g} s are {polls * 60 / seconds:,.0f} requests a minute, and "
            f"{self._rate:,} are allowed: symbols take turns, each is asked every {polls * 60 / self._rate:,.0f} s"
        )

    def ask_all(self, slot_at: datetime, seconds: float) -> list[asyncio.Task[None]]:
        """Starts a task per poll, the longest-waiting first; all tasks end within `seconds`.

        Args:
            slot_at: start of the slot that the polls belong to.
        """
        deadline = time.monotonic() + seconds
        polls = sorted(self._polls, key=lambda symbols: self._asked_at.get(symbols, 0.0))
        return [asyncio.create_task(self._ask(symbols, slot_at, deadline)) for symbols in polls]

    async def give_up(self, asked: Iterable[asyncio.Task[None]]) -> None:
        """Cancels running polls; each one without an answer is recorded as an error."""
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, symbols: Symbols, slot_at: datetime, deadline: float) -> None:
        attempt, lacking = 1, ""
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                while True:
                    if wanted := self._pause_beyond(symbols, deadline):
                        self._failed(symbols, slot_at, attempt, "unfinished", wanted)
                        return
                    lacking = f"it could be asked: {self._rate:,} requests a minute are allowed"
                    await self._turn(symbols)
                    lacking = "there was an answer"
                    answer = await self._try(symbols)
                    if isinstance(answer, list):
                        self.inbox.heard += answer
                        self._lacking(symbols, answer, slot_at, attempt)
                        return
                    kind, text, wait = answer
                    self._failed(symbols, slot_at, attempt, kind, text)
                    self._not_before[symbols] = time.monotonic() + max(wait, _QUOTA_PAUSE_S if kind == "quota" else 0.0)
                    if kind != "passing" or attempt == self.api.max_attempts:
                        return
                    # Exponential backoff with jitter, so that symbols that failed together don't retry together.
                    attempt, lacking = attempt + 1, "it could be asked again"
                    await asyncio.sleep(_FIRST_WAIT_S * 2 ** (attempt - 2) * random.uniform(1, 2))
        except TimeoutError:
            self._failed(symbols, slot_at, attempt, "unfinished", f"the slot was over before {lacking}")
        except asyncio.CancelledError:
            self._failed(symbols, slot_at, attempt, "unfinished", "it was given up before there was an answer")

    def _pause_beyond(self, symbols: Symbols, deadline: float) -> str | None:
        """Returns the error text if the vendor asked for a pause beyond the deadline; None otherwise."""
        not_before = self._not_before.get(symbols, 0.0)
        if not_before <= deadline:
            return None
        until = datetime.now(UTC) + timedelta(seconds=not_before - time.monotonic())
        return f"not asked: the vendor wants a pause until {until:%H:%M:%S} UTC"

    async def _turn(self, symbols: Symbols) -> None:
        """Waits until the vendor's pause and rate limit allow a request."""
        if (pause := self._not_before.get(symbols, 0.0) - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        if self._limiter is not None:
            await self._limiter.try_acquire_async(self.feed.name)
        self._asked_at[symbols] = time.monotonic()

    def _lacking(self, symbols: Symbols, heard: list[Heard], slot_at: datetime, attempt: int) -> None:
        """Records the symbols that an answer about several has no quote of."""
        answered = {item.asked for item in heard}
        if lacking := tuple(symbol for symbol in symbols if symbol not in answered):
            self._failed(lacking, slot_at, attempt, "permanent", "the answer has no quote of the symbol")

    def _failed(self, symbols: Symbols, slot_at: datetime, attempt: int, kind: Any, text: str) -> None:
        said = "".join(letter if letter.isprintable() else " " for letter in self._secret.hidden(text))
        said = said if len(said) <= _MOST_QUOTED else f"{said[:_MOST_QUOTED]}..."
        now = datetime.now(UTC)
        self.inbox.errors += [PollError(symbol, slot_at, attempt, kind, said, now) for symbol in symbols]

    async def _try(self, symbols: Symbols) -> list[Heard] | tuple[str, str, float]:
        """Returns the quotes of an answer, or an error's kind and text and the seconds that the vendor asks to wait."""
        assert self._under_way is not None
        path, query = self._request(symbols)
        async with self._under_way:
            try:
                response = await self._client.get(self.url + path).query(query).headers(self._headers).build().send()
                body = bytes(await response.bytes())
            except TimeoutError as silence:
                return "passing", f"silence: nothing within {self.api.timeout_s:g} s ({type(silence).__name__})", 0.0
            except PyreqwestError as error:
                return "passing", f"{type(error).__name__}: {_innermost(error)}", 0.0
        return self._understood(symbols, response, body)

    def _request(self, symbols: Symbols) -> tuple[str, dict[str, str]]:
        """The path and the parameters of a poll."""
        config, several = self.feed.config, json.dumps(symbols, separators=(",", ":"))
        texts = {"symbol": symbols[0], "symbols": ",".join(symbols), "symbols_json": several}
        path = config.path.format(**{name: quote(text, safe="") for name, text in texts.items()})
        return path, {name: value.format(**texts) for name, value in config.request.items()} | self._query

    def _understood(self, symbols: Symbols, response: Any, body: bytes) -> list[Heard] | tuple[str, str, float]:
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
            return [Heard(symbol, text, {}, said_at, str(fault)) for symbol in symbols]
        except ValueError:
            return "passing", f"no JSON, or JSON that was cut, of {len(body):,} bytes: {text}", 0.0
        if self.feed.config.asks_at_once:
            return self._quotes_in(document, symbols, text, said_at)
        if not isinstance(document, dict):
            return "passing", f"a quote was expected, not {text or 'nothing'}", 0.0
        return [Heard(symbols[0], text, document, said_at)]

    def _quotes_in(
        self, document: object, symbols: Symbols, text: str, said_at: datetime
    ) -> list[Heard] | tuple[str, str, float]:
        """The quotes of an answer about all symbols, of which it may have others, too."""
        where = self.api.records if isinstance(self.api.records, str) else ""
        records = at(document, where)
        if not isinstance(records, list):
            return "passing", f"an array of quotes was expected at {where or 'the top'}, not {text or 'nothing'}", 0.0
        asked = {symbol.upper(): symbol for symbol in symbols}
        member = next(name for name, column in self.feed.config.columns.items() if column == "symbol")
        found: dict[str, Heard] = {}
        for record in records:
            said = member_at(record, member) if isinstance(record, dict) else None
            symbol = asked.get(said.upper()) if isinstance(said, str) else None
            if symbol is not None:
                found[symbol] = Heard(symbol, json.dumps(record), record, said_at)
        return list(found.values())


def _innermost(error: BaseException) -> str:
    """Returns the root cause of an error on one line: 'Connection reset by peer', not 'error sending request'."""
    details = getattr(error, "details", None) or {}
    causes = details.get("causes") or []
    return " ".join(str(causes[-1].get("message") if causes else error).split())
