"""The obstore store at a bucket's URL, by the environment's AWS_* variables or an access of its own. What is done with
one is said in `bucket` and `object_store`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lakehouse.ingest.access import FROM_ENVIRONMENT, ResolvedAccess

if TYPE_CHECKING:
    from obstore.store import S3Store

_S3 = ("endpoint", "region", "anonymous", "access_key_id", "secret_access_key", "session_token")


def bucket_store(url: str, access: ResolvedAccess = FROM_ENVIRONMENT) -> S3Store:
    """The store at s3://bucket/prefix.

    Raises:
        SourceError: a credential's variable is unset, or the store takes none of that name.
    """
    from obstore.store import S3Store

    access.require_only(_S3, "s3")
    declared = access.declared
    config: dict[str, Any] = {"endpoint": declared.endpoint, "region": declared.region}
    if declared.anonymous:
        config["skip_signature"] = True
    options: dict[str, Any] = {"config": {name: value for name, value in config.items() if value is not None}}
    if declared.endpoint and declared.endpoint.startswith("http://"):
        options["client_options"] = {"allow_http": True}
    if declared.credentials:
        # Keys in the store's configuration would be shown with it, and be joined by the environment's session token.
        keys = {
            "access_key_id": access.credential("access_key_id"),
            "secret_access_key": access.credential("secret_access_key"),
            "token": access.credential("session_token"),
            "expires_at": None,
        }
        options["credential_provider"] = lambda: keys
    return S3Store.from_url(_quoted(url), **options)


def _quoted(url: str) -> str:
    """An s3:// URL for obstore, which takes `?` and `#` for a query and a fragment, and decodes `%20`."""
    return f"s3://{quote(url.removeprefix('s3://'))}"
