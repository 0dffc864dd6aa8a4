"""Asking a REST vendor, as fast as it allows and as often as it takes, so that a request becomes an answer or an error
that says why not.

It knows HTTP and how vendors refuse (`api_answers`). What is asked for, and what the rows of an answer mean, is not
known here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import count
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse.errors import AnswerRefused, NoAnswer, QuotaExhausted, RunOver, Unreachable
from lakehouse.ingest import json_lines
from lakehouse.ingest.http.config import Endpoint, limiter
from lakehouse.ingest.http.paging import Page
from lakehouse.ingest.http.responses import Refusal, pause_s, published_at, refusal_in
from lakehouse.ingest.http.secret import Secret, WithoutKey

if TYPE_CHECKING:
    import ssl

    import httpx

T = TypeVar("T")

# The first wait between two tries; it doubles, and up to as much is added at random, so that threads that failed
# together don't come back together.
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
# A vendor that can't be connected to is given up within the second, whatever the waits between its tries are.
CONNECT_S = 4.0
CONNECT_TRIES_S = 15.0
_MOST_REDIRECTS = 3
_MOST_QUOTED = 300
_MOST_PAGES = 10_000
_PIECE_BYTES = 1 << 16
# What httpx and its transport tell, at INFO and DEBUG: URLs with the key, and headers in which a vendor repeats it.
_TALKERS = ("httpx", "httpcore.http11", "httpcore.proxy")


@dataclass(frozen=True)
class Answer:
    """What the vendor answered: the bytes (without the key, should they repeat it) and when, by the vendor's clock
    but never later than ours, it was made (UTC).
    """

    body: bytes
    published_at: datetime


@dataclass(frozen=True)
class _WholeResponse:
    """A response and its body, unpacked."""

    response: httpx.Response
    body: bytes


class _TryFailed(Exception):
    """A try met something that may pass. `pause_s`: how long the vendor asks to wait."""

    def __init__(self, text: str, pause_s: float = 0.0) -> None:
        super().__init__(text)
        self.pause_s = pause_s


class _NotConnected(_TryFailed):
    """A try found nothing to connect to. `is_last`: another one would come too late."""

    is_last = False


@cache
def _certificates(*named: str | None) -> ssl.SSLContext:
    """The authorities that are trusted, as the environment names them: read once, as that takes 20 ms."""
    import httpx

    return httpx.create_ssl_context()


class ApiClient:
    """Asks one vendor. A context manager; any number of threads may share it, its connections and its rate.

    Raises:
        SourceError: the vendor wants a key and there is none, or the address is none.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        import httpx
        import stamina.instrumentation

        api = endpoint.api
        self.source = endpoint.source
        self.api = api
        self.url = httpx.URL(endpoint.address)
        self._key, self._headers = endpoint.key_parameter, endpoint.key_header
        self._secret = Secret(endpoint.require_key())
        self._answer_max_bytes = endpoint.answer_max_bytes
        endpoint.warn_of_open_key()
        # A try that failed is told once, by the error of the last one: lines in between would break progress bars.
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
        for name in _TALKERS:
            logging.getLogger(name).addFilter(self._filter)

    def __enter__(self) -> ApiClient:
        self._until = time.monotonic() + self.api.run_timeout_s
        # Requests run on a loop of their own: a task can be ended at its deadline, a thread that reads can't.
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=f"asks {self.source}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._on_loop(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for name in _TALKERS:
            logging.getLogger(name).removeFilter(self._filter)

    def __repr__(self) -> str:
        return f"ApiClient({self.source}, {self._address(self.url)})"

    def get(self, parameters: Mapping[str, str]) -> Answer:
        """Asks until there is an answer, at most `max_attempts` times. Where the API answers records, all pages are one
        answer: their records, as JSON Lines, of the moment when the first page was made.

        Args:
            parameters: of the query, without the key. `datatype`, csv or json, says what the answer has to be.

        Raises:
            AnswerRefused: the vendor refuses this request for good.
            QuotaExhausted: the vendor answers nothing more for now.
            Unreachable: the vendor can't be connected to.
            RunOver: the time for which a run may ask is over.
            NoAnswer: none of the tries brought an answer.
        """
        if self.api.records is None:
            return self._page(parameters, self.url)[0]
        pages = list(self._pages(parameters, self.api.records))
        return Answer(json_lines.lines(record for _, page in pages for record in page.records), pages[0][0])

    def _pages(self, parameters: Mapping[str, str], path: str) -> Iterator[tuple[datetime, Page]]:
        """The pages of an answer, with the moment when each was made.

        Raises:
            AnswerRefused: a page lacks its records, the pages go round or beyond what may be asked for.
        """
        paging, url, size = self.api.paging, self.url, 0
        asked, seen = dict(parameters) | (paging.first() if paging else {}), set[str]()
        for number in count():
            answer, link = self._page(asked, url)
            size += len(answer.body)
            page = self._read_page(number, answer.body, link, path, asked)
            yield answer.published_at, page
            following = paging.following(page) if paging else None
            if following is None:
                return
            if str(following) in seen or number + 1 == _MOST_PAGES or size > self._answer_max_bytes:
                what = "repeat themselves" if str(following) in seen else f"are more than {number + 1:,}"
                what = f"have more than {self._answer_max_bytes:,} bytes" if size > self._answer_max_bytes else what
                raise AnswerRefused(
                    f"{self.source}: the pages about {self._asked(asked)} {what}; check api.paging in the defs.yaml of "
                    f"{self.source}, or ask for less at a time"
                )
            seen.add(str(following))
            if isinstance(following, str):
                asked, url = {}, self._own_page(following)
            else:
                asked |= following

    def _read_page(self, number: int, body: bytes, link: str | None, path: str, asked: Mapping[str, str]) -> Page:
        try:
            document = json_lines.parse(body)
        except ValueError as error:
            raise AnswerRefused(f"{self.source}: the answer about {self._asked(asked)} is not JSON: {error}") from None
        records = json_lines.at(document, path)
        if not isinstance(records, list):
            raise AnswerRefused(
                f"{self.source}: the answer about {self._asked(asked)} has no array at {path or 'its top'}: "
                f"{self._quoted(body.decode(errors='replace'))}. Check api.records in the defs.yaml of {self.source}"
            )
        return Page(number, document, records, link)

    def _own_page(self, link: str) -> httpx.URL:
        """The address of a next page, which gets the key: the vendor's own alone.

        Raises:
            AnswerRefused: it is another host's.
        """
        url = self.url.join(link)
        if not self._is_own(url):
            raise AnswerRefused(
                f"{self.source}: the next page is said to be at {self._address(url)}, which is not the vendor's "
                f"address; the key is not sent there. If the vendor has moved, set LAKEHOUSE_{self.source.upper()}_URL"
            )
        return url

    def _page(self, parameters: Mapping[str, str], url: httpx.URL) -> tuple[Answer, str | None]:
        """One response, and the address that it names as the next page's. Raises as `get` does."""
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
                        self._turn(parameters)
                    try:
                        return self._answer(parameters, url)
                    except _NotConnected as failed:
                        # The vendor knows nothing of this try: it counts for no rate.
                        needs_turn = False
                        failed.is_last = time.monotonic() + _longest_try(attempt.num) > started + CONNECT_TRIES_S
                        raise
                    except _TryFailed:
                        needs_turn = True
                        raise
        except _TryFailed as failed:
            tries, last, is_reached = attempt.num, str(failed), not isinstance(failed, _NotConnected)
        # Raised here and not above: an error that is chained to another shows that one's text, too.
        met = f"after {tries} {'try' if tries == 1 else 'tries'}; the last met {last}. The next run asks again"
        if not is_reached:
            raise Unreachable(
                f"{self.source} can't be reached {met}; if this lasts, check the network, and whether "
                f"{self._address(self.url)} is the vendor's address (LAKEHOUSE_{self.source.upper()}_URL or the "
                "defs.yaml)"
            )
        raise NoAnswer(
            f"{self.source}: no answer about {self._asked(parameters)} {met}; if this lasts, look whether "
            f"{self._address(self.url)} is up, or lower api.requests_per_minute in the defs.yaml"
        )

    def _turn(self, parameters: Mapping[str, str]) -> None:
        """Waits until the vendor's rate allows a request, and the run's time one more.

        Raises:
            RunOver: it doesn't.
        """
        left = self._until - time.monotonic()
        if left <= 0 or not self._limiter.try_acquire(timeout=left):
            raise RunOver(
                f"{self.source}: not asked for {self._asked(parameters)}: the {self.api.run_timeout_s:g} s for which a "
                "run may ask are over (api.run_timeout_s in the defs.yaml). The next run goes on"
            )

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _answer(self, parameters: Mapping[str, str], url: httpx.URL) -> tuple[Answer, str | None]:
        """One try."""
        whole = self._whole_response(parameters, url)
        response, body = whole.response, whole.body
        now = datetime.now(UTC)
        refusal = self._redirected(response) or refusal_in(
            response.status_code,
            body,
            parameters.get("datatype") if self.api.records is None else "json",
            self.api.error_members,
            self.api.quota_patterns,
            is_whole="content-length" in response.headers or "transfer-encoding" in response.headers,
        )
        if refusal is None:
            answer = Answer(self._secret.hidden_in(body), published_at(response.headers.get("date"), now))
            return answer, response.links.get("next", {}).get("url")
        said = self._quoted(refusal.text)
        if refusal.kind == "passing":
            raise _TryFailed(said, pause_s(response.headers.get("retry-after"), now))
        if refusal.kind == "quota":
            raise QuotaExhausted(
                f"{self.source} answers nothing more for now, asked for {self._asked(parameters)}: {said}. Run it "
                "again when the vendor's quota is renewed, or get a plan that covers this"
            )
        mend = f", the key in {self.api.key.variable}" if self.api.key else ""
        raise AnswerRefused(
            f"{self.source} refuses {self._asked(parameters)}: {said}. Check the symbol{mend} and the request in the "
            f"defs.yaml of {self.source}"
        )

    def _whole_response(self, parameters: Mapping[str, str], url: httpx.URL) -> _WholeResponse:
        """The vendor's response, whole. Redirections to the vendor's own host are followed; others would take the key
        elsewhere.
        """
        import httpx

        request = self._client.build_request("GET", url.copy_merge_params({**parameters, **self._key}))
        try:
            for redirections in range(_MOST_REDIRECTS + 1):
                if redirections:
                    self._turn(parameters)
                seconds = min(self.api.answer_timeout_s, max(self._until - time.monotonic(), 0.0))
                whole = self._on_loop(self._whole(request, seconds, self._asked(parameters)))
                response = whole.response
                if response.next_request is None or not self._is_own(response.next_request.url):
                    break
                request = response.next_request
        except TimeoutError:
            failed = _TryFailed(f"an answer that was not whole within {seconds:g} s")
        except httpx.ConnectTimeout:
            failed = _NotConnected(f"silence: no connection within {min(CONNECT_S, self.api.timeout_s):g} s")
        except httpx.TimeoutException:
            failed = _TryFailed(f"silence: nothing within {self.api.timeout_s:g} s")
        except httpx.RequestError as error:
            kind = _NotConnected if isinstance(error, httpx.ConnectError) else _TryFailed
            failed = kind(self._quoted(f"{type(error).__name__}: {_innermost(error)}"))
        else:
            return whole
        raise failed

    async def _whole(self, request: httpx.Request, seconds: float, asked: str) -> _WholeResponse:
        """The response to one request, in which `asked` was asked for.

        Raises:
            TimeoutError: it was not whole within `seconds`, whatever came of it.
            AnswerRefused: it has more bytes than the settings allow.
        """
        limit, body = self._answer_max_bytes, bytearray()
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

    def _is_own(self, url: httpx.URL) -> bool:
        """Whether an address is the vendor's: the same host, and not in clear text if it was encrypted before."""
        own = (self.url.scheme, self.url.host, self.url.port)
        return (url.scheme, url.host, url.port) in (own, ("https", self.url.host, None))

    def _redirected(self, response: httpx.Response) -> Refusal | None:
        if response.next_request is None:
            return None
        return Refusal(
            "permanent",
            f"it redirects to {self._address(response.next_request.url)}, which is not followed; if the vendor has "
            f"moved, set LAKEHOUSE_{self.source.upper()}_URL",
        )

    def _asked(self, parameters: Mapping[str, str]) -> str:
        """The request as people read it: `TIME_SERIES_INTRADAY symbol=AAPL month=2020-11`."""
        said = [value if name == "function" else f"{name}={value}" for name, value in parameters.items()]
        return self._secret.hidden(" ".join(said))

    def _quoted(self, text: str) -> str:
        text = self._secret.hidden(text).rstrip(".")
        return text if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]}..."

    def _address(self, url: httpx.URL) -> str:
        return self._secret.hidden(str(url.copy_with(query=None, userinfo=b"")))


def _next_wait(error: Exception) -> bool | float:
    """How long to wait before the next try: as long as the vendor asks, or (True) as the back-off has it; False:
    there is no next one.
    """
    if isinstance(error, _NotConnected) and error.is_last:
        return False
    return isinstance(error, _TryFailed) and (error.pause_s or True)


def _innermost(error: BaseException) -> str:
    """What a chain of errors begins with: `Connection reset by peer` says more than that nothing could be read."""
    text = str(error)
    while (cause := error.__cause__ or error.__context__) is not None:
        error, text = cause, str(cause) or text
    return text


def _longest_try(number: int) -> float:
    """Seconds until another try after so many has failed to connect, at most."""
    return min(FIRST_WAIT_S * 2 ** (number - 1), LONGEST_WAIT_S) + FIRST_WAIT_S + CONNECT_S
