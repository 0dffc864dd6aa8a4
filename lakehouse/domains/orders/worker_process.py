"""A worker as a child process: `python -m lakehouse.domains.orders.worker_process`.

Its input is one line of JSON, {"postgres", "url", "folder", "executor", "notices"}; URLs with passwords are seen by no
other user this way. It ends when its input does, so also when its parent is killed.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from lakehouse.domains.orders.worker import run_worker
from lakehouse.servers.postgres import Place
from lakehouse.sinks import Sink

_END_S = 60


@dataclass(frozen=True)
class WorkerProcess:
    """A worker that this process started."""

    executor: str
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, place: Place, folder: Path, executor: str, sink: Sink | None = None) -> WorkerProcess:
        """Starts a worker; its messages go to `<executor>.log` in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        line = {
            "postgres": str(place.folder),
            "url": place.url,
            "folder": str(folder),
            "executor": executor,
            "notices": sink and sink.setting,
        }
        program = [sys.executable, "-m", __name__]
        with (folder / f"{executor}.log").open("ab") as log:
            process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=log, stderr=log)
        assert process.stdin is not None
        process.stdin.write(f"{json.dumps(line)}\n".encode())
        process.stdin.flush()
        return cls(executor, process)

    def stop(self) -> None:
        """Lets it end its work, or kills it when it takes too long."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _await_end(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    line = json.loads(sys.stdin.readline())
    stop = threading.Event()
    threading.Thread(target=_await_end, args=(stop,), daemon=True).start()
    sink = Sink(line["notices"]) if line["notices"] else None
    run_worker(Place(Path(line["postgres"]), line["url"]), Path(line["folder"]), line["executor"], sink, stop)


if __name__ == "__main__":
    main()
