"""Log lines as JSON in a file that several processes append to, and that is rotated.

Belongs here: the format and the file. Which runs' lines go there is said in `lakehouse.components.run_logs`, and of the
command line in `lakehouse.cli.app`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

CONTEXT = "lakehouse_context"
"""Attribute of a record with further members of its line, such as the run."""


class JsonLines(logging.Formatter):
    """A record as one line: time (UTC), level, logger, message, what its context has, and the error's traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, CONTEXT, {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class RotatedFile(logging.Handler):
    """Appends each record by one write, so that lines of several processes never mix. A file that has reached
    `max_bytes` becomes `<name>.1`, that one `<name>.2`, up to `kept` of them.

    The standard library's handler rotates for its own process alone: others would go on in the renamed file.
    """

    def __init__(self, path: Path, max_bytes: int, kept: int) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self._path, self._max_bytes, self._kept = path, max_bytes, kept

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{self.format(record)}\n".encode()
            descriptor = self._opened()
            try:
                if os.fstat(descriptor).st_size + len(line) > self._max_bytes:
                    os.close(descriptor)
                    descriptor = self._rotated(len(line))
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except (OSError, TypeError, ValueError):
            # Neither a full disk nor a message whose arguments don't fit stops a run.
            self.handleError(record)

    def _opened(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)

    def _rotated(self, needed: int) -> int:
        """Moves the files on, unless another process has just done so, and opens the present one."""
        lock = os.open(self._path.with_name(f"{self._path.name}.lock"), os.O_WRONLY | os.O_CREAT, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            size = self._path.stat().st_size if self._path.exists() else 0
            if size and size + needed > self._max_bytes:
                names = [self._path, *(self._path.with_name(f"{self._path.name}.{n + 1}") for n in range(self._kept))]
                for earlier, later in reversed(list(pairwise(names))):
                    if earlier.exists():
                        earlier.replace(later)
                if not self._kept:
                    self._path.unlink()
            return self._opened()
        finally:
            os.close(lock)


def log_to_file(logger: logging.Logger, path: Path, level: str, max_bytes: int, kept: int) -> None:
    """Adds a logger's records from a level on to the file, besides where they go now."""
    handler = RotatedFile(path, max_bytes, kept)
    handler.setLevel(level)
    logger.addHandler(handler)
    if logger.getEffectiveLevel() > handler.level:
        logger.setLevel(handler.level)
