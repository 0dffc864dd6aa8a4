"""Parts: an object's rows divided by storage partition. A new version of an object often repeats most parts of the
previous version; only new parts are stored.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

from lakehouse.ingest.discover import ObjectVersion
from lakehouse.ingest.formats import Received
from lakehouse.ingest.ledger import ledger_of
from lakehouse.ingest.partitioning import Part
from lakehouse.ingest.unpacked import CorruptObject
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import polars as pl

_SPOOLED_BYTES = 16_000_000

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
        """The part as a record of the ledger."""
        return {name: getattr(self, name) for name in ("part", "rows", "digest", "object_version")}


def known_parts(lake: Lake, source: str, objects: Sequence[ObjectVersion], reading: str) -> dict[PartOf, Stored]:
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
    stored_by: Part,
    objects: Sequence[ObjectVersion],
    read: Sequence[Received | CorruptObject],
    rows: pl.DataFrame,
    known: Mapping[PartOf, Stored],
) -> list[list[Stored]]:
    """The parts of each object in order; the first part includes the rows whose day can't be read.

    Args:
        objects: the versions of an object in order of publication.
        rows: the objects' rows with `object_number`, `part`, and `text` (unless each object has only the part of its
            day).
        known: the parts already stored.
    """
    seen, found = dict(known), []
    counted = _by_part(rows)
    for number, (item, received) in enumerate(zip(objects, read, strict=True)):
        parts: list[Stored] = []
        if isinstance(received, Received) and received.rows:
            first, inside = stored_by.of(item.first_partition), counted.get(number, {})
            if received.malformed:
                count, digest = inside.get(first, (0, ""))
                texts = "\n".join(text for text, _ in received.malformed.values())
                inside[first] = (count + len(received.malformed), _digest(digest + texts))
            if item.is_one_day and set(inside) == {first}:
                inside = {first: (inside[first][0], received.digest)}
            parts = _stored(item, first, inside, seen)
            for part in parts:
                seen.setdefault((item.name, part.part, part.digest), replace(part, is_new=False))
        found.append(parts)
    return found


def parts_in_blocks(
    stored_by: Part,
    item: ObjectVersion,
    blocks: Iterable[tuple[Received, pl.DataFrame]],
    digest: Callable[[], str],
    known: Mapping[PartOf, Stored],
) -> list[Stored]:
    """The parts of an object that is read block by block; the same as those of `parts_of` for an object read at once.

    Args:
        blocks: each with its rows as for `parts_of`.
        digest: returns the digest of the whole object, once its last block was read.
        known: the parts already stored.
    """
    first = stored_by.of(item.first_partition)
    counts: Counter[date] = Counter()
    digests: dict[date, hashlib.blake2b] = {}
    with SpooledTemporaryFile(_SPOOLED_BYTES) as texts:
        malformed = 0
        for received, rows in blocks:
            for part, (count, said) in _texts_by_part(rows).get(0, {}).items():
                counts[part] += count
                if part in digests:
                    digests[part].update(f"\n{said}".encode())
                else:
                    digests[part] = hashlib.blake2b(said.encode(), digest_size=16)
            for text, _ in received.malformed.values():
                texts.write(f"\n{text}".encode() if malformed else text.encode())
                malformed += 1
        if malformed:
            whole = digests[first].hexdigest() if first in digests else ""
            digests[first] = hashlib.blake2b(whole.encode(), digest_size=16)
            texts.seek(0)
            while piece := texts.read(_SPOOLED_BYTES):
                digests[first].update(piece)
            counts[first] += malformed
    is_whole = item.is_one_day and set(counts) == {first}
    inside = {part: (count, digest() if is_whole else digests[part].hexdigest()) for part, count in counts.items()}
    return _stored(item, first, inside, known)


def _stored(
    item: ObjectVersion, first: date, inside: Mapping[date, tuple[int, str]], known: Mapping[PartOf, Stored]
) -> list[Stored]:
    """The parts of an object by what is `inside`: part -> (rows, digest)."""
    parts = []
    for part, (count, digest) in inside.items():
        stored = known.get((item.name, part, digest))
        parts.append(Stored(part, count, digest, stored.object_version if stored else item.version, stored is None))
    return sorted(parts, key=lambda entry: (entry.part != first, entry.part))


def _by_part(rows: pl.DataFrame) -> dict[int, dict[date, tuple[int, str]]]:
    """Object number -> part -> (rows, digest of their texts in their order)."""
    return {
        number: {part: (count, _digest(said)) for part, (count, said) in parts.items()}
        for number, parts in _texts_by_part(rows).items()
    }


def _texts_by_part(rows: pl.DataFrame) -> dict[int, dict[date, tuple[int, str]]]:
    """Object number -> part -> (rows, their texts in their order, as lines)."""
    import polars as pl

    if rows.is_empty():
        return {}
    texts = pl.col("text").str.join("\n") if "text" in rows.columns else pl.lit("")
    grouped = rows.group_by("object_number", "part", maintain_order=True).agg(
        pl.len().alias("rows"), texts.alias("said")
    )
    found: dict[int, dict[date, tuple[int, str]]] = {}
    for number, part, count, said in grouped.iter_rows():
        found.setdefault(number, {})[part] = (count, said)
    return found


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
