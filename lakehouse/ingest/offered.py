"""Files that a publisher offers over HTTP by an index, such as one of its publications: a place of objects.

The index is a JSON document, in pages or not, that has an object for each file: with its address (`url` or
`downloadLink`), its name (`fileName`, or else the end of the address), and other facts, of which its version is made.
Which files are taken follows from those that were taken before (`Due`): of a publisher who gives the whole and
changes, the changes since then, and the whole where these leave a gap.

A file is downloaded when it is read, and landed as it came. From then on it is read from the landing, whatever the
index offers. What is not whole, such as a cut archive or an error page, is not landed: it is offered again.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from lakehouse.errors import SourceUnavailable
from lakehouse.ingest import json_lines
from lakehouse.ingest.http.downloads import Downloads
from lakehouse.ingest.listing import Listing, listing_schema, unusable
from lakehouse.ingest.names import Names, ObjectName
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.object_store import objects_at, store_at

if TYPE_CHECKING:
    import polars as pl

Due = Callable[[Mapping[str, ObjectName], Mapping[str, ObjectName]], Collection[str]]
"""From the files that were taken and those that are offered, by their names: the names of those to be taken now."""
_ADDRESSES = ("url", "downloadLink")
_NEXT = ("links.next", "next_page_url")
"""Where a page of an index has the address of the next one."""
_MOST_PAGES = 50


@dataclass(frozen=True)
class Offer:
    """A file that is offered."""

    name: str
    url: str
    version: str
    size: int

    @property
    def path(self) -> str:
        """Where it is landed."""
        return f"{self.version}/{self.name}"


@dataclass(frozen=True)
class OfferedFiles(ObjectSource):
    """The landed files of an index, and those of its files that are to be taken (see `ObjectSource`).

    Args:
        index: address of the index.
        landing: URL of the folder in which files are landed.
        loaded: tells by its name whether a file was loaded (True) or could not be (False). What follows builds on the
            loaded ones only: a run may have been killed between two landed files.
    """

    index: str
    landing: str
    names: Names
    due: Due
    loaded: Callable[[], Mapping[str, bool]] = dict

    def list(self, prefix: str = "") -> Listing:
        """Lists the landed files, those that are due, and those that failed and are still offered.

        Raises:
            SourceUnavailable: the index can't be read, or the landing can't be listed.
        """
        import polars as pl

        landed, offers = self._landed, self._offers
        loaded = self._loaded
        held = self._named(name for name, is_loaded in loaded.items() if is_loaded)
        offered = self._named(name for name in offers if name not in loaded)
        wanted = {*self.due(held, offered), *landed["name"], *(name for name, each in loaded.items() if not each)}
        kept = {*landed["path"]}
        fresh = [offer for name, offer in offers.items() if name in wanted and offer.path not in kept]
        now = datetime.now(UTC)
        rows = [(each.name, each.version, each.size, now, each.url, each.path) for each in fresh]
        columns = ("name", "version", "size", "published_at", "tag", "path")
        added = pl.DataFrame(rows, schema={name: listing_schema()[name] for name in columns}, orient="row")
        replaced = pl.col("name").is_in(added["name"].to_list())
        objects = pl.concat([landed.filter(~replaced).select(columns), added])
        return Listing(objects.filter(pl.col("name").str.starts_with(prefix)))

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        """The landed file at `path`; one that isn't landed is downloaded from the address `tag`, and landed."""
        if tag is None or path in {*self._listed_landing().objects["path"]}:
            return self._kept.fetch(path, None)
        file = _DOWNLOADS.file(tag)
        if _is_whole(path, file):
            self._land(path, file)
        file.seek(0)
        return file

    def can_read(self, path: str) -> bool:
        """Always worth a try: only a download tells."""
        return True

    def holds(self, path: str, tag: str | None) -> bool:
        """Always: a file of another version has another path."""
        return True

    @cached_property
    def _kept(self) -> ObjectSource:
        return objects_at(self.landing, may_lack=True)

    def _listed_landing(self) -> Listing:
        return self._kept.list()

    @cached_property
    def _loaded(self) -> Mapping[str, bool]:
        return self.loaded()

    @cached_property
    def _landed(self) -> pl.DataFrame:
        """The landed files, of each name that which was landed last."""
        import polars as pl

        parts = pl.col("path").str.split_exact("/", 1)
        found = self._listed_landing().objects.sort("published_at")
        return found.with_columns(version=parts.struct[0], name=parts.struct[1], tag=pl.lit(None, pl.String)).unique(
            "name", keep="last"
        )

    @cached_property
    def _offers(self) -> dict[str, Offer]:
        """The offered files by name; of one name, the first in the index."""
        found: dict[str, Offer] = {}
        known = {name for name, is_loaded in self._loaded.items() if is_loaded}
        for document in self._pages():
            offers = [each for each in _files_in(document, self.index) if self._is_named(each.name)]
            for each in offers:
                found.setdefault(each.name, each)
            # The index begins with the newest: earlier pages have what was there when the last file was loaded.
            if not known or not offers or any(each.name in known for each in offers):
                break
        return found

    def _pages(self) -> Iterator[Any]:
        url, seen = self.index, set[str]()
        while url not in seen and len(seen) < _MOST_PAGES:
            seen.add(url)
            document = _DOWNLOADS.document(url)
            yield document
            following = next((each for path in _NEXT if isinstance(each := json_lines.at(document, path), str)), None)
            if following is None:
                return
            url = urljoin(url, following)

    def _is_named(self, name: str) -> bool:
        return unusable(name) is None and self.names.parse_name(name) is not None

    def _named(self, names: Iterator[str]) -> dict[str, ObjectName]:
        parsed = ((name, self.names.parse_name(name)) for name in names)
        return {name: named for name, named in parsed if named is not None}

    def _land(self, path: str, file: IO[bytes]) -> None:
        import obstore

        file.seek(0)
        try:
            obstore.put(store_at(self.landing), path, file)
        except (OSError, obstore.exceptions.BaseError) as error:
            raise SourceUnavailable(f"{self.landing}: {path} can't be written: {error}") from error


_DOWNLOADS = Downloads()


def _files_in(document: Any, index: str) -> Iterator[Offer]:
    """The files that a page of an index names, in its order."""
    if isinstance(document, dict):
        address = next((each for name in _ADDRESSES if isinstance(each := document.get(name), str)), None)
        if address is not None:
            url = urljoin(index, address)
            named = document.get("fileName")
            name = PurePosixPath(named if isinstance(named, str) else unquote(urlsplit(url).path)).name
            facts = json.dumps(document, sort_keys=True, default=str).encode()
            size = str(document.get("size"))
            version = hashlib.blake2b(facts, digest_size=8).hexdigest()
            yield Offer(name, url, version, int(size) if size.isdecimal() else 0)
    members: Sequence[Any] = list(document.values()) if isinstance(document, dict) else document
    if isinstance(members, list):
        for each in members:
            yield from _files_in(each, index)


def _is_whole(path: str, file: IO[bytes]) -> bool:
    """Whether a file is what its name says, as far as that can be seen from outside."""
    if path.endswith(".zip"):
        return zipfile.is_zipfile(file)
    start = file.read(256)
    return not start.lstrip().startswith(b"<")
