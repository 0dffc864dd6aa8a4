"""What an API is asked about legal entities: those that the settings name, and those of the lake's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial

from pydantic import Field

from lakehouse.errors import SourceError
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.paged_answers import PagedAnswers, PagedQuestion
from lakehouse.ingest.strict import Strict
from lakehouse.ingest.variables import Variables
from lakehouse.lake.lake import Lake
from lakehouse.lake.standards import STANDARDS


class Asks(Strict):
    """What an API is asked about legal entities."""

    paths: tuple[str, ...] = Field(description="Paths below its address, with {lei} filled in if they have it.")
    folder: str = Field(pattern=r"^[a-z_]+$", description="Folder in which the answers are landed.")
    parameters: dict[str, str] = Field({}, description="Parameters, with {leis} filled in.")
    at_once: int = Field(1, ge=1, description="How many entities are asked about in one request, by {leis}.")
    tables: dict[str, str] = Field(
        {}, description="Tables whose entities are asked about, besides LAKEHOUSE_<SOURCE>_LEIS: path -> column."
    )
    moment: str = Field(description="Path of the member of an answer that says when its data were published.")
    fresh_hours: int = Field(ge=1, description="Hours after that within which nothing newer is published.")
    requests_per_minute: int = Field(ge=1, description="How many requests the API allows per minute.")


def answers_at(
    folder: Callable[[], ObjectSource],
    asks: Asks | None,
    source: str,
    variables: Variables,
    what: str,
    lake: Lake | None = None,
) -> ObjectSource:
    """The place of answers: a folder of them, or the API at an http(s) URL, about the entities that a lake knows."""
    url = variables.source_variable(source, what) or ""
    if asks is None or not url.startswith(("http://", "https://")):
        return folder()
    questions = partial(_questions, asks, source, variables.source_variable(source, "leis"), lake)
    landing = f"{variables.lake}/landing/{source}/answers/{asks.folder}"
    fresh = timedelta(hours=asks.fresh_hours)
    return PagedAnswers(url, landing, questions, asks.moment, fresh, asks.requests_per_minute)


def _questions(asks: Asks, source: str, named: str | None, lake: Lake | None) -> Iterator[PagedQuestion]:
    leis: Sequence[str] = named_leis(source, named)
    if lake is not None:
        leis = sorted({*leis, *leis_of_tables(asks.tables, lake)})
    for start in range(0, len(leis), asks.at_once):
        some = leis[start : start + asks.at_once]
        said = {"leis": ",".join(some), "lei": some[0]}
        parameters = tuple((name, value.format(**said)) for name, value in asks.parameters.items())
        for path in asks.paths:
            yield PagedQuestion(asks.folder, path.format(**said), parameters)


def named_leis(source: str, text: str | None) -> tuple[str, ...]:
    """The entities that the settings name.

    Raises:
        SourceError: one is no LEI.
    """
    leis = tuple(each.strip() for each in (text or "").split(",") if each.strip())
    for lei in leis:
        if not STANDARDS["lei"].follows(lei):
            raise SourceError(f"LAKEHOUSE_{source.upper()}_LEIS names {lei!r}, which is no LEI; correct it")
    return leis


def leis_of_tables(tables: Mapping[str, str], lake: Lake) -> list[str]:
    """The entities of the lake's tables (path -> column), ascending."""
    stored = {f"{schema}/{name}" for schema, name in lake.tables()}
    found: set[str] = set()
    for table, column in tables.items():
        if table in stored:
            with lake.connect() as connection:
                rows = lake.select(table, connection)
                found |= {lei for (lei,) in connection.sql(f'SELECT DISTINCT "{column}" FROM ({rows})').fetchall()}
    return sorted(lei for lei in found if lei is not None)
