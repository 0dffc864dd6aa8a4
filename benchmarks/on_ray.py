"""What a Ray cluster costs: a first load of the same sessions in one process and on two nodes of a core each, in turn.

Each figure is of a process of its own with an empty lake in a folder: wall seconds of loading, of deriving bars and
daily bars, and of their checks, once modules are imported and, on Ray, workers have run a task. The publication of
marts is the same in both and left out. The objects come from a simulated exchange, or from a folder of Deutsche Börse's
Public Data Set (`YYYY-MM-DD/YYYY-MM-DD_BINS_XETRhh.csv.gz`).

    python benchmarks/on_ray.py [--data FOLDER] [--sessions 60] [--rounds 3] [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from assets_tests.support.servers.ray_cluster import RayCluster
from benchmarks.page import put
from benchmarks.run import simulated

STEPS = ("load", "bars", "daily_bars", "checks")


def _warm_up(lake: object, batch: list[int], progress: object) -> int:
    from lakehouse.catalog import source_named

    time.sleep(1)  # so that each worker gets one
    return len(source_named("xetra").tables)


def pipeline() -> dict[str, float]:
    """Loads, derives and checks everything by the settings; wall seconds by step."""
    import duckdb
    import polars  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    from lakehouse.api import Lake
    from lakehouse.catalog import source_named
    from lakehouse.derive.evaluation import evaluate
    from lakehouse.ingest.discover import discover
    from lakehouse.ingest.load import load

    duckdb.connect().execute("SELECT 1")
    lake, source = Lake.present(), source_named("xetra")
    if lake.compute.slots > 1:
        lake.compute.map(lake, _warm_up, [[number] for number in range(lake.compute.slots)], "workers", print)
    took, before = {}, time.monotonic()

    def done(step: str) -> None:
        nonlocal before
        took[step], before = time.monotonic() - before, time.monotonic()

    pending = discover(lake, source.bars, retry_failed=True).pending
    days = sorted({day for item in pending for day in (*item.partitions, item.first_partition)})
    days = sorted(load(lake, source.bars, days).parts)
    done("load")
    for table in source.tables:
        if table.name in STEPS:
            table.derive(lake, source, days)
            done(table.name)
    for table in ("raw_bars", "bars", "daily_bars"):
        evaluate(lake, source, table, [check for check in source.checks if check.table == table], days, "")
    done("checks")
    return took


def child(variables: Mapping[str, str]) -> dict[str, float]:
    """The figures of a process with these settings."""
    command = [sys.executable, __file__, "--measure"]
    run = subprocess.run(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def table(feed: Path, rounds: int, memory_mib: int) -> list[str]:
    """The lines of the table in docs/scale.md."""
    found: dict[str, list[dict[str, float]]] = {"local": [], "ray": []}
    load_at_start = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        own = {"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_XETRA_URL": str(feed)}
        with RayCluster(own) as cluster:
            on_ray = {"LAKEHOUSE_COMPUTE": "ray", "LAKEHOUSE_RAY_ADDRESS": cluster.address}
            on_ray["LAKEHOUSE_RAY_MEMORY_MIB"] = str(memory_mib)
            for number in range(rounds):
                for compute in ("local", "ray"):
                    place = Path(folder, f"{compute}-{number}")
                    (place / "lake").mkdir(parents=True)
                    home.unlink(missing_ok=True)
                    home.symlink_to(place)
                    found[compute].append(child(own | (on_ray if compute == "ray" else {})))
                    print(compute, found[compute][-1], flush=True)
    lines = [
        f"{len(list(feed.iterdir()))} sessions, {rounds} rounds in turn, {os.cpu_count()} cores, load "
        f"{load_at_start:.0f} at the start.",
        "",
        "| step | local, s | ray, s | ratio: median (least to greatest) |",
        "| --- | --: | --: | --- |",
    ]
    for step in (*STEPS, "all"):
        one, two = (
            [sum(each.values()) if step == "all" else each[step] for each in found[compute]] for compute in found
        )
        ratios = [ray / local for local, ray in zip(one, two, strict=True)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {step} | {median(one):.1f} | {median(two):.1f} | {spread} |")
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path)
    options.add_argument("--sessions", type=int, default=60)
    options.add_argument("--instruments", type=int, default=200)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--memory", type=int, default=2048, help="of a task, MiB")
    options.add_argument("--write", action="store_true", help="put the table into docs/scale.md")
    options.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.measure:
        print(json.dumps(pipeline()))
        return
    with tempfile.TemporaryDirectory() as folder:
        feed = chosen.data or simulated(Path(folder, "feed"), chosen.sessions, chosen.instruments)
        made = "\n".join(table(feed, chosen.rounds, chosen.memory))
    print(made)
    if chosen.write:
        put("scale.md", "benchmarks/on_ray.py", made)


if __name__ == "__main__":
    main()
