"""The format of Xetra's hourly bar files: columns, quoting, object names, gzip, and files in a folder.

It renders; which rows there are, and what is wrong with them, belongs in `exchange`
and `dirt`.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

HEADER = (
    "ISIN,Mnemonic,SecurityDesc,SecurityType,Currency,SecurityID,Date,Time,"
    "StartPrice,MaxPrice,MinPrice,EndPrice,TradedVolume,NumberOfTrades"
)
_QUOTED_COLUMNS = 5


class VendorObject(NamedTuple):
    """An object as published: its key below the feed's root, its bytes, and the moment in UTC."""

    name: str
    body: bytes
    published_at: datetime


@dataclass(frozen=True, kw_only=True)
class BarRow:
    """A row of a bar file. A value may be text, written verbatim, so that nonsense can be written."""

    isin: str
    mnemonic: str = "SIM"
    description: str = "MUSTER WERKE AG NA O.N."
    security_type: str = "Common stock"
    currency: str = "EUR"
    security_id: int | str = 2_500_001
    date: date | str
    time: str
    start_price: float | str
    max_price: float | str
    min_price: float | str
    end_price: float | str
    volume: int | str
    trades: int | str = 1

    @classmethod
    def parse(cls, line: str) -> BarRow:
        """The row that a well-formed line holds, every value as text."""
        return cls(**dict(zip(cls.__dataclass_fields__, next(csv.reader([line])), strict=True)))

    def line(self) -> str:
        """The row as text, without the line's end: texts quoted, numbers without trailing zeros."""
        values = [_text(value) for value in astuple(self)]
        return ",".join([f'"{value}"' for value in values[:_QUOTED_COLUMNS]] + values[_QUOTED_COLUMNS:])


def _text(value: object) -> str:
    return np.format_float_positional(value, trim="-") if isinstance(value, float) else str(value)


def bar_file(rows: Iterable[BarRow], compress: bool = True) -> bytes:
    """The bytes of an object with these rows, in this order; without rows, the header alone."""
    return file_bytes([row.line() for row in rows], compress)


def file_bytes(lines: Sequence[str], compress: bool = True) -> bytes:
    """The bytes of an object with these lines below the header; equal lines give equal bytes."""
    body = ("\n".join([HEADER, *lines]) + "\n").encode()
    return gzip.compress(body, compresslevel=1, mtime=0) if compress else body


def object_name(hour: int, compress: bool = True) -> str:
    """The key of the object of `hour`, counted in hours since 1970-01-01 UTC."""
    moment = datetime.fromtimestamp(hour * 3600, UTC)
    return f"{moment:%Y-%m-%d}/{moment:%Y-%m-%d}_BINS_XETR{moment:%H}.csv" + (".gz" if compress else "")


def publication_time(hour: int) -> datetime:
    """When the object of `hour` (hours since 1970) is regularly published: a minute after its end."""
    return datetime.fromtimestamp((hour + 1) * 3600, UTC) + timedelta(minutes=1)


def write_objects(folder: Path, objects: Iterable[VendorObject]) -> list[Path]:
    """Write objects below `folder`, each in one step, its publication time as modification time.

    Raises:
        OSError: if the folder can't be written.
    """
    paths = []
    for item in objects:
        path = folder / item.name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A reader that looks in meanwhile must not see half a file.
        unfinished = path.with_name(f".{path.name}.part")
        unfinished.write_bytes(item.body)
        os.utime(unfinished, (item.published_at.timestamp(),) * 2)
        unfinished.replace(path)
        paths.append(path)
    return paths
