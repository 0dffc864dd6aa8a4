"""The model of a row format in a `defs.yaml`: the format of the text and the meaning of its columns.

Only data and its validation. `formats` and `coerce` read objects by it.
"""

from __future__ import annotations

import codecs
import re
from functools import cache, cached_property
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from lakehouse.ingest.entry_types import DateFormat, Zone
from lakehouse.ingest.strict import Strict

_WRITTEN_OFFSET = re.compile(r"(?<![%A-Za-z])(UTC|GMT)$|(?<=%[SMfT])[+-]\d{2}:?\d{2}$")
"""An offset that a format has as text, so that it says nothing."""


def _loosely(heading: str) -> str:
    return re.sub(r"\(.*?\)|[^0-9a-z]", "", heading.lower())


def _is_zero(offset: str) -> bool:
    return not offset.strip("+-:0UTCGM")


class RowTime(Strict):
    """How to read a row's time."""

    columns: tuple[str, ...] = Field(
        min_length=1, description="Columns that are joined by a blank before they are parsed."
    )
    format: str = Field(
        description="strptime format of the joined text, or `epoch`: whole seconds, milli-, micro- or nanoseconds "
        "since 1970 (UTC), told apart by their size."
    )
    zone: Zone = Field("UTC", description="Time zone of the text, where the text has no offset of its own.")

    @model_validator(mode="after")
    def _names_one_zone(self) -> RowTime:
        if "%Z" in self.format:
            raise ValueError(
                f"time format {self.format!r}: the name of a zone (%Z) says no offset; leave it out of the text and "
                "set `zone`, or read an offset by %z"
            )
        if self.format.endswith("Z") and not self.format.endswith("%Z") and self.zone != "UTC":
            raise ValueError(f"time format {self.format!r} ends in Z, which is UTC, but `zone` says {self.zone}")
        if (written := _WRITTEN_OFFSET.search(self.format)) and (self.zone != "UTC" or not _is_zero(written[0])):
            raise ValueError(
                f"time format {self.format!r} ends in {written[0]}, which would not count: the text would be read as a "
                f"time in {self.zone}. Read an offset by %z; for UTC or GMT, leave out `zone`"
            )
        return self


class RowFormat(Strict):
    """The format of rows in an object."""

    name: ClassVar[str] = "rows"
    """The entry's name in the defs.yaml, for error messages."""

    format: Literal["csv", "csv.gz", "csv.zip", "parquet", "jsonl", "json"] = Field(
        description="With csv and jsonl, objects whose names end in .gz are unpacked; a csv.zip holds one CSV file. A "
        "jsonl object has a JSON object per line, whose values `columns` name by paths such as price.close. A json "
        "object is one JSON document, whose member `records` has the rows."
    )
    records: str = Field(
        "data",
        description="With json: path of the member with the rows, an array of objects or a single one. A row's member "
        "`document` has the document's other members, such as document.meta.",
    )
    optional: tuple[str, ...] = Field(
        (), description="Columns of the object that may be missing: then the rows have no value there."
    )
    header: tuple[str, ...] | None = Field(
        None, description="The columns' names where objects come without a header line (one that comes is recognised)."
    )
    decimal: Literal[".", ","] = "."
    delimiter: str = Field(",", min_length=1, max_length=1)
    encoding: str = Field(
        "utf-8",
        description="Encoding of the text, such as latin-1 or cp1252; a row that is not in it is refused. A byte order "
        "mark of UTF-16 or UTF-32 takes precedence.",
    )
    loose_headings: bool = Field(
        False,
        description="Compare the header's names by their letters and digits alone, without what stands in parentheses: "
        "for files that spell them now OPERATING MIC and now OPERATING_MIC.",
    )
    date_format: DateFormat = Field("%Y-%m-%d", description="strptime format of the dates in `columns`.")
    nulls: tuple[str, ...] = Field(("",), description="Texts that mean NULL.")
    time: RowTime | None = Field(None, description="The time of a row; without one, rows are of their object's day.")
    columns: dict[str, str] = Field(description="Column of the raw table -> column of the object.")
    constants: dict[str, str] = Field({}, description="Column of the raw table -> the value that all rows have.")
    named: dict[str, str] = Field(
        {},
        description="Column of the raw table -> group of the objects' pattern, or parameter of the request: what was "
        "asked for stays with the rows.",
    )
    trimmed: tuple[str, ...] = Field((), description="Columns of the raw table whose texts lose blanks at their ends.")
    upper: tuple[str, ...] = Field((), description="Columns of the raw table whose texts are converted to upper case.")
    values: dict[str, dict[str, str]] = Field(
        {},
        description="Column of the raw table -> the vendor's codes and what they stand for: {mic: {N: XNYS, Q: XNAS}}. "
        "A text that is not named stays as it is.",
    )
    identifiers: tuple[str, ...] = Field(
        (), description="Columns of the raw table whose texts some writers spell as numbers: 17850.0 becomes 17850."
    )

    @field_validator("encoding")
    @classmethod
    def _is_of_text(cls, encoding: str) -> str:
        try:
            codecs.getincrementaldecoder(encoding)
            name = codecs.lookup(encoding).name
            "".encode(name)
        except LookupError:
            raise ValueError(
                f"encoding {encoding!r} is not an encoding of text; name one of Python's, such as utf-8, latin-1, "
                "cp1252 or utf-16"
            ) from None
        return "utf-8" if name in ("utf-8", "utf-8-sig") else encoding

    def named_as_here(self, headings: list[str]) -> list[str]:
        """An object's headings, those of `object_columns` as they are spelled there."""
        if not self.loose_headings:
            return headings
        spelled = {_loosely(column): column for column in self.object_columns}
        return [spelled.get(_loosely(heading), heading) for heading in headings]

    @cached_property
    def object_columns(self) -> list[str]:
        """The columns that an object must have."""
        return list(dict.fromkeys([*self.columns.values(), *(self.time.columns if self.time else ())]))


@cache
def keeps_ascii(encoding: str) -> bool:
    """Whether an encoding writes ASCII as ASCII, so that its bytes can be divided into lines."""
    ascii_bytes = bytes(range(128))
    try:
        return ascii_bytes.decode(encoding) == ascii_bytes.decode("ascii")
    except UnicodeError:
        return False
