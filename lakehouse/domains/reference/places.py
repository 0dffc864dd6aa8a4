"""Where the objects of a source of reference data are."""

from __future__ import annotations

from lakehouse.errors import SourceError
from lakehouse.ingest.names import Objects
from lakehouse.ingest.object_store import ObjectSource, objects_at
from lakehouse.ingest.variables import Variables


def place_of(source: str, objects: Objects, variables: Variables, what: str = "url") -> ObjectSource:
    """The place of a source's objects, by `LAKEHOUSE_<SOURCE>_<WHAT>` or `objects.url`.

    Raises:
        SourceError: neither is set.
    """
    url = variables.source_variable(source, what) or objects.url
    if url is None:
        raise SourceError(
            f"No location configured for {source}: set LAKEHOUSE_{source.upper()}_{what.upper()} to a folder or an "
            "s3:// URL, or `url` of its objects in the defs.yaml"
        )
    return objects_at(url, objects.access.resolve(variables.secret)) if objects.access else objects_at(url)
