"""Answers of an API to questions that are asked again: what each said, and what the next one to a question lacks."""

from __future__ import annotations

from lakehouse.derive.two_times import day_of
from lakehouse.ingest.versions import parts_of
from lakehouse.lake.sql import Query, Relation


def answered(raw: Relation, ledger: Relation, member: str) -> Query:
    """The rows of every answer, and one with `is_removed` for each that the next answer to its question lacks, for
    `derive.two_times`.

    Args:
        member: column of what an answer consists of, such as figi.
    """
    moment = "row_number() OVER (PARTITION BY object, published_at ORDER BY sequence DESC NULLS LAST, ingested_at DESC)"
    return Query(f"""
        WITH answers AS (SELECT * FROM {ledger} WHERE status <> 'failed' QUALIFY {moment} = 1),
        followed AS (
            SELECT object, published_at AS published,
                lead(published_at) OVER (PARTITION BY object ORDER BY published_at) AS following
            FROM answers
        ),
        candidates AS (
            SELECT raw.* EXCLUDE (published_at), stored.published_at AS published
            FROM {raw} AS raw JOIN ({parts_of(Relation("answers"))}) AS stored
            ON raw.object = stored.object AND raw.object_version = stored.object_version AND raw.part = stored.part
            QUALIFY row_number() OVER (PARTITION BY raw.object, published, {member} ORDER BY row_number DESC) = 1
        ),
        ended AS (
            SELECT object, {member}, following AS published FROM candidates JOIN followed USING (object, published)
            ANTI JOIN candidates AS still ON still.object = candidates.object AND still.{member} = candidates.{member}
            AND still.published = followed.following
            WHERE following IS NOT NULL
        )
        SELECT *, {day_of("published")} AS effective, false AS is_removed FROM candidates
        UNION ALL BY NAME
        SELECT *, {day_of("published")} AS effective, true AS is_removed FROM ended
    """)
