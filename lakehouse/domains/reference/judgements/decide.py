"""Records a person's decision about a proposal: an object of its own, which is loaded as those of any source are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from lakehouse.domains.reference.resolution.schemes import of_scheme
from lakehouse.errors import SourceUnavailable
from lakehouse.ingest.object_store import store_at
from lakehouse.ingest.variables import Variables


@dataclass(frozen=True)
class Decision:
    """That an identifier stands for a legal entity (LEI), or not.

    Args:
        score: similarity of their names, if they were proposed by it.
    """

    scheme: str
    value: str
    subject: str
    decision: Literal["confirmed", "rejected"]
    decided_by: str
    score: float | None = None


def decisions_url(source: str, variables: Variables) -> str:
    """The place of decisions: LAKEHOUSE_<SOURCE>_URL, or a folder of the lake."""
    return variables.source_variable(source, "url") or f"{variables.lake}/landing/{source}/decisions"


def record(url: str, decision: Decision) -> str:
    """Stores a decision, made now; returns the name of its object.

    Raises:
        InvalidIdentifier: the identifier or the LEI is none.
        SourceUnavailable: the place can't be written.
    """
    import obstore

    value, subject = of_scheme(decision.value, decision.scheme), of_scheme(decision.subject, "lei")
    now = datetime.now(UTC)
    said = {**asdict(decision), "value": value, "subject": subject, "decided_at": now.isoformat()}
    line = json.dumps(said).encode() + b"\n"
    name = f"{now:%Y%m%dT%H%M%S%fZ}-{hashlib.blake2b(line, digest_size=4).hexdigest()}.jsonl"
    try:
        obstore.put(store_at(url), name, line)
    except (OSError, obstore.exceptions.BaseError) as error:
        raise SourceUnavailable(f"{url}: {name} can't be written: {error}") from error
    return name
