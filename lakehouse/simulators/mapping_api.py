"""OpenFIGI's mapping API on loopback: `POST /v3/mapping` with jobs about ISINs, its limits and its failures on demand.

It invents the listings of any ISIN that it knows: a composite and a listing per country, and one on each of the ISIN's
markets.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

from lakehouse.simulators.request_server import ApiRequest, ApiResponse, RequestServer

Fault = Literal["too many", "too large", "short", "server error"]
"""429, 413, an array that lacks its last element, and 500."""
_FIGI_SIGNS = "0123456789BCDFGHJKLMNPQRSTVWXYZ"
_VALUES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WINDOW_S = {True: 6.0, False: 60.0}
_MOST_REQUESTS = 25


def figi_of(number: int) -> str:
    """The FIGI of a number, with its check digit."""
    signs = []
    for _ in range(8):
        number, place = divmod(number, len(_FIGI_SIGNS))
        signs.append(_FIGI_SIGNS[place])
    body = "BBG" + "".join(reversed(signs))
    doubled = [_VALUES.index(sign) * (1 + place % 2) for place, sign in enumerate(body)]
    return f"{body}{-sum(value // 10 + value % 10 for value in doubled) % 10}"


def invented(isin: str, ticker: str, name: str, markets: Mapping[str, str]) -> list[dict[str, Any]]:
    """Invented answers about an ISIN.

    Args:
        markets: MIC -> Bloomberg's code of the exchange.
    """
    base = int.from_bytes(isin.encode(), "big") % 10**9 * 100
    common = {
        "name": name.upper(),
        "ticker": ticker,
        "compositeFIGI": figi_of(base + 1),
        "shareClassFIGI": figi_of(base),
        "securityType": "Common Stock",
        "marketSector": "Equity",
        "securityType2": "Common Stock",
        "securityDescription": ticker,
    }
    listings = [("", isin[:2], figi_of(base + 1))]
    listings += [(mic, code, figi_of(base + 2 + place)) for place, (mic, code) in enumerate(markets.items())]
    return [{"figi": figi, **common, "exchCode": code, "_mic": mic} for mic, code, figi in listings]


class MappingApi:
    """A server of `POST <url>` while its context is open.

    Args:
        known: ISIN -> the records that it has; their member `_mic` is the market that a job with a micCode is about,
            and is not sent.
        api_key: the only key that it takes; without it, the lower limits apply.
        most_jobs: jobs a request may have, with the key and without.
        now: seconds of the clock by which requests are counted.

    `requests` are the jobs of each request that it answered or refused, `faults` what the next requests get.
    """

    def __init__(
        self,
        known: Mapping[str, Sequence[Mapping[str, Any]]],
        *,
        api_key: str | None = None,
        most_jobs: tuple[int, int] = (100, 5),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.known = {isin: list(records) for isin, records in known.items()}
        self.requests: list[list[dict[str, str]]] = []
        self.statuses: list[int] = []
        self.faults: deque[Fault] = deque()
        self._api_key, self._most_jobs, self._now = api_key, most_jobs, now
        self._moments: deque[float] = deque()
        self._server = RequestServer(self._answer)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.__exit__(*raised)

    @property
    def url(self) -> str:
        return f"{self._server.url}/v3/mapping"

    def _answer(self, request: ApiRequest) -> ApiResponse:
        response = self._response(request)
        self.statuses.append(response.status)
        return response

    def _response(self, request: ApiRequest) -> ApiResponse:
        key = request.headers.get("x-openfigi-apikey")
        if key is not None and key != self._api_key:
            return ApiResponse(b"Invalid API key.", 401)
        jobs = json.loads(request.body)
        self.requests.append(jobs)
        fault = self.faults.popleft() if self.faults else None
        if fault == "too many" or self._is_over(has_key := key is not None):
            return ApiResponse(b"Too many requests, please try again later.", 429, {"Retry-After": "0"})
        if fault == "server error":
            return ApiResponse(b"Internal error.", 500)
        if fault == "too large" or len(jobs) > self._most_jobs[0 if has_key else 1]:
            return ApiResponse(b"Request exceeded the maximum number of mapping jobs allowed.", 413)
        answers = [self._mapped(job) for job in jobs]
        return ApiResponse(json.dumps(answers[:-1] if fault == "short" else answers).encode())

    def _is_over(self, has_key: bool) -> bool:
        """Whether there were too many requests within the window."""
        now = self._now()
        while self._moments and self._moments[0] <= now - _WINDOW_S[has_key]:
            self._moments.popleft()
        self._moments.append(now)
        return len(self._moments) > _MOST_REQUESTS

    def _mapped(self, job: Mapping[str, str]) -> dict[str, Any]:
        isin, mic = job.get("idValue", ""), job.get("micCode")
        if job.get("idType") != "ID_ISIN":
            return {"error": "Invalid idType."}
        if "exchCode" in job and mic:
            return {"error": "Only one of exchCode and micCode may be given."}
        if len(isin) != 12:
            return {"error": "Invalid idValue format."}
        found = [
            {name: value for name, value in record.items() if name != "_mic"}
            for record in self.known.get(isin, [])
            if mic is None or record.get("_mic") == mic
        ]
        return {"data": found} if found else {"warning": "No identifier found."}
