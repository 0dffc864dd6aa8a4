"""Loads whole snapshots by their differences: of a snapshot with millions of rows, of which few differ from the one
before, only these go through the checks and into the raw table, and one row with `REMOVED` for each row that is gone.

`SnapshotPlace` wraps the place of the objects. Each snapshot is compared with the one before it, by the times in their
names; which one that is becomes part of its version, so that a late or corrected snapshot makes the next one pending
again, in whatever order they are loaded. `DifferingRows` reads the differences. Every snapshot is kept beside the lake
as Parquet, as text, since the next one is compared with it.

Objects whose names have the group `delta` are no snapshots but changes since an earlier one: all of their rows count. A
snapshot states the rows that changes between it and the one before were about, whether they differ or not: the
changes may have said something else.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import IO, TYPE_CHECKING

from lakehouse.errors import ObjectReplaced, ObjectUnreadable, SourceUnavailable
from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.discover import ObjectVersion
from lakehouse.ingest.formats import BlockReader, Received
from lakehouse.ingest.listing import Listing
from lakehouse.ingest.names import Names, ObjectName
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.ingest.object_store import objects_at, store_at
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.unpacked import BLOCK_BYTES, CorruptObject
from lakehouse.lake.engine import connect
from lakehouse.lake.sql import literal

if TYPE_CHECKING:
    import duckdb
    import polars as pl

REMOVED = "_removed"
"""Column that is `true` in the rows that a snapshot lacks; a row format with it among its `columns` must call it
`optional`.
"""
DELTA, TIME = "delta", "time"
"""Groups of objects' names: the first marks changes, the second is the time of day."""
_TEXT, _REASON = "_text", "_reason"
_MOST_ROWS = 300_000
_BYTES_PER_VALUE = 16
_ONE_AT_A_TIME = Lock()
"""Comparing takes memory, and two threads would keep the same snapshot twice."""


@dataclass(frozen=True)
class _Listed:
    path: str
    tag: str | None
    version: str
    is_delta: bool


class SnapshotPlace(ObjectSource):
    """The place of snapshots, whose versions name the objects that they are compared with (see `ObjectSource`).

    Args:
        kept: URL of the folder below the lake in which snapshots are kept.
    """

    def __init__(self, inner: ObjectSource, names: Names, kept: str) -> None:
        self.inner = inner
        self.names = names
        self.kept = kept

    def list(self, prefix: str = "") -> Listing:
        import polars as pl

        listed = self.inner.list(prefix)
        versions = {item.path: self._version(place) for place, item in enumerate(self._ordered)}
        known = pl.col("path").replace_strict(versions, default=pl.col("version"), return_dtype=pl.String)
        return Listing(listed.objects.with_columns(version=known), listed.passed_over)

    def fetch(self, path: str, tag: str | None) -> IO[bytes]:
        return self.inner.fetch(path, tag)

    def can_read(self, path: str) -> bool:
        return self.inner.can_read(path)

    def holds(self, path: str, tag: str | None) -> bool:
        return self.inner.holds(path, tag)

    @cached_property
    def _ordered(self) -> Sequence[_Listed]:
        """The objects by the times in their names; of one time, changes come first."""
        found: list[tuple[ObjectName, _Listed]] = []
        for row in self.inner.list().objects.iter_rows(named=True):
            named = self.names.parse_name(row["name"])
            if named is not None:
                found.append((named, _Listed(row["path"], row["tag"], row["version"], DELTA in named.values)))
        found.sort(key=lambda each: (each[0].first_day, each[0].values.get(TIME, ""), not each[1].is_delta))
        return [item for _, item in found]

    def _version(self, place: int) -> str:
        item, before = self._ordered[place], self.before(self._ordered[place].path)
        if item.is_delta or not before:
            return item.version
        digest = hashlib.blake2b(repr([(each.path, each.version) for each in before]).encode(), digest_size=6)
        return f"{item.version}~{digest.hexdigest()}"

    def item(self, path: str) -> _Listed:
        """The listed object at a path.

        Raises:
            ObjectReplaced: it is listed no more.
        """
        return self._ordered[self._number(path)]

    def _number(self, path: str) -> int:
        found = next((number for number, item in enumerate(self._ordered) if item.path == path), None)
        if found is None:
            raise ObjectReplaced(f"{path} is no longer listed; the next load takes what replaced it")
        return found

    def before(self, path: str) -> Sequence[_Listed]:
        """The snapshot before an object, and the changes between the two; without such a snapshot, all changes."""
        earlier = self._ordered[: self._number(path)]
        snapshots = [number for number, item in enumerate(earlier) if not item.is_delta]
        return earlier[snapshots[-1] if snapshots else 0 :]


def reads_differences(key: Sequence[str]) -> Callable[[SnapshotPlace, ObjectVersion, IO[bytes], Dataset], BlockReader]:
    """The `Dataset.reader` of objects in a `SnapshotPlace`. `key`: columns of the object that identify a row."""

    def reader(place: SnapshotPlace, item: ObjectVersion, file: IO[bytes], dataset: Dataset) -> BlockReader:
        if place.item(item.path).is_delta:
            return BlockReader(item.path, file, dataset.rows, dataset.object_max_bytes)
        return DifferingRows(place, item.path, file, dataset.rows, dataset.object_max_bytes, key)

    return reader


class DifferingRows(BlockReader):
    """The rows of a snapshot that differ from the snapshot before."""

    def __init__(
        self, place: SnapshotPlace, path: str, file: IO[bytes], form: RowFormat, limit: int, key: Sequence[str]
    ) -> None:
        super().__init__(path, file, form, limit)
        self._place = place
        self._key = key
        self._folder = TemporaryDirectory(prefix="lakehouse-differences-")
        self._found: Path | None = None
        self._said = ""

    def __iter__(self) -> Iterator[Received]:
        if self._found is None:
            with _ONE_AT_A_TIME:
                self._found = self._compare()
        return _blocks(self._found, self.form)

    @property
    def digest(self) -> str:
        return self._said

    def _compare(self) -> Path:
        target = Path(self._folder.name) / "differing.parquet"
        item = self._place.item(self.name)
        own = self._keep(item, BlockReader(self.name, self.file, self.form, self.limit))
        with connect(self._place.kept) as connection:
            digests, compared = [_digest_of(connection, own)], None
            changed: list[_Listed] = []
            for other in reversed(self._place.before(self.name)):
                if other.is_delta:
                    changed.append(other)
                elif (compared := self._kept(other)) is not None:
                    break
            keys = self._keys_of(changed) if compared is not None else None
            if compared is not None:
                digests.append(_digest_of(connection, compared))
            digests += [f"{each.path}{each.version}" for each in changed]
            self._said = hashlib.blake2b(repr(digests).encode(), digest_size=16).hexdigest()
            if compared is None:
                # All rows of the first snapshot count, as they were kept.
                with (
                    objects_at(self._place.kept).fetch(own.rpartition("/")[2], None) as kept,
                    target.open("wb") as file,
                ):
                    shutil.copyfileobj(kept, file)
                return target
            query = self._differing(connection, own, compared, keys)
            connection.execute(
                f"COPY (SELECT * FROM {query} ORDER BY row_number) TO {literal(str(target))} (FORMAT parquet)"
            )
            stated = f"(SELECT count(*) FROM {_relation(str(target))} WHERE {REMOVED} IS NULL)"
            counted = connection.execute(f"SELECT (SELECT count(*) FROM {_relation(own)}) - {stated}").fetchone()
            assert counted is not None
            self.repeated = counted[0]
        return target

    def _differing(
        self, connection: duckdb.DuckDBPyConnection, own: str, compared: str, keys: pl.DataFrame | None
    ) -> str:
        columns = [*self._columns, _TEXT, _REASON]
        same = " AND ".join(f'new."{name}" IS NOT DISTINCT FROM old."{name}"' for name in columns)
        of_key = " AND ".join(f'new."{name}" IS NOT DISTINCT FROM old."{name}"' for name in self._key)
        listed = ", ".join(f'new."{name}"' for name in columns)
        again = ""
        if keys is not None and keys.height:
            connection.register("stated_again", keys.to_arrow())
            again = f"""
                UNION
                SELECT new.row_number, NULL AS {REMOVED}, {listed} FROM {_relation(own)} AS new
                SEMI JOIN stated_again AS old ON {of_key}
            """
        return f"""(
            WITH last AS (SELECT coalesce(max(row_number), 0) AS number FROM {_relation(own)})
            (
                SELECT new.row_number, NULL::VARCHAR AS {REMOVED}, {listed} FROM {_relation(own)} AS new
                ANTI JOIN {_relation(compared)} AS old ON {same}
                {again}
            )
            UNION ALL
            SELECT number + row_number() OVER (ORDER BY new.row_number) AS row_number, 'true' AS {REMOVED}, {listed}
            FROM {_relation(compared)} AS new ANTI JOIN {_relation(own)} AS old ON {of_key}
            CROSS JOIN last WHERE new.{_REASON} IS NULL
        )"""

    @property
    def _columns(self) -> list[str]:
        return [name for name in self.form.object_columns if name != REMOVED]

    def _keys_of(self, changed: Sequence[_Listed]) -> pl.DataFrame:
        """The keys that changes between the snapshots were about."""
        import polars as pl

        found = [pl.DataFrame(schema=dict.fromkeys(self._key, pl.String))]
        for item in changed:
            try:
                with self._place.fetch(item.path, item.tag) as file:
                    blocks = BlockReader(item.path, file, self.form, self.limit)
                    found += [block.frame.select(self._key) for block in blocks if block.frame is not None]
            except (CorruptObject, ObjectUnreadable):
                continue
        return pl.concat(found).unique()

    def _kept(self, item: _Listed) -> str | None:
        """The URL of a kept snapshot, which is read from its place if it isn't kept yet; None if it can't be read."""
        try:
            with self._place.fetch(item.path, item.tag) as file:
                return self._keep(item, BlockReader(item.path, file, self.form, self.limit))
        except (CorruptObject, ObjectUnreadable):
            return None

    def _keep(self, item: _Listed, reader: BlockReader) -> str:
        """Keeps a snapshot as Parquet, unless it is kept; returns its URL."""
        import obstore

        form = self.form.model_dump_json(include={"columns", "nulls", "encoding", "delimiter", "optional"})
        digest = hashlib.blake2b((item.version + form).encode(), digest_size=8).hexdigest()
        store, name = store_at(self._place.kept), f"{re.sub(r'[^0-9A-Za-z.-]', '_', item.path)}-{digest}.parquet"
        try:
            try:
                obstore.head(store, name)
            except FileNotFoundError:
                local = Path(self._folder.name) / f"{os.urandom(4).hex()}.parquet"
                _write(local, reader, self._columns)
                obstore.put(store, name, local)
                local.unlink()
        except (OSError, obstore.exceptions.BaseError) as error:
            raise SourceUnavailable(f"{self._place.kept}: {name} can't be kept: {error}") from error
        return f"{self._place.kept}/{name}"


def _write(path: Path, reader: BlockReader, columns: Sequence[str]) -> None:
    """Writes the rows of an object as text, malformed ones with their reason."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [*columns, _TEXT, _REASON]
    schema = pa.schema([("row_number", pa.int64()), *((name, pa.string()) for name in names)])
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as writer:
        for block in reader:
            rows = [] if block.frame is None else [block.frame.select(pl.col("row_number").cast(pl.Int64), *columns)]
            if block.malformed:
                said = list(block.malformed.values())
                rows.append(
                    pl.DataFrame(
                        {
                            "row_number": list(block.malformed),
                            _TEXT: [text for text, _ in said],
                            _REASON: [reason for _, reason in said],
                        }
                    )
                )
            if rows:
                table = pl.concat(rows, how="diagonal").with_columns(
                    pl.lit(None, pl.String).alias(name) for name in names if not block.malformed and name not in columns
                )
                writer.write_table(table.sort("row_number").select(schema.names).to_arrow().cast(schema))
        writer.add_key_value_metadata({"digest": reader.digest})


def _digest_of(connection: duckdb.DuckDBPyConnection, url: str) -> str:
    query = f"SELECT decode(value) FROM parquet_kv_metadata({literal(url)}) WHERE decode(key) = 'digest'"
    found = connection.execute(query).fetchone()
    assert found is not None
    return str(found[0])


def _relation(url: str) -> str:
    return f"read_parquet({literal(url)})"


def _blocks(path: Path, form: RowFormat) -> Iterator[Received]:
    import polars as pl
    import pyarrow.parquet as pq

    names = form.object_columns
    at_once = min(_MOST_ROWS, max(1, BLOCK_BYTES // (_BYTES_PER_VALUE * len(names))))
    file, before = pq.ParquetFile(path), 0
    if not file.metadata.num_rows:
        yield Received(0, None)
        return
    for batch in file.iter_batches(at_once):
        rows = pl.DataFrame(batch)
        if REMOVED not in rows.columns:
            rows = rows.with_columns(pl.lit(None, pl.String).alias(REMOVED))
        bad = rows.filter(pl.col(_REASON).is_not_null())
        good = rows.filter(pl.col(_REASON).is_null()).select(pl.col("row_number").cast(pl.UInt32), *names)
        malformed = {number: (text, why) for number, text, why in bad.select("row_number", _TEXT, _REASON).iter_rows()}
        size = int(rows.estimated_size())
        yield Received(rows.height, good if good.height else None, malformed, before, size)
        before += rows.height
