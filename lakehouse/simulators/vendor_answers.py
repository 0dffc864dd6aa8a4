"""The texts of the simulated vendor's API: refusals, CSV and JSON, and the ways in which they go wrong.

Texts only: which bars there are belongs in `us_market` and `served_files`, sockets belong in `vendor_api`. The
wording is that of Alpha Vantage, whose refusals come with status 200 and a JSON object, also where CSV was asked
for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Literal, NamedTuple, Protocol, get_args

INTRADAY, DAILY = "TIME_SERIES_INTRADAY", "TIME_SERIES_DAILY_ADJUSTED"
INTRADAY_HEADER = "timestamp,open,high,low,close,volume"
DAILY_HEADER = "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient"

# fmt: off
Fault = Literal[
    "rate_note", "information", "error_message", "http_429", "http_429_date", "http_500", "http_503", "slow", "reset",
    "cut", "cut_quietly", "damaged_header", "damaged_trailer", "damaged_rows", "json_instead", "empty_body",
    "wrong_json",
]
# fmt: on
"""What can go wrong with an answer.

`rate_note`, `information` (the daily quota; it echoes the key) and `error_message` are refusals. `http_429` names its
Retry-After in seconds, `http_429_date` as a moment. `slow` answers after the vendor's `slow_seconds`, `reset` not at
all; `cut` is shorter than its Content-Length, `cut_quietly` has none and ends within a line. `damaged_header` and
`damaged_trailer` are what a real file of HCAC shows, `damaged_rows` are up to three rows with text for a number, high
below low, and a missing field. `json_instead` is the data as JSON, `wrong_json` a page of HTML.
"""
FAULTS: tuple[Fault, ...] = get_args(Fault)
TRANSIENT: tuple[Fault, ...] = (
    *("rate_note", "http_429", "http_500", "http_503", "reset", "cut", "cut_quietly", "empty_body", "wrong_json"),
)
"""Faults that a retry may fix without a wait."""

_JSON = "application/json"
_HTML_PAGE = b"<!DOCTYPE html>\n<html><head><title>Please wait</title></head><body>Back in a moment.</body></html>\n"
_STATUS: Mapping[Fault, int] = {"http_429": 429, "http_429_date": 429, "http_500": 500, "http_503": 503}


class Content(Protocol):
    """What a vendor has to tell. Lines are without their ends, the header first, then newest first.

    None stands for a symbol, or a kind of series, that the vendor doesn't have; `now` is the vendor's clock in UTC.
    """

    line_end: str

    def intraday(self, symbol: str, month: str, adjusted: bool, extended: bool, now: datetime) -> list[str] | None:
        """One-minute bars of a month `YYYY-MM`; `extended` says whether those outside regular hours belong to it."""

    def daily(self, symbol: str, now: datetime) -> list[str] | None:
        """The official daily bars with their corporate actions."""


class Question(NamedTuple):
    """What a request asked for; `month` is empty where it named none."""

    function: str
    symbol: str
    month: str


@dataclass(frozen=True)
class Reply:
    """An HTTP answer. `manner` says how it is sent: a fault of the transport, or whole."""

    body: bytes
    content_type: str = _JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Literal["whole", "slow", "reset", "cut", "cut_quietly"] = "whole"


def refusal(fault: Literal["rate_note", "information"], key: str) -> Reply:
    """The vendor's "not now": too many requests in a minute, or in a day. The second echoes the key."""
    if fault == "rate_note":
        return _object(
            Note="Thank you for using Alpha Vantage! Our standard API call frequency is 5 calls per minute and 500 "
            "calls per day. Please visit https://www.alphavantage.co/premium/ if you would like to target a higher "
            "API call frequency."
        )
    return _object(
        Information=f"We have detected your API key as {key} and our standard API rate limit is 25 requests per day. "
        "Please subscribe to any of the premium plans at https://www.alphavantage.co/premium/ to instantly remove all "
        "daily rate limits."
    )


def invalid_key() -> Reply:
    """The vendor's answer to a missing or wrong key."""
    return _error(
        "the parameter apikey is invalid or missing. Please claim your free API key on "
        "(https://www.alphavantage.co/support/#api-key). It should take less than 20 seconds."
    )


def invalid_call(function: str) -> Reply:
    """The vendor's answer to an unknown symbol, and to parameters that it doesn't take."""
    return _error(_invalid_call_text(function))


def unknown_function(function: str) -> Reply:
    """The vendor's answer to a function that it doesn't have."""
    return _error(f"This API function ({function}) does not exist.")


def series(question: Question, lines: Sequence[str], line_end: str, datatype: str) -> Reply:
    """The data as CSV, or as JSON in the vendor's nested form where `datatype` isn't "csv"."""
    if datatype == "csv":
        body = "".join(f"{line}{line_end}" for line in lines).encode()
        name = f"{'intraday_1min' if question.function == INTRADAY else 'daily_adjusted'}_{question.symbol}.csv"
        return Reply(body, "application/x-download", headers={"Content-Disposition": f"attachment; filename={name}"})
    columns = [f"{number}. {name.replace('_', ' ')}" for number, name in enumerate(lines[0].split(",")[1:], 1)]
    rows = {}
    for line in lines[1:]:
        moment, *values = line.split(",")
        rows[moment] = dict(zip(columns, values, strict=False))
    intraday = question.function == INTRADAY
    meta = {
        "1. Information": "Intraday (1min) open, high, low, close prices and volume"
        if intraday
        else "Daily Time Series with Splits and Dividend Events",
        "2. Symbol": question.symbol,
        "3. Last Refreshed": next(iter(rows), ""),
    }
    if intraday:
        meta |= {"4. Interval": "1min", "5. Output Size": "Full size", "6. Time Zone": "US/Eastern"}
    else:
        meta |= {"4. Output Size": "Full size", "5. Time Zone": "US/Eastern"}
    return _object(**{"Meta Data": meta, f"Time Series ({'1min' if intraday else 'Daily'})": rows})


def damaged(fault: Fault, question: Question, lines: Sequence[str]) -> list[str]:
    """The lines of an answer with the damage that `fault` does to them; as they were if it does none."""
    if fault == "damaged_header":
        return ["{," + lines[0], *(f",{line}.0" for line in lines[1:])]
    if fault == "damaged_trailer":
        text = f'"    ""Error Message"": ""{_invalid_call_text(question.function)}"""'
        return [*lines, text + "," * lines[0].count(",")]
    if fault == "damaged_rows":
        return _damaged_rows(lines)
    return list(lines)


def faulty(fault: Fault, reply: Reply, question: Question, key: str, retry_after: int, now: datetime) -> Reply:
    """What is sent instead of `reply`, the answer as it should be; `retry_after` is in seconds."""
    if fault in ("rate_note", "information"):
        return refusal(fault, key)
    if fault == "error_message":
        return invalid_call(question.function)
    if fault in _STATUS:
        headers = {}
        if fault == "http_429":
            headers["Retry-After"] = str(retry_after)
        elif fault == "http_429_date":
            headers["Retry-After"] = format_datetime(now + timedelta(seconds=retry_after), usegmt=True)
        return Reply(_HTML_PAGE, "text/html", status=_STATUS[fault], headers=headers)
    if fault == "empty_body":
        return replace(reply, body=b"")
    if fault == "wrong_json":
        return Reply(_HTML_PAGE, "text/html")
    if fault in ("slow", "reset", "cut", "cut_quietly"):
        return replace(reply, manner=fault)
    return reply


def _damaged_rows(lines: Sequence[str]) -> list[str]:
    result, rows = list(lines), len(lines) - 1
    for place, kind in zip(range(1 + rows // 4, rows + 1, max(rows // 4, 1)), ("text", "order", "short"), strict=False):
        fields = result[place].split(",")
        if kind == "text":
            fields[4] = "n/a"
        elif kind == "order":
            fields[2] = f"{float(fields[3]) / 2:.4f}"
        else:
            fields.pop()
        result[place] = ",".join(fields)
    return result


def _invalid_call_text(function: str) -> str:
    return (
        "Invalid API call. Please retry or visit the documentation (https://www.alphavantage.co/documentation/) for "
        f"{function}."
    )


def _error(text: str) -> Reply:
    return _object(**{"Error Message": text})


def _object(**members: object) -> Reply:
    return Reply(json.dumps(members, indent=4).encode())
