"""What folders a lake has: the path is its catalogue."""

from __future__ import annotations

import os


def folders(uri: str) -> list[str]:
    """The names of the folders (of a bucket: the common prefixes) directly below `uri`; sorted. None where it is not
    there.

    Raises:
        LakeUnavailable: the bucket can't be listed.
    """
    if "://" not in uri:
        try:
            return sorted(entry.name for entry in os.scandir(uri) if entry.is_dir())
        except FileNotFoundError:
            return []
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    from lakehouse.lake.errors import LakeUnavailable

    try:
        found = from_url(uri).list_with_delimiter()
    except BaseError as error:
        raise LakeUnavailable(f"{uri} can't be listed: {error}") from error
    return sorted(prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in found["common_prefixes"])
