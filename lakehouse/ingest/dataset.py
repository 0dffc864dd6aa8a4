"""What a `defs.yaml` says about a product of a source: bars, or the official daily series. Where its objects are
and how they are named, how rows stand in them, and which column means what.

Only data and its validation stand here. Reading objects by it is the matter of `formats` and `coerce`; what
all products of a source share is in `config`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lakehouse.ingest.access import Access
from lakehouse.ingest.object_store import SOURCE_PLACES, require_known
from lakehouse.lake.contract import contract_of

_INTERVAL = re.compile(r"(\d+)(s|min|h|d)")
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}


class Strict(BaseModel):
    """A part of a defs.yaml: an entry that nobody knows is an error, not a silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values; what the original has computed and kept is not taken along."""
        copied = super().model_copy(update=update, deep=deep)
        for name in set(copied.__dict__) - set(type(copied).model_fields):
            del copied.__dict__[name]
        return copied


class Objects(Strict):
    """Objects in a folder or bucket: where they are and how they are named."""

    url: str | None = Field(None, description="Folder or s3:// URL; LAKEHOUSE_<SOURCE>_URL takes precedence.")
    access: Access | None = Field(None, description="Endpoint and credentials of its own.")
    pattern: str = Field(
        description="Regular expression over the object's whole name: groups `date` and, for hourly objects, `hour`; "
        "`named` may take columns from further groups."
    )
    ignore: str | None = Field(
        None,
        description="Regular expression over the whole names of files that lie beside the objects and are known not to "
        "be any, such as checksums. Other names that don't match `pattern` are warned about.",
    )
    date_format: str = Field("%Y-%m-%d", description="strptime format of the group `date`.")
    per_session: Literal["hour", "day"] = Field(
        description="Whether a session comes as one object an hour or one a day."
    )

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str | None) -> str | None:
        if url is not None:
            require_known(url, SOURCE_PLACES)
        return url

    @field_validator("pattern")
    @classmethod
    def _has_date(cls, pattern: str) -> str:
        if "date" not in re.compile(pattern).groupindex:
            raise ValueError(
                f"pattern {pattern!r} lacks the group (?P<date>...), which says what day an object belongs to"
            )
        return pattern

    @field_validator("ignore")
    @classmethod
    def _is_expression(cls, ignore: str | None) -> str | None:
        if ignore is not None:
            re.compile(ignore)
        return ignore

    @model_validator(mode="after")
    def _has_hour(self) -> Objects:
        if self.per_session == "hour" and "hour" not in re.compile(self.pattern).groupindex:
            raise ValueError(f"pattern {self.pattern!r} lacks the group (?P<hour>...), which hourly objects need")
        return self


class RowTime(Strict):
    """How a row says when it was."""

    columns: tuple[str, ...] = Field(
        min_length=1, description="Columns that are joined by a blank before they are parsed."
    )
    format: str = Field(
        description="strptime format of the joined text, or `epoch`: whole seconds, milli-, micro- or nanoseconds "
        "since 1970 (UTC), told apart by their size."
    )
    zone: str = Field("UTC", description="Time zone of the text.")
    label: Literal["start", "end"] = Field("start", description="Which end of a bar the time stands for.")


@dataclass(frozen=True)
class Named:
    """What an object's name says: the days that the object is about (on the clock of the names, both included),
    its hour where it has one, and the values of further groups (a symbol).
    """

    first_day: date
    last_day: date
    hour: int | None
    values: dict[str, str]


class Product(Strict):
    """A kind of rows that a source delivers: as objects in a bucket, or as an API's answers to requests."""

    name: ClassVar[str]
    raw_table: ClassVar[str]
    part: ClassVar[str]
    """The storage partition of the raw table: the share of an object that is kept or replaced as one."""
    required: ClassVar[frozenset[str]]

    objects: Objects | None = Field(None, description="Where the source publishes objects.")
    request: dict[str, str] | None = Field(
        None,
        description="Parameters of the API's request; {symbol} and {month} (YYYY-MM) are filled in. Requests by "
        "month are made for the months of a run's sessions, others have the whole history.",
    )
    format: Literal["csv", "csv.gz", "csv.zip", "parquet"] = Field(
        description="With csv, objects whose names end in .gz are unpacked; a csv.zip holds one CSV file."
    )
    header: tuple[str, ...] | None = Field(
        None, description="The columns' names where objects come without a header line (one that comes is recognised)."
    )
    decimal: Literal[".", ","] = "."
    delimiter: str = Field(",", min_length=1, max_length=1)
    encoding: str = Field(
        "utf-8", description="Encoding of the text, such as latin-1 or cp1252; a row that is not in it is refused."
    )
    nulls: tuple[str, ...] = Field(("",), description="Texts that mean: no value.")
    time: RowTime
    columns: dict[str, str] = Field(description="Column of the raw table -> column of the object.")
    constants: dict[str, str] = Field({}, description="Column of the raw table -> the value that all rows have.")
    named: dict[str, str] = Field(
        {},
        description="Column of the raw table -> group of the objects' pattern, or parameter of the request: what was "
        "asked for stays with the rows.",
    )

    @field_validator("encoding")
    @classmethod
    def _keeps_ascii(cls, encoding: str) -> str:
        ascii_bytes = bytes(range(128))
        try:
            name = codecs.lookup(encoding).name
            keeps = ascii_bytes.decode(name) == ascii_bytes.decode("ascii")
        except (LookupError, UnicodeError):
            name, keeps = encoding, False
        if not keeps:
            raise ValueError(
                f"encoding {encoding!r} is none by which lines can be told apart; name one of Python's that extends "
                "ASCII, such as utf-8, latin-1 or cp1252"
            )
        return "utf-8" if name in ("utf-8", "utf-8-sig") else encoding

    @model_validator(mode="after")
    def _columns_known(self) -> Product:
        known = set(contract_of(self.raw_table).column_names)
        given = set(self.columns) | set(self.constants) | set(self.named)
        if unknown := given - known:
            raise ValueError(f"{sorted(unknown)} is no column of {self.raw_table}; it has {', '.join(sorted(known))}")
        if missing := self.required - given:
            raise ValueError(
                f"columns, constants and named give no {', '.join(sorted(missing))}; "
                "map each to a column of the object, to a constant, or to a part of the object's name"
            )
        return self

    @model_validator(mode="after")
    def _delivered_one_way(self) -> Product:
        if (self.objects is None) == (self.request is None):
            raise ValueError(f"{self.name} needs either `objects` (a bucket) or `request` (an API), and not both")
        offered = set(self._groups.groupindex) | ({"symbol", "month", *self.request} if self.request else set())
        if unknown := sorted(set(self.named.values()) - offered):
            raise ValueError(f"named: {', '.join(unknown)} is none of {', '.join(sorted(offered))}")
        return self

    @cached_property
    def object_columns(self) -> list[str]:
        """The columns that an object must have."""
        return list(dict.fromkeys([*self.columns.values(), *self.time.columns]))

    @property
    def by_month(self) -> bool:
        """Whether an object holds a whole month, as an API's answers about one do."""
        return self.request is not None and any("{month}" in value for value in self.request.values())

    def named_in(self, name: str) -> Named | None:
        """What an object's name says; None for a foreign object, and for an impossible date or hour."""
        match = self._groups.fullmatch(name)
        if match is None:
            return None
        values = {key: value for key, value in match.groupdict().items() if value is not None}
        if self.request is not None:
            first = datetime.strptime(values.get("month", "0001-01"), "%Y-%m").date()
            last = date.max if "month" not in values else (first + timedelta(days=31)).replace(day=1) - _DAY
            return Named(first, last, None, values)
        assert self.objects is not None
        hour = values.get("hour", "0") if self.objects.per_session == "hour" else "0"
        # strptime and \d take the digits of any script, and an hour may be 99.
        if not (values["date"].isascii() and hour.isascii() and hour.isdecimal() and int(hour) < 24):
            return None
        try:
            day = datetime.strptime(values["date"], self.objects.date_format).date()
        except ValueError:
            return None
        return Named(day, day, int(hour) if self.objects.per_session == "hour" else None, values)

    @property
    def choices(self) -> list[str]:
        """The parameters of the request that stay with the rows, as `adjusted`: another value is another object."""
        return [name for name in dict.fromkeys(self.named.values()) if self.request and name in self.request]

    def object_name(self, parameters: Mapping[str, str], symbol: str, month: date | None) -> str:
        """The name of the object that holds an API's answer about a symbol (and month)."""
        chosen = [f"{name}={parameters[name]}" for name in self.choices if name not in ("symbol", "month")]
        return "/".join([self.name, *([f"{month:%Y-%m}"] if month else []), *chosen, symbol])

    def filled_in(self, parameters: Mapping[str, str], symbol: str, month: date | None) -> dict[str, str]:
        """The parameters of the request about a symbol (and month)."""
        said = {"symbol": symbol, "month": f"{month:%Y-%m}" if month else ""}
        return {name: value.format(**said) for name, value in parameters.items()}

    @cached_property
    def _groups(self) -> re.Pattern[str]:
        if self.objects is not None:
            return re.compile(self.objects.pattern)
        chosen = "".join(f"{name}=(?P<{name}>[^/]+)/" for name in self.choices if name not in ("symbol", "month"))
        month = r"(?P<month>\d{4}-\d{2})/" if self.by_month else ""
        return re.compile(rf"{self.name}/{month}{chosen}(?P<symbol>[^/]+)")

    def object_end(self, day: date, hour: int | None) -> datetime:
        """When the hour or the day that an object is about is over."""
        start = datetime(day.year, day.month, day.day, hour or 0, tzinfo=ZoneInfo(self.time.zone))
        return start + (timedelta(days=1) if hour is None else timedelta(hours=1))


_DAY = timedelta(days=1)


class Bars(Product):
    """Intraday bars: the product that every source has."""

    name = "bars"
    raw_table = "raw_bars"
    part = "session"
    required = frozenset({"instrument_id", "currency", "open", "high", "low", "close", "volume"})

    interval: str = Field("1min", description="Length of a bar: a number and s, min, h or d.")
    volume_unit: float = Field(
        1.0,
        gt=0,
        description="How much of the vendor's unit one unit of volume is: 1e-8 counts bitcoins in satoshis, since a "
        "volume is a whole number.",
    )

    @field_validator("interval")
    @classmethod
    def _is_interval(cls, interval: str) -> str:
        if not _INTERVAL.fullmatch(interval):
            raise ValueError(f"interval {interval!r} is not a number followed by s, min, h or d")
        return interval

    @property
    def interval_length(self) -> timedelta:
        number, unit = _INTERVAL.fullmatch(self.interval).groups()  # type: ignore[union-attr]
        return timedelta(**{_UNITS[unit]: int(number)})


class OfficialDaily(Product):
    """The vendor's official daily series with dividends and splits: a product of its own, made from no bars."""

    name = "official_daily"
    raw_table = "raw_daily"
    part = "year"
    required = frozenset({"instrument_id", "currency", "open", "high", "low", "close", "volume"})
