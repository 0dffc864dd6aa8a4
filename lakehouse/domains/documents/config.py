"""The model of a source of documents in a `defs.yaml`."""

from __future__ import annotations

from lakehouse.ingest.names import Objects
from lakehouse.ingest.strict import Description


class DocumentConfig(Description):
    """Files of documents."""

    objects: Objects
