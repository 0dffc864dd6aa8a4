"""Daily files of invoice lines as the documents of a collection, to fill a MongoDB for development.

A document has the members that the source's `defs.yaml` names, of the types that such collections have: quantities as
integers, prices and numbers such as 17850.0 as doubles, NaN for what is missing, and the date as a text in the
collection's format.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from lakehouse.domains.retail.config import Collection, RetailConfig
from lakehouse.domains.retail.resolve import contracts
from lakehouse.errors import SourceError

_DOUBLE = re.compile(r"\d+\.\d+")


def daily_files(config: RetailConfig, folder: Path) -> list[Path]:
    """The files of a folder that are daily files of the source, in the order of their days."""
    return sorted(path for path in folder.iterdir() if config.objects.parse_name(path.name) is not None)


def documents_of(config: RetailConfig, collection: Collection, path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a daily file as documents.

    Raises:
        SourceError: a line lacks a column, or a value is not of its type.
    """
    unpack = gzip.open if path.suffix == ".gz" else open
    with unpack(path, "rt", encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter=config.rows.delimiter), 1):
            try:
                yield _document(config, collection, row)
            except (KeyError, TypeError, ValueError) as error:
                raise SourceError(f"{path}: line {number} can't become a document: {error!r}") from error


def _document(config: RetailConfig, collection: Collection, row: dict[str, str]) -> dict[str, Any]:
    contract = contracts()["raw_lines"]
    read, written = config.rows.time, collection.rows.time
    assert read is not None
    assert written is not None
    document: dict[str, Any] = {}
    for name, member in collection.rows.columns.items():
        text = row[config.rows.columns[name]]
        document[member] = _value(None if text in config.rows.nulls else text, contract.column(name).type.kind)
    moment = datetime.strptime(row[read.columns[0]], read.format)
    return document | {written.columns[0]: moment.strftime(written.format)}


def _value(text: str | None, kind: str) -> int | float | str:
    if text is None:
        return float("nan")
    if kind == "bigint":
        return int(text)
    return float(text) if kind == "decimal" or _DOUBLE.fullmatch(text) else text
