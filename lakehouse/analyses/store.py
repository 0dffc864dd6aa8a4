"""Stores definitions, runs and results in the lake's tables `analyses.definitions`, `runs` and `results`.

A version of a definition and a result are content-addressed: equal ones are stored once. Results are written before the
run that names them, each in one commit, so that a crash between the two leaves results that the next equal run finds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lakehouse.analyses.canonical import canonical_json
from lakehouse.analyses.spec import AnalysisError, Definition, definition_of
from lakehouse.analyses.values import Chart, Line, kind_of, plain
from lakehouse.errors import did_you_mean
from lakehouse.lake.contract import Contract, read_contracts
from lakehouse.lake.lake import Lake
from lakehouse.lake.snapshot import Snapshot
from lakehouse.lake.sql import literal
from lakehouse.lake.table import retry_when_stale

if TYPE_CHECKING:
    import polars as pl

SCHEMA = "analyses"
"""SQL schema of the tables."""


@cache
def contracts() -> Mapping[str, Contract]:
    """The contracts of the tables, by name."""
    return read_contracts(Path(__file__).parent, SCHEMA)


@dataclass(frozen=True)
class Run:
    """A run as it is stored: one row of `runs`."""

    name: str
    version: str
    inputs: Mapping[str, Any]
    as_of: datetime | None
    status: str
    error: str | None
    outputs: Mapping[str, Mapping[str, Any]]
    steps: list[dict[str, Any]]
    readings: list[dict[str, Any]]
    seconds: float
    result_id: str | None
    run_id: str
    recorded_at: datetime

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each output key."""
        return {key: about["fingerprint"] for key, about in self.outputs.items()}


_JSON = ("inputs", "outputs", "steps", "readings")


def new_run_id() -> str:
    return uuid4().hex


def definitions(lake: Lake) -> list[Definition]:
    """The stored definitions, the newest version of each name last."""
    rows = _rows(lake, "definitions", "true", "recorded_at, version, row_number")
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["name"], row["version"]), []).append(row)
    return [_definition(entries) for entries in found.values()]


def _definition(rows: list[dict[str, Any]]) -> Definition:
    first = rows[0]
    tasks = [
        (row["order"], row["funcPath"], row["inputKeys"], json.loads(row["kwargs"]), row["outputKeys"]) for row in rows
    ]
    about = {name: first[name] or "" for name in ("description", "author")}
    made = definition_of(
        first["name"], tasks, json.loads(first["inputs"]), imported_from=first["imported_from"], **about
    )
    if made.version != first["version"]:
        raise AnalysisError(
            f"the stored rows of {made.name} have the version {made.version[:12]}, and not {first['version'][:12]}: "
            "analyses.definitions was changed outside Lakehouse; import the analysis again"
        )
    return made


def record_definition(lake: Lake, definition: Definition) -> bool:
    """Stores a definition unless this version of it is stored; returns whether it wasn't."""
    import pyarrow as pa

    table = lake.table(f"{SCHEMA}/definitions")
    where = f"name = {literal(definition.name)} AND version = {literal(definition.version)}"

    def work() -> bool:
        snapshot = table.snapshot()
        if _count(lake, snapshot, where):
            return False
        shared = {
            "name": definition.name,
            "version": definition.version,
            "inputs": canonical_json(dict(definition.inputs)),
            "description": definition.description or None,
            "author": definition.author or None,
            "imported_from": definition.imported_from,
            "recorded_at": datetime.now(UTC),
        }
        rows = [
            shared | row | {"row_number": number, "kwargs": canonical_json(row["kwargs"])}
            for number, row in enumerate(definition.as_rows(), start=1)
        ]
        snapshot.append(pa.Table.from_pylist(rows, schema=table.contract.arrow_schema), [definition.name])
        return True

    return retry_when_stale(work)


def record_run(lake: Lake, run: Run, made: Mapping[str, Any]) -> None:
    """Stores a run, and its results unless equal ones are stored."""
    if run.result_id is not None:
        _record_results(lake, run, made)
    row = vars(run) | {name: canonical_json(plain(vars(run)[name])) for name in _JSON}
    lake.table(f"{SCHEMA}/runs").append_rows([row])


def _record_results(lake: Lake, run: Run, made: Mapping[str, Any]) -> None:
    table = lake.table(f"{SCHEMA}/results")
    where = f"name = {literal(run.name)} AND result_id = {literal(str(run.result_id))}"

    def work() -> None:
        snapshot = table.snapshot()
        if not _count(lake, snapshot, where):
            rows = _result_rows(run, made).to_arrow().select(table.contract.column_names)
            snapshot.append(rows.cast(table.contract.arrow_schema), [run.name])

    retry_when_stale(work)


def _result_rows(run: Run, made: Mapping[str, Any]) -> pl.DataFrame:
    import polars as pl

    schema = {"position": pl.Int64, "date": pl.Date, "value": pl.Float64, "fields": pl.String}
    parts = [
        rows_of(value).select(pl.lit(key).alias("key"), *(pl.col(name).cast(kind) for name, kind in schema.items()))
        for key, value in made.items()
    ]
    whole = pl.concat(parts) if parts else pl.DataFrame(schema={"key": pl.String, **schema})
    return whole.with_columns(
        result_id=pl.lit(run.result_id), name=pl.lit(run.name), recorded_at=pl.lit(run.recorded_at)
    )


def rows_of(value: Any) -> pl.DataFrame:
    """A value as rows with position, date, value and fields."""
    import polars as pl

    kind = kind_of(value)
    nothing = {"date": pl.lit(None), "value": pl.lit(None), "fields": pl.lit(None)}
    if kind in ("series", "column"):
        frame = value if kind == "series" else pl.DataFrame({"value": value})
        number = pl.col("value").cast(pl.Float64) if frame["value"].dtype.is_numeric() else pl.lit(None, pl.Float64)
        odd = pl.col("value").is_not_null() & ~number.is_finite().fill_null(False)
        found = frame.with_columns(
            value=pl.when(odd).then(None).otherwise(number),
            fields=pl.when(odd).then(pl.format('"{}"', pl.col("value").cast(pl.String).fill_null(""))),
        )
    elif kind == "dates":
        found = pl.DataFrame({"date": value})
    elif kind == "frame":
        days = [name for name, dtype in value.schema.items() if dtype == pl.Date]
        found = value.select(
            (pl.col(days[0]) if len(days) == 1 else pl.lit(None, pl.Date)).alias("date"),
            pl.struct(pl.all()).struct.json_encode().alias("fields"),
        )
    elif isinstance(value, Chart):
        parts = [
            rows_of(line.points).with_columns(fields=pl.lit(_about(value, line))).drop("position")
            for line in value.lines
        ]
        found = pl.concat(parts)
    else:
        content = plain(value)
        alone = float(content) if isinstance(content, int | float) and not isinstance(content, bool) else None
        fields = json.dumps(content, ensure_ascii=False) if alone is None else None
        found = pl.DataFrame({"value": [alone], "fields": [fields]})
    lacking = [expression.alias(name) for name, expression in nothing.items() if name not in found.columns]
    return found.with_columns(lacking).with_row_index("position")


def _about(chart: Chart, line: Line) -> str:
    return canonical_json({"title": chart.title, "label": line.label, "panel": line.panel})


def chart_of(rows: pl.DataFrame) -> Chart:
    """The chart that was stored as rows."""
    lines = []
    for (fields,), points in rows.group_by(["fields"], maintain_order=True):
        about = json.loads(str(fields))
        lines.append(Line(about["label"], points.select("date", "value"), about["panel"]))
    return Chart(about["title"], tuple(lines))


def runs(lake: Lake, name: str | None = None) -> list[Run]:
    """The runs (of an analysis), oldest first."""
    where = "true" if name is None else f"name = {literal(name)}"
    return list(_runs(_rows(lake, "runs", where, "recorded_at, run_id")))


def _runs(rows: list[dict[str, Any]]) -> Iterator[Run]:
    for row in rows:
        yield Run(**{key: json.loads(value) if key in _JSON else value for key, value in row.items()})


def last_run(lake: Lake, name: str) -> Run:
    """The newest run of an analysis that was successful.

    Raises:
        AnalysisError: there is none.
    """
    done = [run for run in runs(lake, name) if run.status == "done"]
    if not done:
        raise AnalysisError(f"{name} has no results yet; run it by `lakehouse analyses run {name}`")
    return done[-1]


def results(lake: Lake, run: Run, key: str) -> pl.DataFrame:
    """The stored rows of an output key of a run: position, date, value, fields.

    Raises:
        AnalysisError: the run has no such key.
    """
    if key not in run.outputs:
        known = ", ".join(run.outputs)
        raise AnalysisError(f"{run.name} has no key {key!r}; it has {known}{did_you_mean(key, run.outputs)}")
    where = f"name = {literal(run.name)} AND result_id = {literal(str(run.result_id))} AND key = {literal(key)}"
    table = lake.table(f"{SCHEMA}/results")
    with lake.connect() as connection:
        query = table.snapshot().select({"name": [run.name]})
        return connection.sql(
            f'SELECT position, "date", value, fields FROM ({query}) WHERE {where} ORDER BY position'
        ).pl()


def _rows(lake: Lake, table: str, where: str, order: str) -> list[dict[str, Any]]:
    # Those of the present, whatever moment of the data is read.
    rows = lake.table(f"{SCHEMA}/{table}").snapshot().select()
    with lake.connect() as connection:
        found = connection.sql(f"SELECT * FROM ({rows}) WHERE {where} ORDER BY {order}").pl()
    return found.to_dicts()


def _count(lake: Lake, snapshot: Snapshot, where: str) -> int:
    with lake.connect() as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM ({snapshot.select_where(where)})").fetchall()[0]
    return int(count)
