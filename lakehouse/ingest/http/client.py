"""Asks a REST vendor questions, and puts the answers together: of pages one answer, of a batch one answer per question.

How a request is sent belongs in `connection`. Which questions a dataset asks is in `requests`; what the rows of an
answer mean is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lakehouse.errors import AnswerRefused, NoAnswer, QuotaExhausted, RunOver, Unreachable
from lakehouse.ingest import json_lines
from lakehouse.ingest.http.batch import Batch
from lakehouse.ingest.http.config import Endpoint
from lakehouse.ingest.http.connection import Answer, Connection, ContentRefused, Request
from lakehouse.ingest.http.paging import Page
from lakehouse.ingest.http.responses import Refusal, refusing_member

if TYPE_CHECKING:
    import httpx

_MOST_PAGES = 10_000
_IN_ADDRESS = re.compile(r"\{(\w+)\}")
_BATCH = "a batch of questions"
"""Names a batch in errors. Its size and content would make the same error another one in each run."""


@dataclass(frozen=True)
class Unanswered:
    """Why a question has no answer. `ends_run`: the vendor would not answer other questions either. `is_verdict`: the
    vendor says that there is nothing of that kind.
    """

    error: str
    ends_run: bool = False
    is_verdict: bool = False


class ApiClient:
    """Asks one vendor. A context manager; threads may share it.

    Raises:
        SourceError: the vendor's key is not set, or the address is not a URL.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._api, self._endpoint = endpoint.api, endpoint
        self._connection = Connection(endpoint)

    def __enter__(self) -> ApiClient:
        self._connection.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._connection.__exit__(*raised)

    def __repr__(self) -> str:
        return f"ApiClient({self._connection!r})"

    @property
    def questions_at_once(self) -> int:
        """The most questions that `answers` can send in one request."""
        return self._api.batch.size if self._api.batch else 1

    def answers(self, questions: Sequence[Mapping[str, str]]) -> list[Answer | Unanswered]:
        """The answer to each question, or why there is none. An API with batches gets them in one request; if it
        refuses the content of a batch, each half is sent again, so that only the question at fault stays unanswered.
        """
        batch, split = self._api.batch, len(questions) > 1
        try:
            if batch is None:
                return [self.get(question) for question in questions]
            return self._answers_to(batch, questions)
        except (QuotaExhausted, RunOver, Unreachable) as error:
            return [Unanswered(str(error), ends_run=True)] * len(questions)
        except (AnswerRefused, NoAnswer) as error:
            if not (split and isinstance(error, ContentRefused)):
                is_verdict = isinstance(error, AnswerRefused) and error.is_verdict and not split
                return [Unanswered(str(error), is_verdict=is_verdict)] * len(questions)
        half = len(questions) // 2
        first = self.answers(questions[:half])
        over = next((each for each in first if isinstance(each, Unanswered) and each.ends_run), None)
        rest = questions[half:]
        return [*first, *(self.answers(rest) if over is None else [over] * len(rest))]

    def get(self, parameters: Mapping[str, str]) -> Answer:
        """The answer to a GET request. If the API answers records, all pages become one answer: their records as JSON
        Lines, as of the first page.

        Args:
            parameters: of the query, without the key. `datatype`, csv or json, is what the answer must be.

        Raises:
            AnswerRefused, QuotaExhausted, Unreachable, RunOver, NoAnswer: see `Connection.send`.
        """
        if self._api.records is None:
            url, sent = self._addressed(parameters)
            request = Request(self._asked(parameters), url, sent, datatype=parameters.get("datatype"))
            return self._connection.send(request)[0]
        pages = list(self._pages(parameters, self._api.records))
        return Answer(json_lines.lines(record for _, page in pages for record in page.records), pages[0][0])

    def _answers_to(self, batch: Batch, questions: Sequence[Mapping[str, str]]) -> list[Answer | Unanswered]:
        """The answers to a batch.

        Raises:
            AnswerRefused, QuotaExhausted, Unreachable, RunOver, NoAnswer: see `Connection.send`. AnswerRefused also if
                the response doesn't have an answer per question.
        """
        source = self._connection.source
        asked = self._asked(questions[0]) if len(questions) == 1 else _BATCH
        response, _ = self._connection.send(
            Request(asked, content=batch.body(questions), headers=batch.sent_headers, datatype="json")
        )
        found = batch.answers_in(self._parsed(response.body, asked), questions)
        if found is None:
            unreferred = f", or a record in it refers to no question by {batch.refers.answer}" if batch.refers else ""
            raise AnswerRefused(
                f"{source}: the answer about {asked} has no array at {batch.answers or 'its top'}{unreferred}: "
                f"{self._quoted(response.body)}. Check api.batch.answers in the defs.yaml of {source}"
            )
        if len(found) != len(questions):
            raise AnswerRefused(
                f"{source}: the answer about {asked} has {len(found):,} elements for {len(questions):,} questions, so "
                f"that none can be assigned. Check api.batch in the defs.yaml of {source}"
            )
        pairs = zip(questions, found, strict=True)
        return [self._answer_of(batch, question, each, response.published_at) for question, each in pairs]

    def _answer_of(
        self, batch: Batch, question: Mapping[str, str], element: Any, published_at: datetime
    ) -> Answer | Unanswered:
        """The answer to one question of a batch, from its element of the response."""
        asked = self._asked(question)
        refusal = refusing_member(element, self._api.error_members, self._api.quota_patterns)
        if refusal is not None:
            said = self._connection.explained(refusal, asked)
            return Unanswered(said, ends_run=refusal.kind == "quota", is_verdict=refusal.is_verdict)
        path = self._api.records if isinstance(self._api.records, str) else ""
        records = batch.records_in(element, path)
        if records is None:
            missing = Refusal("permanent", f"no records at {path or 'its top'} of the answer")
            return Unanswered(self._connection.explained(missing, asked))
        return Answer(json_lines.lines(records), published_at)

    def _pages(self, parameters: Mapping[str, str], path: str | tuple[str, ...]) -> Iterator[tuple[datetime, Page]]:
        """The pages of an answer, each with the moment when it was made.

        Raises:
            AnswerRefused: a page lacks its records, or the pages repeat themselves or are too many.
        """
        paging, source, limit = self._api.paging, self._connection.source, self._connection.answer_max_bytes
        sent, seen = dict(parameters) | (paging.first() if paging else {}), set[str]()
        url: httpx.URL | None = None
        size = 0
        for number in count():
            asked = self._asked(sent)
            address, query = (url, sent) if url is not None else self._addressed(sent)
            answer, link = self._connection.send(Request(asked, address, query, datatype="json"))
            size += len(answer.body)
            page = self._read_page(number, answer.body, link, path, asked)
            yield answer.published_at, page
            following = paging.following(page) if paging else None
            if following is None:
                return
            if str(following) in seen or number + 1 == _MOST_PAGES or size > limit:
                what = "repeat themselves" if str(following) in seen else f"are more than {number + 1:,}"
                what = f"have more than {limit:,} bytes" if size > limit else what
                raise AnswerRefused(
                    f"{source}: the pages about {asked} {what}; check api.paging in the defs.yaml of {source}, or ask "
                    "for less at a time"
                )
            seen.add(str(following))
            if isinstance(following, str):
                sent, url = {}, self._own_page(following)
            else:
                sent |= following

    def _read_page(self, number: int, body: bytes, link: str | None, path: str | tuple[str, ...], asked: str) -> Page:
        document = self._parsed(body, asked)
        found = [json_lines.at(document, each) for each in ((path,) if isinstance(path, str) else path)]
        arrays = [each for each in found if isinstance(each, list)]
        if not arrays:
            source, where = self._connection.source, path if isinstance(path, str) else " or ".join(path)
            raise AnswerRefused(
                f"{source}: the answer about {asked} has no array at {where or 'its top'}: {self._quoted(body)}. Check "
                f"api.records in the defs.yaml of {source}"
            )
        return Page(number, document, [record for each in arrays for record in each], link)

    def _addressed(self, parameters: Mapping[str, str]) -> tuple[httpx.URL | None, dict[str, str]]:
        """The address of a request, if its path has names of parameters in braces, and the other parameters."""
        address, rest = self._endpoint.address, dict(parameters)
        for name in _IN_ADDRESS.findall(address):
            address = address.replace(f"{{{name}}}", quote(rest.pop(name, ""), safe=""))
        return (self._connection.url.join(address), rest) if len(rest) < len(parameters) else (None, rest)

    def _own_page(self, link: str) -> httpx.URL:
        """The address of a next page. It gets the key, so it must be the vendor's own.

        Raises:
            AnswerRefused: it is on another host.
        """
        connection = self._connection
        url = connection.url.join(link)
        if not connection.is_own(url):
            raise AnswerRefused(
                f"{connection.source}: the next page is said to be at {connection.address(url)}, which is not the "
                "vendor's address; the key is not sent there. If the vendor has moved, set "
                f"LAKEHOUSE_{connection.source.upper()}_URL"
            )
        return url

    def _parsed(self, body: bytes, asked: str) -> Any:
        try:
            return json_lines.parse(body)
        except ValueError as error:
            raise AnswerRefused(f"{self._connection.source}: the answer about {asked} is not JSON: {error}") from None

    def _asked(self, parameters: Mapping[str, str]) -> str:
        """A request as errors name it: `TIME_SERIES_INTRADAY symbol=AAPL month=2020-11`."""
        said = [value if name == "function" else f"{name}={value}" for name, value in parameters.items()]
        return self._connection.hidden(" ".join(said))

    def _quoted(self, body: bytes) -> str:
        return self._connection.quoted(body.decode(errors="replace"))
