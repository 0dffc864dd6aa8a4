"""A folder for the temporary files of a process that may be killed: it is removed when the process ends, however that
happens.

Python removes temporary files when a block ends, and DuckDB what it spilled when it is closed; neither gets to it in a
process that is ended by SIGKILL, as Ray ends workers whose task was cancelled or whose driver has died.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache

_PREFIX = "lakehouse-task-"
# In the background by a shell that ends at once, so that it isn't a child of the process, which its killer would look
# for. Its input ends when the last holder of the pipe does.
_REMOVE = 'exec 3<&0; { cat <&3 >/dev/null; rm -rf -- "$1"; } >/dev/null 2>&1 &'


def use_own_folder() -> str:
    """Directs the temporary files of this process to a folder of its own, once; returns its path."""
    return _own_folder(os.getpid())


@cache
def _own_folder(process: int) -> str:
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{process}-")
    watch, held = os.pipe()
    try:
        # The end that is held is inherited by no program that this process starts.
        subprocess.run(["sh", "-c", _REMOVE, "sh", folder], stdin=watch, process_group=0, check=True)
    finally:
        os.close(watch)
    _held.append(held)
    tempfile.tempdir = folder
    return folder


_held: list[int] = []
