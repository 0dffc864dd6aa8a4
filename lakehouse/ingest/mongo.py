"""A collection of MongoDB as a mirrored system (see `mirror`): canonical extended JSON, and its change stream.

Errors of the server become two: `HistoryLost` where the stream can't be resumed (its history was cut off, or the
collection was dropped), so that all records are read again; and `SourceUnavailable`. A server without change streams,
such as one that is not a replica set, gives no position: then every listing reads all records.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from lakehouse.errors import SourceError, SourceUnavailable
from lakehouse.ingest.mirror import Change, HistoryLost, Record
from lakehouse.urls import without_password

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.collection import Collection

_LOST = {280, 286, 260}
"""Codes of a stream that can't be resumed: ChangeStreamFatalError, ChangeStreamHistoryLost, InvalidResumeToken."""
_WITHOUT_STREAMS = {40573, 20, 59, 115}
"""Codes of a server that has no change streams."""
_QUIET_MS = 300
"""A stream that gives nothing for so long has been read to its end."""
_TIMEOUT_MS = 5_000
_BATCH = 5_000
"""Documents that are read or added together."""


@dataclass(frozen=True)
class MongoCollection:
    """A collection.

    Args:
        url: `mongodb://host/database`, as the driver takes it.
        name: of the collection.
        day: the day (ISO) of a document by the text of its members; None if it says none.
        hide: makes documents without personal values of some documents (without their `_id`).
    """

    url: str
    name: str
    day: Callable[[Mapping[str, Any]], str | None]
    hide: Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]] | None = None

    def position(self) -> str | None:
        """See `lakehouse.ingest.mirror.MirroredSystem`."""
        from pymongo.errors import OperationFailure

        with self._errors_explained():
            try:
                with self._collection.watch(max_await_time_ms=_QUIET_MS) as stream:
                    stream.try_next()
                    return json.dumps(stream.resume_token)
            except OperationFailure as failure:
                if failure.code in _WITHOUT_STREAMS:
                    return None
                raise

    def records(self) -> Iterator[Record]:
        """See `lakehouse.ingest.mirror.MirroredSystem`."""
        with self._errors_explained():
            rest = iter(self._collection.find())
            while some := list(islice(rest, _BATCH)):
                yield from self._records(some)

    def changes(self, position: str) -> tuple[list[Change], str]:
        """See `lakehouse.ingest.mirror.MirroredSystem`."""
        from pymongo.errors import OperationFailure

        found: list[Change] = []
        with self._errors_explained():
            try:
                with self._collection.watch(
                    resume_after=json.loads(position), full_document="updateLookup", max_await_time_ms=_QUIET_MS
                ) as stream:
                    while (event := stream.try_next()) is not None:
                        found += self._change(event)
                    return found, json.dumps(stream.resume_token)
            except OperationFailure as failure:
                if failure.code in _LOST:
                    raise HistoryLost(f"{self}: the changes since the last load are lost: {failure}") from failure
                raise

    def fill(self, documents: Iterable[dict[str, Any]], *, replaces: bool) -> int:
        """Adds documents to a collection that is empty, or that is emptied first; returns their number.

        Raises:
            SourceError: it has documents, and they must not be replaced.
            SourceUnavailable: the server doesn't answer.
        """
        with self._errors_explained():
            if replaces:
                self._collection.drop()
            elif self._collection.find_one() is not None:
                raise SourceError(f"{self} has documents already; add --replace to drop them first")
            count, rest = 0, iter(documents)
            while some := list(islice(rest, _BATCH)):
                self._collection.insert_many(some)
                count += len(some)
            return count

    def _change(self, event: Mapping[str, Any]) -> list[Change]:
        kind, at = event["operationType"], _moment_of(event)
        if kind in ("insert", "update", "replace"):
            document = event.get("fullDocument")
            # Without a document it was deleted since: the deletion follows.
            return [] if document is None else [Change(each.key, each, at) for each in self._records([document])]
        if kind == "delete":
            return [Change(_extended(event["documentKey"]["_id"]), None, at)]
        if kind in ("drop", "rename", "dropDatabase", "invalidate"):
            raise HistoryLost(f"{self}: the collection was dropped or renamed")
        return []

    def _records(self, documents: Sequence[Mapping[str, Any]]) -> Iterator[Record]:
        members = [{name: value for name, value in each.items() if name != "_id"} for each in documents]
        shown = members if self.hide is None else self.hide(members)
        for document, own in zip(documents, shown, strict=True):
            yield Record(_extended(document["_id"]), self.day(own), _extended(own))

    @cached_property
    def _client(self) -> MongoClient[dict[str, Any]]:
        from pymongo import MongoClient

        return MongoClient(self.url, serverSelectionTimeoutMS=_TIMEOUT_MS, appname="lakehouse")

    @property
    def _collection(self) -> Collection[dict[str, Any]]:
        database = self._client.get_default_database(default="retail")
        return database[self.name]

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        from pymongo.errors import InvalidURI, PyMongoError

        try:
            yield
        except InvalidURI as error:
            raise SourceError(f"{self}: {error}") from error
        except PyMongoError as error:
            raise SourceUnavailable(f"{self}: {error}") from error

    def __str__(self) -> str:
        return f"{without_password(self.url)}, collection {self.name}"


def _moment_of(event: Mapping[str, Any]) -> datetime | None:
    """When a change was made, by the server's clock."""
    stamp = event.get("clusterTime")
    return None if stamp is None else stamp.as_datetime()


def day_in(member: str, form: str, document: Mapping[str, Any]) -> str | None:
    """The day of a document, in a member that is a date or a text of a format."""
    value = document.get(member)
    if isinstance(value, datetime):
        return value.date().isoformat()
    try:
        return datetime.strptime(str(value), form).date().isoformat()
    except ValueError:
        return None


def _extended(value: object) -> str:
    """A value as canonical extended JSON."""
    from bson.json_util import CANONICAL_JSON_OPTIONS, dumps

    return dumps(value, json_options=CANONICAL_JSON_OPTIONS, ensure_ascii=False)
