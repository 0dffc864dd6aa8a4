"""Documents of a shop without personal values, as they are landed where an installation keeps pseudonyms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lakehouse.ingest.pseudonyms import Pseudonyms, plain
from lakehouse.ingest.row_format import RowFormat
from lakehouse.lake.contract import read_contracts


def without_persons(
    rows: RowFormat, pseudonyms: Pseudonyms, documents: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The documents with pseudonyms for personal values, and without members that no column is made of: nothing says
    whether these are personal.
    """
    contract = read_contracts(Path(__file__).parent, "retail")["raw_lines"]
    personal = [rows.columns[column.name] for column in contract.columns if column.pii and column.name in rows.columns]
    texts = {text for each in documents for member in personal if (text := _text(each.get(member), rows)) is not None}
    found = pseudonyms.of(texts)
    shown = []
    for document in documents:
        kept = {name: document[name] for name in rows.object_columns if name in document}
        for member in personal:
            if (text := _text(document.get(member), rows)) is not None:
                kept[member] = found[text]
        shown.append(kept)
    return shown


def _text(value: object, rows: RowFormat) -> str | None:
    """A value as text; None for one that means that there is none."""
    if value is None or (isinstance(value, float) and value != value) or str(value) in rows.nulls:
        return None
    return plain(str(value))
