"""The temporary folder of a process goes with the process, even if that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assets_tests.support.patience import PATIENCE_S, wait_until

_WORK = """
import os, sys, tempfile
from lakehouse.lake.task_folder import use_own_folder
folder = use_own_folder()
assert folder == use_own_folder() == tempfile.gettempdir()
with tempfile.TemporaryDirectory() as inside, open(inside + "/rows", "w") as file:
    file.write("rows")
    file.flush()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None], ids=["killed", "ended", "done"])
def test_use_own_folder__is_removed_when_its_process_ends(tmp_path: Path, how: signal.Signals | None) -> None:
    temporary = tmp_path / "with a blank"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", _WORK],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert folder.parent == temporary
    assert [path.name for path in folder.rglob("*")][-1] == "rows"
    if how is not None:
        process.send_signal(how)
    process.communicate("", timeout=PATIENCE_S)
    wait_until(lambda: not folder.exists(), about=lambda: str(list(temporary.rglob("*"))))
