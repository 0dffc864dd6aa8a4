"""What an API is asked, question by question, and the names of the objects that hold its answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import product

from lakehouse.ingest.names import ObjectName
from lakehouse.ingest.partitioning import start_of

_DAY = timedelta(days=1)
_NO_MONTH = "0001-01"


@dataclass(frozen=True)
class Question:
    """A request about one subject and, where the dataset is asked for by month, a month (its first day). `name` is that
    of the object that holds the answers.
    """

    name: str
    parameters: dict[str, str]
    month: date | None


@dataclass(frozen=True)
class Requests:
    """The questions of a dataset: one for each subject (a ticker, an identifier), and for each month where its
    parameters have `{month}`.

    Args:
        dataset: its name, with which the names of objects begin.
        declared: the parameters, in which `{month}` and the subject's own name in braces are filled in.
        subject: name of the parameter that says what is asked about.
        subjects: all that are asked about; raises SourceError where the settings name none.
        kept: parameters whose values stay with the rows: another value is another object.
        chosen: parameters that the settings say otherwise; raises SourceError where one can't be.
    """

    dataset: str
    declared: Mapping[str, str]
    subject: str
    subjects: Callable[[], tuple[str, ...]]
    kept: tuple[str, ...]
    chosen: Callable[[], Mapping[str, str]]

    @cached_property
    def by_month(self) -> bool:
        """Whether an answer is about a month; otherwise it has the whole history."""
        return any("{month}" in value for value in self.declared.values())

    def questions(self, partitions: Sequence[date]) -> list[Question]:
        """What is to be asked for the rows of some partitions.

        Raises:
            SourceError: the settings name no subject, or a parameter that can't be.
        """
        parameters = self.parameters()
        months: list[date | None] = [None]
        if self.by_month:
            months = [*sorted({start_of("month", partition) for partition in partitions})]
        return [
            Question(self._name(parameters, subject, month), self._filled_in(parameters, subject, month), month)
            for month, subject in product(months, self.subjects())
        ]

    def prefixes(self, partitions: Sequence[date] | None) -> list[str]:
        """The beginnings of the names of the objects about some partitions (None: about any)."""
        if not self.by_month or partitions is None:
            return [self.dataset]
        return [f"{self.dataset}/{month}" for month in sorted({f"{partition:%Y-%m}" for partition in partitions})]

    def still_asks_for(self, name: str) -> bool:
        """Whether the API would be asked for an object of that name: not about a subject that was taken out, nor with
        other parameters.
        """
        named = self.parse_name(name)
        if named is None:
            return True
        parameters = self.parameters()
        return named.values[self.subject] in self.subjects() and all(
            named.values[choice] == parameters[choice] for choice in self._choices
        )

    def parse_name(self, name: str) -> ObjectName | None:
        """What an object's name says; None for a foreign object."""
        match = self._groups.fullmatch(name)
        if match is None:
            return None
        values = match.groupdict()
        first = datetime.strptime(values.get("month", _NO_MONTH), "%Y-%m").date()
        last = start_of("month", first + timedelta(days=31)) - _DAY if "month" in values else date.max
        return ObjectName(first, last, None, values)

    def parameters(self) -> dict[str, str]:
        """The parameters, before a subject and a month are filled in.

        Raises:
            SourceError: the settings give one a value that it can't have.
        """
        return {**self.declared, **self.chosen()}

    @cached_property
    def _choices(self) -> list[str]:
        named = (self.subject, "month")
        return [name for name in dict.fromkeys(self.kept) if name in self.declared and name not in named]

    @cached_property
    def _groups(self) -> re.Pattern[str]:
        chosen = "".join(f"{name}=(?P<{name}>[^/]+)/" for name in self._choices)
        month = r"(?P<month>\d{4}-\d{2})/" if self.by_month else ""
        return re.compile(rf"{self.dataset}/{month}{chosen}(?P<{self.subject}>[^/]+)")

    def _name(self, parameters: Mapping[str, str], subject: str, month: date | None) -> str:
        chosen = [f"{name}={parameters[name]}" for name in self._choices]
        return "/".join([self.dataset, *([f"{month:%Y-%m}"] if month else []), *chosen, subject])

    def _filled_in(self, parameters: Mapping[str, str], subject: str, month: date | None) -> dict[str, str]:
        said = {self.subject: subject, "month": f"{month:%Y-%m}" if month else ""}
        return {name: value.format(**said) for name, value in parameters.items()}
