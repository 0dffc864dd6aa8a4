"""Stops an embedded PostgreSQL once nothing uses it any more, however its users ended.

A process of its own, which the launcher starts beside the server as `python guard.py USERS_LOCK DATA PID`. It uses the
standard library only, so that it starts in a few milliseconds.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

_POLL_S = 0.02


def is_served_by(data: Path, pid: int) -> bool:
    """Whether the cluster in a folder belongs to a postmaster."""
    try:
        return (data / "postmaster.pid").read_text().split("\n", 1)[0] == str(pid)
    except FileNotFoundError:
        return False


def guard(users_lock: Path, data: Path, pid: int) -> None:
    """Waits until no process holds the lock, and stops the postmaster unless it is to be kept."""
    with users_lock.open("a") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        if (users_lock.parent / "keep").exists() or not is_served_by(data, pid):
            return
        try:
            os.kill(pid, signal.SIGINT)
            while is_served_by(data, pid):
                os.kill(pid, 0)
                time.sleep(_POLL_S)
        except ProcessLookupError:
            return


if __name__ == "__main__":
    guard(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
