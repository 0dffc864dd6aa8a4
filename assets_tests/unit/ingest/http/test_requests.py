"""The questions of a dataset, and the names of the objects that hold their answers."""

from __future__ import annotations

from datetime import date
from typing import Any, cast

import pytest
from pydantic import ValidationError

from assets_tests.support.scripted_vendor import api
from lakehouse.errors import SourceError
from lakehouse.ingest.http.config import Api, ApiKey, Endpoint
from lakehouse.ingest.http.requests import Requests, month_texts
from lakehouse.lake.lake import Lake
from lakehouse.settings import Settings

_LAKE = cast("Lake", None)


def requests(**given: Any) -> Requests:
    declared = {"idType": "ID_ISIN", "idValue": "{isin}", "micCode": "{mic}"}
    how = {"subjects": lambda: ("DE0005190003/XETR", "DE0005190003"), "kept": ("isin", "mic"), "chosen": dict}
    return Requests("listings", declared, "isin/mic", **(how | given))  # type: ignore[arg-type]


def test_questions__have_a_parameter_per_part_of_a_subject_and_none_of_a_missing_part() -> None:
    asked = {each.name: each.parameters for each in requests().questions(_LAKE, [])}
    assert asked == {
        "listings/DE0005190003/XETR": {"idType": "ID_ISIN", "idValue": "DE0005190003", "micCode": "XETR"},
        "listings/DE0005190003": {"idType": "ID_ISIN", "idValue": "DE0005190003"},
    }


def test_questions__take_subjects_of_the_lake_besides_those_of_the_settings() -> None:
    of_lake = requests(stored=lambda lake: ["US4592001014/XNYS", "DE0005190003"])
    subjects = ("DE0005190003/XETR", "DE0005190003", "US4592001014/XNYS")
    assert of_lake.all_subjects(_LAKE) == subjects
    assert of_lake.still_asks_for("listings/US0378331005")
    assert not requests().still_asks_for("listings/US0378331005")


@pytest.mark.parametrize("subject", ["DE0005190003/XETR", "DE0005190003"])
def test_parse_name__finds_the_parts_of_a_subject(subject: str) -> None:
    named = requests().parse_name(f"listings/{subject}")
    assert named is not None
    assert list(named.values.values()) == subject.split("/")
    assert requests().subject_of(named) == subject
    assert requests().parse_name("listings/DE0005190003/XETR/more") is None


def limited(monkeypatch: pytest.MonkeyPatch, key: str) -> Endpoint:
    monkeypatch.setenv("VENDOR_API_KEY", key)
    batch = {"size": 100, "empty_members": ["warning"]}
    said = api(records="data", batch=batch, without_key={"requests_per_minute": 25, "batch_size": 10})
    return Endpoint.of("vendor", said, Settings())


def test_endpoint__has_the_limits_of_those_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keyless = limited(monkeypatch, "")
    assert (keyless.requests_per_minute, keyless.api.batch and keyless.api.batch.size) == (25, 10)
    assert (keyless.lacks_key, keyless.key_parameter) == (None, {})
    keyed = limited(monkeypatch, "a-key")
    assert (keyed.requests_per_minute, keyed.api.batch and keyed.api.batch.size) == (60_000, 100)
    assert keyed.key_parameter == {"apikey": "a-key"}


def test_api__has_limits_without_a_key_only_where_there_is_one() -> None:
    with pytest.raises(ValidationError, match="without_key needs the entry `key`"):
        api(key=None, without_key={"requests_per_minute": 25})


def test_month_texts__begin_and_end_at_the_venues_midnights() -> None:
    assert month_texts(date(2024, 3, 1), "America/New_York") == {
        "month": "2024-03",
        "month_first": "2024-03-01",
        "month_last": "2024-03-31",
        "month_start": "2024-03-01T05:00:00Z",
        "month_end": "2024-04-01T03:59:59Z",
        "month_start_s": "1709269200",
        "month_end_s": "1711943999",
    }


def test_a_key_of_two_parts_is_sent_whole_and_hidden_whole() -> None:
    key = ApiKey(header="Key-Id", variable="ID", further={"Key-Secret": "SECRET"})
    of_two = Api(url="https://a.example", key=key, requests_per_minute=1, error_members={})
    whole = Endpoint("vendor", of_two, key="id", further={"SECRET": "x1"})
    assert whole.key_header == {"Key-Id": "id", "Key-Secret": "x1"}
    assert whole.secrets == ("id", "x1")
    half = Endpoint("vendor", of_two, key="id", further={"SECRET": None})
    assert half.lacks_key == "SECRET is not set, so that vendor can't be asked"
    with pytest.raises(SourceError, match="SECRET is not set"):
        half.require_key()
