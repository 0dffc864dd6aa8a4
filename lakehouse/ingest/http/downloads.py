"""Documents and files over HTTP, from publishers that anybody may ask: no key is sent, so redirections are followed.

A server that is busy (429, 5xx) or breaks off is asked again, after the time that it asks for. Vendors with a key, a
rate and records in their answers belong in `connection`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from lakehouse.errors import ObjectUnreadable, SourceUnavailable
from lakehouse.ingest import json_lines
from lakehouse.ingest.http.config import LOOPBACK
from lakehouse.ingest.http.responses import PASSING_STATUS, pause_s
from lakehouse.ingest.spool import spooled

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
_TRIES = 5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_TIMEOUT_S = 60.0


class _TryFailed(Exception):
    """A try met an error that may pass. `pause_s`: how long the server asks to wait."""

    def __init__(self, text: str, pause_s: float = 0.0) -> None:
        super().__init__(text)
        self.pause_s = pause_s


class _Refused(_TryFailed):
    """The server refuses the request; asking again changes nothing."""


class _Absent(_Refused):
    """It has nothing there."""


class NotThere(SourceUnavailable):
    """The server has nothing at an address (404)."""


class Downloads:
    """Requests to servers, whose connections are kept open.

    Args:
        now: seconds of a clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._documents: dict[str, tuple[float, Any]] = {}

    def document(self, url: str, *, kept_s: float = 60.0) -> Any:
        """The JSON document at an address, which is asked for once in `kept_s` at most, as sensors look more often. A
        server on this machine is always asked.

        Raises:
            NotThere: the server says that there is none.
            SourceUnavailable: it can't be read.
        """

        def get(answer: httpx.Response) -> Any:
            body = answer.read()
            try:
                return json_lines.parse(body)
            except ValueError as error:
                what = "a web page" if body.lstrip().startswith(b"<") else f"no JSON ({error})"
                raise _Refused(f"it is {what} where a JSON document is expected") from None

        until, known = self._documents.get(url, (0.0, None))
        if self._now() >= until:
            try:
                known = self._asked(url, get)
            except _Absent as failed:
                known = failed
            except _TryFailed as failed:
                raise SourceUnavailable(_unread(url, failed)) from None
            if urlsplit(url).hostname not in LOOPBACK:
                self._documents[url] = self._now() + kept_s, known
        if isinstance(known, _Absent):
            raise NotThere(_unread(url, known))
        return known

    def file(self, url: str) -> IO[bytes]:
        """The file at an address, at its start; a large one is kept on disk until it is closed.

        Raises:
            ObjectUnreadable: the server refuses it, or doesn't give it whole.
        """
        try:
            return self._asked(url, lambda answer: spooled(answer.iter_bytes()))
        except _TryFailed as failed:
            raise ObjectUnreadable(f"{url} can't be read: {failed}; the next load tries again") from None

    def _asked(self, url: str, read: Callable[[httpx.Response], T]) -> T:
        """What `read` makes of the answer to a request, which is repeated where the fault may pass."""
        import stamina

        for attempt in stamina.retry_context(
            on=_next_wait,
            attempts=_TRIES,
            timeout=None,
            wait_initial=_FIRST_WAIT_S,
            wait_max=_LONGEST_WAIT_S,
            wait_jitter=_FIRST_WAIT_S,
        ):
            with attempt:
                return self._answer(url, read)
        raise AssertionError("unreachable")

    def _answer(self, url: str, read: Callable[[httpx.Response], T]) -> T:
        """One try."""
        import httpx

        try:
            with self._client.stream("GET", url) as answer:
                status = answer.status_code
                if status >= 500 or status in PASSING_STATUS:
                    asked = pause_s(answer.headers.get("retry-after"), datetime.now(UTC))
                    raise _TryFailed(f"the server answers with status {status}", asked)
                if status == 404:
                    raise _Absent("the server answers with status 404")
                if status != 200:
                    raise _Refused(f"the server answers with status {status}")
                return read(answer)
        except httpx.InvalidURL as error:
            raise _Refused(f"it is no address: {error}") from None
        except httpx.HTTPError as error:
            raise _TryFailed(f"{type(error).__name__}: {error}") from None

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        return httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True)


def _unread(url: str, failed: Exception) -> str:
    return f"{url} can't be read: {failed}; check that this is the publisher's address, and try again later"


def _next_wait(error: Exception) -> bool | float:
    """As long as the server asks, or True for the usual back-off; False if there is no next try."""
    if not isinstance(error, _TryFailed) or isinstance(error, _Refused):
        return False
    return error.pause_s or True
