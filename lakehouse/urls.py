"""Parses and validates URLs of places.

The supported schemes are defined where places are opened: for the lake in `settings`, for objects in
`ingest.object_store`. A text without a scheme is a folder's path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# A single letter before a colon is a drive or an odd folder name, not a scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_WITH_PASSWORD = re.compile(r"([^/@:]*):(?:[^/]*@|[^@]*@)")
_PORT_AND_PATH = re.compile(r"(?:\[[^]/@]*\]|[^/@:]*):\d{1,5}/")
_FILE = {"file": "file:///folder"}


def scheme_of(url: str) -> str | None:
    """The scheme of a URL as written; None for a folder's path."""
    found = _SCHEME.match(url)
    return found[1] if found else None


def fault_of(url: str, places: Mapping[str, str]) -> str | None:
    """Why a text is not a valid place, with the fix; None if it is valid.

    Args:
        places: scheme -> form of its URLs, such as `s3://bucket/prefix`. A folder is always valid, as a path or as
            file:///folder.
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
    if _password_in(address):
        return (
            "it has a password in it, which logs and tables would show; change the password, and keep it in an "
            "environment variable"
        )
    return None


def without_password(url: str) -> str:
    """The URL without its password, for display."""
    if scheme_of(url) is None:
        return url
    scheme, _, address = url.partition("://")
    found = _password_in(address)
    return f"{scheme}://{found[1]}:***@{address[found.end() :]}" if found else url


def _password_in(address: str) -> re.Match[str] | None:
    """The user and the password with which an address begins. One with a slash is found, too, which divides the address
    wrongly: what follows the colon then is not a port.
    """
    found = _WITH_PASSWORD.match(address)
    return None if found is None or _PORT_AND_PATH.match(address) else found
