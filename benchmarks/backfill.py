"""The backfill of three and a half weeks of Xetra against the plain script.

Whole processes in turn (A B A B ...), and each step of ours on its own.

    python benchmarks/backfill.py [--data FOLDER] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measure import Measured, measure, middle

FIRST, LAST = date(2017, 6, 20), date(2017, 7, 14)
TO_DAILY = ("xetra__raw_bars", "xetra__bars", "xetra__daily_bars")
CHECKS = ("xetra_raw_bars_checks", "xetra_bars_checks", "xetra_daily_bars_checks")
DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data" / "xetra_pds"


def backfill(data: Path, home: Path) -> Measured:
    """Our process in `home`; its last line of output is the JSON of its steps' seconds."""
    environment = {"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_XETRA_URL": str(data), "DAGSTER_HOME": str(home / "dagster")}
    return measure([sys.executable, __file__, "--child"], environment)


def child() -> None:
    """What `lakehouse backfill` runs, with its steps' times printed."""
    from rich.console import Console

    from lakehouse.local_dagster.backfill import Display, backfill_source, show_outcome

    with Display(Console(stderr=True)) as display:
        outcome = backfill_source("xetra", FIRST, LAST, display)
    show_outcome(Console(stderr=True), outcome)
    if not outcome.success:
        sys.exit(1)
    print(json.dumps(outcome.seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LAKEHOUSE_BENCHMARK_DATA", DEFAULT_DATA)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child()
        return
    plain, fresh, warm = [], [], []
    for number in range(arguments.rounds):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            target = Path(folder)
            script = str(Path(__file__).with_name("plain_script.py"))
            plain.append(measure([sys.executable, script, str(arguments.data), str(target / "plain")], {}))
            fresh.append(backfill(arguments.data, target / "home"))
            # A home that was used: dbt's manifest, the calendar and Dagster's databases are there, the lake is not.
            os.rename(target / "home" / "lake", target / "first-lake")
            warm.append(backfill(arguments.data, target / "home"))
            walls = f"plain {plain[-1].wall:.1f} s, new home {fresh[-1].wall:.1f} s, home there {warm[-1].wall:.1f} s"
            print(f"round {number + 1}: {walls}", flush=True)
    report(plain, fresh, warm)


def report(plain: list[Measured], fresh: list[Measured], warm: list[Measured]) -> None:
    """Medians of all rounds as a Markdown table; ratios are to the plain script's whole process."""
    base_wall, base_cpu = middle([run.wall for run in plain]), middle([run.cpu for run in plain])
    print("\n| | wall s | ratio | CPU s | ratio | peak MiB |\n| --- | --: | --: | --: | --: | --: |")
    for name, runs in (
        ("plain script", plain),
        ("lakehouse, new home, to the marts", fresh),
        ("lakehouse, home there, to the marts", warm),
    ):
        wall, cpu = middle([run.wall for run in runs]), middle([run.cpu for run in runs])
        peak = middle([run.peak for run in runs])
        print(f"| {name} | {wall} | {wall / base_wall:.1f} | {cpu} | {cpu / base_cpu:.1f} | {peak:.0f} |")
    seconds = [json.loads(run.output.splitlines()[-1]) for run in warm]
    for name, part in (("load, bars, daily bars", TO_DAILY), ("... and their checks", TO_DAILY + CHECKS)):
        wall = middle([sum(run[step] for step in part) for run in seconds])
        print(f"| lakehouse, steps: {name} | {wall} | {wall / base_wall:.1f} | | | |")
    print(
        "\nSteps (median seconds): "
        + ", ".join(f"{step} {middle([run[step] for run in seconds])}" for step in seconds[0])
    )


if __name__ == "__main__":
    main()
