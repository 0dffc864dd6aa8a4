"""Reads of a lake in one warm process beside hand-laid Parquet files of the same rows; prints milliseconds as JSON.

The files are sorted for the one question and read by DuckDB and by Polars; the better one counts. `run.py` starts this
in the environment of the lake.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import duckdb
import polars as pl

from lakehouse.api import Lake

RUNS = 15


def milliseconds(read: Callable[[], object]) -> float:
    read()
    found = []
    for _ in range(RUNS):
        started = time.perf_counter()
        read()
        found.append((time.perf_counter() - started) * 1000)
    return round(median(found), 2)


def beside(lake: Lake, query: str, where: str, rows: pl.DataFrame, order: list[str], folder: Path) -> list[object]:
    """The lake's milliseconds, and those of the better reader of the rows in one file of that order, with its name."""
    file = folder / "hand_laid.parquet"
    rows.sort(order).write_parquet(file, compression="zstd", compression_level=1, row_group_size=20_000)
    connection = duckdb.connect()
    expected = connection.execute(f"SELECT count(*) FROM '{file}' WHERE {where}").fetchone()
    found = lake.sql(query)
    assert found is not None
    assert expected == (found.pl().height,)
    own = milliseconds(lambda: lake.sql(query).pl())  # type: ignore[union-attr]
    by_duckdb = milliseconds(lambda: connection.execute(f"SELECT * FROM '{file}' WHERE {where}").pl())
    condition = pl.sql_expr(where)
    by_polars = milliseconds(lambda: pl.scan_parquet(file).filter(condition).collect())
    best = min((by_duckdb, "Parquet by DuckDB"), (by_polars, "Parquet by Polars"))
    return [own, best[0], "hand-laid Parquet"]


def main() -> None:
    lake = Lake.open()
    daily = lake.table("xetra/daily_bars").to_polars()
    instrument, session = daily["instrument_id"].mode()[0], daily["session"].max()
    snapshot = lake.table("xetra/bars").snapshot()
    bars = snapshot.scan().filter(pl.col("session") == session).collect()
    of_one, of_session = f"instrument_id = '{instrument}'", f"session = DATE '{session}'"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        daily_by_instrument = ["instrument_id", "session"]
        found = {
            "one instrument's daily bars": beside(
                lake, f"FROM xetra.daily_bars WHERE {of_one}", of_one, daily, daily_by_instrument, folder
            ),
            "one session's cross-section": beside(
                lake, f"FROM xetra.daily_bars WHERE {of_session}", of_session, daily, ["session"], folder
            ),
            "one instrument-session of minute bars": beside(
                lake, f"FROM xetra.bars WHERE {of_one} AND {of_session}", of_one, bars, ["instrument_id"], folder
            ),
        }
    # Nothing has come since: what was known then is what is stored.
    past = Lake.open(as_of=datetime.now(UTC) - timedelta(milliseconds=1))
    query = f"FROM xetra.daily_bars WHERE {of_one}"
    plain = milliseconds(lambda: lake.sql(query).pl())  # type: ignore[union-attr]
    as_of = milliseconds(lambda: past.sql(query).pl())  # type: ignore[union-attr]
    found["one instrument's daily bars as of a moment with nothing since"] = [as_of, plain, "the plain read"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
