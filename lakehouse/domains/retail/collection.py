"""What is known of a shop's collection from its mirror: its state for `lakehouse status`, and checks of what it says.

The server isn't asked: a check looks at what was landed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

from lakehouse.derive.checks import found, offenders
from lakehouse.derive.source import Check, Finding, Partitions, Source
from lakehouse.domains.retail.config import Collection
from lakehouse.ingest.mirror import Mirror
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, literal


@dataclass(frozen=True)
class MirroredCollection:
    """A described collection and its mirror."""

    described: Collection
    address: str
    mirror: Callable[[], Mirror]


def reads(collection: MirroredCollection) -> str:
    """How a collection is read, and up to when."""
    state = collection.mirror().state()
    if not state.number:
        return f"{collection.address}: nothing was read yet"
    upto = "" if state.at is None else f"; it changed last in the load of {state.at:%Y-%m-%d %H:%M:%S} UTC"
    if state.has_changes:
        lag = "" if state.lag is None else f", the oldest of the last ones after {_short(state.lag)}"
        return f"{collection.address}, by its change stream{lag}{upto}"
    return f"{collection.address}, all documents at each load, since the server has no change stream{upto}"


def collection_checks(collection: MirroredCollection) -> tuple[Check, ...]:
    """The checks of lines that come from a collection."""
    hours = collection.described.lag_hours
    return (
        Check(
            "raw_lines",
            "changes_arrive_in_time",
            f"No change of the collection waited for more than {hours} hours before it was loaded.",
            partial(_changes_in_time, collection),
            severity="warn",
        ),
        Check(
            "raw_lines",
            "types_steady",
            "The documents of these months and the one before have values of one type in each member: numbers, texts "
            "or dates. Identifiers may be numbers or texts.",
            partial(_types_steady, collection),
            severity="warn",
        ),
    )


def types_of(paths: Sequence[str], members: Sequence[str]) -> Query:
    """The members with values of several types in landed documents: member, types, and how many documents of each."""
    listed = ", ".join(map(literal, paths))
    values = " UNION ALL ".join(
        f"SELECT {literal(member)} AS member, json_extract(json, {literal(_path(member))}) AS held FROM documents"
        for member in members
    )
    return Query(f"""
        WITH documents AS (SELECT json FROM read_ndjson_objects([{listed}], compression = 'gzip')),
        typed AS (
            SELECT member, CASE json_type(held)
                WHEN 'VARCHAR' THEN 'text'
                WHEN 'BOOLEAN' THEN 'boolean'
                WHEN 'OBJECT' THEN CASE WHEN json_exists(held, '$."$date"') THEN 'date' ELSE 'number' END
                ELSE 'number'
            END AS type
            FROM ({values}) WHERE held IS NOT NULL AND json_type(held) <> 'NULL'
            -- NaN stands for a value that is missing.
            AND coalesce(json_extract_string(held, '$."$numberDouble"'), '') <> 'NaN'
        ),
        counted AS (SELECT member, type, count(*) AS documents FROM typed GROUP BY ALL)
        SELECT member, list(type ORDER BY documents DESC, type) AS types,
            list(documents ORDER BY documents DESC, type) AS documents
        FROM counted GROUP BY member HAVING count(*) > 1
    """)


def _path(member: str) -> str:
    return f'$."{member}"'


def _changes_in_time(collection: MirroredCollection, lake: Lake, source: Source, partitions: Partitions) -> Finding:
    state = collection.mirror().state()
    allowed = timedelta(hours=collection.described.lag_hours)
    late = [] if state.lag is None or state.lag <= allowed else [{"lag": str(state.lag), "loaded_at": state.at}]
    waited = "nothing" if state.lag is None else _short(state.lag)
    return found(late, f"a change waited for {waited}", "changes waited")


def _types_steady(collection: MirroredCollection, lake: Lake, source: Source, partitions: Partitions) -> Finding:
    mirror, rows = collection.mirror(), collection.described.rows
    days = mirror.state().days
    if partitions is not None:
        since = min(partitions, default=date.max)
        months = {f"{month:%Y-%m}" for month in (*partitions, since - timedelta(days=1))}
        days = {name: path for name, path in days.items() if name[:7] in months}
    if not days:
        return found([], "", "")
    identifiers = {rows.columns[name] for name in rows.identifiers}
    members = [member for member in rows.object_columns if member not in identifiers]
    query = types_of([f"{mirror.url}/{path}" for path in days.values()], members)
    return offenders(lake, query, "ALL", "1 member has several types", "members have several types")


def _short(time: timedelta) -> str:
    return f"{time.total_seconds():,.0f} s" if time < timedelta(minutes=5) else str(time).partition(".")[0]
