"""A REST vendor is asked over real sockets, and what it can do wrong it does: the loopback server here plays back
scripted replies.
"""

from __future__ import annotations

import gzip
import logging
import re
import socket
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.scripted_vendor import ASKED, FORMS, KEY, ROWS, Reply, Vendor, api, ask, client_of
from lakehouse.domains.market.api import Symbols, SymbolsApi
from lakehouse.errors import AnswerRefused, NoAnswer, QuotaExhausted, SourceError, Unreachable
from lakehouse.ingest.http import connection as api_module
from lakehouse.ingest.http.client import Answer, ApiClient
from lakehouse.ingest.http.config import Api
from lakehouse.ingest.http.responses import pause_s, published_at
from lakehouse.ingest.http.secret import Secret
from lakehouse.settings import settings

NOW = datetime(2020, 11, 30, 12, tzinfo=UTC)


def said(member: str, text: str) -> bytes:
    return f'{{\n    "{member}": "{text}"\n}}'.encode()


def test_an_answer_has_the_bytes_and_the_vendors_date(vendor: Vendor) -> None:
    made = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
    vendor.otherwise = Reply(headers={"Date": format_datetime(made, usegmt=True)})
    assert ask(vendor) == Answer(ROWS, made)
    assert vendor.asked == [ASKED | {"apikey": KEY}]


@pytest.mark.parametrize(
    "date", [None, "yesterday", "Fri, 01 Jan 2100 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2359"]
)
def test_without_a_believable_date_it_was_made_now(vendor: Vendor, date: str | None) -> None:
    vendor.otherwise = Reply(headers={"Date": date} if date else {})
    before = datetime.now(UTC)
    assert before <= ask(vendor).published_at <= datetime.now(UTC)


def test_a_date_without_a_zone_is_utc() -> None:
    assert published_at("Sun, 29 Nov 2020 08:00:00 -0000", NOW) == datetime(2020, 11, 29, 8, tzinfo=UTC)


PASSING = {
    "status 503: busy": Reply(b"busy\n", 503),
    "status 429": Reply(b"", 429),
    "an empty answer": Reply(b"\r\n"),
    "a web page instead of data: <!doctype html>": Reply(b"\n<!doctype html>\n<html></html>\n"),
    f"an answer that was cut: after {len(ROWS) - 5} bytes its last line has no end": Reply(
        ROWS[:-5], length="not said"
    ),
    "without sending complete message body": Reply(missing=20),
    "incomplete chunked read": Reply(length="chunks", missing=20),
    "Connection reset by peer": Reply(resets=True),
    "silence: nothing within 0.2 s": Reply(silent_s=0.4),
    "DecodingError": Reply(headers={"Content-Encoding": "gzip"}),
    "Note: Our standard API call frequency is 5 calls per minute and 500 calls per day": Reply(
        said("Note", "Our standard API call frequency is 5 calls per minute and 500 calls per day. See /premium/")
    ),
    "1 request per second": Reply(
        said("Information", "Spread out your requests (1 request per second), or get a premium plan to lift the limits")
    ),
    'JSON that was cut or damaged after 32 bytes: { "Meta Data": { "1. Information': Reply(
        b'{\n"Meta Data": {\n"1. Information'
    ),
}


@pytest.mark.parametrize("cause", PASSING)
def test_what_may_pass_is_tried_again(vendor: Vendor, cause: str) -> None:
    vendor.script = [PASSING[cause]]
    assert ask(vendor, timeout_s=0.2).body == ROWS
    assert len(vendor.asked) == 2


@pytest.mark.parametrize("cause", PASSING)
def test_when_it_does_not_pass_the_error_says_what_the_last_try_met(vendor: Vendor, cause: str) -> None:
    vendor.script = [Reply(status=500), PASSING[cause], PASSING[cause]]
    with pytest.raises(NoAnswer) as raised:
        ask(vendor, timeout_s=0.2)
    message = str(raised.value)
    assert cause in message
    assert message.startswith(
        "vendor: no answer about TIME_SERIES_INTRADAY symbol=AAPL month=2020-11 datatype=csv after 3"
    )
    assert len(vendor.asked) == 3
    assert not isinstance(raised.value, QuotaExhausted)


def test_nobody_there_is_no_answer() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/query"
        with client_of(api(url, max_attempts=1), key=KEY) as client, pytest.raises(Unreachable) as raised:
            client.get(ASKED)
    assert "after 1 try; the last met ConnectError" in str(raised.value)
    assert url in str(raised.value)


REFUSED = {
    "Error Message: Invalid API call.": Reply(said("Error Message", "Invalid API call.")),
    "{ Error Message }": Reply(b"{\nError Message\n}\n"),
    'JSON where CSV was asked for: {"detail": "no such series"}': Reply(b'{"detail": "no such series"}'),
    "JSON where CSV was asked for: {}": Reply(b"{}\n"),
    "status 404: gone": Reply(b"gone", 404),
    "status 401: no text. Check what is asked about, the key in VENDOR_API_KEY and the request": Reply(b"", 401),
    "status 304": Reply(b"", 304),
}
EXHAUSTED = {
    "25 requests per day": said(
        "Information", "Our standard API rate limit is 25 requests per day. See premium plans."
    ),
    "a premium endpoint": said("Information", "Thank you! This is a premium endpoint."),
    "demo": said("Information", "The **demo** API key is for demo purposes only."),
}


@pytest.mark.parametrize("cause", REFUSED)
def test_a_refusal_for_good_is_not_tried_again(vendor: Vendor, cause: str) -> None:
    vendor.otherwise = REFUSED[cause]
    with pytest.raises(AnswerRefused) as raised:
        ask(vendor)
    assert cause in str(raised.value)
    assert str(raised.value).startswith("vendor refuses TIME_SERIES_INTRADAY symbol=AAPL month=2020-11")
    assert len(vendor.asked) == 1


@pytest.mark.parametrize("status", [200, 403, 429])
@pytest.mark.parametrize("cause", EXHAUSTED)
def test_an_exhausted_quota_is_not_tried_again(vendor: Vendor, cause: str, status: int) -> None:
    vendor.otherwise = Reply(EXHAUSTED[cause], status)
    with pytest.raises(QuotaExhausted, match=cause):
        ask(vendor)
    assert len(vendor.asked) == 1


def test_a_long_refusal_is_shortened(vendor: Vendor) -> None:
    vendor.otherwise = Reply(said("Error Message", "wrong " * 2000))
    with pytest.raises(AnswerRefused) as raised:
        ask(vendor)
    assert len(str(raised.value)) < 800


@pytest.mark.parametrize(
    "body",
    [
        b"{,timestamp,open,high,low,close,volume\n,2020-12-21 20:00:00,20.47,20.47,20.47,20.47,737.0\n",
        b"\xef\xbb\xbftimestamp,open\n",
        ROWS * 5000 + b'"    ""Error Message"": ""Invalid API call.""",,,,,,\n',
    ],
    ids=["header with a brace", "only a header", "an error as last line"],
)
def test_damaged_rows_are_an_answer(vendor: Vendor, body: bytes) -> None:
    """What rows mean is for those to judge who read them."""
    vendor.otherwise = Reply(gzip.compress(body), headers={"Content-Encoding": "gzip"})
    assert ask(vendor).body == body


@pytest.mark.parametrize("length", ["said", "chunks"])
def test_an_answer_of_known_length_is_whole_whatever_its_end(vendor: Vendor, length: str) -> None:
    """A vendor's last line may have no end: only where HTTP says nothing of the length must it have one."""
    vendor.otherwise = Reply(ROWS.rstrip(), length=length)  # type: ignore[arg-type]
    assert ask(vendor).body == ROWS.rstrip()
    assert len(vendor.asked) == 1


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_answer_of_unknown_length_is_whole_with_its_last_lines_end(vendor: Vendor, end: bytes) -> None:
    vendor.otherwise = Reply(ROWS.rstrip() + end, length="not said")
    assert ask(vendor).body == ROWS.rstrip() + end
    assert len(vendor.asked) == 1


def test_json_is_an_answer_where_it_was_asked_for(vendor: Vendor) -> None:
    body = b'{"Meta Data": {"1. Information": "Daily"}, "Note": "", "Time Series (Daily)": {}}'
    vendor.script = [Reply(ROWS), Reply(body[:-1]), Reply(body)]
    assert ask(vendor, ASKED | {"datatype": "json"}).body == body
    assert len(vendor.asked) == 3


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.25", 0.25),
        ("86400", 120.0),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30.0),
        (format_datetime(NOW + timedelta(days=30), usegmt=True), 120.0),
        (format_datetime(NOW - timedelta(days=30), usegmt=True), 0.0),
        *[(nonsense, 0.0) for nonsense in (None, "", "-5", "nan", "inf", "soon")],
    ],
)
def test_retry_after(header: str | None, seconds: float) -> None:
    assert pause_s(header, NOW) == seconds


def test_the_vendor_is_left_alone_as_long_as_it_asks(vendor: Vendor) -> None:
    vendor.script = [
        Reply(b"", 429, {"Retry-After": "0.4"}),
        Reply(said("Note", "slow down"), 200, {"Retry-After": "0.2"}),
    ]
    ask(vendor)
    first, second, third = vendor.moments
    assert second - first >= 0.4
    assert third - second >= 0.2


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed a thousandfold"])
@pytest.mark.parametrize("length", ["said", "chunks"])
def test_an_answer_that_is_too_large_is_refused_at_once(
    vendor: Vendor, packed: bool, length: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_ANSWER_MAX_BYTES", "100000")
    settings.cache_clear()
    large = ROWS + b"\n" * 100_000
    body, headers = (gzip.compress(large), {"Content-Encoding": "gzip"}) if packed else (large, {})
    vendor.otherwise = Reply(body, headers=headers, length=length)
    with pytest.raises(AnswerRefused, match=r"more than 100,000 bytes.*LAKEHOUSE_ANSWER_MAX_BYTES"):
        ask(vendor, max_attempts=3)
    assert len(vendor.asked) == 1
    vendor.otherwise = Reply(ROWS + b"\n" * 50_000)
    assert len(ask(vendor).body) == len(ROWS) + 50_000


def test_waits_double(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "FIRST_WAIT_S", 0.05)
    vendor.script = [Reply(status=500)] * 3
    ask(vendor, max_attempts=4)
    waits = [later - earlier for earlier, later in zip(vendor.moments, vendor.moments[1:], strict=False)]
    assert [wait >= least for wait, least in zip(waits, (0.05, 0.1, 0.2), strict=True)] == [True] * 3


def test_threads_share_the_rate_and_each_gets_its_own_answer(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_VENDOR_REQUESTS_PER_MINUTE", "1200")
    vendor.script = [Reply(status=503)] * 3
    vendor.otherwise = lambda query: Reply(f"symbol\n{query['symbol']}\n".encode())
    symbols = [f"S{number}" for number in range(9)]
    with client_of(api(vendor.url, max_attempts=5), key=KEY) as client, ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda symbol: client.get(ASKED | {"symbol": symbol}).body, symbols))
    assert answers == [f"symbol\n{symbol}\n".encode() for symbol in symbols]
    assert len(vendor.moments) == 12  # three tries failed
    assert max(vendor.moments) - min(vendor.moments) >= 11 * 0.05 * 0.95


def seconds_for_three(client: ApiClient) -> float:
    """How long three requests took."""
    begun = time.monotonic()
    with client:
        for _ in range(3):
            client.get(ASKED)
    return time.monotonic() - begun


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_vendor_on_this_machine_has_no_plan(vendor: Vendor, host: str) -> None:
    url = vendor.url.replace("127.0.0.1", host)
    assert seconds_for_three(client_of(api(url, requests_per_minute=1), key=KEY)) < 10
    assert len(vendor.asked) == 3


@pytest.mark.parametrize(("said", "seconds"), [(None, 0.4), ("600", 0.2), ("240", 0.5)])
def test_a_vendor_elsewhere_is_asked_at_the_rate_of_the_plan(
    vendor: Vendor, said: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reached through a proxy, which is the scripted vendor; the environment goes before the YAML."""
    monkeypatch.setenv("HTTP_PROXY", vendor.url.removesuffix("/query"))
    if said is not None:
        monkeypatch.setenv("LAKEHOUSE_VENDOR_REQUESTS_PER_MINUTE", said)
    client = client_of(api("http://vendor.example/query", requests_per_minute=300), key=KEY)
    assert seconds_for_three(client) >= seconds * 0.95
    assert len(vendor.asked) == 3
    assert vendor.moments[-1] - vendor.moments[0] < seconds + 5


@pytest.mark.parametrize("said", ["0", "-5", "1.5", "many", ""])
def test_a_rate_that_is_none_is_named(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_VENDOR_REQUESTS_PER_MINUTE", said)
    with pytest.raises(SourceError, match=f"LAKEHOUSE_VENDOR_REQUESTS_PER_MINUTE is {said!r}; set it to a whole"):
        client_of(api(), key=KEY)


def test_redirections_within_the_host_are_followed(vendor: Vendor) -> None:
    vendor.script = [Reply(b"", 302, {"Location": "/v2/query?symbol=AAPL"})]
    assert ask(vendor).body == ROWS
    assert [query["symbol"] for query in vendor.asked] == ["AAPL", "AAPL"]
    vendor.otherwise = Reply(b"", 302, {"Location": "/query"})
    with pytest.raises(AnswerRefused, match="redirects to"):
        ask(vendor)


def test_the_key_is_not_taken_to_another_host(vendor: Vendor) -> None:
    elsewhere = vendor.url.replace("127.0.0.1", "localhost")
    vendor.otherwise = Reply(b"", 301, {"Location": f"{elsewhere}?apikey=Q7%2Fx%2BY+9ZKEYZ"})
    with pytest.raises(AnswerRefused, match="LAKEHOUSE_VENDOR_URL") as raised:
        ask(vendor)
    assert f"redirects to {elsewhere}, which is not followed" in str(raised.value)
    assert len(vendor.asked) == 1


ECHO = "We have detected your API key as Q7/x+Y 9ZKEYZ"
ECHOES = {
    "refused": [Reply(said("Error Message", ECHO))],
    "at the cut": [Reply(said("Error Message", "x" * 270 + ECHO[-20:]))],
    "quota": [Reply(said("Information", f"{ECHO} and our standard API rate limit is 25 requests per day."))],
    "rate": [Reply(said("Note", ECHO))] * 3,
    "status": [Reply(ECHO.encode(), 403)],
    "unknown JSON": [Reply(b'{"url": "/query?apikey=Q7%2Fx%2BY%209ZKEYZ"}')],
    "page": [Reply(b"<p>" + ECHO.encode())] * 3,
    "silence": [Reply(silent_s=0.3)] * 3,
    "reset": [Reply(resets=True)] * 3,
    "moved": [Reply(b"", 301, {"Location": "http://localhost/?apikey=Q7%2Fx%2BY+9ZKEYZ"})],
    "moved below the key": [Reply(b"", 301, {"Location": "http://localhost/Q7%2Fx%2BY%209ZKEYZ/query"})],
    "answer": [Reply(b"", 302, {"Location": "/?apikey=Q7/x%2BY%209ZKEYZ"}), Reply(ROWS + ECHO.encode() + b".\n")],
}


@pytest.mark.parametrize("case", ECHOES)
def test_the_key_shows_nowhere(
    vendor: Vendor, case: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    vendor.script = list(ECHOES[case])
    client = client_of(api(vendor.url, timeout_s=0.1), key=KEY)
    shown = repr(client)
    try:
        with client:
            shown += repr(client.get(ASKED))
    except (NoAnswer, AnswerRefused) as error:
        shown += "".join(traceback.format_exception(error))
        chained = (error.__context__, error.__cause__)
    else:
        chained = (None, None)
    assert chained == (None, None)
    shown += "".join(f"{vars(record)}" for record in caplog.records) + "".join(capsys.readouterr())
    assert not FORMS.search(shown), FORMS.search(shown)
    # The key was sent, and what was looked through is what told it otherwise.
    assert vendor.asked[0]["apikey"] == KEY
    assert f"GET {vendor.url}?function=TIME_SERIES_INTRADAY" in shown or case in ("silence", "reset")
    assert "receive_response_headers" in shown
    assert ("***.\\n" in shown) == (case == "answer")


def test_logging_is_left_as_it_was(vendor: Vendor) -> None:
    before = [list(logging.getLogger(name).filters) for name in ("httpx", "httpcore.http11")]
    ask(vendor)
    assert [list(logging.getLogger(name).filters) for name in ("httpx", "httpcore.http11")] == before


numbers = st.lists(st.from_regex(r"2020-11-\d\d \d\d:\d\d:00(,\d{1,4}(\.\d{1,4})?){4},\d{1,9}\r?\n", fullmatch=True))


@given(rows=numbers, key=st.from_regex(r"[0-9]{1,9}", fullmatch=True))
def test_a_key_of_digits_changes_no_price(rows: list[str], key: str) -> None:
    prose = f"We have detected your API key as {key}.\n".encode()
    data = b"timestamp,open,high,low,close,volume\n" + "".join(rows).encode()
    assert Secret(key).hidden_in(data + prose) == data + b"We have detected your API key as ***.\n"


@given(key=st.from_regex(r"[A-Z0-9]{6,16}", fullmatch=True).filter(str.isalnum), body=st.binary(max_size=40))
def test_a_key_is_taken_out_of_bodies_and_nothing_else_is(key: str, body: bytes) -> None:
    secret = Secret(key)
    assert secret.hidden_in(body) == body or key.encode() in body
    if re.search("[A-Z]", key):
        assert secret.hidden_in(body + b' "' + key.encode() + b'" ' + body) == body + b' "***" ' + body


def symbols_of(*declared: str) -> tuple[str, ...]:
    """What is asked for by the settings of now."""
    return Symbols("vendor", declared, settings().source_variable("vendor", "symbols"))()


def test_a_yaml_without_symbols_is_refused() -> None:
    with pytest.raises(ValueError, match="symbols"):
        SymbolsApi.model_validate(api().model_dump() | {"symbols": ()})


def test_the_environment_goes_before_the_yaml(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_VENDOR_URL", vendor.url)
    monkeypatch.setenv("LAKEHOUSE_VENDOR_SYMBOLS", " MSFT, BRK-B ,MSFT,")
    monkeypatch.setenv("VENDOR_API_KEY", "from-the-environment\n")
    assert symbols_of("AAPL") == ("MSFT", "BRK-B")
    with client_of(api()) as client:
        assert client.get(ASKED).body == ROWS
    assert vendor.asked[0]["apikey"] == "from-the-environment"


def test_settings_that_cannot_work_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENDOR_API_KEY", " ")
    with pytest.raises(SourceError, match="VENDOR_API_KEY is not set"):
        client_of(api())
    with pytest.raises(SourceError, match="'vendor:x' is not the address of an API; set LAKEHOUSE_VENDOR_URL"):
        client_of(api(), key=KEY, url="vendor:x")
    monkeypatch.setenv("LAKEHOUSE_VENDOR_SYMBOLS", " , ")
    with pytest.raises(SourceError, match="LAKEHOUSE_VENDOR_SYMBOLS names no symbol"):
        symbols_of("AAPL")


@pytest.mark.parametrize("symbol", ["EUR/USD", "/", ".."])
def test_a_symbol_that_cannot_name_an_object_is_refused(symbol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=f"{re.escape(symbol)} can't be asked for"):
        symbols_of("AAPL", symbol)
    monkeypatch.setenv("LAKEHOUSE_VENDOR_SYMBOLS", f"BRK.B,^GSPC,{symbol}")
    with pytest.raises(SourceError, match="LAKEHOUSE_VENDOR_SYMBOLS"):
        symbols_of("AAPL")


@pytest.mark.parametrize(
    "entry",
    [
        {"url": "ftp://vendor.example"},
        {"requests_per_minute": 0},
        {"max_attempts": 0},
        {"error_members": {"Note": "sometimes"}},
        {"quota_patterns": ("(",)},
        {"key": {"variable": "MY KEY"}},
        {"apikey": "stands in YAML"},
    ],
    ids=lambda entry: next(iter(entry)),
)
def test_yaml_that_cannot_work_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(entry))):
        Api.model_validate(api().model_dump() | entry)


def test_a_vendor_without_a_key_is_asked_without_one(vendor: Vendor) -> None:
    with client_of(api(vendor.url, key=None)) as client:
        assert client.get(ASKED).body == ROWS
    assert vendor.asked == [ASKED]
