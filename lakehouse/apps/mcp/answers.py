"""The answers of `lakehouse mcp`: plain data, made from the lake as the commands make theirs.

Belongs here: what an answer holds, and how much of it. SQL that an assistant wrote runs in `queries`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from lakehouse.api import Lake
from lakehouse.apps.mcp.queries import Question, answer
from lakehouse.catalog import sources, sources_of
from lakehouse.derive.held_back import holds
from lakehouse.derive.status import source_status
from lakehouse.domains.documents.rules import excerpt
from lakehouse.domains.documents.tables import KIND
from lakehouse.domains.market.bars.status import publication_of
from lakehouse.domains.market.bars.status import status as market_status
from lakehouse.errors import LakehouseError, SourceError, did_you_mean
from lakehouse.governance.described import DescribedTable, containing, described_tables, table_named
from lakehouse.governance.figures import Figures, figures
from lakehouse.governance.inherited import catalogued
from lakehouse.governance.role_lake import RoleLake
from lakehouse.lake.locked import Limits
from lakehouse.lake.releases import release_in_use
from lakehouse.lake.sql import literal
from lakehouse.settings import Settings

MOST_ROWS = 1_000
MOST_CHARACTERS = 200_000
"""Of an answer's rows: what an assistant can read at once."""
_REASONS = 20


class TableLine(BaseModel):
    """A table, view or mart in a list."""

    table: str
    kind: str
    description: str
    rows: int | None = Field(description="None of a view, and where nothing is stored yet.")


class ColumnAnswer(BaseModel):
    """A column."""

    name: str
    type: str
    unit: str | None
    description: str
    is_key: bool
    is_required: bool
    is_personal: bool
    references: str | None


class TableAnswer(BaseModel):
    """What a table's contract says."""

    table: str
    kind: str
    description: str
    key: list[str]
    partition_by: list[str]
    freshness: str
    rows: int | None
    written_at: datetime | None
    columns: list[ColumnAnswer]
    rules: dict[str, str] = Field(description="Each rule that the rows satisfy, and what a row that doesn't is.")


class SqlAnswer(BaseModel):
    """The rows of a query. Decimals, dates and times are text."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    is_cut: bool = Field(description="There are more rows than these: aggregate, or filter.")


class SourceAnswer(BaseModel):
    """The state of a source. Dates are sessions of bars."""

    source: str
    kind: str
    first_session: date | None = None
    last_session: date | None = None
    missing_sessions: int = 0
    incomplete_sessions: int = 0
    failed_objects: list[str] = Field(default=[], description="Objects that can't be read, with the reason.")
    quarantined_rows: dict[str, int] = Field(default={}, description="Reason -> rows.")
    notes: dict[str, str] = {}
    fault: str | None = Field(default=None, description="Why there is no status.")


class StatusAnswer(BaseModel):
    """The state of the lake."""

    lake: str
    marts: str
    release_in_use: str | None
    held_back: list[str] = Field(description="Sources whose new rows a failed check keeps from the marts.")
    sources: list[SourceAnswer]


class Step(BaseModel):
    """A row of reference data that leads to an answer."""

    source: str
    object: str
    row: int
    says: str


class Found(BaseModel):
    """An identifier that was found."""

    scheme: str
    value: str
    because: list[Step]


class ResolutionAnswer(BaseModel):
    """What an identifier stands for."""

    asked: str
    target: str
    status: Literal["found", "ambiguous", "none", "invalid"]
    answers: list[Found]


class Passage(BaseModel):
    """A passage of a document."""

    source: str
    document: str
    page: int
    score: float
    excerpt: str


@dataclass(frozen=True)
class Answers:
    """The answers of an installation, or of what is published for a role."""

    config: Settings
    role: str | None = None

    def tables(self, words: str) -> list[TableLine]:
        """The tables that can be queried."""
        lake = Lake.open(self.config)
        found = list(containing(self._seen(lake, described_tables(lake)), words))
        stored = figures(lake, found) if self.role is None else {}
        return [
            TableLine(
                table=table.sql_name,
                kind=table.kind,
                description=table.description.split(". ")[0],
                rows=stored.get(table.sql_name, Figures()).rows,
            )
            for table in found
        ]

    def describe(self, name: str) -> TableAnswer:
        """What is known of a table."""
        lake = Lake.open(self.config)
        table = table_named(self._seen(lake, catalogued(lake, self.config)), name)
        stored = figures(lake, [table]).get(table.sql_name, Figures()) if self.role is None else Figures()
        types = self._types(table)
        return TableAnswer(
            table=table.sql_name,
            kind=table.kind,
            description=table.description,
            key=list(table.key),
            partition_by=list(table.partition_by),
            freshness=table.freshness,
            rows=stored.rows,
            written_at=stored.updated_at,
            columns=[
                ColumnAnswer(
                    name=column.name,
                    type=types.get(column.name, column.type),
                    unit=column.unit,
                    description=column.description,
                    is_key=column.is_key,
                    is_required=not column.nullable,
                    is_personal=column.pii,
                    references=column.references,
                )
                for column in table.columns
                if self.role is None or column.name in types
            ],
            rules={name: reason for name, _, reason in table.rules},
        )

    def sql(self, query: str, max_rows: int) -> SqlAnswer:
        """The rows of a query."""
        limits = Limits(self.config.locked_memory, self.config.locked_seconds)
        rows = answer(Question(query, max_rows, MOST_CHARACTERS, self.role), limits)
        if rows.is_cut and not rows.rows:
            raise LakehouseError(
                f"the first row has more than {MOST_CHARACTERS:,} characters",
                "Select fewer columns, or a part of the text by substr()",
            )
        return SqlAnswer(**vars(rows))

    def status(self) -> StatusAnswer:
        """The state of each source that the lake has, of what is held back, and of the marts."""
        lake = Lake.present(self.config)
        loaded = set(lake.sources())
        return StatusAnswer(
            lake=lake.uri,
            marts=str(publication_of(lake)),
            release_in_use=release_in_use(self.config),
            held_back=[str(hold) for hold in holds(lake)],
            sources=[_source(lake, name) for name in sorted(loaded & set(sources(self.config)))],
        )

    def resolve(
        self, value: str, mic: str | None, to: str | None, on: date | None, known: datetime | None
    ) -> ResolutionAnswer:
        """What an identifier stands for, and the rows that say so."""
        found = Lake.open(self.config).resolve(value, mic=mic, to=to, on=on, known=known)
        return ResolutionAnswer(
            asked=f"{found.asked.scheme} {found.asked.value}",
            target=found.target,
            status=found.status,
            answers=[
                Found(scheme=each.scheme, value=each.value, because=[_step(step) for step in each.steps])
                for each in found.answers
            ],
        )

    def search_documents(self, words: str, limit: int, source: str | None) -> list[Passage]:
        """The passages that fit some words best.

        Raises:
            SourceError: there is no source of documents of that name, or none was loaded.
        """
        lake = Lake.open(self.config)
        known = [each.name for each in sources_of(KIND, self.config)]
        if source is not None and source not in known:
            raise SourceError(f"no source of documents is called '{source}'{did_you_mean(source, known)}")
        loaded = [name for name in known if name in lake.sources() and source in (None, name)]
        if not loaded:
            raise SourceError("no documents were loaded yet: load them by lakehouse update documents")
        found, asked = [], literal(words)
        for name in loaded:
            best = lake.sql(f'FROM "{name}".search({asked}, k := {limit})')
            assert best is not None
            for document, page, score, text in best.project(f"name, page, score, {excerpt('body', asked)}").fetchall():
                found.append(Passage(source=name, document=document, page=page, score=score, excerpt=text))
        return sorted(found, key=lambda each: -each.score)[:limit]

    def _seen(self, lake: Lake, tables: list[DescribedTable]) -> list[DescribedTable]:
        """Those of the tables that can be queried: for a role, those of its file."""
        if self.role is not None:
            names = {f"{schema}.{table}" for schema, table in RoleLake.open(self.role, self.config).tables()}
        else:
            names = {f"{schema}.{table}" for schema, table in lake.tables()}
            names |= {name for name in figures(lake, tables) if name.startswith("marts.")}
        return [table for table in tables if table.sql_name in names]

    def _types(self, table: DescribedTable) -> Mapping[str, str]:
        """The columns of a role's table; masked ones are text."""
        if self.role is None:
            return {}
        described = RoleLake.open(self.role, self.config).sql(f"DESCRIBE {table.sql_name}")
        return {} if described is None else {name: kind for name, kind, *_ in described.fetchall()}


def _source(lake: Lake, name: str) -> SourceAnswer:
    source = sources(lake.config)[name]
    try:
        if source.kind == "market":
            (bars,) = [each for each in sources_of("market", lake.config) if each.name == name]
            market = market_status(lake, bars)
            return SourceAnswer(
                source=name,
                kind=source.kind,
                first_session=market.first_session,
                last_session=market.last_session,
                missing_sessions=len(market.missing),
                incomplete_sessions=len(market.incomplete),
                failed_objects=_failed(market.failed_objects),
                quarantined_rows=_reasons(market.quarantine),
            )
        found = source_status(lake, source)
    except LakehouseError as error:
        return SourceAnswer(source=name, kind=source.kind, fault=str(error))
    return SourceAnswer(
        source=name,
        kind=source.kind,
        failed_objects=_failed(found.failed_objects),
        quarantined_rows=_reasons(found.quarantine),
        notes=dict(found.notes),
    )


def _failed(objects: list[dict[str, object]]) -> list[str]:
    return [f"{each['object']}: {each['error']}" for each in objects[:_REASONS]]


def _reasons(quarantine: list[dict[str, Any]]) -> dict[str, int]:
    return {str(each["reason"]): int(each["rows"]) for each in quarantine[:_REASONS]}


def _step(step: Mapping[str, Any]) -> Step:
    return Step(
        source=step["source"],
        object=step["object"],
        row=step["row_number"],
        says=f"{step['scheme']} {step['value']} stands for {step['subject_scheme']} {step['subject']}, "
        f"valid from {step['valid_from']}",
    )
