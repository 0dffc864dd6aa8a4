"""What the names of objects say: which belong to a dataset, and the days that each is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property, lru_cache
from typing import ClassVar, Literal, Protocol

from pydantic import Field, field_validator, model_validator

from lakehouse.ingest.access import Access
from lakehouse.ingest.entry_types import DateFormat, Expression, Zone
from lakehouse.ingest.object_store import SOURCE_PLACES, require_known
from lakehouse.ingest.strict import Strict


@dataclass(frozen=True)
class ObjectName:
    """What an object's name says: the days that the object is about (on the clock of the names, both included),
    its hour where it has one, and the values of further groups.
    """

    first_day: date
    last_day: date
    hour: int | None = None
    values: dict[str, str] = field(default_factory=dict)


class Names(Protocol):
    """Tells the objects of a dataset by their names."""

    def parse_name(self, name: str) -> ObjectName | None:
        """What an object's name says; None for a foreign object."""


class Objects(Strict):
    """Objects in a folder or bucket: where they are and how they are named."""

    renamed: ClassVar[Mapping[str, str]] = {"per_session": "holds"}

    url: str | None = Field(None, description="Folder or s3:// URL; LAKEHOUSE_<SOURCE>_URL takes precedence.")
    access: Access | None = Field(None, description="Endpoint and credentials of its own.")
    pattern: Expression = Field(
        description="Regular expression over the object's whole name: groups `date` and, for hourly objects, `hour`; "
        "`named` may take columns from further groups."
    )
    ignore: Expression | None = Field(
        None,
        description="Regular expression over the whole names of files that lie beside the objects and are known not to "
        "be any, such as checksums. Other names that don't match `pattern` are warned about.",
    )
    date_format: DateFormat = Field("%Y-%m-%d", description="strptime format of the group `date`.")
    clock: Zone | Literal["partition"] | None = Field(
        None,
        description="Time zone of the date and hour in names (default: that of `time`), or `partition` where the date "
        "is that of the partition itself, which may begin on the evening before.",
    )
    holds: Literal["hour", "day", "history"] = Field(
        description="What one object holds: an hour, a day, or all of the time (then `pattern` needs no group `date`)."
    )

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str | None) -> str | None:
        if url is not None:
            require_known(url, SOURCE_PLACES)
        return url

    @model_validator(mode="after")
    def _has_groups(self) -> Objects:
        groups = re.compile(self.pattern).groupindex
        if self.holds != "history" and "date" not in groups:
            raise ValueError(
                f"pattern {self.pattern!r} lacks the group (?P<date>...), which says what day an object belongs to"
            )
        if self.holds == "hour" and "hour" not in groups:
            raise ValueError(f"pattern {self.pattern!r} lacks the group (?P<hour>...), which hourly objects need")
        return self

    @cached_property
    def groups(self) -> re.Pattern[str]:
        """The compiled pattern."""
        return re.compile(self.pattern)

    @cached_property
    def _ignored(self) -> re.Pattern[str] | None:
        return re.compile(self.ignore) if self.ignore is not None else None

    def ignores(self, name: str) -> bool:
        """Whether a name is of a file that is known to be no object."""
        return self._ignored is not None and self._ignored.fullmatch(name) is not None

    def parse_name(self, name: str) -> ObjectName | None:
        """What an object's name says; None for a foreign object, and for an impossible date or hour."""
        match = self.groups.fullmatch(name)
        if match is None:
            return None
        values = {key: value for key, value in match.groupdict().items() if value is not None}
        if self.holds == "history":
            return ObjectName(date.min, date.max, None, values)
        hour = values.get("hour", "0") if self.holds == "hour" else "0"
        # strptime and \d take the digits of any script, and an hour may be 99.
        if not (values["date"].isascii() and hour.isascii() and hour.isdecimal() and int(hour) < 24):
            return None
        day = day_in(values["date"], self.date_format)
        if day is None:
            return None
        return ObjectName(day, day, int(hour) if self.holds == "hour" else None, values)


@lru_cache(maxsize=4096)
def day_in(text: str, date_format: str) -> date | None:
    """The day that a text says in a strptime format; None for any other text. Kept for the day's other objects."""
    try:
        return datetime.strptime(text, date_format).date()
    except ValueError:
        return None
