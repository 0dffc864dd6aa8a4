"""Objects in a bucket or a folder: listed, named, fetched. What stands inside them is not known here (see
`bar_files`).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    import polars as pl
    from obstore.store import ObjectStore


class SourceUnavailable(RuntimeError):
    """The bucket or folder could not be listed or read; usually a passing fault or a wrong address. Worth
    another try.
    """


class ObjectReplaced(SourceUnavailable):
    """An object is no longer the version that was listed; the next listing has its new one."""


def store_at(url: str, *, create: bool = False) -> ObjectStore:
    """The object store of a folder or an s3:// URL; `create` makes a folder that is not there.

    Raises:
        SourceUnavailable: the folder does not exist.
    """
    from obstore.store import LocalStore, from_url

    if url.startswith("s3://"):
        # obstore takes `?` and `#` for a URL's query and fragment, and decodes `%20`.
        return from_url(f"s3://{quote(url.removeprefix('s3://'))}")
    folder = Path(unquote(url.removeprefix("file://")) if url.startswith("file://") else url).expanduser().absolute()
    if not create and not folder.is_dir():
        raise SourceUnavailable(f"{folder} is no folder; set the source's URL to where its objects are")
    return LocalStore(folder, mkdir=create)


def put_if_changed(store: ObjectStore, key: str, content: bytes) -> bool:
    """Writes an object in one atomic step, unless it stands there with the same content. Returns whether it was
    written.

    Raises:
        SourceUnavailable: the target can't be read or written.
    """
    import obstore

    try:
        if bytes(obstore.get(store, key).bytes()) == content:
            return False
    except FileNotFoundError:
        pass
    except (OSError, obstore.exceptions.BaseError) as error:
        raise SourceUnavailable(f"{key} can't be read: {error}") from error
    try:
        obstore.put(store, key, content)
    except (OSError, obstore.exceptions.BaseError) as error:
        raise SourceUnavailable(f"{key} can't be written: {error}") from error
    return True


def listing_schema() -> dict[str, Any]:
    """The columns of a listing: name, version, size (bytes), published_at (UTC), and by which tag and path the
    version is fetched.
    """
    import polars as pl

    return {
        "name": pl.String,
        "version": pl.String,
        "size": pl.Int64,
        "published_at": pl.Datetime("us", "UTC"),
        "tag": pl.String,
        "path": pl.String,
    }


class ObjectStoreSource:
    """The objects below a URL: a folder (`/data/xetra`, `file:///...`) or `s3://bucket/prefix` with the usual
    AWS_* variables.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def list(self) -> pl.DataFrame:
        """Every object, as one frame (see `listing_schema`) in no particular order.

        A version is the modification time, the size and, where the store has one that is made from the content,
        the ETag; another value of any of them is another version. Stays within a few bytes an object, so that a
        bucket of hundreds of thousands can be listed on every tick.

        Raises:
            SourceUnavailable: the store doesn't answer.
        """
        import obstore
        import polars as pl

        remote = self.url.startswith("s3://")
        try:
            batches = [
                pl.DataFrame(batch) for batch in obstore.list(self._opened, chunk_size=10_000, return_arrow=True)
            ]
        except (OSError, obstore.exceptions.BaseError) as error:
            raise SourceUnavailable(f"{self.url} can't be listed: {error}") from error
        published = pl.col("last_modified").dt.cast_time_unit("us").dt.convert_time_zone("UTC")
        parts = [published.dt.epoch("us").cast(pl.String), pl.col("size").cast(pl.String)]
        if remote:
            parts.append(pl.col("e_tag").fill_null("").str.strip_chars('"'))
        listed = [
            batch.select(
                name=pl.col("path").cast(pl.String),
                version=pl.concat_str(parts, separator="-"),
                size=pl.col("size").cast(pl.Int64),
                published_at=published,
                tag=pl.col("e_tag").cast(pl.String),
                path=pl.col("path").cast(pl.String),
            )
            for batch in batches
        ]
        return pl.concat([pl.DataFrame(schema=listing_schema()), *listed])

    def fetch(self, path: str, tag: str | None) -> bytes:
        """The bytes of the object version that was listed with `path` and `tag`.

        Raises:
            ObjectReplaced: it was replaced since it was listed.
            SourceUnavailable: it can't be read: gone, or no answer.
        """
        import obstore

        try:
            found = obstore.get(self._opened, path)
            if tag is not None and found.meta["e_tag"] != tag:
                raise ObjectReplaced(f"{self.url}: object {path} was replaced while it was read")
            return bytes(found.bytes())
        except (OSError, obstore.exceptions.BaseError) as error:
            raise SourceUnavailable(f"{self.url}: object {path} can't be read: {error}") from error

    def holds(self, path: str, tag: str | None) -> bool:
        """Whether the object at `path` is still the version that was listed; what has gone was not replaced.

        Raises:
            SourceUnavailable: the store doesn't answer.
        """
        import obstore

        try:
            return tag is None or obstore.head(self._opened, path)["e_tag"] == tag
        except FileNotFoundError:
            return True
        except (OSError, obstore.exceptions.BaseError) as error:
            raise SourceUnavailable(f"{self.url}: object {path} can't be read: {error}") from error

    @cached_property
    def _opened(self) -> ObjectStore:
        return store_at(self.url)
