"""How much of a costly experiment a run makes: `make test` a seeded sample, `make soak` (LAKEHOUSE_SOAK=1) all of it.

A test that counts by `soak_count` is marked with `pytest.mark.soak`, which is what `make soak` selects.
"""

from __future__ import annotations

import os

import pytest

# Read when the tests are imported: each test's environment is cleared of LAKEHOUSE_*.
SOAKS = os.environ.get("LAKEHOUSE_SOAK", "") not in ("", "0")

ONLY_IN_A_SOAK = pytest.mark.skipif(not SOAKS, reason="it takes long: `make soak` runs it")
"""Beside `pytest.mark.soak`: a case whose promise other tests look at more cheaply."""


def soak_count(sample: int, full: int) -> int:
    """`full` in a soak, otherwise `sample`."""
    return full if SOAKS else sample
