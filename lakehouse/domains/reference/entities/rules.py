"""The rules of legal entities, as DuckDB queries."""

from __future__ import annotations

from lakehouse.derive.two_times import Versions, history
from lakehouse.domains.reference.contracts import contracts
from lakehouse.lake.sql import Query, Relation

MAX_HOPS = 20
"""Successors that are followed."""
_TIMES = ("source", "object", "row_number", "valid_from", "valid_to", "known_from", "known_to")
_FACTS = ("last_updated_at", "next_renewal_at", "deleted_at")
"""Columns whose change alone is no new version."""


def _versions(table: str, key: tuple[str, ...], ends: str | None = None) -> Versions:
    names = [name for name in contracts()[table].column_names if name not in (*_TIMES, *key)]
    content = tuple(name for name in names if name not in _FACTS)
    further = tuple(name for name in names if name in _FACTS)
    return Versions(key, content, (*further, "source", "object", "row_number"), ends)


def entities(known: Relation) -> Query:
    """The rows of `entities`."""
    return history(known, _versions("entities", ("lei",)))


def relationships(known: Relation) -> Query:
    """The rows of `entity_relationships`; a period that ended ends the validity."""
    key = ("child", "parent", "relationship_type")
    return history(known, _versions("entity_relationships", key, "ends_on"))


def with_periods(known: Relation) -> Query:
    """Relationships with the period for which they are stated (`effective`, `ends_on`), of which the others, such as
    accounting periods, say nothing.
    """
    listed = """list_filter([
        {'type': period_1_type, 'start': period_1_start_at, 'end': period_1_end_at},
        {'type': period_2_type, 'start': period_2_start_at, 'end': period_2_end_at},
        {'type': period_3_type, 'start': period_3_start_at, 'end': period_3_end_at}
    ] || list_transform(
        coalesce(from_json(periods, '[{"type": "VARCHAR", "startDate": "VARCHAR", "endDate": "VARCHAR"}]'), []),
        lambda each: {'type': each.type, 'start': each.startDate::TIMESTAMPTZ, 'end': each.endDate::TIMESTAMPTZ}
    ), lambda each: each.type = 'RELATIONSHIP_PERIOD')[1]"""
    return Query(f"""
        SELECT * EXCLUDE (period) REPLACE (
            CASE WHEN is_removed THEN effective ELSE coalesce((period.start AT TIME ZONE 'UTC')::DATE, effective) END
            AS effective
        ), (period.end AT TIME ZONE 'UTC')::DATE AS ends_on
        FROM (SELECT *, {listed} AS period FROM {known})
    """)


def exceptions(known: Relation) -> Query:
    """The rows of `reporting_exceptions`."""
    return history(known, _versions("reporting_exceptions", ("lei", "category")))


def events(known: Relation) -> Query:
    """The rows of `entity_events`, by the newest record of each entity."""
    each = " UNION ALL ".join(
        f"""
        SELECT lei, {number} AS event, event_{number}_type AS event_type, event_{number}_effective_at AS effective_at,
            event_{number}_recorded_at AS recorded_at, source, published AS known_from
        FROM newest WHERE event_{number}_type IS NOT NULL
        """
        for number in range(1, 6)
    )
    return Query(f"""
        WITH newest AS (
            SELECT * FROM (
                SELECT * FROM {known} QUALIFY row_number() OVER (PARTITION BY lei ORDER BY published DESC) = 1
            ) WHERE NOT is_removed
        ) {each}
    """)


def successor_chains(entities: Relation) -> Query:
    """Where each entity's successors lead: lei, successor, hops, whether the successor is in the store, and whether it
    comes round to itself. Followed whatever the status says, for at most `MAX_HOPS`.

    Args:
        entities: the rows of `entities`.
    """
    numbered = ", ".join(f"successor_{number}" for number in range(1, 6))
    return Query(f"""
        WITH RECURSIVE now AS MATERIALIZED (
            SELECT lei, unnest(list_filter([{numbered}], lambda each: each IS NOT NULL)) AS successor FROM {entities}
            WHERE known_to IS NULL AND valid_to IS NULL
        ),
        chain AS (
            SELECT lei, successor, 1 AS hops, [lei] AS seen, successor = lei AS is_cycle FROM now
            UNION ALL
            SELECT chain.lei, now.successor, hops + 1, list_append(seen, chain.successor),
                now.successor = chain.lei OR list_contains(seen, now.successor)
            FROM chain JOIN now ON now.lei = chain.successor WHERE NOT is_cycle AND hops < {MAX_HOPS}
        )
        SELECT lei, successor, hops, is_cycle,
            successor IN (SELECT lei FROM {entities} WHERE known_to IS NULL) AS is_known
        FROM chain
    """)


def group_of(relationships: Relation, on: str) -> Query:
    """The relationships that are valid on a day (an SQL expression), by what is known now: each child's ultimate and
    direct parents are one query, and so are a parent's children.
    """
    return Query(f"""
        SELECT child, parent, relationship_type FROM {relationships}
        WHERE known_to IS NULL AND valid_from <= {on} AND coalesce(valid_to > {on}, true)
    """)


def existence(known: Relation) -> Query:
    """From when to when each LEI is there, whatever its record says."""
    return history(known, Versions(("lei",), (), ("source", "object", "row_number")))
