"""Landed answers: each that says something new is kept once, in the order in which they were given, in a folder or
on S3.
"""

from __future__ import annotations

import gzip
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.servers.ministack import MinistackS3
from lakehouse.errors import SourceUnavailable
from lakehouse.ingest.landing import Landing, published
from lakehouse.ingest.listing import listing_schema

NAME = "bars/2020-11/adjusted=false/AAPL"
NOON = datetime(2020, 12, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture(params=["folder", "s3"])
def landing(request: pytest.FixtureRequest, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Landing:
    """Nothing has been landed yet."""
    if request.param == "folder":
        return Landing(str(tmp_path), "vendor")
    server: MinistackS3 = request.getfixturevalue("ministack_s3")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return Landing(f"s3://{server.create_bucket(f'landing-{uuid.uuid4().hex}')}/lake", "vendor")


def newest(landing: Landing, name: str = NAME) -> str | None:
    versions = landing.list([name]).objects.filter(pl.col("name") == name)["version"]
    return versions.max()  # type: ignore[return-value]


def bodies(landing: Landing, prefix: str = NAME) -> list[bytes]:
    """What was landed, in the order of the versions."""
    listed = landing.list([prefix]).objects.sort("version")
    return [gzip.decompress(landing.fetch(path, None).read()) for path in listed["path"]]


def test_an_answer_is_listed_as_an_objects_version_and_fetched_as_it_came(landing: Landing) -> None:
    body = b"timestamp,open\r\n2020-11-30 09:31:00,1\r\n"
    version = landing.put(NAME, body, NOON + SECOND, None)
    assert version is not None
    assert version.startswith("20201201T120001.000000Z-")
    assert published(version) == NOON + SECOND
    listed = landing.list([NAME]).objects
    assert listed.schema == listing_schema()
    (row,) = listed.iter_rows(named=True)
    assert (row["name"], row["version"], row["published_at"]) == (NAME, version, NOON + SECOND)
    stored = landing.fetch(row["path"], row["tag"]).read()
    assert (gzip.decompress(stored), len(stored)) == (body, row["size"])


def test_before_the_first_answer_the_listing_is_empty(landing: Landing) -> None:
    for prefixes in ([], ["bars"], ["bars/2020-11", "bars/2020-11"]):
        listed = landing.list(prefixes).objects
        assert (listed.height, listed.schema) == (0, listing_schema())


def test_only_what_was_asked_for_is_listed_and_once(landing: Landing) -> None:
    names = ["bars/2020-11/A", "bars/2020-11/B", "bars/2020-12/A", "official_daily/A"]
    for name in names:
        landing.put(name, b"same", NOON, None)
    assert sorted(landing.list(["bars/2020-11", "bars/2020-11"]).objects["name"]) == names[:2]
    assert sorted(landing.list(["bars"]).objects["name"]) == names[:3]
    assert sorted(landing.list(["bars/2020-12", "official_daily"]).objects["name"]) == names[2:]


def test_the_same_answer_twice_is_landed_once(landing: Landing) -> None:
    first = landing.put(NAME, b"a", NOON, None)
    assert landing.put(NAME, b"a", NOON + SECOND, first) is None
    assert bodies(landing) == [b"a"]
    # That nothing has changed since may be news, too.
    again = landing.put(NAME, b"a", NOON + SECOND, first, unless_known=False)
    assert again is not None
    assert published(again) == NOON + SECOND
    assert bodies(landing) == [b"a", b"a"]


def test_an_answer_that_returns_is_news_again(landing: Landing) -> None:
    for number, body in enumerate((b"a", b"b", b"a")):
        assert landing.put(NAME, body, NOON + number * SECOND, newest(landing)) is not None
    assert bodies(landing) == [b"a", b"b", b"a"]
    assert landing.put(NAME, b"a", NOON + 9 * SECOND, newest(landing)) is None


def test_the_vendors_clock_does_not_reorder_its_answers(landing: Landing) -> None:
    landing.put(NAME, b"a", NOON, None)
    second = landing.put(NAME, b"b", NOON - timedelta(days=1), newest(landing))
    third = landing.put(NAME, b"a", NOON, newest(landing))
    assert second is not None
    assert third is not None
    assert [published(version) - NOON for version in (second, third)] == [
        timedelta(microseconds=1),
        timedelta(microseconds=2),
    ]
    assert bodies(landing) == [b"a", b"b", b"a"]


def test_objects_keep_their_own_order(landing: Landing) -> None:
    landing.put(NAME, b"a", NOON, None)
    other = landing.put("bars/2020-11/adjusted=true/AAPL", b"a", NOON - SECOND, None)
    assert other is not None
    assert published(other) == NOON - SECOND


def test_storage_that_does_not_answer_is_named(ministack_s3: MinistackS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ministack_s3.environment().items():
        monkeypatch.setenv(name, value)
    missing = Landing("s3://no-such-bucket/lake", "vendor")
    for work, words in (
        (lambda: missing.list(["bars"]), "can't be listed"),
        (lambda: missing.put(NAME, b"a", NOON, None), f"{NAME} can't be written"),
        (lambda: missing.fetch(f"{NAME}/x.csv.gz", None), "x.csv.gz can't be read"),
    ):
        with pytest.raises(SourceUnavailable, match=words) as raised:
            work()
        assert "s3://no-such-bucket/lake/landing/vendor" in str(raised.value)


@given(
    answers=st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(-2, 3), st.booleans()), min_size=1, max_size=8
    )
)
def test_any_answers_stand_in_the_order_in_which_they_were_given(answers: list[tuple[bytes, int, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        landing, clock = Landing(folder, "vendor"), NOON
        wanted: list[bytes] = []
        for body, seconds, unless_known in answers:
            clock += seconds * SECOND
            landed = landing.put(NAME, body, clock, newest(landing), unless_known=unless_known)
            is_news = not unless_known or wanted[-1:] != [body]
            assert (landed is not None) == is_news
            wanted += [body] * is_news
        assert bodies(landing) == wanted
        moments = landing.list([NAME]).objects.sort("version")["published_at"].to_list()
        assert all(earlier < later for earlier, later in pairwise(moments))
        assert len({*landing.list([NAME]).objects["version"]}) == len(wanted)
