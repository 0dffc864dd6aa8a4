"""A feed of ten thousand symbols every ten seconds: how long after its slot a round's quotes and windows can be read,
and how much memory the service takes.

The simulated vendor and `lakehouse stream` are processes of their own on this machine. Taken from the tables' logs:
the moment of each round's commit of quotes and of windows, less the moment of its slot. What is left of the slot is
what the machine has in reserve.

    python benchmarks/feed.py [--symbols 10000] [--rounds 60] [--every 10]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measure import middle

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOKEN = "a-token-of-the-benchmark"


def commits(table: str, home: Path) -> list[datetime]:
    """When each commit that wrote rows to a table was made."""
    from deltalake import DeltaTable

    history = DeltaTable(str(home / "lake" / "iex" / table)).history()
    return sorted(
        _EPOCH + timedelta(milliseconds=entry["timestamp"]) for entry in history if entry["operation"] == "WRITE"
    )


def after_slots(moments: list[datetime], every: timedelta) -> list[float]:
    """Seconds from the beginning of the slot that each moment falls into."""
    return [((moment - _EPOCH) % every).total_seconds() for moment in moments]


def memory_mib(process: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--symbols", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=60)
    options.add_argument("--every", type=float, default=10.0)
    chosen = options.parse_args()
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        vendor = subprocess.Popen(
            [python, "-m", "lakehouse.simulators.quote_feed", "--symbols", str(chosen.symbols), "--token", _TOKEN],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert vendor.stdout is not None
        try:
            from lakehouse.simulators.us_trading import symbol_names

            environment = {
                **os.environ,
                "LAKEHOUSE_HOME": folder,
                "LAKEHOUSE_IEX_URL": vendor.stdout.readline().strip(),
                "LAKEHOUSE_IEX_SYMBOLS": ",".join(symbol_names(chosen.symbols)),
                "IEX_TOKEN": _TOKEN,
            }
            command = [str(Path(python).with_name("lakehouse")), "stream", "--rounds", str(chosen.rounds)]
            service = subprocess.Popen([*command, "--every", str(chosen.every)], env=environment)
            memory = []
            while service.poll() is None:
                time.sleep(1.0)
                if service.poll() is None:
                    memory.append(memory_mib(service.pid))
            cpu = os.times()
        finally:
            vendor.terminate()
            vendor.wait()
        every = timedelta(seconds=chosen.every)
        quotes, windows = (after_slots(commits(table, home), every) for table in ("quotes", "quote_windows"))
        from deltalake import DeltaTable

        rows = {name: DeltaTable(str(home / "lake" / "iex" / name)).count() for name in ("quotes", "quote_windows")}
    print(f"{chosen.rounds} rounds of {chosen.symbols:,} symbols every {chosen.every:g} s")
    print(f"quotes stored: {rows['quotes']:,}; rows of windows: {rows['quote_windows']:,}")
    for what, seconds in (("quotes", quotes), ("windows", windows)):
        print(
            f"{what} readable, seconds after the slot began: median {middle(seconds)}, "
            f"95% {sorted(seconds)[int(len(seconds) * 0.95)]:.2f}, most {max(seconds):.2f} ({len(seconds)} commits)"
        )
    quarter = max(1, len(memory) // 4)
    print(
        f"memory of the service, MiB: {median(memory[quarter : 2 * quarter]):.0f} in the second quarter, "
        f"{median(memory[-quarter:]):.0f} in the last, {max(memory):.0f} at most"
    )
    print(f"CPU seconds of both processes: {cpu.children_user + cpu.children_system:.0f}")


if __name__ == "__main__":
    main()
