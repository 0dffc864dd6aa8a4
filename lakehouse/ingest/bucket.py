"""Objects in a bucket of S3, Google Cloud Storage or Azure, listed and fetched by their keys below a prefix. Files in a
folder belong in `folder`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from lakehouse.errors import ObjectReplaced, ObjectUnreadable, SourceUnavailable
from lakehouse.ingest.access import FROM_ENVIRONMENT, ResolvedAccess
from lakehouse.ingest.listing import Listing, PassedOver, unusable
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.spool import spooled
from lakehouse.ingest.stores import bucket_store
from lakehouse.urls import scheme_of

if TYPE_CHECKING:
    import polars as pl
    from obstore.store import AzureStore, GCSStore, S3Store

# Errors that concern the request's credentials, its URL or the account, not the object.
_OF_THE_STORE = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
    *("RequestTimeTooSkewed", "RequestExpired", "AuthorizationHeaderMalformed", "AccountProblem", "InvalidSecurity"),
    *("AuthenticationFailed", "AuthorizationFailure", "ContainerNotFound", "AccountIsDisabled"),
    *("AllAccessDisabled", "NoSuchBucket", "PermanentRedirect", "TemporaryRedirect", "RequestTimeout", "SlowDown"),
}
_PASSING_STATUS = {401, 407, 408, 425, 429}
_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>(\w+)</Code>")


class Bucket(ObjectSource):
    """The objects below a bucket's URL, with credentials from the environment or its own access."""

    def __init__(self, url: str, access: ResolvedAccess = FROM_ENVIRONMENT) -> None:
        self.url = url
        self._access = access

    def list(self, prefix: str = "") -> Listing:
        """Every object below `prefix`, whose last part is whole, in no particular order.

        Raises:
            SourceUnavailable: the store doesn't answer.
        """
        import obstore
        import polars as pl

        passed_over: tuple[PassedOver, ...] = ()
        try:
            batches = [
                pl.DataFrame(batch)
                for batch in obstore.list(self._store, prefix or None, chunk_size=10_000, return_arrow=True)
            ]
        except obstore.exceptions.InvalidPathError as error:
            # A single key that obstore can't express fails its whole listing.
            if scheme_of(self.url) != "s3":
                raise SourceUnavailable(
                    f"{self.url} can't be listed: {_said(error)}; rename that object, or name a prefix without it"
                ) from error
            batch, passed_over = self._listed_key_by_key(prefix)
            batches = [batch]
        except (OSError, obstore.exceptions.BaseError) as error:
            raise SourceUnavailable(f"{self.url} can't be listed: {_said(error)}") from error
        listed = pl.concat([_listing(batch) for batch in [_frame([]), *batches]])
        return Listing(_without_markers(listed), passed_over)

    def folders(self, below: str) -> Collection[str] | None:
        """The names of the folders directly in `below`; None if one of them can't be addressed.

        Raises:
            SourceUnavailable: the store doesn't answer.
        """
        import obstore

        try:
            found = obstore.list_with_delimiter(self._store, below.rstrip("/") or None)["common_prefixes"]
        except obstore.exceptions.InvalidPathError:
            return None
        except (OSError, obstore.exceptions.BaseError) as error:
            raise SourceUnavailable(f"{self.url} can't be listed: {_said(error)}") from error
        return [prefix.rstrip("/").rpartition("/")[2] for prefix in found]

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        """The object that was listed with `path` and `tag`, as a file at its start.

        Raises:
            ObjectReplaced: it was replaced or removed since it was listed.
            ObjectUnreadable: the store refuses this object.
            SourceUnavailable: the store doesn't answer, or refuses all.
        """
        import obstore

        try:
            found = obstore.get(self._store, path)
            if tag is not None and found.meta["e_tag"] != tag:
                raise ObjectReplaced(f"{self.url}: object {path} was replaced while it was read")
            return spooled(found.stream())
        except FileNotFoundError as error:
            if _code(error) in _OF_THE_STORE:
                raise SourceUnavailable(f"{self.url}: object {path} can't be read: {_said(error)}") from error
            raise ObjectReplaced(f"{self.url}: object {path} was removed after it was listed") from error
        except (OSError, obstore.exceptions.BaseError) as error:
            if _is_about_one_object(error):
                raise ObjectUnreadable(
                    f"{path} can't be read: the store answers {_code(error) or _status(error)}; have it made readable "
                    "(a permission, an archived object brought back) and load it again"
                ) from error
            raise SourceUnavailable(f"{self.url}: object {path} can't be read: {_said(error)}") from error

    def can_read(self, path: str) -> bool:
        """Whether the listed object at `path` can now be read. Uses a GET and reads only its headers, since a HEAD
        succeeds for an archived object, too.

        Raises:
            SourceUnavailable: the store doesn't answer, or refuses all.
        """
        import obstore

        try:
            obstore.get(self._store, path)
        except FileNotFoundError:
            return False
        except (OSError, obstore.exceptions.BaseError) as error:
            if _is_about_one_object(error):
                return False
            raise SourceUnavailable(f"{self.url}: object {path} can't be read: {_said(error)}") from error
        return True

    def holds(self, path: str, tag: str | None) -> bool:
        """Whether the object at `path` is still the version that was listed; what has gone, or is kept back, was not
        replaced. Uses a conditional GET, which has no content if it is: what can be read can be asked for, while some
        stores and policies answer no HEAD.

        Raises:
            SourceUnavailable: the store doesn't answer, or refuses all.
        """
        import obstore

        try:
            return tag is None or obstore.get(self._store, path, options={"if_none_match": tag}).meta["e_tag"] == tag
        except (FileNotFoundError, obstore.exceptions.NotModifiedError):
            return True
        except (OSError, obstore.exceptions.BaseError) as error:
            if _is_about_one_object(error):
                return True
            raise SourceUnavailable(f"{self.url}: object {path} can't be read: {_said(error)}") from error

    @cached_property
    def _store(self) -> S3Store | GCSStore | AzureStore:
        return bucket_store(self.url, self._access)

    def _listed_key_by_key(self, prefix: str) -> tuple[pl.DataFrame, tuple[PassedOver, ...]]:
        """Lists with another client, which accepts any key but is several times slower."""
        from botocore.exceptions import BotoCoreError, ClientError

        base = self.url.removeprefix("s3://").partition("/")[2].strip("/")
        below = f"{base}/" if base else ""
        rows: list[dict[str, Any]] = []
        passed_over = []
        try:
            for entry in self._entries(f"{below}{prefix}/" if prefix else below):
                name = entry["Key"].removeprefix(below)
                why = unusable(name) or _unaddressable(name)
                if why is not None:
                    passed_over.append(PassedOver(name, why))
                elif name and not name.endswith("/"):
                    rows.append(
                        {
                            "path": name,
                            "last_modified": entry["LastModified"],
                            "size": entry["Size"],
                            "e_tag": entry["ETag"],
                        }
                    )
        except (BotoCoreError, ClientError) as error:
            raise SourceUnavailable(f"{self.url} can't be listed: {error}") from error
        return _frame(rows), tuple(passed_over)

    def _entries(self, prefix: str) -> Iterator[dict[str, Any]]:
        import botocore.session
        from botocore import UNSIGNED
        from botocore.config import Config

        # Settings that obstore reads from the environment under its own names; botocore finds missing keys itself.
        known, access = dict(self._store.config), self._access
        config = Config(signature_version=UNSIGNED) if known.get("skip_signature") else None
        client = botocore.session.get_session().create_client(
            "s3",
            region_name=known.get("region") or "us-east-1",
            endpoint_url=known.get("endpoint"),
            aws_access_key_id=access.credential("access_key_id") or known.get("access_key_id"),
            aws_secret_access_key=access.credential("secret_access_key") or known.get("secret_access_key"),
            aws_session_token=access.credential("session_token")
            if access.declared.credentials
            else known.get("session_token"),
            config=config,
        )
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=known["bucket"], Prefix=prefix)
        for page in pages:
            yield from page.get("Contents", ())


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    import polars as pl

    moments = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        rows, schema={"path": pl.String, "last_modified": moments, "size": pl.UInt64, "e_tag": pl.String}
    )


def _listing(entries: pl.DataFrame) -> pl.DataFrame:
    """Entries of a store in the columns of a listing. The ETag is made from the content."""
    import polars as pl

    published = pl.col("last_modified").dt.cast_time_unit("us").dt.convert_time_zone("UTC")
    tag = pl.col("e_tag").cast(pl.String)
    parts = [
        published.dt.epoch("us").cast(pl.String),
        pl.col("size").cast(pl.String),
        tag.fill_null("").str.strip_chars('"'),
    ]
    name = pl.col("path").cast(pl.String)
    return entries.select(
        name=name,
        version=pl.concat_str(parts, separator="-"),
        size=pl.col("size").cast(pl.Int64),
        published_at=published,
        tag=tag,
        path=name,
    )


def _without_markers(objects: pl.DataFrame) -> pl.DataFrame:
    """Drops the empty objects with which tools mark a folder: `2024-03-04/` beside `2024-03-04/a.csv`."""
    import polars as pl

    if not objects.height or objects["size"].min():
        return objects
    folders = {""}
    for folder in objects["name"].str.extract("^(.*)/").drop_nulls().unique():
        while folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return objects.filter(~((pl.col("size") == 0) & pl.col("name").is_in(list(folders))))


def _unaddressable(key: str) -> str | None:
    """Why obstore can't fetch a key; None if it can. A key that ends in a slash marks a folder."""
    parts = key.removesuffix("/").split("/")
    return "an empty part, `.` or `..` in its name" if key and {"", ".", ".."} & set(parts) else None


def _said(error: Exception) -> str:
    """An error's text without obstore's own type names; S3's XML answer is reduced to its code."""
    return re.sub(r"<\?xml.*", _code(error) or "", str(error).partition("\n\nDebug source:")[0], flags=re.DOTALL)


def _is_about_one_object(error: Exception) -> bool:
    status = int(_status(error))
    return 400 <= status < 500 and status not in _PASSING_STATUS and _code(error) not in _OF_THE_STORE


def _status(error: Exception) -> str:
    found = _STATUS.search(str(error))
    return found[1] if found else "0"


def _code(error: Exception) -> str | None:
    found = _CODE.search(str(error))
    return found[1] if found else None
