"""Parses a feed's JSON objects into rows of `quotes`, and gives the reasons for those that it rejects.

Independent of the transport: `poller` polls, `nats` subscribes. `store` decides whether a valid quote is new.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakehouse.domains.market.quotes.feed import QUOTES, Feed
from lakehouse.ingest.json_lines import at
from lakehouse.lake.validation import Predicates, good, predicates_of, reasons

if TYPE_CHECKING:
    import duckdb
    import polars as pl

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_INT64 = range(-(2**63), 2**63)
_FURTHEST_S = 7_258_118_400  # the year 2200: a later value is not a time, or has another unit


@dataclass(frozen=True)
class Heard:
    """An answer to a poll, or a pushed message.

    Args:
        asked: the symbol that was polled; None for a pushed message.
        text: the text as received, with the API key removed.
        document: the parsed text.
        published_at: when the vendor published it (UTC).
        fault: why the document is ambiguous; None if it isn't.
    """

    asked: str | None
    text: str
    document: object
    published_at: datetime
    fault: str | None = None


class RepeatedMember(ValueError):
    """A JSON object has two members of one name, so it is ambiguous which one counts."""


def json_document(text: bytes) -> object:
    """Parses a JSON text.

    Raises:
        RepeatedMember: an object in it has two members of one name.
        ValueError: the text is not JSON.
    """
    from pydantic_core import from_json

    document = from_json(text, allow_inf_nan=False)
    # The fast parser silently keeps the last of several members.
    json.loads(text.decode(), object_pairs_hook=_members)
    return document


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise RepeatedMember(f"the JSON has the member {name} more than once")
        found[name] = value
    return found


def quote_rows(heard: Sequence[Heard], feed: Feed, ingested_at: datetime) -> pl.DataFrame:
    """Makes one row per message: the columns of `quotes`, `number`, `asked`, `text`, `fault`, and for each numeric
    column whether its value is not a number (`untyped_<column>`). Values that can't be parsed are NULL.
    """
    import polars as pl

    contract = feed.contract(QUOTES)
    documents = [item.document if isinstance(item.document, dict) else {} for item in heard]
    member = {column: name for name, column in feed.config.columns.items()}
    made: dict[str, list[Any]] = {}
    for column in contract.columns:
        path = member.get(column.name)
        values = [member_at(document, path) for document in documents]
        if column.name == "symbol":
            made["symbol"] = [
                item.asked if path is None else _symbol(value, item.asked)
                for value, item in zip(values, heard, strict=True)
            ]
        elif column.name == "event_time":
            made["event_time"] = [_moment(value, feed.config.time_unit) for value in values]
        elif column.type.kind == "double":
            numbers = [_number(_unquoted(value, feed)) for value in values]
            made[column.name] = numbers
            made[f"untyped_{column.name}"] = [
                value is not None and number is None for value, number in zip(values, numbers, strict=True)
            ]
    schema: dict[str, Any] = {
        name: pl.Boolean if name.startswith("untyped_") else contract.polars_schema[name] for name in made
    }
    moment = pl.Datetime("us", "UTC")
    return pl.DataFrame(made, schema=schema).with_columns(
        pl.coalesce("event_time", pl.lit(ingested_at, moment)).dt.date().alias("day"),
        pl.Series("published_at", [item.published_at for item in heard], dtype=moment),
        pl.lit(ingested_at, moment).alias("ingested_at"),
        pl.Series("number", range(len(heard)), dtype=pl.Int64),
        pl.Series("asked", [item.asked for item in heard], dtype=pl.String),
        pl.Series("text", [item.text for item in heard], dtype=pl.String),
        pl.Series("fault", [item.fault for item in heard], dtype=pl.String),
    )


def refused(rows: pl.DataFrame, feed: Feed, connection: duckdb.DuckDBPyConnection) -> dict[int, list[str]]:
    """Returns number -> reasons for the rows (from `quote_rows`) that are not valid quotes."""
    import polars as pl

    connection.register("heard", rows.to_arrow())
    rules = _rules(feed, connection)
    found = connection.execute(f"SELECT number, {reasons(rules)} FROM heard WHERE NOT ({good(rules)})").fetchall()
    connection.unregister("heard")
    faults = rows.filter(pl.col("fault").is_not_null()).select("number", "fault").iter_rows()
    return {**dict(found), **{number: [fault] for number, fault in faults}}


def _rules(feed: Feed, connection: duckdb.DuckDBPyConnection) -> Predicates:
    contract = feed.contract(QUOTES)
    said: Mapping[str, str] = {column: name for name, column in feed.config.columns.items()}
    return {
        **predicates_of(contract, connection, "heard"),
        **{
            f"{column.name}_typed": (f"NOT untyped_{column.name}", f"{said[column.name]} is no number")
            for column in contract.columns
            if column.type.kind == "double" and column.name in said
        },
        "is_what_was_asked_for": (
            "upper(asked) = upper(symbol)",
            f"{said.get('symbol', 'symbol')} is not the symbol that was asked for",
        ),
    }


def _symbol(value: object, asked: str | None) -> str | None:
    """Returns the symbol as it was polled if the vendor's differs only in case, so that it stays one series."""
    if not isinstance(value, str):
        return None
    return asked if asked is not None and asked.upper() == value.upper() else value


def member_at(document: Mapping[str, Any], path: str | None) -> Any:
    """The member of that name, or at that path."""
    return None if path is None else document[path] if path in document else at(document, path)


def _unquoted(value: object, feed: Feed) -> object:
    """The number in a text, if the feed writes numbers so."""
    if feed.config.numbers_as_text and isinstance(value, str) and _DECIMAL.fullmatch(value):
        return float(value)
    return value


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and not _INT64.start <= value < _INT64.stop:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _moment(value: object, unit: str) -> datetime | None:
    if unit == "rfc3339":
        return _moment_in_text(value)
    number = _number(value)
    if number is None or not 0 < number / _PER_SECOND[unit] < _FURTHEST_S:
        return None
    # In integers: a double can't hold a time in nanoseconds exactly.
    whole = value if isinstance(value, int) else int(number)
    return _EPOCH + timedelta(microseconds=whole * 10**6 // _PER_SECOND[unit])


def _moment_in_text(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is None or moment.tzinfo is None:
            return None
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if 0 < (moment - _EPOCH).total_seconds() < _FURTHEST_S else None
