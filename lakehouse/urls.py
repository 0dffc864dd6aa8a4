"""URLs of places: whether a text is one, and whether it can name a place of a given kind.

Which kinds there are is said where places are opened: the lake's in `settings`, those of objects in
`ingest.object_store`. A text without a scheme is the path of a folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

# One letter before a colon is a drive or an odd folder, not a scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_FILE = {"file": "file:///folder"}


def scheme_of(url: str) -> str | None:
    """The scheme of a URL as it is written there; None of a folder's path."""
    found = _SCHEME.match(url)
    return found[1] if found else None


def fault_of(url: str, places: Mapping[str, str]) -> str | None:
    """Why a text names no place of these kinds, and what would; None where it names one.

    Args:
        places: scheme -> how a URL of it is written, such as `s3://bucket/prefix`. A folder may always be named, by its
            path or as file:///folder.
    """
    scheme = scheme_of(url)
    if scheme is None:
        return None
    forms = _FILE | dict(places)
    known = f"a folder, {', '.join(forms.values())}"
    if scheme not in forms:
        hint = f"; schemes are written in lower case: {scheme.lower()}://" if scheme.lower() in forms else ""
        return f"{scheme}:// is not a kind of place that is known here; use {known}{hint}"
    if not url.startswith(f"{scheme}://"):
        return f"{scheme}:/ lacks a slash; write {forms[scheme]}"
    address = url.removeprefix(f"{scheme}://")
    host = address.partition("/")[0]
    # A file's URL has no host, every other one has.
    if not address or bool(host) == (scheme == "file"):
        return f"it names no place; write {forms[scheme]}"
    if ":" in host.rpartition("@")[0]:
        return (
            "it has a password in it, which logs and tables would show; change the password, and keep it in an "
            "environment variable"
        )
    return None


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    scheme = scheme_of(url)
    if scheme is None or "@" not in url:
        return url
    place = urlsplit(url)
    user, _, host = place.netloc.rpartition("@")
    return place._replace(netloc=f"{user.partition(':')[0]}:***@{host}").geturl() if ":" in user else url
