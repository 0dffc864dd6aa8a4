"""`resolve` and `crosswalk`: answers from the lake, for the command line and for Python. Several answers are an answer;
nothing picks one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.domains.reference.entities.rules import successor_chains
from lakehouse.domains.reference.resolution.gathering import gathered
from lakehouse.domains.reference.resolution.links import known_at, reached, schemes_between
from lakehouse.domains.reference.resolution.schemes import (
    Identifier,
    InvalidIdentifier,
    identified,
    of_scheme,
    require_target,
)
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Relation, literal, relation_of, timestamp_literal

if TYPE_CHECKING:
    import polars as pl

Status = Literal["found", "ambiguous", "none", "invalid"]
_WORST_FIRST: tuple[Status, ...] = ("invalid", "ambiguous", "none", "found")


@dataclass(frozen=True)
class Times:
    """The day on which an answer is true (default: today), and the moment as of which its publishers had said so."""

    on: date | None = None
    known: datetime | None = None


@dataclass(frozen=True)
class Answer:
    """One answer. `steps` are the rows of `reference.identifiers` that lead to it, in the order of the way."""

    scheme: str
    value: str
    steps: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Resolution:
    """The answers about an identifier, ordered by their values."""

    asked: Identifier
    target: str
    answers: tuple[Answer, ...]

    @property
    def status(self) -> Status:
        """Whether there is one answer, several or none."""
        return "none" if not self.answers else "found" if len(self.answers) == 1 else "ambiguous"


def resolve(
    lake: Lake, value: str, *, mic: str | None = None, to: str | None = None, times: Times = Times()
) -> Resolution:
    """What an identifier stands for in another kind of identifiers.

    Args:
        value: an identifier; or a ticker, with its market.
        mic: market of the listings that count.
        to: kind of identifiers that is asked for; by default listings (figi) of an ISIN, ISINs of a FIGI and of an LEI,
            and else the legal entity (lei). For an LEI, lei asks for the entities that have succeeded it, or itself.

    Raises:
        InvalidIdentifier: the text or the market is no identifier, or `to` no kind of them.
    """
    mic = of_scheme(mic, "mic") if mic is not None else None
    asked = identified(value, mic)
    target = require_target(to) if to is not None else asked.default_target
    if target == asked.scheme == "lei":
        return Resolution(asked, target, _successors(lake, asked.value, times))
    if target == asked.scheme:
        return Resolution(asked, target, (Answer(asked.scheme, asked.value, ()),))
    import polars as pl

    seeds = pl.DataFrame(
        {"seed": [0], "scheme": [asked.scheme], "value": [asked.value], "market": [mic]}, schema_overrides=_SEEDS
    )
    rows = _reached(lake, seeds, asked.scheme, target, times)
    answers = (Answer(target, each["value"], tuple(each["steps"])) for each in rows.to_dicts())
    return Resolution(asked, target, tuple(answers))


def crosswalk(
    lake: Lake, rows: pl.DataFrame, start: str, targets: Sequence[str], *, times: Times = Times()
) -> pl.DataFrame:
    """The rows, each with a column per kind of identifiers in `targets` and, in `status`, found, ambiguous, none or
    invalid: the worst of all targets. Where there isn't one answer, the column is NULL and `detail` says why.

    Args:
        rows: with the identifiers in the column `start`; a column `mic`, if there is one, has the market of each.
        start: kind of the identifiers in `rows`.

    Raises:
        InvalidIdentifier: a kind is unknown, or `rows` has no such column.
    """
    import polars as pl

    require_target(start)
    for target in targets:
        require_target(target)
    if start not in rows.columns:
        raise InvalidIdentifier(f"the input has no column {start}; it has {', '.join(rows.columns)}")
    values, faults = [], []
    for text in rows[start].cast(pl.String):
        value, fault = _canonical(text, start)
        values.append(value)
        faults.append(fault)
    mics = (
        rows["mic"].cast(pl.String).replace("", None)
        if "mic" in rows.columns and start != "mic"
        else [None] * rows.height
    )
    seeds = pl.DataFrame(
        {"seed": range(rows.height), "scheme": [start] * rows.height, "value": values, "market": mics},
        schema_overrides=_SEEDS,
    )
    statuses: list[list[Status]] = [[] if fault is None else ["invalid"] for fault in faults]
    details: list[list[str]] = [[] if fault is None else [fault] for fault in faults]
    found = {}
    for target in targets:
        by_seed: dict[int, list[str]] = {}
        if target == start:
            by_seed = {seed: [value] for seed, value in enumerate(values) if value is not None}
        else:
            known = _reached(lake, seeds.filter(pl.col("value").is_not_null()), start, target, times)
            for seed, value in known.select("seed", "value").iter_rows():
                by_seed.setdefault(seed, []).append(value)
        column: list[str | None] = []
        for seed, fault in enumerate(faults):
            answers = by_seed.get(seed, [])
            column.append(answers[0] if len(answers) == 1 else None)
            if fault is None and len(answers) != 1:
                statuses[seed].append("ambiguous" if answers else "none")
                details[seed].append(f"{target}: {len(answers):,} candidates" if answers else f"{target}: none known")
        found[target] = pl.Series(target, column, dtype=pl.String)
    status = [next((each for each in _WORST_FIRST if each in said), "found") for said in statuses]
    detail = ["; ".join(said) or None for said in details]
    return rows.with_columns(
        *(found[target] for target in targets),
        pl.Series("status", status, dtype=pl.String),
        pl.Series("detail", detail, dtype=pl.String),
    )


_SEEDS: dict[str, Any] = {"seed": int, "scheme": str, "value": str, "market": str}


def _canonical(text: str | None, scheme: str) -> tuple[str | None, str | None]:
    """An identifier of a kind in its canonical form, or why it is none."""
    if text is None:
        return None, f"there is no {scheme}"
    try:
        return of_scheme(text, scheme), None
    except InvalidIdentifier as fault:
        return None, str(fault)


def _successors(lake: Lake, lei: str, times: Times) -> tuple[Answer, ...]:
    """The entities to which an entity's successors lead, whatever its status says; itself, if it is known and has none.
    A cycle leads to none.
    """
    on, known = _conditions(times)
    in_force = f"valid_from <= {on} AND (valid_to IS NULL OR valid_to > {on}) AND {known_at(known)}"
    with lake.connect() as connection:
        stored = lake.select("reference/entities", connection)
        entities = relation_of(
            f"SELECT * REPLACE (NULL::DATE AS valid_to, NULL::TIMESTAMPTZ AS known_to) FROM ({stored}) WHERE {in_force}"
        )
        rows = connection.execute(
            f"""
            WITH chain AS (FROM ({successor_chains(entities)}) WHERE lei = {literal(lei)}),
            last AS (
                SELECT DISTINCT successor AS value FROM chain
                WHERE successor NOT IN (
                    SELECT lei FROM {entities}
                    WHERE coalesce(successor_1, successor_2, successor_3, successor_4, successor_5) IS NOT NULL
                )
            )
            SELECT value FROM last
            UNION ALL
            SELECT DISTINCT lei FROM {entities} WHERE lei = {literal(lei)} AND NOT EXISTS (FROM chain)
            ORDER BY value
            """
        ).fetchall()
        columns = "source, object, row_number, valid_from, known_from"
        records = connection.sql(f"SELECT {columns} FROM {entities} WHERE lei = {literal(lei)} LIMIT 1").pl()
    origin = next(iter(records.to_dicts()), {})
    step = {"scheme": "lei", "value": lei, "subject_scheme": "lei", **origin}
    return tuple(Answer("lei", value, ({**step, "subject": value},)) for (value,) in rows)


def _conditions(times: Times) -> tuple[str, str]:
    """The day and the moment as SQL expressions."""
    day = times.on or datetime.now(UTC).date()
    known = "NULL::TIMESTAMPTZ" if times.known is None else f"{timestamp_literal(times.known)}::TIMESTAMPTZ"
    return f"DATE {literal(str(day))}", known


def _reached(lake: Lake, seeds: pl.DataFrame, start: str, target: str, times: Times) -> pl.DataFrame:
    """The answers of a kind to some seeds, ordered by seed and value."""
    on, known = _conditions(times)
    with lake.connect() as connection:
        connection.register("seeds", seeds)
        schemes = schemes_between(start, target)
        rows = gathered(lake, connection, Relation("seeds"), schemes)
        ways = reached(rows, Relation("seeds"), schemes, on, known)
        return connection.sql(
            f"SELECT seed, value, steps FROM ({ways}) WHERE scheme = {literal(target)} ORDER BY seed, value"
        ).pl()
