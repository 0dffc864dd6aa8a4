"""Parts: the shares of an object that each storage partition takes in. A new version of an object often says of
most of its parts what the version before said; then only what is new is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from lakehouse.lake.lake import Lake
from lakehouse.lake.ledger import ledger_of
from lakehouse.pipeline.pending import PendingObject
from lakehouse.sources.products import Product
from lakehouse.sources.received import ObjectDamaged, Received

if TYPE_CHECKING:
    import polars as pl

PartOf = tuple[str, date, str]
"""(object, part, digest of its text)."""


@dataclass(frozen=True)
class Stored:
    """A part of an object version: its rows, their digest, and the version under which they are stored."""

    part: date
    rows: int
    digest: str
    object_version: str
    is_new: bool

    def record(self) -> dict[str, Any]:
        """The part as the ledger keeps it."""
        return {name: getattr(self, name) for name in ("part", "rows", "digest", "object_version")}


def known_parts(lake: Lake, source: str, objects: Sequence[PendingObject], reading: str) -> dict[PartOf, Stored]:
    """The parts of the versions of `objects` that the lake has loaded by the same reading."""
    import polars as pl

    names = list({item.name for item in objects})
    ours = (pl.col("reading") == reading) & (pl.col("status") != "failed") & pl.col("object").is_in(names)
    loaded = ledger_of(lake, source).filter(ours)
    rows = loaded.select("object", "parts").collect()
    return {
        (row["object"], part["part"], part["digest"]): Stored(**part, is_new=False)
        for row in rows.iter_rows(named=True)
        for part in row["parts"]
    }


def parts_of(
    product: Product,
    objects: Sequence[PendingObject],
    read: Sequence[Received | ObjectDamaged],
    rows: pl.DataFrame,
    known: Mapping[PartOf, Stored],
) -> list[list[Stored]]:
    """The parts of each object, the first one first: it takes in the rows whose day can't be read.

    Args:
        objects: the versions of an object in the order of their publication.
        rows: the objects' rows with `object_number`, `part`, and (unless all objects are of one day) `text`.
        known: what is stored already.
    """
    seen, found = dict(known), []
    counted = _by_part(rows)
    for number, (item, received) in enumerate(zip(objects, read, strict=True)):
        parts: list[Stored] = []
        if isinstance(received, Received) and received.rows:
            first = item.first_session.replace(month=1, day=1) if product.part == "year" else item.first_session
            inside = counted.get(number, {})
            if received.malformed:
                count, digest = inside.get(first, (0, ""))
                texts = "\n".join(text for text, _ in received.malformed.values())
                inside[first] = (count + len(received.malformed), _digest(digest + texts))
            for part, (count, digest) in sorted(inside.items()):
                if item.is_one_day:
                    digest = hashlib.blake2b(received.body, digest_size=16).hexdigest()
                stored = seen.get((item.name, part, digest))
                version = stored.object_version if stored else item.version
                parts.append(Stored(part, count, digest, version, is_new=stored is None))
                seen.setdefault((item.name, part, digest), Stored(part, count, digest, version, is_new=False))
            parts.sort(key=lambda entry: (entry.part != first, entry.part))
        found.append(parts)
    return found


def _by_part(rows: pl.DataFrame) -> dict[int, dict[date, tuple[int, str]]]:
    """Object number -> part -> (rows, digest of their texts in their order)."""
    import polars as pl

    if rows.is_empty():
        return {}
    texts = pl.col("text").str.join("\n") if "text" in rows.columns else pl.lit("")
    grouped = rows.group_by("object_number", "part", maintain_order=True).agg(
        pl.len().alias("rows"), texts.alias("said")
    )
    found: dict[int, dict[date, tuple[int, str]]] = {}
    for number, part, count, said in grouped.iter_rows():
        found.setdefault(number, {})[part] = (count, _digest(said))
    return found


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
