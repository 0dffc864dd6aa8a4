"""How many commits a second several processes make to one table, in a folder and in a bucket of Ceph's gateway.

A commit is what a load writes to the ledger (an append of some rows) or what a derivation writes (its partition
replaced). Each writer opens the table, commits, and begins again, for some seconds; the table is a new one for each
number of writers. Ceph is started by the helpers of the tests; without its packages only the folder is measured.

    python benchmarks/commits.py [--writers 1 2 4 8 16] [--seconds 8] [--write]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from assets_tests.support.servers.ceph import CephS3
from assets_tests.support.servers.process import MissingBinary
from assets_tests.support.writers import WORKERS
from benchmarks.page import put

ROWS = 100


@dataclass(frozen=True)
class Written:
    """What a writer did: seconds of each commit, and its CPU seconds."""

    took: list[float]
    cpu_s: float


def _rows(writer: int, number: int) -> list[dict[str, Any]]:
    said: dict[str, Any] = {
        "source": f"w{writer}",
        "table_name": "bars",
        "check_name": "contract",
        "session": date(2024, 3, 1),
        "content": number,
        "code": 0,
        "passed": True,
        "offenders": 0,
        "rows": "[]",
        "facts": "{}",
        "evaluated_at": datetime.now(UTC),
    }
    return [said | {"content": number * ROWS + row} for row in range(ROWS)]


def _write(
    lake_uri: str, how: str, writer: int, seconds: float, start: Barrier, variables: Mapping[str, str], answers: Any
) -> None:
    os.environ.update(variables)
    import pyarrow as pa

    from lakehouse.api import Lake
    from lakehouse.derive.evaluation import RESULTS
    from lakehouse.lake.table import retry_when_stale

    table, took = Lake(lake_uri).table(RESULTS), []

    def replace_partition(number: int) -> None:
        made = pa.Table.from_pylist(_rows(writer, number), schema=table.contract.arrow_schema)
        retry_when_stale(lambda: table.snapshot().overwrite(made, f"source = 'w{writer}'"))

    # The first commit creates the table.
    table.append_rows(_rows(writer, 0))
    start.wait()
    begun, cpu = time.monotonic(), time.process_time()
    while (before := time.monotonic()) - begun < seconds:
        number = len(took) + 1
        if how == "append":
            table.append_rows(_rows(writer, number))
        else:
            replace_partition(number)
        took.append(time.monotonic() - before)
    answers.put(Written(took, time.process_time() - cpu))


def measured(
    lake_uri: str, how: str, writers: int, seconds: float, variables: Mapping[str, str]
) -> tuple[float, float, float, float]:
    """Commits a second of all writers, the median and the 95% quantile of a commit (s), and its CPU seconds."""
    start, answers = WORKERS.Barrier(writers), WORKERS.Queue()
    processes = [
        WORKERS.Process(target=_write, args=(lake_uri, how, number, seconds, start, dict(variables), answers))
        for number in range(writers)
    ]
    for process in processes:
        process.start()
    found: list[Written] = [answers.get(timeout=seconds * 10 + 240) for _ in processes]
    for process in processes:
        process.join()
    took = [each for one in found for each in one.took]
    rate = sum(len(one.took) / sum(one.took) for one in found)
    return rate, median(took), quantiles(took, n=20)[-1], sum(one.cpu_s for one in found) / len(took)


@contextmanager
def places() -> Iterator[dict[str, tuple[str, Mapping[str, str]]]]:
    """Name of a place -> where lakes are there, and the variables that reach it."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        found: dict[str, tuple[str, Mapping[str, str]]] = {"folder": (folder, {})}
        try:
            server = stack.enter_context(CephS3())
        except MissingBinary as missing:
            print(missing, file=sys.stderr)
        else:
            found["Ceph RGW"] = (f"s3://{server.create_bucket('commits')}", server.environment())
        yield found


def table(writers: Sequence[int], seconds: float) -> list[str]:
    """The rows of the table in docs/scale.md."""
    lines = [
        f"{os.cpu_count()} cores, {seconds:g} s each, {ROWS} rows a commit, writers and store on one machine, load "
        f"{os.getloadavg()[0]:.0f} at the start.",
        "",
        "| where | commit | writers | commits/s | s a commit: median | 95% | CPU s a commit |",
        "| --- | --- | --: | --: | --: | --: | --: |",
    ]
    with places() as known:
        for place, (root, variables) in known.items():
            for how, name in (("append", "append"), ("overwrite", "replace an own partition")):
                for count in writers:
                    rate, middle, most, cpu = measured(f"{root}/{how}-{count}", how, count, seconds, variables)
                    lines.append(f"| {place} | {name} | {count} | {rate:.1f} | {middle:.3f} | {most:.3f} | {cpu:.3f} |")
                    print(lines[-1], flush=True)
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--writers", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    options.add_argument("--seconds", type=float, default=8.0)
    options.add_argument("--write", action="store_true", help="put the table into docs/scale.md")
    chosen = options.parse_args()
    made = "\n".join(table(chosen.writers, chosen.seconds))
    if chosen.write:
        put("scale.md", "benchmarks/commits.py", made)


if __name__ == "__main__":
    main()
