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
_STOP_S = 60.0
"""How long a server may take to stop; then its next user finds out what it does."""


def is_served_by(data: Path, pid: int) -> bool:
    """Whether the cluster in a folder belongs to a postmaster."""
    try:
        return (data / "postmaster.pid").read_text().split("\n", 1)[0] == str(pid)
    except FileNotFoundError:
        return False


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that ended counts as such until its parent waits for it, but runs no more."""
    try:
        os.kill(pid, 0)
        if not Path("/proc/self/stat").exists():
            return True
        # The name before the state is in parentheses, and may contain any.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False


def guard(users_lock: Path, data: Path, pid: int) -> None:
    """Waits until no process holds the lock, and stops the postmaster unless it is to be kept."""
    with users_lock.open("a") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        if (users_lock.parent / "keep").exists() or not is_served_by(data, pid):
            return
        try:
            os.kill(pid, signal.SIGINT)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + _STOP_S
        while is_served_by(data, pid) and is_alive(pid) and time.monotonic() < deadline:
            time.sleep(_POLL_S)


if __name__ == "__main__":
    guard(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
