"""Answers in pages: asked for one after the other, put together to one, or refused in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from assets_tests.support.scripted_vendor import KEY, Reply, Vendor, api, ask, client_of
from lakehouse.errors import AnswerRefused, NoAnswer
from lakehouse.ingest.http.config import Api

RECORDS = [{"id": number, "price": f"{number}.10"} for number in range(1, 8)]
PAGES = [RECORDS[:3], RECORDS[3:6], RECORDS[6:]]
ASKED = {"symbol": "AAPL"}


def reply(document: Any, **headers: str) -> Reply:
    return Reply(json.dumps(document).encode(), headers=headers)


def by_number(query: dict[str, str]) -> Reply:
    number = int(query["page"])
    return reply({"data": {"items": PAGES[number - 1] if number <= 3 else []}, "request_id": str(number)})


def by_token(query: dict[str, str]) -> Reply:
    number = {"": 0, "x1": 1, "x2": 2}[query.get("after", "")]
    return reply({"data": {"items": PAGES[number]}, "meta": {"next": f"x{number + 1}" if number < 2 else None}})


def by_last(query: dict[str, str]) -> Reply:
    return reply({"data": {"items": [each for each in RECORDS if each["id"] > int(query.get("since", 0))][:3]}})


def by_link(vendor: Vendor) -> Callable[[dict[str, str]], Reply]:
    def answer(query: dict[str, str]) -> Reply:
        number = int(query.get("p", 0))
        document = {"data": {"items": PAGES[number]}}
        if number == 2:
            return reply(document, Link=f'<{vendor.url}?p=0>; rel="first"')
        # A vendor that repeats the key in its links.
        return reply(document, Link=f'</query?p={number + 1}&apikey=another>; rel="next", <{vendor.url}>; rel="first"')

    return answer


WAYS = {
    "number": {"by": "number"},
    "token": {"by": "token", "parameter": "after", "member": "meta.next"},
    "last": {"by": "last", "parameter": "since", "member": "id"},
    "link": {"by": "link"},
}


def answers(vendor: Vendor, way: str) -> Callable[[dict[str, str]], Reply]:
    return {"number": by_number, "token": by_token, "last": by_last, "link": by_link(vendor)}[way]


@pytest.mark.parametrize("way", WAYS)
def test_get__puts_the_pages_together(vendor: Vendor, way: str) -> None:
    vendor.otherwise = answers(vendor, way)
    answer = ask(vendor, ASKED, records="data.items", paging=WAYS[way])
    assert [json.loads(line) for line in answer.body.splitlines()] == RECORDS
    assert len(vendor.asked) == (4 if way in ("number", "last") else 3)
    assert all(query["apikey"] == KEY for query in vendor.asked)


def test_get__takes_the_records_of_a_single_answer(vendor: Vendor) -> None:
    vendor.otherwise = reply(RECORDS)
    assert [json.loads(line) for line in ask(vendor, ASKED, records="").body.splitlines()] == RECORDS
    vendor.otherwise = reply({"items": []})
    assert ask(vendor, ASKED, records="items").body == b""


@pytest.mark.parametrize("way", WAYS)
def test_get__tries_a_page_again(vendor: Vendor, way: str) -> None:
    vendor.otherwise = answers(vendor, way)
    vendor.script = [vendor.otherwise({} if way != "number" else {"page": "1"}), Reply(b"busy", status=503)]
    answer = ask(vendor, ASKED, records="data.items", paging=WAYS[way])
    assert [json.loads(line) for line in answer.body.splitlines()] == RECORDS


@pytest.mark.parametrize("way", WAYS)
def test_get__has_no_answer_where_a_page_has_none(vendor: Vendor, way: str) -> None:
    """Half of an answer would count as the whole: rows that it lacks would be taken for withdrawn."""
    vendor.otherwise = Reply(b"busy", status=503)
    vendor.script = [answers(vendor, way)({} if way != "number" else {"page": "1"})]
    with pytest.raises(NoAnswer):
        ask(vendor, ASKED, records="data.items", paging=WAYS[way], max_attempts=1)


@pytest.mark.parametrize(
    ("document", "paging", "words"),
    [
        ({"data": {"items": RECORDS}, "meta": {"next": "same"}}, "token", "repeat themselves"),
        ({"data": {"items": RECORDS}}, "last", "repeat themselves"),
        ({"data": {}}, None, "has no array at data.items"),
        ({"data": {"items": {"a": 1}}}, None, "has no array at data.items"),
    ],
    ids=["the same token", "the same last record", "no records", "an object"],
)
def test_get__refuses_what_is_no_answer(vendor: Vendor, document: Any, paging: str | None, words: str) -> None:
    vendor.otherwise = reply(document)
    with pytest.raises(AnswerRefused, match=words) as refused:
        ask(vendor, ASKED, records="data.items", paging=WAYS.get(paging or ""))
    assert KEY not in str(refused.value)
    assert len(vendor.asked) <= 3


def test_get__does_not_take_the_key_to_another_host(vendor: Vendor) -> None:
    vendor.otherwise = reply({"data": {"items": RECORDS}}, Link='<http://elsewhere.example/p2?apikey=x>; rel="next"')
    with pytest.raises(AnswerRefused, match=r"http://elsewhere\.example/p2, which is not the vendor's") as refused:
        ask(vendor, ASKED, records="data.items", paging={"by": "link"})
    assert "apikey" not in str(refused.value)


def test_get__refuses_pages_that_are_too_many_bytes(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_ANSWER_MAX_BYTES", "200")
    from lakehouse.settings import settings

    settings.cache_clear()
    vendor.otherwise = by_number
    with pytest.raises(AnswerRefused, match="have more than 200 bytes"):
        ask(vendor, ASKED, records="data.items", paging=WAYS["number"])


@pytest.mark.parametrize(
    ("header", "value"), [("X-Api-Key", KEY), ("Authorization", f"Bearer {KEY}")], ids=["own", "bearer"]
)
def test_get__sends_the_key_in_a_header(vendor: Vendor, header: str, value: str) -> None:
    vendor.otherwise = reply({"Error Message": f"{KEY} is not welcome"})
    key = {"variable": "VENDOR_API_KEY", "header": header}
    with pytest.raises(AnswerRefused) as refused:
        ask_with(vendor, key)
    assert KEY not in str(refused.value)
    assert vendor.headers[-1].get(header) == value
    assert vendor.asked == [ASKED]


def ask_with(vendor: Vendor, key: dict[str, str]) -> None:
    with client_of(api(vendor.url, key=key, records=""), key=KEY) as client:
        client.get(ASKED)


def test_pages_need_records() -> None:
    with pytest.raises(ValidationError, match="paging needs the entry `records`"):
        Api.model_validate(
            {"url": "https://vendor.example", "requests_per_minute": 1, "error_members": {}, "paging": {"by": "link"}}
        )
