"""Where the objects of a source are, by the settings and its `defs.yaml`."""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse.errors import SourceError
from lakehouse.ingest.names import Objects
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.object_store import objects_at
from lakehouse.ingest.variables import Variables


def url_of(source: str, objects: Objects, variables: Variables, what: str = "url") -> str | None:
    """The URL of a source's objects, by `LAKEHOUSE_<SOURCE>_<WHAT>` or `objects.url`; None without either."""
    return variables.source_variable(source, what) or objects.url


def place_of(
    source: str,
    objects: Objects,
    variables: Variables,
    what: str = "url",
    others: Sequence[str] = (),
    forms: str = "a folder or an s3:// URL",
) -> ObjectSource:
    """The place of a source's objects (see `url_of`), opened as its `objects.access` says. Without a URL, it is empty
    if one of the source's `others` is set.

    Args:
        forms: what the URL may be, for the error.

    Raises:
        SourceError: none is set.
    """
    url = url_of(source, objects, variables, what)
    if url is not None:
        return objects_at(url, objects.access.resolve(variables.secret)) if objects.access else objects_at(url)
    if any(variables.source_variable(source, other) for other in others):
        return objects_at(str(variables.home / "nowhere"), may_lack=True)
    raise SourceError(
        f"No location configured for {source}: set LAKEHOUSE_{source.upper()}_{what.upper()} to {forms}, or `url` of "
        "its objects in the defs.yaml"
    )
