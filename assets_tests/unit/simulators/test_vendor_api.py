"""The simulated vendor's HTTP API, as a client sees it: answers, refusals, faults, and files served again."""

from __future__ import annotations

import csv
import gzip
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest

from assets_tests.support.served_files import ServedFiles
from lakehouse.simulators.us_market import UsMarket
from lakehouse.simulators.vendor_answers import TRANSIENT
from lakehouse.simulators.vendor_api import VendorApi

KEY = "K3Y-0F-TESTS"
CLOCK = datetime(2020, 12, 5, 12, tzinfo=UTC)
INTRADAY, DAILY = "TIME_SERIES_INTRADAY", "TIME_SERIES_DAILY_ADJUSTED"
OPEN = datetime(2020, 11, 30, 14, 30, tzinfo=UTC)
OPENINGS = [OPEN + timedelta(days=n) for n in range(5)]
SESSIONS = [(opening.date(), opening, opening + timedelta(hours=6.5)) for opening in OPENINGS]
MARKET = UsMarket(SESSIONS, seed=2, symbols=4)
SYMBOL = MARKET.symbols[0]
INVALID_CALL = (
    "Invalid API call. Please retry or visit the documentation (https://www.alphavantage.co/documentation/) for {}."
)


def vendor(**options: object) -> VendorApi:
    return VendorApi(MARKET, api_key=KEY, clock=CLOCK, **options)  # type: ignore[arg-type]


def ask(api: VendorApi, symbol: str = SYMBOL, *, timeout: float = 5.0, **changes: str) -> httpx.Response:
    parameters = {"function": INTRADAY, "symbol": symbol, "interval": "1min", "adjusted": "false", "month": "2020-12"}
    parameters |= {"extended_hours": "true", "outputsize": "full", "datatype": "csv", "apikey": KEY}
    wanted = {name: value for name, value in (parameters | changes).items() if value}
    return httpx.get(f"{api.url}/query", params=wanted, timeout=timeout, verify=False, trust_env=False)


def lines_of(response: httpx.Response) -> list[str]:
    """The lines of a whole CSV answer, each with the vendor's line end."""
    assert response.status_code == 200
    assert response.text.endswith("\r\n")
    assert response.text.count("\n") == response.text.count("\r\n")
    return response.text.removesuffix("\r\n").split("\r\n")


@pytest.fixture(scope="module")
def sound() -> list[str]:
    with vendor() as api:
        return lines_of(ask(api))


def test_csv_answers_are_the_markets_lines(sound: list[str]) -> None:
    with vendor() as api:
        intraday = ask(api)
        daily = ask(api, function=DAILY)
        assert lines_of(ask(api, month="2020-10")) == ["timestamp,open,high,low,close,volume"]
    assert sound == MARKET.intraday(SYMBOL, "2020-12", False, True, CLOCK)
    assert sound[1].startswith("2020-12-04 ")
    assert lines_of(daily) == MARKET.daily(SYMBOL, CLOCK)
    assert len(lines_of(daily)) == 6
    assert parsedate_to_datetime(intraday.headers["Date"]) == CLOCK
    assert "Content-Length" in intraday.headers


def test_parameters_have_the_vendors_defaults(sound: list[str]) -> None:
    with vendor() as api:
        assert lines_of(ask(api, outputsize="")) == sound[:101]
        assert lines_of(ask(api, extended_hours="", adjusted="")) == lines_of(ask(api, adjusted="true"))
        assert lines_of(ask(api, extended_hours="false")) == MARKET.intraday(SYMBOL, "2020-12", False, False, CLOCK)
        assert ask(api, datatype="").json() == ask(api, datatype="json").json()


def test_json_answers_hold_the_same_values() -> None:
    with vendor() as api:
        for function, member, columns in (
            (INTRADAY, "Time Series (1min)", ["1. open", "2. high", "3. low", "4. close", "5. volume"]),
            (
                DAILY,
                "Time Series (Daily)",
                ["1. open", "2. high", "3. low", "4. close", "5. adjusted close", "6. volume"],
            ),
        ):
            told = ask(api, function=function, datatype="json").json()
            rows = list(csv.reader(lines_of(ask(api, function=function))))[1:]
            assert [[moment, *values.values()] for moment, values in told[member].items()] == rows
            assert list(told[member][rows[0][0]])[: len(columns)] == columns
            assert told["Meta Data"]["2. Symbol"] == SYMBOL
            assert told["Meta Data"]["3. Last Refreshed"] == rows[0][0]


@pytest.mark.parametrize(
    ("changes", "message", "word"),
    [
        ({"symbol": "NONE"}, INVALID_CALL.format(INTRADAY), "invalid_call"),
        ({"symbol": "NONE", "function": DAILY}, INVALID_CALL.format(DAILY), "invalid_call"),
        ({"interval": "7min"}, INVALID_CALL.format(INTRADAY), "invalid_call"),
        ({"month": "2020-13"}, INVALID_CALL.format(INTRADAY), "invalid_call"),
        ({"month": "2020-1"}, INVALID_CALL.format(INTRADAY), "invalid_call"),
        ({"function": "NEWS"}, "This API function (NEWS) does not exist.", "unknown_function"),
        ({"apikey": ""}, "the parameter apikey is invalid or missing.", "invalid_key"),
        ({"apikey": "WRONG"}, "the parameter apikey is invalid or missing.", "invalid_key"),
    ],
)
def test_refusals_come_as_json_with_status_200(changes: dict[str, str], message: str, word: str) -> None:
    with vendor() as api:
        response = ask(api, **changes)  # type: ignore[arg-type]
        assert response.status_code == 200
        assert response.json()["Error Message"].startswith(message)
        assert [request.answer for request in api.requests] == [word]


def test_requests_are_noted_without_the_key() -> None:
    with vendor() as api:
        api.fail(SYMBOL, "http_500", month="2020-11")
        for month in ("2020-11", "2020-12"):
            ask(api, month=month)
        ask(api, function=DAILY, month="")
        assert httpx.get(f"{api.url}/elsewhere").status_code == 404
        assert [(*request[:3], request.answer) for request in api.requests] == [
            (INTRADAY, SYMBOL, "2020-11", "http_500"),
            (INTRADAY, SYMBOL, "2020-12", "data"),
            (DAILY, SYMBOL, "", "data"),
        ]
        assert all(abs(datetime.now(UTC) - request.moment) < timedelta(minutes=1) for request in api.requests)
        assert KEY not in repr(api.requests)


@pytest.mark.parametrize(("answer", "member"), [("rate_note", "Note"), ("information", "Information")])
def test_more_requests_than_allowed_are_refused(answer: str, member: str) -> None:
    with vendor(requests_per_minute=2, rate_answer=answer) as api:
        answers = [ask(api) for _ in range(4)]
        assert [list(response.json()) for response in answers[2:]] == [[member]] * 2
        assert [request.answer for request in api.requests] == ["data", "data", "rate_limit", "rate_limit"]
        assert all(response.status_code == 200 for response in answers)


def test_the_quota_note_echoes_the_key() -> None:
    with vendor() as api:
        api.fail(SYMBOL, "information", "rate_note", "error_message")
        assert f"detected your API key as {KEY} and our" in ask(api).json()["Information"]
        assert "API call frequency" in ask(api).json()["Note"]
        assert ask(api).json() == {"Error Message": INVALID_CALL.format(INTRADAY)}


def test_faults_of_http(sound: list[str]) -> None:
    with vendor(retry_after=7) as api:
        api.fail(SYMBOL, "http_429", "http_429_date", "http_500", "http_503", "empty_body", "wrong_json")
        answers = [ask(api) for _ in range(6)]
        assert [response.status_code for response in answers] == [429, 429, 500, 503, 200, 200]
        assert answers[0].headers["Retry-After"] == "7"
        assert parsedate_to_datetime(answers[1].headers["Retry-After"]) == CLOCK + timedelta(seconds=7)
        assert answers[4].content == b""
        assert answers[5].text.startswith("<!DOCTYPE html>")
        assert lines_of(ask(api)) == sound


def test_faults_of_the_connection(sound: list[str]) -> None:
    with vendor(slow_seconds=20.0) as api:
        api.fail(SYMBOL, "reset", "cut", "cut_quietly", "slow")
        with pytest.raises(httpx.ReadError, match="reset"):
            ask(api)
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            ask(api)
        quiet = ask(api)
        assert "Content-Length" not in quiet.headers
        assert "\r\n".join(sound).startswith(quiet.text)
        assert 0 < len(quiet.text) < len("\r\n".join(sound))
        assert not quiet.text.endswith("\n")
        with pytest.raises(httpx.ReadTimeout):
            ask(api, timeout=0.1)
        # The vendor's end doesn't wait for the slow answer.
        started = time.monotonic()
    assert time.monotonic() - started < 5


def test_damaged_data(sound: list[str]) -> None:
    with vendor() as api:
        api.fail(SYMBOL, "damaged_header", "damaged_trailer", "damaged_rows", "json_instead")
        header, trailer, rows, instead = (ask(api) for _ in range(4))
    assert lines_of(header) == ["{," + sound[0], *(f",{line}.0" for line in sound[1:])]
    *others, last = lines_of(trailer)
    assert others == sound
    assert next(csv.reader([last])) == [f'    "Error Message": "{INVALID_CALL.format(INTRADAY)}"', *[""] * 5]
    bad = [(new, old) for new, old in zip(lines_of(rows), sound, strict=True) if new != old]
    assert len(bad) == 3
    (text, _), (order, _), (short, _) = ((line.split(","), old) for line, old in bad)
    assert text[4] == "n/a"
    assert float(order[2]) < float(order[3])
    assert len(short) == 5
    assert list(instead.json()) == ["Meta Data", "Time Series (1min)"]


def test_faults_are_met_by_the_requests_they_are_for(sound: list[str]) -> None:
    with vendor() as api:
        api.fail(SYMBOL, "http_500", function=DAILY)
        api.fail(SYMBOL, "http_503", "rate_note", month="2020-11", forever=True)
        other = [ask(api), ask(api, symbol=MARKET.symbols[1], month="2020-11"), ask(api, function=DAILY)]
        assert [response.status_code for response in other] == [200, 200, 500]
        assert [ask(api, month="2020-11").status_code for _ in range(3)] == [503, 200, 200]
        assert [request.answer for request in api.requests][-3:] == ["http_503", "rate_note", "rate_note"]
        api.mend()
        assert lines_of(ask(api, month="2020-11"))
        assert [request.answer for request in api.requests][-1] == "data"
        with pytest.raises(ValueError, match="No fault is named flood"):
            api.fail(SYMBOL, "flood")  # type: ignore[arg-type]


def test_random_faults_depend_on_the_seed_alone() -> None:
    def fates(seed: int, threads: int) -> list[list[str]]:
        with vendor(seed=seed, fault_rate=0.3) as api:

            def ask_often(symbol: str) -> None:
                for _ in range(12):
                    try:
                        ask(api, symbol, function=DAILY)
                    except httpx.TransportError:
                        continue

            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(ask_often, MARKET.symbols))
            return [[r.answer for r in api.requests if r.symbol == symbol] for symbol in MARKET.symbols]

    alone, together, other = fates(3, 1), fates(3, 4), fates(4, 1)
    assert alone == together != other
    met = [answer for answers in alone for answer in answers if answer != "data"]
    assert 5 <= len(met) <= 25
    assert set(met) <= set(TRANSIENT)


def test_the_clock_moves_the_content_and_the_date() -> None:
    with vendor() as api:
        api.clock = SESSIONS[2][1] + timedelta(hours=1)
        early = ask(api)
        assert lines_of(early)[1].startswith("2020-12-02 10:2")
        assert parsedate_to_datetime(early.headers["Date"]) == api.clock
        api.clock = None
        assert abs(parsedate_to_datetime(ask(api).headers["Date"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_corrections_show_in_the_next_answer() -> None:
    market = UsMarket(SESSIONS, seed=2, symbols=1)
    with VendorApi(market, api_key=KEY, clock=CLOCK) as api:
        first = lines_of(ask(api))
        place = len(first) // 2
        label = datetime.fromisoformat(first[place][:19])
        market.withdraw_bar(SYMBOL, label.date(), label.time())
        assert lines_of(ask(api)) == first[:place] + first[place + 1 :]


def test_connections_are_kept_until_the_vendor_closes() -> None:
    api = vendor()
    with httpx.Client() as client:
        with api:
            url = f"{api.url}/query?symbol={SYMBOL}"
            streams = []
            for _ in range(3):
                with client.stream("GET", url) as response:
                    streams.append(response.extensions["network_stream"].get_extra_info("client_addr"))
                    response.read()
            assert len(set(streams)) == 1
        with pytest.raises(httpx.TransportError):
            client.get(url)
    with pytest.raises(RuntimeError, match="isn't running"):
        _ = api.url


HCAC = (
    "{,timestamp,open,high,low,close,volume\n"
    ",2020-12-01 16:01:00,20.47,20.47,20.47,20.47,737.0\n"
    ",2020-12-01 16:00:00,20.47,20.47,20.47,20.47,737.0\n"
    ",2020-11-30 09:31:00,10.9,10.9,10.9,10.9,370.0\n"
    ",2020-11-30 09:30:00,10.9,10.9,10.9,10.900000001,370.0\n"
    '"    ""Error Message"": ""Invalid API call.""",,,,,,\n'
)
OFFICIAL = (
    "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient\n"
    "2020-11-27,1.0,2.0,0.5,1.5,0.596878742448,100,0.0,1.0\n"
    "2020-11-30,2.0,3.0,1.5,2.5,2.5,200,0.0,1.0\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "intraday_1min/intraday_1min_HCAC.csv.gz": HCAC,
        "daily_adjusted/DA-T-T-2021-04-21.csv.gz": OFFICIAL,
        "daily_adjusted/DA-BF.B-T-2021-04-21.error.csv": "{\nError Message\n}\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return tmp_path


def test_files_are_served_month_by_month_as_they_are(folder: Path) -> None:
    header, *lines = HCAC.splitlines(keepends=True)
    # The files stamp a bar's end, the vendor today its start.
    today = {"16:01": "16:00", "16:00": "15:59", "09:31": "09:30", "09:30": "09:29"}
    lines = [re.sub(r"\d\d:\d\d(?=:00,)", lambda clock: today[clock[0]], line) for line in lines]
    with VendorApi(ServedFiles(folder), api_key=KEY) as api:
        assert ask(api, "HCAC", adjusted="true").text == header + "".join(lines[:2])
        assert ask(api, "HCAC", adjusted="true", month="2020-11").text == header + "".join(lines[2:])
        assert ask(api, "HCAC", adjusted="true", month="2020-10").text == header
        regular = ask(api, "HCAC", adjusted="true", month="2020-11", extended_hours="false").text
        assert regular == header + lines[2] + lines[4]
        for refused in (ask(api, "HCAC", adjusted="false"), ask(api, "T", adjusted="true")):
            assert refused.json() == {"Error Message": INVALID_CALL.format(INTRADAY)}


def test_daily_files_are_served_newest_first_until_a_day(folder: Path) -> None:
    header, old, new = OFFICIAL.splitlines(keepends=True)
    with VendorApi(ServedFiles(folder), api_key=KEY) as api:
        assert ask(api, "T", function=DAILY).text == header + new + old
        assert ask(api, "BF.B", function=DAILY).text == "{\nError Message\n}\n"
        assert ask(api, "*", function=DAILY).json() == {"Error Message": INVALID_CALL.format(DAILY)}
    with VendorApi(ServedFiles(folder, until=date(2020, 11, 29)), api_key=KEY) as api:
        assert ask(api, "T", function=DAILY).text == header + old
    with pytest.raises(FileNotFoundError, match="intraday_1min/"):
        ServedFiles(folder / "absent")
