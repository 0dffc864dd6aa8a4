"""Makes the obstore store for a bucket's URL: S3, Google Cloud Storage or Azure, with credentials from the environment
(AWS_*, GOOGLE_*, AZURE_*) or its own access. `bucket` and `object_store` use it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lakehouse.errors import SourceError
from lakehouse.ingest.access import FROM_ENVIRONMENT, ResolvedAccess
from lakehouse.urls import scheme_of

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

_AZURE = "az://container/prefix"
_AZURE_OF_ACCOUNT = "abfs[s]://container@account.dfs.core.windows.net/prefix"
BUCKETS = {"s3": "s3://bucket/prefix", "gs": "gs://bucket/prefix", "az": _AZURE} | dict.fromkeys(
    ("abfs", "abfss"), _AZURE_OF_ACCOUNT
)
"""Scheme -> form of its URLs."""
_S3 = ("endpoint", "region", "anonymous", "access_key_id", "secret_access_key", "session_token")
_GOOGLE = ("endpoint", "anonymous", "key_file", "service_account_key")
_AZURE_TAKES = ("endpoint", "anonymous", "account_name", "account_key", "sas_token")


def bucket_store(url: str, access: ResolvedAccess = FROM_ENVIRONMENT) -> S3Store | GCSStore | AzureStore:
    """The store at a URL of `BUCKETS`.

    Raises:
        SourceError: a credential's variable is unset or invalid, the store doesn't support that credential, or no Azure
            account is configured.
    """
    import obstore
    from obstore.store import AzureStore, GCSStore, S3Store

    scheme = scheme_of(url)
    declared = access.declared
    options: dict[str, Any] = {}
    if declared.endpoint and declared.endpoint.startswith("http://"):
        options["client_options"] = {"allow_http": True}
    try:
        match scheme:
            case "s3":
                return S3Store.from_url(_quoted(url), **options, **_for_s3(access))
            case "gs":
                return GCSStore.from_url(_quoted(url), **options, **_for_google(access))
            case _:
                return AzureStore.from_url(_quoted(url), **options, **_for_azure(access, scheme or ""))
    except obstore.exceptions.BaseError as error:
        cause = str(error).partition("\n\nDebug source:")[0]
        raise SourceError(
            f"{url}: {cause}; correct the URL, its access, or the variables of the environment"
        ) from error


def _for_s3(access: ResolvedAccess) -> dict[str, Any]:
    access.require_only(_S3, "s3")
    declared = access.declared
    keys = {
        "access_key_id": access.credential("access_key_id"),
        "secret_access_key": access.credential("secret_access_key"),
        "token": access.credential("session_token"),
        "expires_at": None,
    }
    return _configured(access, endpoint=declared.endpoint, region=declared.region) | _provided(access, lambda: keys)


def _for_google(access: ResolvedAccess) -> dict[str, Any]:
    access.require_only(_GOOGLE, "gs")
    return _configured(
        access,
        base_url=access.declared.endpoint,
        service_account=access.declared.key_file,
        service_account_key=access.credential("service_account_key"),
    )


def _for_azure(access: ResolvedAccess, scheme: str) -> dict[str, Any]:
    access.require_only(_AZURE_TAKES, scheme)
    configured = _configured(access, endpoint=access.declared.endpoint, account_name=access.credential("account_name"))
    key, token = access.credential("account_key"), access.credential("sas_token")
    if key is None and token is None:
        return configured
    name, value = ("access_key", key) if key is not None else ("sas_token", token)
    return configured | _provided(access, lambda: {name: value, "expires_at": None})


def _configured(access: ResolvedAccess, **values: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    if access.declared.anonymous:
        config["skip_signature"] = True
    return {"config": config}


def _provided(access: ResolvedAccess, keys: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The option with which a store requests its keys: in its configuration they would be printed with it, and be mixed
    with those of the environment.
    """
    return {"credential_provider": keys} if access.declared.credentials else {}


def _quoted(url: str) -> str:
    """Quotes a URL for obstore, which treats `?` and `#` as query and fragment, and decodes `%20`."""
    scheme, _, address = url.partition("://")
    return f"{scheme}://{quote(address, safe='/@')}"
