"""Which store a bucket's URL means, and what an access of its own comes to. No store is asked for anything."""

from __future__ import annotations

from typing import Any

import pytest
from obstore.store import AzureStore, GCSStore, S3Store

from lakehouse.errors import SourceError
from lakehouse.ingest.access import Access
from lakehouse.ingest.object_store import objects_at, store_at

VALUES = {
    "ACCOUNT": "vendor",
    "KEY": "czNjcmV0LWtleQ==",
    "TOKEN": "sv=2024&sig=s3cret",
    "JSON": '{"private_key": "s3cret',
}


def store(url: str, **said: Any) -> Any:
    return store_at(url, Access.model_validate(said).resolve(VALUES.get))


@pytest.mark.parametrize(
    ("url", "kind", "prefix"),
    [
        ("s3://bucket/my feed#1", S3Store, "my feed#1"),
        ("gs://bucket/my feed#1/x%20y?", GCSStore, "my feed#1/x%20y?"),
        ("az://container/feed", AzureStore, "feed"),
        ("abfs://container@vendor.dfs.core.windows.net/feed", AzureStore, "feed"),
        ("abfss://container@vendor.dfs.core.windows.net/my feed", AzureStore, "my feed"),
    ],
)
def test_store_at__knows_the_bucket_and_its_prefix(
    url: str, kind: type, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "vendor")
    found = store_at(url)
    assert isinstance(found, kind)
    assert str(found.prefix) == prefix


def test_store_at__takes_an_account_and_shows_no_key() -> None:
    for secret in ({"account_key": "KEY"}, {"sas_token": "TOKEN"}):
        found = store("az://container/feed", credentials={"account_name": "ACCOUNT", **secret})
        assert found.config["account_name"] == "vendor"
        assert "s3cret" not in f"{found!r} {found.config}"
        assert "czNjcmV0" not in f"{found!r} {found.config}"


def test_store_at__asks_a_service_of_its_own() -> None:
    found = store("gs://bucket", endpoint="http://127.0.0.1:9", anonymous=True)
    assert (found.config["base_url"], found.config["skip_signature"]) == ("http://127.0.0.1:9", "true")
    found = store("az://container", endpoint="http://127.0.0.1:9", credentials={"account_name": "ACCOUNT"})
    assert found.config["endpoint"] == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("url", "said", "message"),
    [
        ("az://container/feed", {}, r"az://container/feed: .*[Aa]ccount.*; correct the URL, its access"),
        ("gs://bucket", {"credentials": {"service_account_key": "JSON"}}, r"gs://bucket: .*; correct the URL"),
        ("gs://bucket", {"key_file": "/not/there"}, r"gs://bucket: .*/not/there.*; correct the URL"),
        ("gs://bucket", {"region": "x"}, r"gs:// takes no region; it takes anonymous, endpoint, key_file, service_acc"),
        (
            "az://container",
            {"key_file": "x"},
            r"az:// takes no key_file; it takes account_key",
        ),
        ("s3://bucket", {"credentials": {"account_key": "KEY"}}, r"s3:// takes no account_key; it takes access_key_id"),
    ],
)
def test_store_at__says_what_it_can_not_use(url: str, said: dict[str, Any], message: str) -> None:
    access = Access.model_validate(said).resolve(VALUES.get)
    for place in (store_at, lambda url, access: objects_at(url, access).list()):
        with pytest.raises(SourceError, match=message) as refused:
            place(url, access)
        assert "s3cret" not in str(refused.value)
