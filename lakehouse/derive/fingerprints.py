"""Fingerprints: what each partition of a derived table was made from, so that only a change is followed.

The commit that writes a partition stores two numbers with it:

- `made-from:<partition>`, a digest of all that its rows follow from: its inputs (by the ledger, or by the content of
  another table's partitions), the text of the query that makes them, the frames which that query reads, and the
  contract. A derivation compares it with the present one and reads nothing where they agree. The text of the query is
  the code: whatever changes it, a rule, a helper or a setting, changes the digest.
- `content:<partition>`, which changes with its rows, also where they follow from another partition. Tables made from
  this one, and checks of it, compare that.

Numbers that are missing or damaged lead to a derivation, never to stale rows. `lakehouse rebuild` doesn't trust them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from lakehouse.ingest.versions import held, references
from lakehouse.lake.contract import Contract
from lakehouse.lake.marks import ABOUT_ROWS
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import Query, Relation

if TYPE_CHECKING:
    import duckdb

MADE_FROM, CONTENT = ABOUT_ROWS

WHOLE = "*"
"""Stands for all partitions of a table that is derived as a whole."""

Fingerprints = Mapping[str, int]
"""Partition (as text) -> what it is made from, or what it contains."""


def digest(*facts: object) -> int:
    """A digest of facts by their texts: 63 bits, never 0."""
    hashed = blake2b("\0".join(map(str, facts)).encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(hashed) >> 1 or 1


def said_by(contract: Contract) -> str:
    """What of a contract the stored rows follow from: its version and its columns."""
    columns = ", ".join(f"{column.name} {column.type}" for column in contract.columns)
    return f"{contract.version}: {columns}"


def of_entries(connection: duckdb.DuckDBPyConnection, ledger: Relation) -> dict[str, int]:
    """A digest of the objects' current versions, by the partition that their rows are stored in.

    Stored rows never change, and only those that the ledger names count: so the winning rows follow from its entries.
    """
    return _summed(
        connection, Query(f"SELECT part, hash(object, object_version, published_at, ingested_at) FROM ({held(ledger)})")
    )


def of_references(connection: duckdb.DuckDBPyConnection, ledger: Relation) -> dict[str, int]:
    """A digest of all that the ledger says of the rows of each partition, of whichever version."""
    columns = "object, object_version, rows, is_latest, is_first"
    return _summed(connection, Query(f"SELECT part, hash({columns}) FROM ({references(ledger)})"))


def of_whole(
    connection: duckdb.DuckDBPyConnection, entries: Relation, query: str, target: Snapshot, known: Iterable[str]
) -> int:
    """What a table is made from that is derived as a whole: all readable versions in `entries` of the ledger, since it
    may say when each was known; the query, and the frames that it reads besides the `known` ones.
    """
    hashed = "hash(object, object_version, sequence, published_at, ingested_at, parts)"
    versions = _summed(connection, Query(f"SELECT NULL, {hashed} FROM {entries} WHERE status <> 'failed'"))
    frames = of_frames(connection, "", known)
    return digest(*versions.values(), *frames.values(), query, said_by(target.table.contract))


def of_frames(connection: duckdb.DuckDBPyConnection, part: str, known: Iterable[str]) -> dict[str | None, int]:
    """A digest of the frames that are registered in a connection, except the `known` ones: by partition if they have
    its column, under None otherwise.
    """
    names = {name for (name,) in connection.execute(_FRAMES).fetchall()} - set(known)
    found: dict[str | None, int] = {}
    for name in sorted(names):
        columns = [column for column, *_ in connection.execute(f'DESCRIBE "{name}"').fetchall()]
        by = f'"{part}"' if part in columns else "NULL"
        texts = ", ".join(f'"{column}"' for column in columns)
        for key, number in _summed(connection, Query(f'SELECT {by}, hash({texts}) FROM "{name}"')).items():
            found[key] = digest(found.get(key), name, number)
    return found


_FRAMES = "SELECT view_name FROM duckdb_views() WHERE temporary AND NOT internal"


def _summed(connection: duckdb.DuckDBPyConnection, hashes: Query) -> dict[str, int]:
    """The sums of hashes by key: they don't depend on an order, and the same row twice counts twice."""
    rows = connection.execute(
        f"SELECT key::VARCHAR, sum(hashed)::VARCHAR FROM ({hashes}) AS hashes (key, hashed) GROUP BY ALL"
    ).fetchall()
    return {key: digest(total) for key, total in rows}


def outdated(target: Snapshot, made_from: Fingerprints) -> list[str]:
    """The partitions that were not made from what they would be made from now."""
    stored = target.marks(MADE_FROM)
    return [partition for partition, number in made_from.items() if stored.get(partition) != number]


def contents(snapshot: Snapshot, partitions: Iterable[str]) -> dict[str, int]:
    """What partitions of a table contain: equal numbers mean equal rows. Where a table has none, such as a raw one, the
    names of the files that may hold a partition stand for it.
    """
    wanted, stored = list(partitions), snapshot.marks(CONTENT)
    lacking = [partition for partition in wanted if not stored.get(partition)]
    files = snapshot.files_by_date(lacking) if lacking else {}
    return {partition: stored.get(partition) or digest(*files[partition]) for partition in wanted}


def marks_of(target: Snapshot, made_from: Fingerprints, changed: Sequence[object]) -> dict[str, int]:
    """The numbers to store in the commit that writes partitions.

    Args:
        made_from: of the partitions that were derived.
        changed: the partitions whose rows differ, which may be others.
    """
    marks = {f"{MADE_FROM}{partition}": number for partition, number in made_from.items()}
    if changed:
        before = target.marks(CONTENT)
        for partition in map(str, changed):
            # A chain: rows that come back are of another content, which costs a comparison and is never wrong.
            marks[f"{CONTENT}{partition}"] = digest(before.get(partition), *sorted(made_from.items()))
    return marks
