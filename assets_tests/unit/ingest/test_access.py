"""An access names variables, and shows no key."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from assets_tests.support.described import resolved
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.errors import SourceError
from lakehouse.ingest.access import Access
from lakehouse.ingest.object_store import objects_at, store_at

KEYS = {"access_key_id": "VENDOR_KEY", "secret_access_key": "VENDOR_SECRET"}
VALUES = {"VENDOR_KEY": "AKIDVENDOR", "VENDOR_SECRET": "s3cret-of-the-vendor"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"anonymous": True, "credentials": KEYS}, "anonymous access has no credentials"),
        ({"credentials": {"access_key_id": "VENDOR_KEY"}}, "credentials lack secret_access_key"),
        ({"credentials": KEYS | {"secret_access_key": "wJalrXUtnFEMI/K7MDENG"}}, "should match pattern"),
        ({"credentials": {"secret": "VENDOR_SECRET"}}, "access_key_id"),
        ({"endpoint": "s3.example.com"}, "should match pattern"),
        ({"endpoint": "https://key:secret@s3.example.com"}, "should match pattern"),
        ({"secret_access_key": "x"}, "Extra inputs"),
    ],
)
def test_access__refuses_what_can_not_work(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Access.model_validate(said)


def test_access__shows_no_key() -> None:
    access = Access(credentials=KEYS).resolve(VALUES.get)
    assert access.credential("secret_access_key") == "s3cret-of-the-vendor"
    store = store_at("s3://bucket/feed", access)
    shown = f"{access!r} {access} {store!r} {store} {vars(objects_at('s3://bucket/feed', access))}"
    assert "s3cret" not in shown
    assert "AKIDVENDOR" not in shown


def test_access__names_the_variable_that_is_unset() -> None:
    with pytest.raises(SourceError, match=r"VENDOR_SECRET, which access\.credentials names .* is not set; set it"):
        store_at("s3://bucket", Access(credentials=KEYS).resolve({"VENDOR_KEY": "AKIDVENDOR"}.get))


def test_access__goes_with_the_objects_and_changes_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_named("xetra")
    yaml = source.config.model_dump(mode="json", exclude_defaults=True)
    yaml["bars"]["objects"]["access"] = {"endpoint": "https://s3.example.com", "credentials": KEYS}
    changed = resolved(SourceConfig.model_validate(yaml))
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", "s3://bucket/feed")
    for secret in KEYS.values():
        monkeypatch.setenv(secret, "a key")
    place = resolved(SourceConfig.model_validate(yaml)).bars.origin.place()
    assert place._access.declared.endpoint == "https://s3.example.com"
    assert source_named("xetra").bars.origin.place()._access.declared == Access()
    assert changed.bars.reading == source.bars.reading
