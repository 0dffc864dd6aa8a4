"""The texts of the simulated quote vendor: a quote as JSON with IEX's names, refusals, and damaged answers.

Texts only: which answer a request gets belongs in `quote_feed`, sockets belong in `quote_server`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from zoneinfo import ZoneInfo

from lakehouse.simulators.quote_faults import Fault
from lakehouse.simulators.quote_server import Answer
from lakehouse.simulators.quote_source import Quote, milliseconds

_NEW_YORK = ZoneInfo("America/New_York")
_HOUR_MS = 3_600_000
_HTML_PAGE = b"<!DOCTYPE html>\n<html><head><title>Please wait</title></head><body>Back in a moment.</body></html>\n"

NOT_FOUND = Answer(b"Not found", 404, "text/plain")
UNKNOWN_SYMBOL = Answer(b"Unknown symbol", 404, "text/plain")
NO_TOKEN = Answer(b"An API key is required to access this data and no key was provided", 401, "text/plain")
WRONG_TOKEN = Answer(b"The API key provided is not valid.", 403, "text/plain")
SERVER_ERROR = Answer(_HTML_PAGE, 500, "text/html")


def too_many_requests(retry_after: int) -> Answer:
    """The vendor's 429; `retry_after` is in seconds."""
    return Answer(b"Too many requests", 429, "text/plain", headers=(("Retry-After", str(retry_after)),))


def sound(quote: Quote) -> Answer:
    """A quote as the vendor words it."""
    return _object(_members(quote))


def faulty(fault: Fault, quote: Quote, chance: Random) -> Answer:
    """What is sent instead of `quote`; `chance` decides what the fault leaves open. See `quote_faults.Fault`."""
    members = _members(quote)
    if fault == "missing_price":
        del members["latestPrice"]
    elif fault == "null_price":
        members["latestPrice"] = None
    elif fault == "text_price":
        members["latestPrice"] = "n/a"
    elif fault == "future":
        members["latestUpdate"] = milliseconds(quote.event_time) + _HOUR_MS
    elif fault == "null_quote":
        return Answer(b"null")
    elif fault == "rate":
        return too_many_requests(1)
    elif fault == "http_500":
        return SERVER_ERROR
    elif fault == "timeout":
        return Answer(b"", manner="timeout")
    elif fault == "reset":
        return Answer(b"", manner="reset")
    elif fault == "wrong_json":
        if chance.random() < 0.5:
            return Answer(_HTML_PAGE, content_type="text/html")
        body = _object(members).body
        return Answer(body[: len(body) // 2])
    return _object(members)


def _members(quote: Quote) -> dict[str, object]:
    local = quote.event_time.astimezone(_NEW_YORK)
    moment = milliseconds(quote.event_time)
    change = None if quote.previous_close is None else round(quote.latest_price - quote.previous_close, 4)
    return {
        "symbol": quote.symbol,
        "companyName": f"{quote.symbol} Incorporated",
        "primaryExchange": "NASDAQ",
        "calculationPrice": "tops",
        # Of the consolidated tape, which the vendor tells its subscribers alone.
        "open": None,
        "openTime": None,
        "high": None,
        "low": None,
        "latestPrice": quote.latest_price,
        "latestSource": "IEX real time price",
        "latestTime": f"{(local.hour - 1) % 12 + 1}:{local:%M:%S} {'AM' if local.hour < 12 else 'PM'}",
        "latestUpdate": moment,
        "latestVolume": quote.volume,
        "volume": quote.volume,
        "iexRealtimePrice": quote.latest_price,
        "iexRealtimeSize": 100,
        "iexLastUpdated": moment,
        "iexBidPrice": quote.bid,
        "iexBidSize": quote.bid_size,
        "iexAskPrice": quote.ask,
        "iexAskSize": quote.ask_size,
        "previousClose": quote.previous_close,
        "change": change,
        "changePercent": None if change is None else round(change / (quote.previous_close or 1), 5),
        "isUSMarketOpen": True,
    }


def _object(members: Mapping[str, object]) -> Answer:
    return Answer(json.dumps(members, separators=(",", ":")).encode())
