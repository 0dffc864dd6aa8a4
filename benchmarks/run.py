"""Runs each figure of docs/performance.md beside its rival, in turn, and prints the ratios with their spread.

Rivals are the scripts of Polars, DuckDB and pandas; their daily bars are compared with those of the lake before time
counts. The objects come from a simulated exchange, or from a folder of Deutsche Börse's Public Data Set
(`YYYY-MM-DD/YYYY-MM-DD_BINS_XETRhh.csv.gz`).

    python benchmarks/run.py [--data FOLDER] [--sessions 60] [--instruments 200] [--rounds 3] [--write]
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import polars as pl
from polars.testing import assert_frame_equal

from benchmarks.measure import Measured, measure
from benchmarks.page import put

HERE = Path(__file__).parent
RIVALS = {"Polars": "polars_script.py", "DuckDB": "duckdb_script.py", "pandas": "pandas_script.py"}
COMPARED = ("session", "instrument_id", "currency", "open", "high", "low", "close", "volume", "trades", "bar_count",
            "prev_close")  # fmt: skip
COMMAND = str(Path(sys.executable).with_name("lakehouse"))


@dataclass
class Figure:
    """A figure in each round, and those of its rivals."""

    name: str
    own: list[float] = field(default_factory=list)
    rivals: dict[str, list[float]] = field(default_factory=dict)

    def add(self, own: float, **rivals: float) -> None:
        self.own.append(own)
        for name, value in rivals.items():
            self.rivals.setdefault(name, []).append(value)

    def row(self) -> str:
        """Its row in the table: the median, and the ratio to each rival with the least and the greatest."""
        ratios = []
        for name, values in self.rivals.items():
            each = [own / rival for own, rival in zip(self.own, values, strict=True)]
            ratios.append(f"{median(each):.2f} x {name} ({min(each):.2f} to {max(each):.2f})")
        own = median(self.own)
        return f"| {self.name} | {f'{own:,.0f}' if own >= 100 else f'{own:.3g}'} | {'; '.join(ratios)} |"


def simulated(folder: Path, count: int, instruments: int) -> Path:
    """The objects of a simulated exchange over that many sessions."""
    from lakehouse.catalog import source_named
    from lakehouse.simulators.exchange import Exchange

    sessions = source_named("xetra").calendar.frame.select("session", "open_at", "close_at").head(count).rows()
    Exchange(sessions, instruments=instruments, dirt=False).write(folder)
    return folder


def variables(home: Path, feed: Path) -> dict[str, str]:
    return {"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_XETRA_URL": str(feed), "DAGSTER_HOME": str(home / "dagster")}


def backfill(home: Path, feed: Path, first: date, last: date) -> Measured:
    command = [COMMAND, "backfill", "xetra", "--from", str(first), "--to", str(last)]
    return measure(command, variables(home, feed))


def lakes_daily_bars(home: Path) -> pl.DataFrame:
    from lakehouse.api import Lake

    return compared(Lake.open(home).table("xetra/daily_bars").to_polars())


def compared(daily: pl.DataFrame) -> pl.DataFrame:
    """Daily bars in one form, whoever made them."""
    counts = [pl.col(name).cast(pl.Float64) for name in ("volume", "trades", "bar_count")]
    texts = [pl.col(name).cast(pl.String) for name in ("instrument_id", "currency")]
    found = daily.with_columns(pl.col("session").cast(pl.Date), *counts, *texts).select(COMPARED)
    return found.sort("session", "instrument_id", "currency")


def load_figures(feed: Path, work: Path, rounds: int, days: list[date]) -> list[Figure]:
    """The first load to the published marts, the same again, and one corrected object."""
    wall, cpu, peak = (Figure(f"first load to the marts, {what}") for what in ("wall s", "CPU s", "peak MiB"))
    again, correction = Figure("nothing to do, CPU s"), Figure("one corrected object to the marts, CPU s")
    rivals = {name: script for name, script in RIVALS.items() if importlib.util.find_spec(name.lower())}
    for name in RIVALS.keys() - rivals.keys():
        print(f"{name} is not installed: its script is left out")
    for number in range(rounds):
        home = work / f"home-{number}"
        done = backfill(home, feed, days[0], days[-1])
        made = {}
        for name, script in rivals.items():
            target = work / f"{name}-{number}"
            made[name] = measure([sys.executable, str(HERE / script), str(feed), str(target)], {})
            if number == 0:
                theirs = pl.read_parquet(target / "daily_bars/**/*.parquet", hive_partitioning=True)
                assert_frame_equal(compared(theirs), lakes_daily_bars(home), rel_tol=1e-12)
        wall.add(done.wall, **{name: run.wall for name, run in made.items()})
        cpu.add(done.cpu, **{name: run.cpu for name, run in made.items()})
        peak.add(done.peak, **{name: run.peak for name, run in made.items()})
        again.add(backfill(home, feed, days[0], days[-1]).cpu)
        # An object of the regular hours: what is traded before them reaches no daily bar, and so no mart.
        correct(max(feed.glob(f"{days[-5]}/*.csv*"), key=lambda path: path.stat().st_size))
        correction.add(backfill(home, feed, days[-5], days[-5]).cpu)
        print(f"round {number + 1} of {rounds}: {done.wall:.1f} s, {done.cpu:.1f} CPU s", flush=True)
    return [wall, cpu, peak, again, correction]


def opened(path: Path) -> bytes:
    body = path.read_bytes()
    return gzip.decompress(body) if path.suffix == ".gz" else body


def correct(path: Path) -> None:
    """Replaces an object by one in which every traded bar has a share more."""
    header, *lines = opened(path).decode().splitlines()
    changed = []
    for line in lines:
        rest, volume, trades = line.rsplit(",", 2)
        changed.append(f"{rest},{int(volume) + 1 if int(volume) else 0},{trades}")
    body = ("\n".join([header, *changed]) + "\n").encode()
    path.write_bytes(gzip.compress(body, 1) if path.suffix == ".gz" else body)


def read_figures(home: Path, feed: Path, rounds: int) -> list[Figure]:
    """Warm reads in one process, each beside the best of hand-laid Parquet files (see `reads`)."""
    figures: dict[str, Figure] = {}
    for _ in range(rounds):
        run = measure([sys.executable, str(HERE / "reads.py")], variables(home, feed))
        for name, (own, rival, rivals_name) in json.loads(run.output.splitlines()[-1]).items():
            figures.setdefault(name, Figure(f"{name}, ms")).add(own, **{rivals_name: rival})
    return list(figures.values())


def start_figures(home: Path, feed: Path, rounds: int) -> list[Figure]:
    commands = {
        "`lakehouse --help`, s": [COMMAND, "--help"],
        "`lakehouse sql` of one table, s": [COMMAND, "sql", "SELECT count(*) FROM xetra.daily_bars"],
    }
    figures = {name: Figure(name) for name in commands}
    definitions = Figure("definitions, s")
    for _ in range(rounds):
        for name, command in commands.items():
            figures[name].add(measure(command, variables(home, feed)).wall)
        own, dagster = (
            measure([sys.executable, "-c", f"import {module}"], variables(home, feed)).wall
            for module in ("lakehouse.definitions", "dagster")
        )
        definitions.add(own, **{"`import dagster`": dagster})
    return [*figures.values(), definitions]


def table(figures: list[Figure], about: str) -> str:
    head = "| figure | median | ratios: median (least to greatest) |\n| --- | --: | --- |"
    return "\n".join([about, "", head, *(figure.row() for figure in figures)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="Folder of objects; a simulated exchange by default.")
    parser.add_argument("--sessions", type=int, default=60)
    parser.add_argument("--instruments", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="Write the table into docs/performance.md.")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        work = Path(folder)
        os.environ.setdefault("LAKEHOUSE_HOME", str(work / "settings"))
        feed = work / "feed"
        if chosen.data is None:
            simulated(feed, chosen.sessions, chosen.instruments)
        else:
            # A copy, since an object of it is corrected.
            shutil.copytree(chosen.data, feed)
        days = sorted(date.fromisoformat(path.name) for path in feed.iterdir())
        steps: tuple[Callable[[], list[Figure]], ...] = (
            lambda: load_figures(feed, work, chosen.rounds, days),
            lambda: read_figures(work / "home-0", feed, chosen.rounds),
            lambda: start_figures(work / "home-0", feed, chosen.rounds),
        )
        figures = [figure for step in steps for figure in step()]
        objects = len(list(feed.glob("*/*")))
    about = (
        f"{len(days)} days, {objects:,} objects {'simulated' if chosen.data is None else 'of the Public Data Set'}, "
        f"rounds in turn: {chosen.rounds}, cores: {os.cpu_count()}."
    )
    print(f"\n{table(figures, about)}")
    if chosen.write:
        put("performance.md", "make bench", table(figures, about))


if __name__ == "__main__":
    main()
