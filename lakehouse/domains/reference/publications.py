"""Rows that a publisher gives as whole snapshots, as changes, and as answers of an API: the datasets and tables that
every kind of them has. What the rows mean belongs in `entities` and `mappings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from lakehouse.derive.by_partition import derive_by_partition, partitions_as_of
from lakehouse.derive.checks import conservation_holds, objects_known, of_every_dataset, of_every_table
from lakehouse.derive.revisions import RevisionRule, winners
from lakehouse.derive.source import Check, DerivedTable, Source, Winners
from lakehouse.domains.reference.asked import Asks, answers_at
from lakehouse.domains.reference.chains import due
from lakehouse.domains.reference.config_base import PublisherConfig
from lakehouse.domains.reference.contracts import ANSWERED, PUBLISHED, contracts
from lakehouse.ingest.coerce import PROVENANCE
from lakehouse.ingest.dataset import Dataset, ObjectOrigin
from lakehouse.ingest.differences import REMOVED, SnapshotPlace, reads_differences
from lakehouse.ingest.ledger import ledger_of, newest_entries
from lakehouse.ingest.names import Objects
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.offered import OfferedFiles
from lakehouse.ingest.partitioning import Part, Periods
from lakehouse.ingest.places import place_of
from lakehouse.ingest.reading import reading_digest
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.times import moments
from lakehouse.ingest.variables import Variables
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import Query, Relation, literal, predicate, relation_of

if TYPE_CHECKING:
    import duckdb
    import polars as pl


class Publications(RowFormat):
    """Objects with rows of one kind: where they are, how they are named, how rows stand in them.

    Names have the groups `date` and, where there are several publications a day, `time`; `delta` marks an object that
    has changes only. Objects whose rows say the moment of their publication (`time`) are answers of an API.
    """

    objects: Objects
    index: str = Field(
        "", description="Where the index of the objects is, below a place with an http(s) URL; empty: there itself."
    )

    asks: Asks | None = Field(None, description="What an API is asked, if the place is one.")
    cron: str | None = Field(None, description="When it is updated (UTC) instead of at the source's times.")

    @model_validator(mode="after")
    def _says_when(self) -> Publications:
        if (self.objects.holds == "history") != (self.time is not None):
            raise ValueError("the moment of publication comes from the objects' names (`holds: day`) or from `time`")
        return self

    @property
    def are_answers(self) -> bool:
        """Whether the objects are answers of an API about some keys, rather than publications about all."""
        return self.time is not None


_NOT_READING = {"objects", "index", "asks", "cron"}
"""What of a section decides where and when rows are read, not how."""


@dataclass(frozen=True)
class Rows:
    """A kind of rows.

    Args:
        name: such as `entities`; the tables are named after it.
        key: columns that identify what a row is about.
        settings: LAKEHOUSE_<SOURCE>_<...> with the place of publications, and that of answers.
    """

    name: str
    key: tuple[str, ...]
    settings: tuple[str, str]

    def rule(self) -> RevisionRule:
        """Which rows count: one per key and moment of publication."""
        raw = contracts()[f"raw_{self.name}"]
        key = ("published", *self.key)
        content = [name for name in raw.column_names if name not in {*PROVENANCE, *key, "published_on"}]
        return RevisionRule(key=key, content=tuple(content) or ("published_on",), part="published_on")

    def table(self, are_answers: bool) -> DerivedTable:
        """The table of the rows that count."""
        name = f"{ANSWERED if are_answers else PUBLISHED}_{self.name}"
        raw = f"raw_{name if are_answers else self.name}"
        dataset = self.dataset_name(are_answers)
        make = partial(_winning, self, contracts()[name].column_names)
        return DerivedTable(
            name=name,
            description=contracts()[name].description,
            depends_on=(raw,),
            derive=partial(derive_by_partition, dataset, name, make),
            as_of=partial(partitions_as_of, dataset, make),
            keeps=Winners(dataset, self.rule()),
        )

    def dataset_name(self, are_answers: bool) -> str:
        return f"{ANSWERED}_{self.name}" if are_answers else self.name

    def dataset(
        self, config: PublisherConfig, said: Publications, beside: Sequence[Objects], variables: Variables
    ) -> Dataset:
        """The dataset of publications, or of answers."""
        contract = contracts()[f"raw_{self.dataset_name(said.are_answers)}"]
        here, others = self.settings[said.are_answers], ("url", "mappings_url", "api_url")
        folder = partial(place_of, config.source, said.objects, variables, here, others)
        answers = partial(answers_at, folder, said.asks, config.source, variables, here)
        snapshots = partial(_snapshots, folder, self.name, said, config.source, variables, here)
        rows = said if said.are_answers else _with_removals(said)
        return Dataset(
            source=config.source,
            name=self.dataset_name(said.are_answers),
            description=f"{config.description}: {self.name}",
            table=f"{config.source}/{contract.table}",
            contract=contract,
            rows=rows,
            origin=ObjectOrigin(
                answers if said.are_answers else snapshots,
                said.objects,
                tuple(beside),
                in_lake=answers if said.are_answers else snapshots,
            ),
            partitioning=Periods("day", config.first_day),
            partition_column="published_on",
            part=Part("published_on"),
            times=partial(_answered, said) if said.are_answers else _named,
            reading=reading_digest(
                contract,
                {
                    "rows": said.model_dump(
                        mode="json", exclude={"objects", "index", "asks", "cron"}, exclude_defaults=True
                    )
                },
            ),
            refusals=config.refusals,
            object_max_bytes=variables.object_max_bytes,
            reader=None if said.are_answers else reads_differences([rows.columns[name] for name in self.key]),
        )

    def checks(self, are_answers: bool) -> tuple[Check, ...]:
        """The checks that all of these tables have."""
        table = self.table(are_answers)
        raw = contracts()[table.depends_on[0]]
        return (
            *of_every_dataset(raw, self.dataset_name(are_answers)),
            objects_known(raw.table),
            *of_every_table(contracts()[table.name]),
            conservation_holds(table),
        )

    def known(self, lake: Lake, connection: duckdb.DuckDBPyConnection, source: Source, effective: str) -> Query:
        """What was published about each key, for `derive.two_times`: publications and answers.

        Args:
            effective: SQL expression for the day from which a row is true; where it is NULL, that of the publication.
        """
        names = [name for name in (f"{PUBLISHED}_{self.name}", f"{ANSWERED}_{self.name}") if name in source.contracts]
        stored, *others = (self._asked(lake, lake.select(source.table(name), connection)) for name in names)
        if others:
            # Each has one row per key and moment; of the same moment, a publication says all that an answer says.
            answered = f"({others[0]})"
            keys = ", ".join(("published", *self.key))
            stored = f"{stored} UNION ALL BY NAME FROM {answered} AS answered ANTI JOIN ({stored}) USING ({keys})"
        deleted = "OR deleted_at IS NOT NULL" if "deleted_at" in contracts()[f"raw_{self.name}"].column_names else ""
        return Query(f"""
            SELECT * REPLACE (coalesce(is_removed, false) {deleted} AS is_removed), {literal(source.name)} AS source,
                CASE WHEN coalesce(is_removed, false) {deleted} THEN published_on
                ELSE coalesce({effective}, published_on) END AS effective
            FROM ({stored})
        """)

    def _asked(self, lake: Lake, rows: str) -> str:
        """The rows whose key the reader asks for. A key's history follows from its own rows."""
        if lake.asked is None:
            return rows
        wanted = {column: list(lake.asked[column]) for column in self.key if column in lake.asked}
        return f"SELECT * FROM ({rows}) WHERE {predicate(wanted) if wanted else 'false'}"


def _snapshots(
    place: Callable[[], ObjectSource],
    name: str,
    said: Publications,
    source: str,
    variables: Variables,
    here: str,
    lake: Lake | None = None,
) -> SnapshotPlace:
    """The place of publications: a folder or a bucket, or what the index at an http(s) URL offers."""
    kept, url = f"{variables.lake}/landing/{source}", variables.source_variable(source, here) or said.objects.url or ""
    if not url.startswith(("http://", "https://")):
        return SnapshotPlace(place(), said.objects, f"{kept}/{name}")
    index = f"{url.rstrip('/')}/{said.index}" if said.index else url
    offered = OfferedFiles(index, f"{kept}/files/{name}", said.objects, due, partial(_loaded, lake, source))
    return SnapshotPlace(offered, said.objects, f"{kept}/{name}")


def _loaded(lake: Lake | None, source: str) -> dict[str, bool]:
    """The source's objects by their names, and whether they could be loaded."""
    if lake is None:
        return {}
    entries = newest_entries(ledger_of(lake, source)).select("object", "status").collect()
    return {name: status != "failed" for name, status in entries.iter_rows()}


def _winning(rows: Rows, columns: list[str], source: Any, connection: object, raw: Relation, ledger: Relation) -> str:
    return f"SELECT {', '.join(columns)} FROM ({winners(raw, ledger, rows.rule())})"


def current(rows: Relation, columns: Mapping[str, str], key: Sequence[str]) -> Query:
    """The rows that are known now, with the columns that a view has (name -> expression).

    Args:
        rows: as `Rows.known` returns them.
    """
    listed = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
    newest = f"row_number() OVER (PARTITION BY {', '.join(key)} ORDER BY published DESC) = 1"
    return Query(f"""
        SELECT {listed}, ingested_at AS ingestion_timestamp FROM {relation_of(f"SELECT * FROM {rows} QUALIFY {newest}")}
        WHERE NOT is_removed
    """)


def _with_removals(said: Publications) -> Publications:
    return said.model_copy(
        update={
            "columns": {**said.columns, "is_removed": REMOVED},
            "optional": (*said.optional, REMOVED),
            "named": {**said.named, "published": "date", "published_time": "time"},
        }
    )


def _named(text: pl.DataFrame) -> pl.DataFrame:
    """The moment of a publication, by the object's name."""
    import polars as pl

    day = pl.col("named:date").str.replace_all("[^0-9]", "")
    time = pl.col("named:time").fill_null("").str.pad_end(6, "0")
    moment = (day + time).str.to_datetime("%Y%m%d%H%M%S", time_unit="us", strict=False)
    return text.select(published=moment.dt.replace_time_zone("UTC"))


def _answered(said: Publications, text: pl.DataFrame) -> pl.DataFrame:
    """The moment of the publication that an answer is made of."""
    import polars as pl

    assert said.time is not None
    labels = moments(text, said.time, ())
    return labels.select(published="label", day=pl.col("label").dt.date())
