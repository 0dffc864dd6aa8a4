"""Millions of pairs of LEI and ISIN, invented by the column, and what loading them takes.

As a module it loads the snapshots of `LAKEHOUSE_GLEIF_MAPPINGS_URL` in a process of its own, and prints the seconds and
the megabytes that this took.
"""

from __future__ import annotations

import json
import resource
import time
import zipfile
from datetime import datetime
from pathlib import Path

import numpy as np

from assets_tests.support.reference_lake import take

_AT_ONCE = 500_000


def write_pairs(folder: Path, moment: datetime, count: int, changed: int = 0) -> Path:
    """Writes a snapshot of `count` pairs, four to an entity; the first `changed` ISINs have gone to the next one."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"lei-isin-{moment:%Y%m%dT%H%M%S}.csv"
    numbers = np.arange(count)
    entities = numbers // 4
    entities[:changed] += 1
    path = folder / f"{name}.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w") as file,
    ):
        file.write(b"LEI,ISIN\n")
        for start in range(0, count, _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            pairs = np.char.add(np.char.add(_leis(entities[some]), b","), _isins(numbers[some]))
            file.write(b"\n".join(pairs.tolist()) + b"\n")
    return path


def _leis(numbers: np.ndarray) -> np.ndarray:
    """LEIs with their check digits: 1 modulo 97."""
    body = np.char.add(b"529900", np.char.zfill(numbers.astype("S12"), 12))
    rest = np.zeros(len(numbers), dtype=np.int64)
    for column in _digits(body, 18):
        rest = (rest * 10 + column) % 97
    return np.char.add(body, np.char.zfill((98 - rest * 100 % 97).astype("S2"), 2))


def _isins(numbers: np.ndarray) -> np.ndarray:
    """ISINs with their check digits: Luhn, with D and E as 13 and 14."""
    body = np.char.add(b"DE", np.char.zfill(numbers.astype("S9"), 9))
    digits = [*(np.full(len(numbers), digit) for digit in (1, 3, 1, 4)), *_digits(body, 11)[2:]]
    total = np.zeros(len(numbers), dtype=np.int64)
    for place, digit in enumerate(reversed(digits)):
        value = digit * (1 + (place + 1) % 2)
        total += value // 10 + value % 10
    return np.char.add(body, (-total % 10).astype("S1"))


def _digits(texts: np.ndarray, length: int) -> list[np.ndarray]:
    columns = np.frombuffer(texts.tobytes(), dtype=np.uint8).reshape(len(texts), length).T
    return [column.astype(np.int64) - ord("0") for column in columns]


if __name__ == "__main__":
    started = time.monotonic()
    taken = take("gleif")["isins"]
    seconds, peak = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"rows": taken.rows_received, "seconds": seconds, "megabytes": peak}))
