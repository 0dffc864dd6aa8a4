"""Answers of a JSON:API to GET requests, landed page by page as the documents that they are: a place of objects.

Each document says of which moment it is, such as the publication that it was made from. A page is landed under the name
of its question and that moment, once. A question is asked again when its newest answer is older than the API takes to
have another; what the API has nothing for (404) is asked again by the next process.

A folder of such documents is read by the same YAML. An API with a key, or whose records are landed one by one, belongs
in `lakehouse.ingest.http.client`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

from lakehouse.errors import SourceUnavailable
from lakehouse.ingest import json_lines
from lakehouse.ingest.http.config import LOOPBACK, UNLIMITED, limiter
from lakehouse.ingest.http.downloads import Downloads, NotThere
from lakehouse.ingest.listing import Listing
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.object_store import objects_at, store_at

if TYPE_CHECKING:
    from pyrate_limiter import Limiter

_NEXT = "links.next"
_MOST_PAGES = 10_000
_STAMP = "%Y%m%dT%H%M%SZ"
_KEPT_S = 600.0
"""For which an answer that says nothing new isn't asked for again by the same process."""


@dataclass(frozen=True)
class PagedQuestion:
    """A request: its path below the API's address, its parameters, and the folder in which its pages are landed."""

    folder: str
    path: str
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> str:
        """Names the question."""
        return hashlib.blake2b(repr((self.path, self.parameters)).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class PagedAnswers:
    """The landed pages (see `ObjectSource`); listing them asks what is to be asked first.

    Args:
        url: address of the API.
        landing: URL of the folder in which pages are landed.
        moment: path of the member of a document with its moment (ISO 8601).
        fresh: for how long after that moment the API has nothing newer.
    """

    url: str
    landing: str
    questions: Callable[[], Iterable[PagedQuestion]]
    moment: str
    fresh: timedelta
    requests_per_minute: int

    def list(self, prefix: str = "") -> Listing:
        """Lists the landed pages, after new ones were landed.

        Raises:
            SourceUnavailable: the API doesn't answer. What was landed before stays.
        """
        known = self._newest()
        now = datetime.now(UTC)
        for question in self.questions():
            newest = known.get(question.digest)
            if newest is None or newest + self.fresh <= now:
                self._land(question, newest)
        return self._kept.list(prefix)

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        """The page at `path`."""
        return self._kept.fetch(path, tag)

    def can_read(self, path: str) -> bool:
        """See `ObjectSource`."""
        return self._kept.can_read(path)

    def holds(self, path: str, tag: str | None) -> bool:
        """Always: a page is landed once."""
        return True

    def folders(self, below: str) -> None:
        """None: see `ObjectSource`."""

    def stamp(self, below: str) -> None:
        """None: see `ObjectSource`."""

    @property
    def _kept(self) -> ObjectSource:
        return objects_at(self.landing, may_lack=True)

    def _newest(self) -> dict[str, datetime]:
        """The moment of the newest answer to each question, by its digest."""
        found: dict[str, datetime] = {}
        for name in self._kept.list().objects["name"]:
            stamp, digest, *_ = name.rpartition("/")[2].split("-")
            moment = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
            found[digest] = max(moment, found.get(digest, moment))
        return found

    def _land(self, question: PagedQuestion, newest: datetime | None) -> None:
        """Lands the pages of an answer, if it is newer than the newest one; the first page is written last, so that a
        run that is killed in between asks again.
        """
        pages = []
        for number, (moment, document) in enumerate(self._pages(question)):
            if newest is not None and moment <= newest:
                return
            stamp = moment.strftime(_STAMP)
            text = json.dumps(document, ensure_ascii=False).encode()
            pages.append((f"{question.folder}/{stamp}-{question.digest}-{number:05d}.json", text))
        for name, text in reversed(pages):
            self._put(name, text)

    def _pages(self, question: PagedQuestion) -> Iterator[tuple[datetime, Any]]:
        query = f"?{urlencode(question.parameters)}" if question.parameters else ""
        url, seen = f"{self.url.rstrip('/')}/{question.path}{query}", set[str]()
        while url not in seen and len(seen) < _MOST_PAGES:
            seen.add(url)
            _limiter(self._rate).try_acquire()
            try:
                document = _DOWNLOADS.document(url, kept_s=_KEPT_S)
            except NotThere:
                return
            yield self._moment(document, url), document
            following = json_lines.at(document, _NEXT)
            if not isinstance(following, str):
                return
            url = urljoin(url, following)

    @property
    def _rate(self) -> int:
        return UNLIMITED if urlsplit(self.url).hostname in LOOPBACK else self.requests_per_minute

    def _moment(self, document: Any, url: str) -> datetime:
        said = json_lines.at(document, self.moment)
        try:
            found = datetime.fromisoformat(str(said))
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            raise SourceUnavailable(
                f"{url}: the answer has no moment at {self.moment}; check that this is the API's address"
            )
        return found.astimezone(UTC).replace(microsecond=0)

    def _put(self, name: str, text: bytes) -> None:
        import obstore

        try:
            obstore.put(store_at(self.landing), name, text)
        except (OSError, obstore.exceptions.BaseError) as error:
            raise SourceUnavailable(f"{self.landing}: {name} can't be written: {error}") from error


_DOWNLOADS = Downloads()


@cache
def _limiter(requests_a_minute: int) -> Limiter:
    """The limiter that the requests of this process share."""
    return limiter(requests_a_minute)
