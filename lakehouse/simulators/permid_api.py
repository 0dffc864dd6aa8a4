"""PermID's APIs on loopback: `GET /permid/search?q=...`, with organisations, their instruments and quotes; and record
matching by `POST /permid/match`, a CSV of at most 1,000 records, whose answers refer to them by their LocalID.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from lakehouse.simulators.request_server import ApiRequest, ApiResponse, RequestServer

Entities = Mapping[str, Sequence[Mapping[str, Any]]]
"""Kind (organizations, instruments, quotes) -> the entities found."""


_MOST_RECORDS = 1_000


def permid_of(number: int) -> str:
    """The address of a PermID."""
    return f"https://permid.org/1-{number}"


def invented(ticker: str, name: str, mic: str, number: int) -> dict[str, list[dict[str, Any]]]:
    """An invented organisation with an instrument and a quote, whose PermIDs begin with `number`."""
    organization, instrument, quote = (permid_of(number + place) for place in range(3))
    return {
        "organizations": [
            {"@id": organization, "organizationName": name, "primaryTicker": ticker, "orgSubtype": "Company"}
        ],
        "instruments": [
            {
                "@id": instrument,
                "hasName": f"{name} Ord Shs",
                "assetClass": "Ordinary Shares",
                "isIssuedByName": name,
                "isIssuedBy": organization,
                "primaryTicker": ticker,
            }
        ],
        "quotes": [
            {
                "@id": quote,
                "hasName": f"{name} ORD",
                "assetClass": "Ordinary Shares",
                "isQuoteOf": instrument,
                "hasRIC": f"{ticker}.X",
                "hasMic": mic,
                "hasExchangeTicker": ticker,
            }
        ],
    }


class PermidApi:
    """A server of `GET <url>` and `POST <match_url>` while its context is open.

    Args:
        known: search -> the entities that it finds; no other finds any.
        api_key: the only key that it takes.
        organizations: LEI -> PermID and name of the organisation that a record is matched with.

    `records` are how many each matching request had.
    """

    def __init__(
        self,
        known: Mapping[str, Entities],
        *,
        api_key: str,
        organizations: Mapping[str, tuple[int, str]] | None = None,
    ) -> None:
        self.known, self.organizations = dict(known), dict(organizations or {})
        self.records: list[int] = []
        self._api_key = api_key
        self._server = RequestServer(self._answer)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.__exit__(*raised)

    @property
    def url(self) -> str:
        return f"{self._server.url}/permid/search"

    @property
    def match_url(self) -> str:
        return f"{self._server.url}/permid/match"

    def _answer(self, request: ApiRequest) -> ApiResponse:
        if request.headers.get("x-ag-access-token") != self._api_key:
            return ApiResponse(b'{"errors": "Invalid access token"}', 401)
        if request.path == "/permid/match":
            return self._matched(request)
        found = self.known.get(request.query.get("q", ""), {})
        result = {
            kind: {"entityType": kind, "total": len(entities), "start": 1, "num": len(entities), "entities": entities}
            for kind, entities in {"organizations": [], **found}.items()
        }
        return ApiResponse(json.dumps({"result": result}).encode())

    def _matched(self, request: ApiRequest) -> ApiResponse:
        """The matches, in another order than the records."""
        records = list(csv.DictReader(io.StringIO(request.body.decode())))
        self.records.append(len(records))
        if len(records) > _MOST_RECORDS:
            return ApiResponse(b'{"errors": "Too many records"}', 413)
        found = []
        for row, record in enumerate(records, 2):
            scheme, _, lei = record["Standard Identifier"].partition(":")
            permid, name = self.organizations.get(lei, (None, None)) if scheme == "LEI" else (None, None)
            match = {"Match Score": "0%", "Match Level": "No Match"}
            if permid is not None:
                match = {"Match OpenPermID": permid_of(permid), "Match OrgName": str(name), "Match Ordinal": "1"}
                match |= {"Match Score": "100%", "Match Level": "Excellent"}
            given = {f"Input_{column}": value for column, value in record.items()}
            found.append({"ProcessingStatus": "OK", **match, "Original Row Number": str(row), **given})
        answer = {"errorCode": 0, "requestCount": len(records), "outputContentResponse": found[::-1]}
        return ApiResponse(json.dumps(answer).encode())
