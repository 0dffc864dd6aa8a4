"""Sends requests to a REST vendor: at the vendor's rate, again after passing errors, within the run's time. A request
becomes an answer or an error with the reason.

Pages and batches belong in `client`, and what a refusal looks like in `responses`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse.errors import AnswerRefused, NoAnswer, QuotaExhausted, RunOver, Unreachable
from lakehouse.ingest.http.config import Endpoint, limiter
from lakehouse.ingest.http.responses import Refusal, pause_s, published_at, refusal_in
from lakehouse.ingest.http.secret import Secret, WithoutKey

if TYPE_CHECKING:
    import ssl

    import httpx

T = TypeVar("T")

# The first wait between two tries. It doubles each time, plus a random part, so that threads that failed together
# don't retry together.
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
# The connect timeout of a try, and the time after which no further try to connect begins.
CONNECT_S = 4.0
CONNECT_TRIES_S = 15.0
_MOST_REDIRECTS = 3
_MOST_QUOTED = 300
_PIECE_BYTES = 1 << 16
# These log URLs with the key, and headers in which a vendor repeats it.
_LOGGERS = ("httpx", "httpcore.http11", "httpcore.proxy")


@dataclass(frozen=True)
class Request:
    """A request.

    Args:
        url: address, or None for the vendor's.
        parameters: of the query, without the key.
        content: to POST; without it, the request is a GET.
        asked: what it asks for, as errors name it.
        datatype: csv or json, if the answer must be one of these.
    """

    asked: str
    url: httpx.URL | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    headers: Mapping[str, str] | None = None
    datatype: str | None = None


@dataclass(frozen=True)
class Answer:
    """The vendor's answer: its bytes, with the key removed, and when it was made (UTC), by the vendor's clock but never
    later than ours.
    """

    body: bytes
    published_at: datetime


@dataclass(frozen=True)
class _WholeResponse:
    """A response and its body, unpacked."""

    response: httpx.Response
    body: bytes


class ContentRefused(AnswerRefused):
    """The vendor refuses what the request contains (status 400, 413 or 422), rather than the client or the address."""


class _TryFailed(Exception):
    """A try met an error that may pass. `pause_s`: how long the vendor asks to wait."""

    def __init__(self, text: str, pause_s: float = 0.0) -> None:
        super().__init__(text)
        self.pause_s = pause_s


class _NotConnected(_TryFailed):
    """A try could not connect. `is_last`: another one would begin too late."""

    is_last = False


@cache
def _certificates(*named: str | None) -> ssl.SSLContext:
    """The trusted authorities that the environment names. Cached, since reading them takes 20 ms."""
    import httpx

    return httpx.create_ssl_context()


_CONTENT_STATUS = {400, 413, 422}


class Connection:
    """A connection to one vendor. A context manager; threads may share it, and its rate.

    Raises:
        SourceError: the vendor's key is not set, or the address is not a URL.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        import httpx
        import stamina.instrumentation

        api = endpoint.api
        self.source = endpoint.source
        self.api = api
        self.url = httpx.URL(endpoint.address)
        self._key, self._headers = endpoint.key_parameter, endpoint.key_header
        self._secret = Secret(*endpoint.secrets)
        self.answer_max_bytes = endpoint.answer_max_bytes
        endpoint.warn_of_open_key()
        # Failed tries are reported once, by the last one's error: log lines in between would break progress bars.
        stamina.instrumentation.set_on_retry_hooks([])
        self._limiter = limiter(endpoint.requests_per_minute)
        connect_s = min(CONNECT_S, api.timeout_s)
        self._client = httpx.AsyncClient(
            headers=self._headers,
            verify=_certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
            timeout=httpx.Timeout(api.timeout_s, connect=connect_s, pool=None),
            limits=httpx.Limits(max_connections=api.concurrency),
        )
        self._filter = WithoutKey(self._secret)
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._filter)

    def __enter__(self) -> Connection:
        self._until = time.monotonic() + self.api.run_timeout_s
        # Requests run on an event loop in a thread: a task can be cancelled at its deadline, a blocking read can't.
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=f"requests to {self.source}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._on_loop(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._filter)

    def __repr__(self) -> str:
        return f"Connection({self.source}, {self.address(self.url)})"

    def send(self, request: Request) -> tuple[Answer, str | None]:
        """Sends a request until there is an answer, at most `max_attempts` times. Returns the answer, and the address
        of the next page if its header Link names one.

        Raises:
            AnswerRefused: the vendor refuses this request permanently; `ContentRefused` because of what it contains.
            QuotaExhausted: the vendor answers no more requests for now.
            Unreachable: no connection to the vendor could be made.
            RunOver: the run's time for requests is over.
            NoAnswer: no try brought an answer.
        """
        import stamina

        started, needs_turn = time.monotonic(), True
        try:
            for attempt in stamina.retry_context(
                on=_next_wait,
                attempts=self.api.max_attempts,
                timeout=None,
                wait_initial=FIRST_WAIT_S,
                wait_max=LONGEST_WAIT_S,
                wait_jitter=FIRST_WAIT_S,
            ):
                with attempt:
                    if needs_turn:
                        self._turn(request)
                    try:
                        return self._answer(request)
                    except _NotConnected as failed:
                        # The vendor didn't see this try, so it doesn't count for the rate.
                        needs_turn = False
                        failed.is_last = time.monotonic() + _longest_try(attempt.num) > started + CONNECT_TRIES_S
                        raise
                    except _TryFailed:
                        needs_turn = True
                        raise
        except _TryFailed as failed:
            tries, last, is_reached = attempt.num, str(failed), not isinstance(failed, _NotConnected)
        # Raised outside the handler: a traceback shows the texts of chained errors too.
        met = f"after {tries} {'try' if tries == 1 else 'tries'}; the last met {last}. The next run asks again"
        if not is_reached:
            raise Unreachable(
                f"{self.source} can't be reached {met}; if this lasts, check the network, and whether "
                f"{self.address(self.url)} is the vendor's address (LAKEHOUSE_{self.source.upper()}_URL or the "
                "defs.yaml)"
            )
        raise NoAnswer(
            f"{self.source}: no answer about {request.asked} {met}; if this lasts, check whether "
            f"{self.address(self.url)} is up, or lower api.requests_per_minute in the defs.yaml"
        )

    def _turn(self, request: Request) -> None:
        """Waits until the vendor's rate allows a request.

        Raises:
            RunOver: the run's time ends before that.
        """
        left = self._until - time.monotonic()
        if left <= 0 or not self._limiter.try_acquire(timeout=left):
            raise RunOver(
                f"{self.source}: not asked for {request.asked}: the {self.api.run_timeout_s:g} s for which a run may "
                "send requests are over (api.run_timeout_s in the defs.yaml). The next run continues"
            )

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _answer(self, request: Request) -> tuple[Answer, str | None]:
        """One try."""
        whole = self._whole_response(request)
        response, body = whole.response, whole.body
        now = datetime.now(UTC)
        refusal = self._redirected(response) or refusal_in(
            response.status_code,
            body,
            request.datatype,
            self.api.error_members,
            self.api.quota_patterns,
            is_whole="content-length" in response.headers or "transfer-encoding" in response.headers,
        )
        if refusal is None:
            answer = Answer(self._secret.hidden_in(body), published_at(response.headers.get("date"), now))
            return answer, response.links.get("next", {}).get("url")
        if refusal.kind == "passing":
            raise _TryFailed(self.quoted(refusal.text), pause_s(response.headers.get("retry-after"), now))
        if refusal.kind == "quota":
            raise QuotaExhausted(self.explained(refusal, request.asked))
        refused = ContentRefused if response.status_code in _CONTENT_STATUS else AnswerRefused
        error = refused(self.explained(refusal, request.asked))
        error.is_verdict = refusal.is_verdict
        raise error

    def explained(self, refusal: Refusal, asked: str) -> str:
        """The message about a refusal of what was asked for."""
        said = self.quoted(refusal.text)
        if refusal.kind == "quota":
            return (
                f"{self.source} answers nothing more for now, asked for {asked}: {said}. Run it again when the "
                "vendor's quota is renewed, or get a plan that covers this"
            )
        if refusal.kind == "passing":
            return f"{self.source}: no answer about {asked}: {said}. The next run asks again"
        key = f", the key in {self.api.key.variable}" if self.api.key else ""
        return (
            f"{self.source} refuses {asked}: {said}. Check what is asked about{key} and the request in the defs.yaml "
            f"of {self.source}"
        )

    def _whole_response(self, request: Request) -> _WholeResponse:
        """The vendor's whole response. Redirections are followed within the vendor's own host, since another host must
        not get the key, and only if a POST stays one.
        """
        import httpx

        sent = self._client.build_request(
            "GET" if request.content is None else "POST",
            (request.url or self.url).copy_merge_params({**request.parameters, **self._key}),
            content=request.content,
            headers=request.headers,
        )
        try:
            for redirections in range(_MOST_REDIRECTS + 1):
                if redirections:
                    self._turn(request)
                seconds = min(self.api.answer_timeout_s, max(self._until - time.monotonic(), 0.0))
                whole = self._on_loop(self._whole(sent, seconds, request.asked))
                following = whole.response.next_request
                if following is None or not self.is_own(following.url) or following.method != sent.method:
                    break
                sent = following
        except TimeoutError:
            failed = _TryFailed(f"an answer that was not whole within {seconds:g} s")
        except httpx.ConnectTimeout:
            failed = _NotConnected(f"silence: no connection within {min(CONNECT_S, self.api.timeout_s):g} s")
        except httpx.TimeoutException:
            failed = _TryFailed(f"silence: nothing within {self.api.timeout_s:g} s")
        except httpx.RequestError as error:
            kind = _NotConnected if isinstance(error, httpx.ConnectError) else _TryFailed
            failed = kind(self.quoted(f"{type(error).__name__}: {_innermost(error)}"))
        else:
            return whole
        raise failed

    async def _whole(self, request: httpx.Request, seconds: float, asked: str) -> _WholeResponse:
        """The response to one request, which asks for `asked`.

        Raises:
            TimeoutError: it was not complete within `seconds`.
            AnswerRefused: it has more bytes than the settings allow.
        """
        limit, body = self.answer_max_bytes, bytearray()
        async with asyncio.timeout(seconds):
            response = await self._client.send(request, stream=True)
            try:
                async for piece in response.aiter_bytes(_PIECE_BYTES):
                    body += piece
                    if len(body) > limit:
                        raise AnswerRefused(
                            f"{self.source}: the answer about {asked} has more than {limit:,} bytes; ask for less in "
                            f"the defs.yaml of {self.source}, or raise LAKEHOUSE_ANSWER_MAX_BYTES if its size is right"
                        )
            finally:
                await response.aclose()
        return _WholeResponse(response, bytes(body))

    def is_own(self, url: httpx.URL) -> bool:
        """Whether an address is on the vendor's host, and not unencrypted if the configured one is encrypted."""
        own = (self.url.scheme, self.url.host, self.url.port)
        return (url.scheme, url.host, url.port) in (own, ("https", self.url.host, None))

    def _redirected(self, response: httpx.Response) -> Refusal | None:
        if response.next_request is None:
            return None
        return Refusal(
            "permanent",
            f"it redirects to {self.address(response.next_request.url)}, which is not followed; if the vendor has "
            f"moved, set LAKEHOUSE_{self.source.upper()}_URL",
        )

    def hidden(self, text: str) -> str:
        """A text without the key."""
        return self._secret.hidden(text)

    def quoted(self, text: str) -> str:
        """A vendor's text for an error: without the key, and shortened."""
        text = self._secret.hidden(text).rstrip(".")
        return text if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]}..."

    def address(self, url: httpx.URL) -> str:
        """An address for an error, without query and password."""
        return self._secret.hidden(str(url.copy_with(query=None, userinfo=b"")))


def _next_wait(error: Exception) -> bool | float:
    """How long to wait before the next try: as long as the vendor asks, True for the usual back-off, or False if there
    is no next try.
    """
    if isinstance(error, _NotConnected) and error.is_last:
        return False
    return isinstance(error, _TryFailed) and (error.pause_s or True)


def _innermost(error: BaseException) -> str:
    """The text of the first error of a chain: `Connection reset by peer` says more than `ReadError`."""
    text = str(error)
    while (cause := error.__cause__ or error.__context__) is not None:
        error, text = cause, str(cause) or text
    return text


def _longest_try(number: int) -> float:
    """The most seconds until one more try, after `number` of them, has failed to connect."""
    return min(FIRST_WAIT_S * 2 ** (number - 1), LONGEST_WAIT_S) + FIRST_WAIT_S + CONNECT_S
