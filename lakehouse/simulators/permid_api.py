"""PermID's search API on loopback: `GET /permid/search?q=...`, with organisations, their instruments and quotes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from lakehouse.simulators.request_server import ApiRequest, ApiResponse, RequestServer

Entities = Mapping[str, Sequence[Mapping[str, Any]]]
"""Kind (organizations, instruments, quotes) -> the entities found."""


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
    """A server of `GET <url>` while its context is open.

    Args:
        known: search -> the entities that it finds; no other finds any.
        api_key: the only key that it takes.
    """

    def __init__(self, known: Mapping[str, Entities], *, api_key: str) -> None:
        self.known = dict(known)
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

    def _answer(self, request: ApiRequest) -> ApiResponse:
        if request.headers.get("x-ag-access-token") != self._api_key:
            return ApiResponse(b'{"errors": "Invalid access token"}', 401)
        found = self.known.get(request.query.get("q", ""), {})
        result = {
            kind: {"entityType": kind, "total": len(entities), "start": 1, "num": len(entities), "entities": entities}
            for kind, entities in {"organizations": [], **found}.items()
        }
        return ApiResponse(json.dumps({"result": result}).encode())
