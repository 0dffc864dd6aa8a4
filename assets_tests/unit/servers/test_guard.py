"""The process that stops an embedded server after its last user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from assets_tests.support.patience import PATIENCE_S
from lakehouse.servers import guard


def test_guard__waits_for_no_server_that_was_killed(tmp_path: Path) -> None:
    """Its parent, a user of the server, may not have waited for it yet, since it waits for the guard."""
    (tmp_path / "postmaster.pid").touch()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        (tmp_path / "postmaster.pid").write_text(f"{ended.pid}\n")
        arguments = [str(tmp_path / "users.lock"), str(tmp_path), str(ended.pid)]
        subprocess.run([sys.executable, guard.__file__, *arguments], check=True, timeout=PATIENCE_S)


def test_guard__leaves_a_server_that_is_to_be_kept(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as server:
        (tmp_path / "postmaster.pid").write_text(f"{server.pid}\n")
        (tmp_path / "keep").touch()
        guard.guard(tmp_path / "users.lock", tmp_path, server.pid)
        assert server.poll() is None
        server.terminate()
