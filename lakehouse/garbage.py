"""Collects garbage rarely, in processes that import much and end soon."""

from __future__ import annotations

import atexit
import gc


def collect_garbage_rarely() -> None:
    """Raises the thresholds of garbage collection. Imports and definitions create a million permanent objects; scanning
    them repeatedly, and once more at exit, takes a sixth of a backfill.
    """
    gc.set_threshold(200_000, 20, 100)
    atexit.register(gc.freeze)
