"""The errors of a collection's server: which of them lose the history, which mean that it has none, and which end a
load with a message that names the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from assets_tests.support.servers.scripted_mongo import ScriptedMongo, cursor, failure
from lakehouse.errors import SourceUnavailable
from lakehouse.ingest.mirror import HistoryLost, Mirror
from lakehouse.ingest.mongo import MongoCollection

TOKEN = {"_data": "8265"}


@dataclass
class Shop:
    """What the server has, and how it answers about its change stream."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    fault: dict[str, Any] | None = None
    resume_faults: list[dict[str, Any]] = field(default_factory=list)
    hangs_up: bool = False

    def answer(self, command: dict[str, Any]) -> dict[str, Any] | None:
        if self.hangs_up:
            return None
        if "find" in command:
            return cursor(self.documents)
        if "aggregate" in command:
            (stage,) = (each["$changeStream"] for each in command["pipeline"] if "$changeStream" in each)
            if self.fault is not None:
                return self.fault
            if "resumeAfter" in stage and self.resume_faults:
                return self.resume_faults.pop()
            events = self.events if "resumeAfter" in stage else []
            return cursor(events, postBatchResumeToken=TOKEN)
        return {"ok": 1.0}


@pytest.fixture
def shop() -> Shop:
    return Shop([{"_id": number, "InvoiceDate": "1/2/2024 8:26", "Quantity": number} for number in range(3)])


@pytest.fixture
def collection(shop: Shop) -> Iterator[MongoCollection]:
    with ScriptedMongo(shop.answer) as server:
        yield MongoCollection(server.url, "customer-transactions", lambda document: "2024-01-02")


def mirror_of(collection: MongoCollection, tmp_path: Path) -> Mirror:
    return Mirror(str(tmp_path / "mirror"), lambda: collection, "2000-01-01")


@pytest.mark.parametrize(
    ("code", "name"), [(286, "ChangeStreamHistoryLost"), (280, "ChangeStreamFatalError"), (260, "InvalidResumeToken")]
)
def test_changes__that_are_lost_lead_to_a_comparison(
    collection: MongoCollection, shop: Shop, tmp_path: Path, code: int, name: str
) -> None:
    mirror = mirror_of(collection, tmp_path)
    before = mirror.list().objects
    position = collection.position()
    assert position is not None
    shop.resume_faults = [failure(code, name)]
    with pytest.raises(HistoryLost, match=name):
        collection.changes(position)
    del shop.documents[1]
    shop.resume_faults = [failure(code, name)]
    after = mirror.list().objects
    assert after["name"].to_list() == before["name"].to_list()
    assert after["version"].to_list() != before["version"].to_list()
    assert mirror.state().has_changes
    shop.resume_faults = [failure(code, name)] * 4
    with pytest.raises(SourceUnavailable):
        mirror.list()


NO_STREAMS = [(40573, "Location40573"), (20, "IllegalOperation"), (59, "CommandNotFound")]


@pytest.mark.parametrize(
    ("code", "name"), [(40573, "Location40573"), (20, "IllegalOperation"), (59, "CommandNotFound")]
)
def test_a_server_without_change_streams_is_read_whole(
    collection: MongoCollection, shop: Shop, tmp_path: Path, code: int, name: str
) -> None:
    shop.fault = failure(code, name)
    mirror = mirror_of(collection, tmp_path)
    (first,) = mirror.list().objects["version"]
    assert not mirror.state().has_changes
    assert mirror.list().objects["version"].to_list() == [first]
    shop.documents.append({"_id": 9, "InvoiceDate": "1/2/2024 8:26", "Quantity": 9})
    assert mirror.list().objects["version"].to_list() != [first]


def test_other_errors_name_the_server(collection: MongoCollection, shop: Shop, tmp_path: Path) -> None:
    shop.fault = failure(13, "Unauthorized")
    with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1.*customer-transactions.*Unauthorized"):
        mirror_of(collection, tmp_path).list()
    shop.fault, shop.hangs_up = None, True
    with pytest.raises(SourceUnavailable, match="customer-transactions"):
        mirror_of(collection, tmp_path).list()
    shop.hangs_up = False
    assert mirror_of(collection, tmp_path).list().objects.height == 1


def test_a_dropped_collection_is_waited_for(collection: MongoCollection, shop: Shop, tmp_path: Path) -> None:
    mirror = mirror_of(collection, tmp_path)
    before = mirror.list().objects
    shop.events, shop.documents = [{"_id": TOKEN, "operationType": "drop", "ns": {}}], []
    assert mirror.list().objects.equals(before)
