"""What a correction costs as the history grows: one object replaced in a lake of 15 sessions and in one of 150.

The sessions are one real day's files under other dates. Timed are loading the corrected object, deriving its session
again (bars, daily bars and the rows after it), its checks, and the whole process of a run over that session through
the published marts.

    python benchmarks/corrections.py [--data FOLDER] [--sessions 15 150] [--rounds 5]
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.backfill import DEFAULT_DATA
from benchmarks.measure import measure, middle

REAL_DAY = "2017-07-12"


def write_feed(data: Path, feed: Path, sessions: list[date]) -> None:
    """The real day's objects under the dates of `sessions`."""
    texts = {
        path.name: gzip.decompress(path.read_bytes()).decode() for path in sorted((data / REAL_DAY).glob("*.csv.gz"))
    }
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


def use(home: Path) -> dict[str, str]:
    """Makes `home` the installation that this process works on, and returns its settings."""
    from lakehouse.settings import settings

    places = {"LAKEHOUSE_HOME": home, "LAKEHOUSE_XETRA_URL": home / "feed", "DAGSTER_HOME": home / "dagster"}
    variables = {name: str(place) for name, place in places.items()}
    os.environ.update(variables)
    settings.cache_clear()
    return variables


def built(data: Path, count: int, home: Path) -> date:
    """Fills a lake with `count` sessions; the one that will be corrected lies five sessions before the end."""
    from lakehouse.api import Lake
    from lakehouse.catalog import source_named
    from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
    from lakehouse.ingest.load import load

    variables = use(home)
    config, lake = source_named("xetra"), Lake.open()
    sessions = [session for session in config.calendar.sessions if session >= date(2018, 1, 1)][:count]
    write_feed(data, home / "feed", sessions)
    load(lake, config.bars, sessions)
    derive_bars(lake, config, sessions)
    derive_daily_bars(lake, config, sessions)
    measure(run_over(sessions[-5]), variables)
    return sessions[-5]


def run_over(session: date) -> list[str]:
    lakehouse = str(Path(sys.executable).with_name("lakehouse"))
    return [lakehouse, "backfill", "xetra", "--from", str(session), "--to", str(session)]


def corrected(home: Path, session: date, found: dict[str, list[tuple[float, float]]]) -> None:
    """Takes in one correction by steps, another by a whole run; adds the (wall, CPU) seconds of each to `found`."""
    from lakehouse.api import Lake
    from lakehouse.catalog import source_named
    from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
    from lakehouse.ingest.load import load

    variables = use(home)
    config, lake = source_named("xetra"), Lake.open()
    steps: dict[str, Callable[[], object]] = {
        "load": lambda: load(lake, config.bars, [session]),
        "bars": lambda: derive_bars(lake, config, [session]),
        "daily bars": lambda: derive_daily_bars(lake, config, [session]),
        "checks": lambda: [check.run(lake, config, [session]) for check in config.checks],
    }
    target = home / "feed" / str(session) / f"{session}_BINS_XETR10.csv.gz"
    correct(target)
    for step, work in steps.items():
        started, used = time.perf_counter(), time.process_time()
        work()
        found.setdefault(step, []).append((time.perf_counter() - started, time.process_time() - used))
    correct(target)
    run = measure(run_over(session), variables)
    found.setdefault("whole run", []).append((run.wall, run.cpu))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LAKEHOUSE_BENCHMARK_DATA", DEFAULT_DATA)))
    parser.add_argument("--sessions", type=int, nargs=2, default=(15, 150))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="corrections-") as folder:
        homes = [Path(folder) / str(count) for count in arguments.sessions]
        sessions = [built(arguments.data, count, home) for count, home in zip(arguments.sessions, homes, strict=True)]
        found: list[dict[str, list[tuple[float, float]]]] = [{}, {}]
        for _ in range(arguments.rounds):
            for home, session, seconds in zip(homes, sessions, found, strict=True):
                corrected(home, session, seconds)
    small, large = arguments.sessions
    print(f"| median seconds | {small} sessions: wall | CPU | {large} sessions: wall | CPU | ratio: wall | CPU |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for step in found[0]:
        one, other = ([middle(column) for column in zip(*seconds[step], strict=True)] for seconds in found)
        ratios = [later / earlier for earlier, later in zip(one, other, strict=True)]
        print(f"| {step} | {one[0]} | {one[1]} | {other[0]} | {other[1]} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
