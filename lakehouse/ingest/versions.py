"""DuckDB queries over the ingest ledger (see its contract): which version of an object counts, and under which version
the rows of its parts are stored.
"""

from __future__ import annotations

from lakehouse.lake.sql import Query, Relation, relation_of

ORDER = ("sequence NULLS FIRST", "published_at", "ingested_at", "object_version")
"""The entries of an object from the oldest to the newest; those of earlier releases have no number."""
_NEWEST_FIRST = "sequence DESC NULLS LAST, published_at DESC, ingested_at DESC, object_version DESC"


def parts_of(ledger: Relation) -> Query:
    """(object, object_version, part) of the stored rows behind the readable versions in `ledger`, with the reading they
    were stored by, and when the version was published and ingested.
    """
    return Query(f"""
        SELECT object, entry.object_version, entry.part, reading, published_at, ingested_at FROM (
            SELECT object, reading, published_at, ingested_at, unnest(parts) AS entry FROM {ledger}
            WHERE status <> 'failed'
        )
    """)


def references(ledger: Relation) -> Query:
    """Each part of each version in `ledger`: object, object_version (under which it is stored), part, rows, whether it
    `is_first` to name those stored rows, and `is_latest`: whether the object's current version was read by the same
    reading. Rows of another reading are superseded, regardless of their content.
    """
    return Query(f"""
        SELECT object, entry.object_version, entry.part, entry.rows, reading IS NOT DISTINCT FROM latest AS is_latest,
            row_number() OVER (
                PARTITION BY object, entry.object_version, entry.part ORDER BY {", ".join(ORDER)}
            ) = 1 AS is_first
        FROM (
            SELECT object, sequence, published_at, ingested_at, object_version, reading, unnest(parts) AS entry,
                first_value(reading) OVER (PARTITION BY object ORDER BY {_NEWEST_FIRST}) AS latest
            FROM {ledger} WHERE status <> 'failed'
        )
    """)


def current(ledger: Relation) -> Query:
    """The entry of each object's current version: the last committed one that could be read."""
    newest = f"row_number() OVER (PARTITION BY object ORDER BY {_NEWEST_FIRST}) = 1"
    return Query(f"SELECT * FROM {ledger} WHERE status <> 'failed' QUALIFY {newest}")


def newest_publication(ledger: Relation) -> Query:
    """The current entries of the objects that the newest publication consists of: those of the latest partition,
    whether they have rows or not. A publication that arrives after a newer one is none of them.
    """
    return Query(f"SELECT * FROM ({current(ledger)}) QUALIFY first_session = max(first_session) OVER ()")


def held(ledger: Relation) -> Query:
    """Where the rows of each object's `current` version are stored. A newer version replaces the older one as a whole.

    Args:
        ledger: relation of one product's rows of the ingest ledger.

    Returns: object, object_version, part, reading; and published_at, ingested_at of the current version, which may be
        different from the one that the rows are stored under.
    """
    return parts_of(relation_of(current(ledger)))
