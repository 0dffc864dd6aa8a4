"""What a `defs.yaml` says about a source of bar files: the one description that loading, deriving, checking and
Dagster share.

Only data and its validation stand here; reading objects by it is `bar_files`' matter, orchestration that of
`lakehouse.components`.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lakehouse.lake.contract import Contract, contract_of
from lakehouse.market.calendar import SessionCalendar
from lakehouse.settings import PROJECT_ROOT, Settings, settings

DEFS = PROJECT_ROOT / "lakehouse" / "defs"
COMPONENT = "lakehouse.components.BarFileSource"
_INTERVAL = re.compile(r"(\d+)(s|min|h|d)")
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}


class SourceError(ValueError):
    """A source's YAML or settings can't work as they stand; the message names the entry and the mend."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Venue(_Strict):
    """Where the bars were made."""

    mic: str = Field(pattern=r"^[A-Z0-9]{4}$", description="Market identifier code (ISO 10383).")
    name: str
    country: str = Field(pattern=r"^[A-Z]{2}$", description="ISO 3166 alpha-2.")
    time_zone: str = Field(description="The exchange's own time zone, which decides on which day a bar falls.")
    currency: str = Field(pattern=r"^[A-Z]{3}$", description="Usual trading currency (ISO 4217).")


class Objects(_Strict):
    """The objects of the source: where, how they are named, what stands inside."""

    url: str | None = Field(None, description="Folder or s3:// URL; LAKEHOUSE_<SOURCE>_URL takes precedence.")
    pattern: str = Field(
        description="Regular expression over the object's whole name: groups `date` and, for hourly objects, `hour`."
    )
    date_format: str = Field("%Y-%m-%d", description="strptime format of the group `date`.")
    per_session: Literal["hour", "day"] = Field(
        description="Whether a session comes as one object an hour or one a day."
    )
    format: Literal["csv", "csv.gz", "parquet"] = Field(
        description="With csv, objects whose names end in .gz are unpacked."
    )
    decimal: Literal[".", ","] = "."
    delimiter: str = Field(",", min_length=1, max_length=1)
    nulls: tuple[str, ...] = Field(("",), description="Texts that mean: no value.")

    @field_validator("pattern")
    @classmethod
    def _has_date(cls, pattern: str) -> str:
        if "date" not in re.compile(pattern).groupindex:
            raise ValueError(
                f"pattern {pattern!r} lacks the group (?P<date>...), which says what day an object belongs to"
            )
        return pattern

    @model_validator(mode="after")
    def _has_hour(self) -> Objects:
        if self.per_session == "hour" and "hour" not in re.compile(self.pattern).groupindex:
            raise ValueError(f"pattern {self.pattern!r} lacks the group (?P<hour>...), which hourly objects need")
        return self


class BarTime(_Strict):
    """How a row says when its bar was."""

    columns: tuple[str, ...] = Field(
        min_length=1, description="Columns that are joined by a blank before they are parsed."
    )
    format: str = Field(description="strptime format of the joined text.")
    zone: str = Field(description="Time zone of the text.")
    label: Literal["start", "end"] = Field(description="Which end of the bar the time stands for.")


class Report(_Strict):
    """The daily report: one object a session, with the target's own column names."""

    url: str | None = Field(
        None,
        description="Target folder or s3:// URL; LAKEHOUSE_<SOURCE>_REPORT_URL takes precedence. "
        "Default: <home>/reports/<source>.",
    )
    key: str = Field(description="Object name; {session} is filled in by date_format.")
    date_format: str = "%Y-%m-%d"
    format: Literal["parquet", "csv"] = "parquet"
    columns: dict[str, str] = Field(description="Target column -> column of daily_bars, in the target's order.")


class BarFileConfig(_Strict):
    """A source of bar files, whole."""

    source: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="Name of the source; the first part of its assets' keys and its SQL schema.",
    )
    description: str
    owners: list[str] = []
    tags: dict[str, str] = {}
    venue: Venue
    calendar: str = Field(description="Code of exchange_calendars, such as XETR, XNYS or 24/7.")
    first_session: date = Field(description="First session that is a partition.")
    minutes_after_close: int = Field(
        0,
        ge=0,
        description="Minutes after the calendar's close that still belong to the regular segment (the auction).",
    )
    objects: Objects
    time: BarTime
    interval: str = Field("1min", description="Length of a bar: a number and s, min, h or d.")
    columns: dict[str, str] = Field(description="Column of raw_bars -> column of the object.")
    constants: dict[str, str] = Field({}, description="Column of raw_bars -> the value that all rows have.")
    identifier: Literal["isin", "figi", "cusip"] | None = Field(
        None, description="Standard of instrument_id whose check digit is verified."
    )
    negative_prices: bool = Field(False, description="Whether zero and negative prices are legal (futures spreads).")
    report: Report | None = None

    @model_validator(mode="after")
    def _columns_known(self) -> BarFileConfig:
        known = set(contract_of("raw_bars").column_names)
        unknown = (set(self.columns) | set(self.constants)) - known
        if unknown:
            raise ValueError(f"{sorted(unknown)} is no column of raw_bars; it has {', '.join(sorted(known))}")
        given = set(self.columns) | set(self.constants)
        missing = {"instrument_id", "currency", "open", "high", "low", "close", "volume"} - given
        if missing:
            raise ValueError(
                f"columns and constants give no {', '.join(sorted(missing))}; "
                "map each to a column of the object or to a constant"
            )
        if not _INTERVAL.fullmatch(self.interval):
            raise ValueError(f"interval {self.interval!r} is not a number followed by s, min, h or d")
        return self

    @property
    def interval_length(self) -> timedelta:
        number, unit = _INTERVAL.fullmatch(self.interval).groups()  # type: ignore[union-attr]
        return timedelta(**{_UNITS[unit]: int(number)})

    @cached_property
    def object_columns(self) -> list[str]:
        """The columns that an object must have."""
        return list(dict.fromkeys([*self.columns.values(), *self.time.columns]))

    def table(self, name: str) -> str:
        """The path of this source's table, such as `xetra/bars`."""
        return f"{self.source}/{name}"

    def contract(self, table: str) -> Contract:
        """The contract of a table as it binds this source (identifier standard, rules that it waives)."""
        return contract_of(table).for_source(
            self.identifier, frozenset({"negative_prices"} if self.negative_prices else ())
        )

    def object_hour(self, name: str) -> tuple[date, int | None] | None:
        """The (date, hour) that an object's name carries, on the clock of the names; the hour is None for a
        day's object, and all is None for a foreign object.
        """
        match = self._pattern.fullmatch(name)
        if match is None:
            return None
        try:
            day = datetime.strptime(match["date"], self.objects.date_format).date()
        except ValueError:
            return None
        return day, int(match["hour"]) if self.objects.per_session == "hour" else None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.objects.pattern)

    def url(self, config: Settings | None = None) -> str:
        """Where the objects are.

        Raises:
            SourceError: neither the environment nor the YAML says it.
        """
        found = (config or settings()).source_variable(self.source, "url") or self.objects.url
        if found is None:
            raise SourceError(
                f"nobody says where the objects of {self.source} are: set LAKEHOUSE_{self.source.upper()}_URL "
                "to a folder or an s3:// URL, or objects.url in its defs.yaml"
            )
        return found

    def calendar_frame(self, config: Settings | None = None) -> SessionCalendar:
        """The source's exchange calendar from its first session on."""
        from lakehouse.sources.calendars import load_calendar

        return load_calendar(
            self.calendar, self.first_session, self.venue.time_zone, (config or settings()).home / "cache"
        )

    def expected_objects(self, session: date, calendar: SessionCalendar) -> list[tuple[date, int | None]]:
        """The (date, hour) of the objects that a session needs to be complete, on the clock of the objects' names.

        Hourly objects are expected for every hour in which the regular segment trades; a day's object has no hour.
        """
        if self.objects.per_session == "day":
            return [(session, None)]
        opens, closes = calendar.hours(session)
        last = closes + timedelta(minutes=self.minutes_after_close) - timedelta(microseconds=1)
        zone, hour = ZoneInfo(self.time.zone), opens.replace(minute=0)
        expected: list[tuple[date, int | None]] = []
        while hour <= last:
            local = hour.astimezone(zone)
            expected.append((local.date(), local.hour))
            hour += timedelta(hours=1)
        return expected

    def object_end(self, day: date, hour: int | None) -> datetime:
        """When the hour or the day that an object is about is over."""
        start = datetime(day.year, day.month, day.day, hour or 0, tzinfo=ZoneInfo(self.time.zone))
        return start + (timedelta(days=1) if hour is None else timedelta(hours=1))


@cache
def configured_sources(folder: Path = DEFS) -> dict[str, BarFileConfig]:
    """Every source that a `defs.yaml` below `folder` describes, by name."""
    import yaml

    found: dict[str, BarFileConfig] = {}
    for path in sorted(folder.rglob("defs.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and document.get("type") == COMPONENT:
                try:
                    source = BarFileConfig.model_validate(document["attributes"])
                except ValueError as error:
                    raise SourceError(f"{path}: {error}") from error
                found[source.source] = source
    return found


def source_named(name: str) -> BarFileConfig:
    """The source of that name.

    Raises:
        SourceError: no defs.yaml describes it.
    """
    known = configured_sources()
    if name not in known:
        raise SourceError(
            f"no source '{name}'; there is {', '.join(known) or 'none'}. A source is a defs.yaml below lakehouse/defs"
        )
    return known[name]
