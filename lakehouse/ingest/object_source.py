"""What a place of objects is; how each kind is opened belongs in `object_store`."""

from __future__ import annotations

from collections.abc import Collection
from typing import IO, Protocol

from lakehouse.ingest.listing import Listing


class ObjectSource(Protocol):
    """A place of objects. A version of one is its modification time, its size and, where the store has one that is
    made from the content, its ETag; another value of any of them is another version.
    """

    def list(self, prefix: str = "") -> Listing:
        """Lists every object below `prefix`: a hundred thousand in about a second."""

    def folders(self, below: str) -> Collection[str] | None:
        """The names of the folders directly in `below` ("" or ending in a slash); None if telling them takes as long as
        a listing, as by default.

        Raises:
            SourceUnavailable: the store doesn't answer.
        """
        return None

    def stamp(self, below: str) -> int | None:
        """A number that changes when an object comes into `below`, or into a folder directly in it; None where that
        takes a request, as by default.
        """
        return None

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        """Returns the object version that was listed with `path` and `tag`, as a file at its start. A large one is kept
        on disk until it is closed.

        Raises:
            ObjectReplaced: it was replaced or removed since it was listed.
            ObjectUnreadable: this object can't be read.
            SourceUnavailable: none can.
        """

    def can_read(self, path: str) -> bool:
        """Whether an object that could not be read before can be read now.

        Raises:
            SourceUnavailable: the store doesn't answer.
        """

    def holds(self, path: str, tag: str | None) -> bool:
        """Whether the object at `path` is still the version that was listed; a removed object counts as such.

        Raises:
            SourceUnavailable: the store doesn't answer.
        """
