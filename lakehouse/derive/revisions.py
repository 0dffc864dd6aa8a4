"""The rules, common to all products, for which revision of a row counts, as DuckDB queries over named relations.

The ledger says which version of an object is current, and for each version, under which version the rows of each part
are stored (see the contract of ingest_ledger). The meaning of rows belongs in the domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.ingest.versions import held, newest_publication, parts_of, references
from lakehouse.lake.sql import Query, Relation, relation_of


@dataclass(frozen=True)
class RevisionRule:
    """How the rows of a raw table are identified and compared."""

    key: tuple[str, ...]
    content: tuple[str, ...]
    """The columns that two revisions are compared by: with equal content one is an exact duplicate, else superseded."""
    part: str
    """The raw table's partition column."""
    first_by: tuple[str, ...] = ()
    """Columns that rank before the time of publication: the vendor's own revision number."""
    only_newest_publication: bool = False
    """Whether each object is a publication of all rows that are true as of its day: then only the newest one counts."""
    equal_rows_count: bool = False
    """Whether equal rows of one object are as many rows, not repetitions. They are numbered in the column `occurrence`,
    which belongs to the key; the same row in another object is a repetition even so."""

    @property
    def key_hash(self) -> str:
        return f"hash({', '.join(self.key)})"

    @property
    def numbering(self) -> str:
        """The SQL expression for a row's number among the equal rows of its object version."""
        return f"row_number() OVER (PARTITION BY object, object_version, {', '.join(self.key)} ORDER BY row_number)"

    def held(self, ledger: Relation) -> Query:
        """Where the rows that count are stored (see `lakehouse.ingest.versions.held`)."""
        return parts_of(relation_of(newest_publication(ledger))) if self.only_newest_publication else held(ledger)


def winners(raw: Relation, ledger: Relation, rows: RevisionRule) -> Query:
    """The winning revision of each key, with all columns of the raw table, and `occurrence` where equal rows count.

    Of several revisions, the highest by (vendor's revision, published_at, ingested_at, object, row_number) wins. The
    times are those of the object's current version, even for rows that an earlier version already had.
    Most keys have one revision, and ranking is the most expensive step, so only keys whose hash occurs more than once
    are ranked.
    """
    ranking = ", ".join(
        [
            *(f"{column} DESC NULLS LAST" for column in rows.first_by),
            *(f"{column} DESC" for column in ("said_at", "heard_at", "object", "row_number")),
        ]
    )
    without, key = "* EXCLUDE (said_at, heard_at)", ", ".join(rows.key)
    once, ranked = without, f"known WHERE {rows.key_hash} IN (FROM several)"
    if rows.equal_rows_count:
        once, key = f"{without}, 1::BIGINT AS occurrence", f"{key}, occurrence"
        ranked = f"(SELECT *, {rows.numbering} AS occurrence FROM {ranked})"
    return Query(f"""
        WITH known AS NOT MATERIALIZED (
            SELECT raw.*, held.published_at AS said_at, held.ingested_at AS heard_at FROM {raw} AS raw
            JOIN ({rows.held(ledger)}) AS held
            ON raw.object = held.object AND raw.object_version = held.object_version AND raw.{rows.part} = held.part
        ),
        several AS MATERIALIZED ({_repeated(Relation("known"), rows)})
        SELECT {once} FROM known WHERE {rows.key_hash} NOT IN (FROM several)
        UNION ALL
        SELECT {without} FROM {ranked}
        QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {ranking}) = 1
    """)


def losers(raw: Relation, ledger: Relation, rows: RevisionRule) -> Query:
    """The rows of the raw table that did not win, with `fate`: duplicate (the winner of the key has the same content)
    or superseded (other content, withdrawn, or read again by other rules).
    """
    same = " AND ".join(f"raw.{column} IS NOT DISTINCT FROM won.{column}" for column in rows.content)
    key, numbered, number = rows.key, "", ""
    if rows.equal_rows_count:
        key, numbered, number = (*key, "occurrence"), f", {rows.numbering} AS occurrence", ", occurrence"
    on = " AND ".join(f"raw.{column} IS NOT DISTINCT FROM won.{column}" for column in key)
    place = f"object, object_version, {rows.part}, row_number"
    # A current row whose key occurs once has won; the others are few, and found without reading other columns.
    return Query(f"""
        WITH stored AS MATERIALIZED (
            SELECT object, object_version, part, is_latest,
                (object, object_version, part) IN (
                    SELECT (object, object_version, part) FROM ({rows.held(ledger)})
                ) AS is_held
            FROM ({references(ledger)}) WHERE is_first
        ),
        readable AS NOT MATERIALIZED (
            SELECT raw.*, is_latest, is_held
            FROM (SELECT {place}, {rows.key_hash} AS key_hash FROM {raw}) AS raw JOIN stored
            ON raw.object = stored.object AND raw.object_version = stored.object_version
            AND raw.{rows.part} = stored.part
        ),
        several AS MATERIALIZED (SELECT key_hash FROM readable GROUP BY key_hash HAVING count(*) > 1),
        places AS MATERIALIZED (
            SELECT DISTINCT {place}, is_latest FROM readable WHERE key_hash IN (FROM several) OR NOT is_held
        ),
        contested AS (SELECT raw.*, is_latest FROM {raw} AS raw JOIN places USING ({place}))
        SELECT raw.* EXCLUDE (is_latest{number}),
            CASE WHEN won.object IS NOT NULL AND {same} AND raw.is_latest THEN 'duplicate' ELSE 'superseded' END AS fate
        FROM (SELECT *{numbered} FROM contested) AS raw
        LEFT JOIN ({winners(Relation("contested"), ledger, rows)}) AS won ON {on}
        WHERE won.object IS NULL
        OR (raw.object, raw.object_version, raw.row_number) <> (won.object, won.object_version, won.row_number)
    """)


def known_since(raw: Relation, ledger: Relation, rows: RevisionRule, content: Sequence[str]) -> Query:
    """The winners with `known_at`: when the lake first ingested the key with the same `content`. Rows that no version
    in the ledger names are ignored.
    """
    said = ", ".join([*rows.key, *content])
    return Query(f"""
        WITH won AS ({winners(raw, ledger, rows)}),
        first_known AS (
            SELECT {said}, min(raw.ingested_at) AS known_at FROM {raw} AS raw SEMI JOIN ({parts_of(ledger)}) AS stored
            ON raw.object = stored.object AND raw.object_version = stored.object_version
            AND raw.{rows.part} = stored.part GROUP BY {said}
        )
        SELECT won.*, first_known.known_at FROM won JOIN first_known
        ON {" AND ".join(f"won.{column} IS NOT DISTINCT FROM first_known.{column}" for column in [*rows.key, *content])}
    """)


def _repeated(relation: Relation, rows: RevisionRule) -> Query:
    """Hashes of keys that may be repeated in `relation`. May include hash collisions; never misses a repeated key."""
    return Query(f"SELECT {rows.key_hash} AS key_hash FROM {relation} GROUP BY key_hash HAVING count(*) > 1")
