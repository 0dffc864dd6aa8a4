"""Turns a chunk of objects into rows: valid ones for the raw table, rejected ones for the quarantine, and a ledger
record per object.

Nothing is written here (see `load`). A row is valid if it fulfils the raw table's contract, its time is sound, its
object may hold it by its name, and its day has a partition. An object's rows are divided into parts by storage
partition; a part that equals one of an earlier version of the object is not stored again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.ingest.coerce import typed, untyped_columns
from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.discover import ObjectVersion
from lakehouse.ingest.entered import QUARANTINE
from lakehouse.ingest.formats import BlockReader, Received
from lakehouse.ingest.from_text import YEARS
from lakehouse.ingest.partitioning import Partitioning
from lakehouse.ingest.pseudonyms import without_persons
from lakehouse.ingest.slices import PartOf, Stored, parts_in_blocks, parts_of
from lakehouse.ingest.unpacked import CorruptObject, ObjectWithheld
from lakehouse.lake.contract import shared_contracts
from lakehouse.lake.validation import Predicates, good, predicates_of, reasons

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa

Read = Received | CorruptObject
"""An object's content, or why it can't be read."""


OUTSIDE_FILE = "the time is outside its file's date"
"""The reason against a row that an object can't hold by its name."""


@dataclass(frozen=True)
class Chunk:
    """Objects of a dataset that were read together, and their `ingested_at`."""

    dataset: Dataset
    objects: Sequence[ObjectVersion]
    read: Sequence[Read]
    ingested_at: datetime

    @classmethod
    def of(cls, dataset: Dataset, objects: Sequence[ObjectVersion], read: Sequence[Read], at: datetime) -> Chunk:
        """Objects with pseudonyms in place of personal values, where the dataset wants them."""
        kept = [without_persons(each, dataset) if isinstance(each, Received) else each for each in read]
        return cls(dataset, objects, kept, at)


@dataclass(frozen=True)
class Rows:
    """The rows of a chunk for each table: the raw table and the quarantine as Arrow tables, the ledger as records."""

    raw: pa.Table
    refused: pa.Table
    ledger: list[dict[str, Any]]


def rows_of(
    chunk: Chunk,
    connection: duckdb.DuckDBPyConnection,
    known: Mapping[PartOf, Stored],
    run_id: str | None,
) -> Rows:
    """Divides the rows of a chunk into valid and rejected ones, and makes the ledger records of its objects.

    Args:
        known: the parts of earlier versions of these objects, by digest.
    """
    rows = _typed(chunk, with_text=None)
    parts = parts_of(chunk.dataset.part, chunk.objects, chunk.read, rows, known)
    raw, refused = _sorted_out(chunk, rows, parts, connection)
    quarantined = Counter(zip(refused["object"].to_pylist(), refused["object_version"].to_pylist(), strict=True))
    ledger = [_ledger_row(chunk, number, parts[number], quarantined, run_id) for number in range(len(chunk.objects))]
    return Rows(raw, refused, ledger)


@dataclass(frozen=True)
class BlockwiseObject:
    """An object with more rows than fit in memory. It is read twice: first for its parts, then for its rows.

    Args:
        connect: opens a DuckDB.
    """

    dataset: Dataset
    item: ObjectVersion
    reader: BlockReader
    ingested_at: datetime
    connect: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]

    def parts(self, known: Mapping[PartOf, Stored]) -> list[Stored]:
        """The parts of the object. `known` as for `rows_of`.

        Raises:
            CorruptObject: it can't be read to its end.
        """
        blocks = ((block, self._divided(block)) for block in self.reader)
        return parts_in_blocks(self.dataset.part, self.item, blocks, lambda: self.reader.digest, known)

    def rows(self, parts: list[Stored]) -> Iterator[Rows]:
        """The rows of the object's new parts, block by block."""
        for block in self.reader:
            chunk = self._chunk(block)
            with self.connect() as connection:
                rows = _typed(chunk, with_text=False)
                yield Rows(*_sorted_out(chunk, rows, [parts], connection), [])

    def ledger_row(
        self, parts: list[Stored], quarantined: int, run_id: str | None, error: CorruptObject | None = None
    ) -> dict[str, Any]:
        """The object's ledger record, to be written once all of its rows are stored."""
        rows = sum(part.rows for part in parts)
        read = Received(rows, None, repeated=self.reader.repeated) if error is None else error
        counts = {(self.item.name, self.item.version): quarantined}
        return _ledger_row(self._chunk(read), 0, parts, counts, run_id)

    def _divided(self, block: Received) -> pl.DataFrame:
        import polars as pl

        if block.frame is None or self.dataset.rows.time is not None:
            return _typed(self._chunk(block), with_text=True)
        # All rows without a time belong to one part, whatever they contain.
        part = self.dataset.part.of(self.item.first_partition)
        return block.frame.select("row_number").with_columns(
            pl.lit(0, pl.UInt32).alias("object_number"), pl.lit(part).alias("part")
        )

    def _chunk(self, read: Read) -> Chunk:
        return Chunk.of(self.dataset, [self.item], [read], self.ingested_at)


def _typed(chunk: Chunk, *, with_text: bool | None) -> pl.DataFrame:
    """All well-formed rows, typed, with their day, partition and part of the object, and with their text; None: where
    `parts_of` needs it.
    """
    import polars as pl

    dataset = chunk.dataset
    texts = [
        received.frame.with_columns(
            pl.lit(number, pl.UInt32).alias("object_number"),
            *[
                pl.lit(value, pl.String).alias(f"named:{name}")
                for name, value in _named(chunk.objects[number], dataset).items()
            ],
        )
        for number, received in enumerate(chunk.read)
        if isinstance(received, Received) and received.frame is not None
    ]
    if not texts:
        return pl.DataFrame(schema={"object_number": pl.UInt32, "part": pl.Date})
    text = pl.concat(texts)
    rows = typed(text, dataset).join(_facts(chunk), on="object_number", maintain_order="left")
    if dataset.rows.time is None:
        rows = rows.with_columns(day="own_day", first_day="own_day", last_day="own_day")
    elif "first_day" not in rows.columns:
        rows = rows.with_columns(first_day="day", last_day="day")
    days = rows.select("object_number", "day", "first_day", "last_day").unique()
    placed = [
        _placed(chunk.objects[number], day, first, last, dataset.partitioning)
        for number, day, first, last in days.iter_rows()
    ]
    schema = {"placed_in": pl.Date, "is_inside": pl.Boolean, "is_placed": pl.Boolean}
    days = days.hstack(pl.DataFrame(placed, schema=schema, orient="row"))
    rows = rows.join(days, on=days.columns[:4], how="left", nulls_equal=True, maintain_order="left")
    part = dataset.part.expression(pl.col("placed_in"))
    stored = {"part": part, dataset.part.column: part}
    if dataset.partition_column is not None:
        stored[dataset.partition_column] = pl.col("placed_in")
    rows = rows.with_columns(ingested_at=pl.lit(chunk.ingested_at).cast(pl.Datetime("us", "UTC")), **stored)
    if with_text is None:
        with_text = not _has_own_parts_only(chunk, rows)
    if not with_text:
        return rows
    said = pl.concat_str(pl.col(dataset.rows.object_columns).fill_null("\0"), separator="\x1f")
    return rows.with_columns(text.select(text=said)["text"])


def _named(item: ObjectVersion, dataset: Dataset) -> dict[str, str | None]:
    return {name: item.values.get(name) for name in dict.fromkeys(dataset.rows.named.values())}


def _has_own_parts_only(chunk: Chunk, rows: pl.DataFrame) -> bool:
    """Whether each object is about one day, and all of its rows are in that day's part."""
    if not all(item.is_one_day for item in chunk.objects):
        return False
    of = chunk.dataset.part.of
    found = rows.select("object_number", "part").unique().iter_rows()
    return all(part == of(chunk.objects[number].first_partition) for number, part in found)


def _placed(
    item: ObjectVersion, day: date | None, first: date | None, last: date | None, partitions: Partitioning
) -> tuple[date, bool, bool]:
    """Returns the partition of a row of `day`: that of the day, or the next one within the days of the object; whether
    the object may hold it, which names of the days from `first` to `last` say; and whether its day has a partition.
    """
    if day is None or first is None or last is None:
        return item.first_partition, True, True
    if last < item.first_day or first > item.last_day:
        return item.first_partition, False, True
    own = partitions.of(day)
    return own or partitions.on_or_after(day) or item.last_partition, True, own is not None


def _facts(chunk: Chunk) -> pl.DataFrame:
    """The values that all rows of an object share."""
    import polars as pl

    return pl.DataFrame(
        {
            "object_number": range(len(chunk.objects)),
            "object": [item.name for item in chunk.objects],
            "object_version": [item.version for item in chunk.objects],
            "own_day": [item.first_day for item in chunk.objects],
            "published_at": [item.published_at for item in chunk.objects],
        },
        schema_overrides={"object_number": pl.UInt32, "published_at": pl.Datetime("us", "UTC")},
    )


def _sorted_out(
    chunk: Chunk,
    rows: pl.DataFrame,
    parts: Sequence[Sequence[Stored]],
    connection: duckdb.DuckDBPyConnection,
) -> tuple[pa.Table, pa.Table]:
    """The valid rows of the new parts, and the rejected ones in the quarantine's columns."""
    import polars as pl

    kept = pl.DataFrame(
        [(number, part.part) for number, found in enumerate(parts) for part in found if part.is_new],
        schema={"object_number": pl.UInt32, "part": pl.Date},
        orient="row",
    )
    rows = rows.join(kept, on=["object_number", "part"], how="semi", maintain_order="left")
    schema = chunk.dataset.contract.arrow_schema
    if rows.is_empty():
        return schema.empty_table(), _refused(chunk, None, parts)
    connection.register("received", rows.drop("text", strict=False).with_row_index("place").to_arrow())
    rules = _rules(chunk.dataset, connection)
    bad = connection.sql(
        f"""
        SELECT place, object_number, row_number::BIGINT AS row_number, placed_in AS session, {reasons(rules)} AS reasons
        FROM received WHERE NOT ({good(rules)})
        """
    ).pl()
    connection.unregister("received")
    if bad.height:
        rows = rows.filter(~pl.int_range(pl.len(), dtype=pl.UInt32).is_in(bad["place"].implode()))
    return rows.select(schema.names).to_arrow().cast(schema), _refused(chunk, bad, parts)


def _rules(dataset: Dataset, connection: duckdb.DuckDBPyConnection) -> Predicates:
    contract, time = dataset.contract, dataset.rows.time
    told: dict[str, tuple[str, str]] = {}
    if time is not None:
        why = f"{' '.join(time.columns)} is no time of the form {time.format} ({YEARS})"
        faulty = "".join(f" OR {fault}" for fault in dataset.faults)
        told["has_a_day"] = (f"day IS NOT NULL{faulty}", why)
        told |= {fault: (f"NOT {fault}", reason) for fault, reason in dataset.faults.items()}
    return {
        **predicates_of(contract, connection, "received"),
        **{
            f"{name}_typed": (f"NOT untyped_{name}", f"{name} is not a {contract.column(name).type}")
            for name in untyped_columns(dataset)
        },
        **told,
        "within_file": ("is_inside", OUTSIDE_FILE),
        "has_a_partition": ("is_placed", dataset.partitioning.without),
    }


def _refused(chunk: Chunk, bad: pl.DataFrame | None, parts: Sequence[Sequence[Stored]]) -> pa.Table:
    """The quarantine's rows: malformed ones, which belong to their object's first part, and those that break a rule
    (`bad`).
    """
    import polars as pl

    contract = shared_contracts()[QUARANTINE]
    schema = pl.Schema(contract.arrow_schema)
    own = {name: schema[name] for name in ("row_number", "session", "reasons", "row")}
    found = [pl.DataFrame(schema=schema)]
    broken = {} if bad is None else bad.partition_by("object_number", as_dict=True)
    for number, (item, read) in enumerate(zip(chunk.objects, chunk.read, strict=True)):
        if not isinstance(read, Received):
            continue
        frames = []
        if read.malformed and parts[number] and parts[number][0].is_new:
            told = list(read.malformed.values())
            malformed = pl.DataFrame(
                {"row_number": list(read.malformed), "row": [text for text, _ in told], "why": [why for _, why in told]}
            ).with_columns(session=pl.lit(item.first_partition), reasons=pl.concat_list("why"))
            frames.append(malformed.select(pl.col(name).cast(kind) for name, kind in own.items()))
        if (number,) in broken:
            rows = broken[number,]
            texts = pl.Series("row", read.text(rows["row_number"].to_list()), dtype=pl.String)
            frames.append(rows.with_columns(texts).select(list(own)))
        if frames:
            facts = {
                "source": chunk.dataset.source,
                "load_date": chunk.ingested_at.date(),
                "object": item.name,
                "object_version": item.version,
                "published_at": item.published_at,
                "ingested_at": chunk.ingested_at,
            }
            rows = pl.concat(frames).sort("row_number")
            found.append(rows.with_columns(pl.lit(value, schema[name]).alias(name) for name, value in facts.items()))
    return pl.concat([rows.select(schema.names()) for rows in found]).to_arrow().cast(contract.arrow_schema)


def _ledger_row(
    chunk: Chunk,
    number: int,
    parts: Sequence[Stored],
    quarantined: Mapping[tuple[str, str], int],
    run_id: str | None,
) -> dict[str, Any]:
    item, received = chunk.objects[number], chunk.read[number]
    error = str(received) if isinstance(received, CorruptObject) else None
    # Parts by day are partitions; an object may hold rows of others than its name says.
    partitions = [item.first_partition, item.last_partition]
    partitions += [part.part for part in parts if chunk.dataset.part.unit == "day"]
    repeated = 0 if isinstance(received, CorruptObject) else received.repeated
    count = 0 if isinstance(received, CorruptObject) else received.rows + repeated
    return {
        "source": chunk.dataset.source,
        "object": item.name,
        "object_version": item.version,
        "sequence": None,
        "reading": chunk.dataset.reading,
        "product": chunk.dataset.name,
        "size": item.size,
        "status": "failed" if error is not None else "loaded" if count else "empty",
        "error": error,
        "is_withheld": isinstance(received, ObjectWithheld),
        "first_session": min(partitions),
        "last_session": max(partitions),
        "rows_received": count,
        "rows_repeated": repeated or None,
        "rows_quarantined": quarantined[item.name, item.version],
        "parts": [part.record() for part in parts],
        "published_at": item.published_at,
        "ingested_at": chunk.ingested_at,
        "run_id": run_id,
    }
