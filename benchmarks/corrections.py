"""What a correction costs as the history grows: one object replaced in a lake of 15 sessions and in one of 150, each session as large as a real one.

The sessions are one real day's files under other dates. Timed are loading the corrected object, deriving its session again (bars, daily bars and the rows after it), its checks, and the
whole process of a run over that session through the published marts.

    python benchmarks/corrections.py [--data FOLDER] [--sessions 15 150] [--rounds 5]
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.backfill import DEFAULT_DATA
from benchmarks.measure import measure, middle

REAL_DAY = "2017-07-12"
STEPS = ("load", "bars", "daily bars", "checks", "whole run")


def write_feed(data: Path, feed: Path, sessions: list[date]) -> None:
    """The real day's objects under the dates of `sessions`."""
    texts = {path.name: gzip.decompress(path.read_bytes()).decode() for path in sorted((data / REAL_DAY).glob("*.csv.gz"))}
    for session in sessions:
        folder = feed / str(session)
        folder.mkdir(parents=True)
        for name, text in texts.items():
            write_object(folder / name.replace(REAL_DAY, str(session)), text.replace(REAL_DAY, str(session)))


def write_object(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode(), 1))


def correct(path: Path) -> None:
    """Replaces an object by one in which every traded bar has a share more."""
    header, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    changed = []
    for line in lines:
        rest, volume, trades = line.rsplit(",", 2)
        changed.append(f"{rest},{int(volume) + 1 if int(volume) else 0},{trades}")
    write_object(path, "\n".join([header, *changed]) + "\n")


def measured(data: Path, count: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step, one entry a round, in a lake of `count` sessions."""
    from lakehouse.lake.lake import Lake
    from lakehouse.pipeline.checks import CHECKS
    from lakehouse.pipeline.derive import derive_bars, derive_daily_bars
    from lakehouse.pipeline.load import load
    from lakehouse.settings import settings
    from lakehouse.sources.config import source_named

    with tempfile.TemporaryDirectory(prefix="corrections-") as folder:
        feed = Path(folder) / "feed"
        places = {"LAKEHOUSE_HOME": str(Path(folder) / "home"), "LAKEHOUSE_XETRA_URL": str(feed), "DAGSTER_HOME": str(Path(folder) / "home" / "dagster")}
        os.environ.update(places)
        settings.cache_clear()
        config, lake = source_named("xetra"), Lake.open()
        calendar = config.calendar_frame()
        sessions = [session for session in calendar.sessions if session >= date(2018, 1, 1)][:count]
        write_feed(data, feed, sessions)
        load(lake, config, sessions)
        derive_bars(lake, config, sessions)
        derive_daily_bars(lake, config, sessions)
        session = sessions[-count // 3]
        run = [str(Path(sys.executable).with_name("lakehouse")), "backfill", "xetra", "--from", str(session), "--to", str(session)]
        measure(run, places)

        found: dict[str, list[float]] = {step: [] for step in STEPS}
        for _ in range(rounds):
            correct(feed / str(session) / f"{session}_BINS_XETR10.csv.gz")
            steps = {
                "load": lambda: load(lake, config, [session]),
                "bars": lambda: derive_bars(lake, config, [session]),
                "daily bars": lambda: derive_daily_bars(lake, config, [session]),
                "checks": lambda: [check.run(lake, config, [session]) for check in CHECKS],
            }
            for step, work in steps.items():
                started = time.perf_counter()
                work()
                found[step].append(time.perf_counter() - started)
            correct(feed / str(session) / f"{session}_BINS_XETR10.csv.gz")
            found["whole run"].append(measure(run, places).wall)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LAKEHOUSE_BENCHMARK_DATA", DEFAULT_DATA)))
    parser.add_argument("--sessions", type=int, nargs=2, default=(15, 150))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    small, large = (measured(arguments.data, count, arguments.rounds) for count in arguments.sessions)
    print(f"| median seconds | {arguments.sessions[0]} sessions | {arguments.sessions[1]} sessions | ratio |\n| --- | --: | --: | --: |")
    for step in STEPS:
        one, other = middle(small[step]), middle(large[step])
        print(f"| {step} | {one} | {other} | {other / one:.2f} |")


if __name__ == "__main__":
    main()
