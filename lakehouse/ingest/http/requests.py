"""The questions that a dataset asks an API, and the names of the objects that hold the answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import product
from zoneinfo import ZoneInfo

from lakehouse.ingest.names import ObjectName
from lakehouse.ingest.partitioning import start_of
from lakehouse.lake.lake import Lake

_DAY = timedelta(days=1)
_NO_MONTH = "0001-01"


def is_by_month(parameters: Mapping[str, str]) -> bool:
    """Whether parameters have a month filled in (see `month_texts`)."""
    return any("{month" in value for value in parameters.values())


def month_texts(month: date, zone: str) -> dict[str, str]:
    """The ways in which vendors want a month, by the names that stand for them in parameters: `month` (2024-03), its
    first and last dates, and its first and last seconds in a time zone, as RFC 3339 in UTC and in seconds since 1970.
    """
    following = start_of("month", month + timedelta(days=31))
    starts, ends = (datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC) for day in (month, following))
    last = ends - timedelta(seconds=1)
    return {
        "month": f"{month:%Y-%m}",
        "month_first": f"{month:%Y-%m-%d}",
        "month_last": f"{following - _DAY:%Y-%m-%d}",
        "month_start": f"{starts:%Y-%m-%dT%H:%M:%SZ}",
        "month_end": f"{last:%Y-%m-%dT%H:%M:%SZ}",
        "month_start_s": f"{starts.timestamp():.0f}",
        "month_end_s": f"{last.timestamp():.0f}",
    }


@dataclass(frozen=True)
class Question:
    """A request about one subject and, if the dataset is requested by month, a month (its first day). `name` is that of
    the object that holds the answers.
    """

    name: str
    parameters: dict[str, str]
    month: date | None


@dataclass(frozen=True)
class Requests:
    """The questions of a dataset: one for each subject (a ticker, an identifier), and for each month if its parameters
    have `{month}`.

    Args:
        dataset: its name, with which the names of objects begin.
        declared: the parameters, in which `{month}` and the subject's name in braces are filled in.
        subject: what subjects are called: `isin` is `{isin}` in the parameters. A subject of several parts is called
            `isin/mic`, and is given as such a text, or without its last parts: `DE0005190003/XETR`, `DE0005190003`.
        subjects: returns all subjects; raises SourceError if the settings name none.
        kept: parameters whose values stay with the rows: another value is another object.
        chosen: returns the parameters that the settings override; raises SourceError if a value is not allowed.
        stored: returns further subjects, which the tables of a lake give.
        zone: time zone of the months, for parameters that are moments (see `month_texts`).
    """

    dataset: str
    declared: Mapping[str, str]
    subject: str
    subjects: Callable[[], tuple[str, ...]]
    kept: tuple[str, ...]
    chosen: Callable[[], Mapping[str, str]]
    stored: Callable[[Lake], Iterable[str]] | None = None
    zone: str = "UTC"

    @cached_property
    def by_month(self) -> bool:
        """Whether an answer covers a month; otherwise it covers everything."""
        return is_by_month(self.declared)

    def questions(self, lake: Lake, partitions: Sequence[date]) -> list[Question]:
        """The questions whose answers have the rows of some partitions.

        Raises:
            SourceError: the settings name no subject, or give a parameter a value that is not allowed.
        """
        parameters = self.parameters()
        months: list[date | None] = [None]
        if self.by_month:
            months = [*sorted({start_of("month", partition) for partition in partitions})]
        return [
            Question(self._name(parameters, subject, month), self._filled_in(parameters, subject, month), month)
            for month, subject in product(months, self.all_subjects(lake))
        ]

    def all_subjects(self, lake: Lake) -> tuple[str, ...]:
        """The subjects that the settings name, and those of the lake.

        Raises:
            SourceError: the settings should name some, and don't.
        """
        stored = self.stored(lake) if self.stored is not None else ()
        return tuple(dict.fromkeys((*self.subjects(), *stored)))

    def prefixes(self, partitions: Sequence[date] | None) -> list[str]:
        """The prefixes of the names of the objects about some partitions (None: about any)."""
        if not self.by_month or partitions is None:
            return [self.dataset]
        return [f"{self.dataset}/{month}" for month in sorted({f"{partition:%Y-%m}" for partition in partitions})]

    def still_asks_for(self, name: str) -> bool:
        """Whether there is still a question with that object: not if its subject was removed from the settings, or a
        kept parameter has another value now.
        """
        named = self.parse_name(name)
        if named is None:
            return True
        parameters = self.parameters()
        is_subject = self.stored is not None or self.subject_of(named) in self.subjects()
        return is_subject and all(named.values[choice] == parameters[choice] for choice in self._choices)

    def parse_name(self, name: str) -> ObjectName | None:
        """Parses an object's name; None for a foreign object."""
        match = self._groups.fullmatch(name)
        if match is None:
            return None
        values = {name: value for name, value in match.groupdict().items() if value is not None}
        first = datetime.strptime(values.get("month", _NO_MONTH), "%Y-%m").date()
        last = start_of("month", first + timedelta(days=31)) - _DAY if "month" in values else date.max
        return ObjectName(first, last, None, values)

    def parameters(self) -> dict[str, str]:
        """The parameters, before subject and month are filled in.

        Raises:
            SourceError: the settings give one a value that is not allowed.
        """
        return {**self.declared, **self.chosen()}

    def subject_of(self, name: ObjectName) -> str:
        """The subject that an object is about."""
        return "/".join(name.values[part] for part in self._parts if part in name.values)

    @cached_property
    def _parts(self) -> list[str]:
        return self.subject.split("/")

    @cached_property
    def _choices(self) -> list[str]:
        named = (*self._parts, "month")
        return [name for name in dict.fromkeys(self.kept) if name in self.declared and name not in named]

    @cached_property
    def _groups(self) -> re.Pattern[str]:
        chosen = "".join(f"{name}=(?P<{name}>[^/]+)/" for name in self._choices)
        month = r"(?P<month>\d{4}-\d{2})/" if self.by_month else ""
        first, *others = self._parts
        further = "".join(f"(?:/(?P<{part}>[^/]+)" for part in others) + ")?" * len(others)
        return re.compile(rf"{self.dataset}/{month}{chosen}(?P<{first}>[^/]+){further}")

    def _name(self, parameters: Mapping[str, str], subject: str, month: date | None) -> str:
        chosen = [f"{name}={parameters[name]}" for name in self._choices]
        return "/".join([self.dataset, *([f"{month:%Y-%m}"] if month else []), *chosen, subject])

    def _filled_in(self, parameters: Mapping[str, str], subject: str, month: date | None) -> dict[str, str]:
        parts = subject.split("/", len(self._parts) - 1)
        said = dict.fromkeys(self._parts, "") | dict(zip(self._parts, parts, strict=False))
        said |= month_texts(month, self.zone) if month else {}
        filled = {name: value.format(**said) for name, value in parameters.items()}
        # A parameter made of a part that the subject lacks is left out.
        return {name: value for name, value in filled.items() if value or not parameters[name]}
